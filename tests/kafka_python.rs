//! kafka-python 3, and 2 of which much is in use, against both systems.
//!
//! Input: the scenarios of `clients/kafka_python/scenarios.py`. Output: one test per scenario,
//! version and system.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

/// The scenarios are the same for both versions, but for a balancer that version 2 lacks; those of
/// groups run all at once.
macro_rules! version {
    ($module:ident, $client:ident $(, $further:ident)?) => {
        mod $module {
            skein_tests::client_tests!($client:
                cluster_and_metadata,
                topics_are_created_grown_and_deleted,
                configs_are_described,
                every_codec_comes_back,
                keys_values_and_headers_may_be_null_or_empty,
                timestamps_are_the_producers_or_the_logs,
                records_of_one_byte_and_of_one_megabyte,
                idempotent_producer_writes_each_record_once_in_order,
                every_level_of_acks,
                offsets_for_times_and_ends,
                reading_starts_at_the_beginning_the_end_or_where_asked,
                fetch_from_the_middle_of_a_batch,
                reading_while_writing,
                many_partitions;
                at_once:
                members_of_a_group_share_the_partitions_and_take_over,
                $($further,)?
                a_static_member_comes_back_without_a_rebalance,
                a_member_that_stalls_and_at_last_crashes_is_replaced,
                a_member_that_does_not_poll_is_replaced,
                a_group_goes_on_where_it_committed,
                a_member_seeks_back_and_forth,
                a_group_starts_where_it_is_reset_to,
                groups_are_listed_described_changed_and_deleted,
            );
        }
    };
}

version!(
    version_3,
    KafkaPython3,
    members_of_a_cooperative_group_share_and_take_over
);
version!(version_2, KafkaPython2);
