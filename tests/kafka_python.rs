//! kafka-python 3, and 2 of which much is in use, against both systems.
//!
//! Input: the scenarios of `clients/kafka_python/scenarios.py`. Output: one test per scenario,
//! version and system.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

/// The scenarios are the same for both versions.
macro_rules! version {
    ($module:ident, $client:ident) => {
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
                many_partitions,
                members_of_a_group_share_the_partitions_and_take_over,
                a_group_goes_on_where_it_committed,
            );
        }
    };
}

version!(version_3, KafkaPython3);
version!(version_2, KafkaPython2);
