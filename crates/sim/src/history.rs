//! What happened in a run, in order.
//!
//! Input: events, each with its time and who tells of it. Output: the last of them as text, for a
//! person who asks why a run failed.
//!
//! Invariant: at most [`LINES_MAX`] events are kept.
//!
//! Source: none.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::event::{Event, GroupId, PartitionId, Subject};

/// Events that are kept; older ones are forgotten.
const LINES_MAX: usize = 200_000;

/// Who tells of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    /// The node.
    Node,
    /// What makes faults.
    Nemesis,
    /// The client that makes and changes topics.
    Admin,
    /// A producer.
    Producer(usize),
    /// A consumer.
    Consumer(usize),
    /// A client that asks for offsets.
    Lister(usize),
    /// A member of a group.
    Member(usize),
    /// A client that commits offsets, and is in no group.
    Committer(usize),
    /// Who reads everything back.
    Reader,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Nemesis => f.write_str("nemesis"),
            Self::Admin => f.write_str("admin"),
            Self::Producer(number) => write!(f, "producer-{number}"),
            Self::Consumer(number) => write!(f, "consumer-{number}"),
            Self::Lister(number) => write!(f, "lister-{number}"),
            Self::Member(number) => write!(f, "member-{number}"),
            Self::Committer(number) => write!(f, "committer-{number}"),
            Self::Reader => f.write_str("reader"),
        }
    }
}

/// One event.
struct Line {
    at: Duration,
    actor: Actor,
    subject: Option<Subject>,
    event: Event,
}

/// The events of a run.
#[derive(Default)]
pub(crate) struct History {
    lines: VecDeque<Line>,
    /// Whether each event is printed as it happens.
    is_printed: bool,
}

impl History {
    /// An empty one; `is_printed`: it goes to the standard error as it grows.
    pub(crate) fn new(is_printed: bool) -> Self {
        Self {
            lines: VecDeque::new(),
            is_printed,
        }
    }

    /// Adds an event.
    pub(crate) fn add(
        &mut self,
        at: Duration,
        actor: Actor,
        subject: Option<Subject>,
        event: Event,
    ) {
        let line = Line {
            at,
            actor,
            subject,
            event,
        };
        if self.is_printed {
            print_line(&line.to_string());
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last `count` events that tell of `subject` or of the node; of everything for `None`.
    pub(crate) fn tail(&self, subject: Option<Subject>, count: usize) -> Vec<String> {
        let concerns =
            |line: &&Line| subject.is_none() || line.subject.is_none() || line.subject == subject;
        let mut tail: Vec<String> = self
            .lines
            .iter()
            .rev()
            .filter(concerns)
            .take(count)
            .map(Line::to_string)
            .collect();
        tail.reverse();
        tail
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10.6} {:<12}",
            self.at.as_secs_f64(),
            self.actor.to_string()
        )?;
        match self.subject {
            Some(Subject::Partition(PartitionId(number))) => write!(f, " p{number}")?,
            Some(Subject::Group(GroupId(number))) => write!(f, " g{number}")?,
            None => {}
        }
        write!(f, " {}", self.event)
    }
}

#[allow(clippy::print_stderr, reason = "a person asked to see it")]
fn print_line(line: &str) {
    eprintln!("{line}");
}
