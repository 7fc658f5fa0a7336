//! Groups that have members when Kafka stops, and go on at Skein, and at Kafka again.

use std::time::{Duration, Instant};

use skein_tests::Node;
use skein_tests::wire::{Member, error};

/// A session in which the members who come back do so for certain.
const LONG_SESSION_MS: i32 = 300_000;

/// Whether it ends before Kafka has stopped or after is the same.
const SHORT_SESSION_MS: i32 = 2_000;

/// Until a session has ended, on a slow machine.
const ENDS_MAX: Duration = Duration::from_secs(60);

/// Members of two groups: one that goes on, one that nobody will hear of again.
pub(crate) struct Groups {
    goes_on: Member,
    gone: Member,
}

impl Groups {
    /// Both join, and commit.
    pub(crate) fn begin(node: &Node) -> Self {
        let join = |group: &str, session_ms: i32, offset: i64| {
            let member = Member::connect(node.ports().client, group).unwrap();
            let mut member = member.with_session(session_ms);
            member.wait_for_coordinator().unwrap();
            generation(&mut member);
            let committed = member.commit("codecs", 0..2, offset).unwrap();
            assert_eq!(committed, error::NONE);
            member
        };
        Self {
            goes_on: join("goes-on", LONG_SESSION_MS, 7),
            gone: join("gone", SHORT_SESSION_MS, 9),
        }
    }

    /// The one is in its generation still, and the next one follows; the other's session ends. What
    /// both have committed is there.
    pub(crate) fn go_on(&mut self, node: &Node, committed: i64) {
        let (member, gone) = (&mut self.goes_on, &mut self.gone);
        for one in [&mut *member, &mut *gone] {
            one.connect_again(node.ports().client).unwrap();
            one.wait_for_coordinator().unwrap();
        }
        let own = vec![member.id().to_owned()];
        assert_eq!(member.describe().unwrap(), ("Stable".to_owned(), own));
        assert_eq!(member.heartbeat().unwrap(), error::NONE);
        assert_eq!(
            member.committed().unwrap(),
            (error::NONE, vec![committed; 2])
        );
        let next = committed + 1;
        assert_eq!(member.commit("codecs", 0..2, next).unwrap(), error::NONE);
        generation(member);
        assert_eq!(member.committed().unwrap(), (error::NONE, vec![next; 2]));

        let begun = Instant::now();
        while gone.describe().unwrap() != ("Empty".to_owned(), Vec::new()) {
            assert!(begun.elapsed() < ENDS_MAX, "a session does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(gone.heartbeat().unwrap(), error::UNKNOWN_MEMBER_ID);
        assert_eq!(gone.committed().unwrap(), (error::NONE, vec![9; 2]));
    }
}

/// Joins, as who it is, and gives itself everything.
fn generation(member: &mut Member) {
    member.ask_to_join(&[0; 6]).unwrap();
    assert_eq!(member.joined().unwrap().error_code, error::NONE);
    let all = [(member.id().to_owned(), b"all".to_vec())];
    member.ask_to_sync(&all).unwrap();
    assert_eq!(member.synced().unwrap(), (error::NONE, b"all".to_vec()));
}
