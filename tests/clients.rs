//! Clients whose scenarios all run at once, each in one process, and the groups of all clients
//! while their node is killed, against both systems.
//!
//! Input: the scenarios of `clients/java`, `sarama`, `kafkajs` and `aiokafka`, and that of all
//! clients which is about groups and a crash. Output: one test per client and system, and one for
//! the crash. They are in one target, because they share its nodes.
//!
//! The scenarios of groups have the same names for every client, and none where a client lacks what
//! they are about: kafkajs and aiokafka have no cooperative balancer, kafkajs no static members,
//! aiokafka's admin client changes no group.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod java {
    skein_tests::client_tests!(at_once Java:
        every_codec_comes_back,
        members_of_a_group_share_the_partitions_and_take_over,
        members_of_a_cooperative_group_share_and_take_over,
        a_static_member_comes_back_without_a_rebalance,
        a_member_that_stalls_and_at_last_crashes_is_replaced,
        a_member_that_does_not_poll_is_replaced,
        a_group_goes_on_where_it_committed,
        a_member_seeks_back_and_forth,
        a_group_starts_where_it_is_reset_to,
        groups_are_listed_described_changed_and_deleted,
    );
}

mod sarama {
    skein_tests::client_tests!(at_once Sarama:
        topics_are_created_grown_and_deleted,
        configs_are_described_and_altered,
        every_codec_comes_back,
        members_of_a_group_share_the_partitions_and_take_over,
        members_of_a_cooperative_group_share_and_take_over,
        a_static_member_comes_back_without_a_rebalance,
        a_member_that_stalls_and_at_last_crashes_is_replaced,
        a_group_goes_on_where_it_committed,
        a_member_seeks_back_and_forth,
        a_group_starts_where_it_is_reset_to,
        groups_are_listed_described_changed_and_deleted,
    );
}

mod kafkajs {
    skein_tests::client_tests!(at_once Kafkajs:
        topics_are_created_grown_and_deleted,
        configs_are_described_and_altered,
        every_codec_comes_back,
        members_of_a_group_share_the_partitions_and_take_over,
        a_member_that_stalls_and_at_last_crashes_is_replaced,
        a_group_goes_on_where_it_committed,
        a_member_seeks_back_and_forth,
        a_group_starts_where_it_is_reset_to,
        groups_are_listed_described_changed_and_deleted,
    );
}

mod aiokafka {
    skein_tests::client_tests!(at_once Aiokafka:
        topics_are_created_grown_and_deleted,
        configs_are_described_and_altered,
        every_codec_comes_back,
        members_of_a_group_share_the_partitions_and_take_over,
        a_static_member_comes_back_without_a_rebalance,
        a_member_that_stalls_and_at_last_crashes_is_replaced,
        a_member_that_does_not_poll_is_replaced,
        a_group_goes_on_where_it_committed,
        a_member_seeks_back_and_forth,
        a_group_starts_where_it_is_reset_to,
        groups_are_listed_and_described,
    );
}

mod crash {
    use skein_tests::client::{Client, groups_survive};
    use skein_tests::{System, on_both};

    on_both!(every_clients_group_goes_on_through_kill_and_restart);

    fn every_clients_group_goes_on_through_kill_and_restart(system: System) {
        groups_survive(&Client::ALL, system);
    }
}
