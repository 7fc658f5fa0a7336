//! Support of the black-box tests: nodes as users start them, and clients as users install them.
//!
//! Input: the `skein` binary (`SKEIN_BIN`, or the workspace's release build) and the lock files
//! beside this crate (Python, Go and Maven). Output: running nodes of Skein or Apache Kafka, and
//! the output of real clients against them.
//!
//! Every test states what it needs of a [`System`], not of Skein, and must pass against Apache
//! Kafka 4.1.1 too: a test that Kafka fails is wrong. The exception is `lifecycle.rs`, which is
//! about the `skein` command itself.
//!
//! Tests are named `kafka::…` and `skein::…`. Those of `skein::` judge the node; those of `kafka::`
//! judge the tests themselves, which change seldom, and take most of the time: `make test` runs
//! those of `raw.rs`, and `make parity` all of them.
//!
//! Invariants:
//! - no process outlives the test process that started it, not even when that is killed: see
//!   [`guardian`];
//! - a client that can't be installed fails its tests: see [`toolchain`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "test support: whatever goes wrong here fails the test that asked for it"
)]

pub mod client;
pub mod cluster;
pub mod compacted;
pub mod guardian;
pub mod node;
pub mod program;
pub mod toolchain;
pub mod wire;

pub use cluster::Cluster;
pub use node::{Node, Settings, System, bytes_in_logs};

/// Declares, for each named function, one test per system: `skein::name`, and `kafka::name`, which
/// only runs when it is asked for.
///
/// The functions take the [`System`] to test.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod kafka {
            $(
                #[test]
                #[ignore = "judges the test, not the node: make parity"]
                fn $name() { super::$name($crate::System::Kafka); }
            )*
        }
        mod skein {
            $(#[test] fn $name() { super::$name($crate::System::Skein); })*
        }
    };
}

/// Declares all tests of a client: `kafka::name` and `skein::name` for each named scenario of its
/// program, `at_once::…` for those that mostly wait and run together in one process, `crash::…` for
/// the one that talks with its test, and one that no scenario is left out.
///
/// `at_once CLIENT: …` is for a client all of whose scenarios do.
#[macro_export]
macro_rules! client_tests {
    (at_once $client:ident: $($name:ident),* $(,)?) => {
        $crate::client_tests_at_once!($client: $($name),*);

        #[test]
        fn no_scenario_is_left_out() {
            let tested = [$(stringify!($name)),*];
            $crate::client::assert_complete($crate::client::Client::$client, &tested);
        }
    };
    ($client:ident: $($name:ident),* $(,)? $(; at_once: $($together:ident),* $(,)?)?) => {
        $crate::on_both!($($name),*);

        $($crate::client_tests_at_once!($client: $($together),*);)?

        $(fn $name(system: $crate::System) {
            let node = $crate::Node::shared(system);
            $crate::client::Client::$client.run(node, stringify!($name));
        })*

        mod crash {
            $crate::on_both!(acknowledged_records_survive_kill_and_restart);

            fn acknowledged_records_survive_kill_and_restart(system: $crate::System) {
                $crate::client::survive($crate::client::Client::$client, system);
            }
        }

        #[test]
        fn no_scenario_is_left_out() {
            let tested = [$(stringify!($name),)* $($(stringify!($together)),*)?];
            $crate::client::assert_complete($crate::client::Client::$client, &tested);
        }
    };
}

/// Declares `at_once::kafka::scenarios` and `…::skein::scenarios`, which run the named scenarios of
/// a client's program all at once.
#[macro_export]
macro_rules! client_tests_at_once {
    ($client:ident: $($name:ident),* $(,)?) => {
        mod at_once {
            $crate::on_both!(scenarios);

            fn scenarios(system: $crate::System) {
                let node = $crate::Node::shared(system);
                let names = [$(stringify!($name)),*];
                $crate::client::Client::$client.run_with(node, &names);
            }
        }
    };
}
