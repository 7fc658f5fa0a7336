//! What members and committers of groups can tell.
//!
//! Input: nothing. Output: the part of [`super::Event`] that is about groups.
//!
//! Every commit has an offset of its own, a [`WriteId`], so that whoever reads an offset knows
//! which commit it is.
//!
//! Invariant: an event says what was seen, never what it means.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::fmt;

use skein_protocol::Str;
use skein_types::ErrorCode;

use super::Stamp;

/// A group, by its place in [`crate::plan::GroupsPlan::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(pub(crate) usize);

/// A commit or a deletion of one partition's offset; a commit's is the offset itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId(pub(crate) i64);

/// In the name of which member, and of which generation, something was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) member: Str,
    pub(crate) generation: i32,
}

/// A fact about a group.
#[derive(Clone, Debug)]
pub(crate) enum GroupEvent {
    /// A member was told of the generation that it is in.
    Joined { of: Membership, asked: Stamp },
    /// The leader of a generation sends who is to own what.
    Assigning {
        of: Membership,
        assignment: i64,
        owners: BTreeMap<String, Vec<i32>>,
    },
    /// A member that the assignment calls `owner` was given its part of it.
    Synced {
        of: Membership,
        owner: String,
        assignment: i64,
        partitions: Vec<i32>,
        asked: Stamp,
    },
    /// A commit of a partition's offset is sent, or a deletion.
    Writing {
        write: WriteId,
        partition: i32,
        is_deletion: bool,
    },
    /// It was acknowledged; `by` a member, or by somebody who is in no group.
    Written {
        write: WriteId,
        partition: i32,
        by: Option<Membership>,
        asked: Stamp,
    },
    /// It was refused by somebody who then has not carried it out.
    Refused {
        write: WriteId,
        partition: i32,
        code: ErrorCode,
    },
    /// Somebody asks for the group to be deleted: its generations may begin anew.
    Deleting,
    /// They do not: that was refused.
    NotDeleted,
    /// Nobody will know what became of it.
    Lost { write: WriteId, partition: i32 },
    /// What is committed for a partition.
    Found {
        partition: i32,
        write: Option<WriteId>,
        asked: Stamp,
    },
    /// A member goes away without a word, and its session is longer than the run.
    Stays { of: Membership },
    /// What the node says of a group in which nobody does anything any more.
    Described(GroupState),
    /// What the node says of it when nobody has done anything for longer than offsets are kept.
    Aged(GroupState),
    /// What the group's records say of it.
    Recorded(GroupState),
}

/// All that can be seen of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) name: String,
    pub(crate) protocol_type: Str,
    pub(crate) protocol: Str,
    pub(crate) members: BTreeMap<Str, MemberState>,
    pub(crate) offsets: BTreeMap<i32, OffsetState>,
    /// Only its record tells.
    pub(crate) generation: Option<i32>,
}

/// All that can be seen of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberState {
    pub(crate) instance: Option<Str>,
    pub(crate) client_host: Str,
    pub(crate) assignment: Vec<u8>,
}

/// All that can be seen of a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetState {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
}

impl fmt::Display for GroupEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined { of, asked } => write!(f, "joined: {of} (life {})", asked.life),
            Self::Assigning {
                of,
                assignment,
                owners,
            } => write!(f, "assigns {assignment}: {owners:?}, {of}"),
            Self::Synced {
                of,
                owner,
                assignment,
                partitions,
                ..
            } => write!(f, "owns {partitions:?} of {assignment} as {owner}: {of}"),
            Self::Writing {
                write,
                partition,
                is_deletion,
            } => {
                let verb = if *is_deletion { "deletes" } else { "commits" };
                write!(f, "{verb} {} for {partition}", write.0)
            }
            Self::Written {
                write,
                partition,
                by,
                asked,
            } => {
                write!(f, "has the ack of {} for {partition}", write.0)?;
                if let Some(by) = by {
                    write!(f, ", {by}")?;
                }
                write!(f, " (asked in life {})", asked.life)
            }
            Self::Refused {
                write,
                partition,
                code,
            } => write!(f, "is refused {} for {partition}: {code}", write.0),
            Self::Deleting => write!(f, "has it deleted"),
            Self::NotDeleted => write!(f, "may not delete it"),
            Self::Lost { write, partition } => {
                write!(
                    f,
                    "will not know what became of {} for {partition}",
                    write.0
                )
            }
            Self::Found {
                partition,
                write,
                asked,
            } => {
                let offset = write.map_or(-1, |write| write.0);
                let life = asked.life;
                write!(f, "reads {offset} for {partition} (asked in life {life})")
            }
            Self::Stays { of } => write!(f, "says no more: {of}"),
            Self::Described(state) => write!(f, "is described as {state:?}"),
            Self::Aged(state) => write!(f, "is described, after a while, as {state:?}"),
            Self::Recorded(state) => write!(f, "has records that say {state:?}"),
        }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.member, self.generation)
    }
}
