//! What to do about a log file that grows, is rotated, emptied, deleted and made anew.
//!
//! Input: looks at the file that is read and at the directory around it; the time. Output: orders.
//!
//! A file is its device and inode. Whether it still begins with the bytes that it began with is
//! seen by who looks (`files.rs`).
//!
//! | is read   | the name leads to    | its end is                | orders                       |
//! |-----------|----------------------|---------------------------|------------------------------|
//! | nothing   | nothing              |                           | say so once; wait            |
//! | nothing   | a file               |                           | open it, at its start        |
//! | nothing, after a run | any       |                           | open *its* file, if there    |
//! | a file    | it                   | farther                   | read                         |
//! | a file    | it                   | where we are              | wait                         |
//! | a file    | any                  | before us                 | finish the line; begin again |
//! | a file that begins otherwise | any |                        | finish the line; begin again |
//! | a file    | another, or nothing  | farther                   | read                         |
//! | a file    | another, or nothing  | where we are, not for long | wait: somebody may write on |
//! | a file    | another              | where we are              | open the next newer one      |
//! | a file    | nothing, or an empty file | where we are         | wait                         |
//! | a deleted file | nothing         | where we are              | finish the line; close       |
//!
//! The next newer file is another former one (the log may have been rotated twice since the last
//! look), else the one that has the name now.
//!
//! Invariants:
//! - what was appended to a file before it was left is read, each byte once;
//! - a file is left only after it was at its end for `rotate_wait`: who writes to a log notices a
//!   rotation late.
//!
//! Source: what logrotate(8) does with `create`, `nocreate`, `copytruncate` and `dateext`.

use std::time::SystemTime;

use skein_types::Millis;

use crate::produce::follow::names::next_newer;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    /// Of its file system.
    pub(crate) device: u64,
    /// Its number there.
    pub(crate) inode: u64,
}

/// What a look shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// The file that is read; `None` if there is none.
    pub(crate) held: Option<HeldLook>,
    /// The file that the name leads to, and its size.
    pub(crate) named: Option<(FileId, u64)>,
    /// Former files. Only if [`Tail::wants_rotated`].
    pub(crate) rotated: Vec<Former>,
}

/// A former file.
#[derive(Clone, Debug)]
pub(crate) struct Former {
    /// What stands behind the name.
    pub(crate) suffix: String,
    pub(crate) id: FileId,
    /// When it was made, if the file system tells.
    pub(crate) made: Option<SystemTime>,
}

impl Former {
    /// What its place among the others follows from.
    fn age(&self) -> (&str, Option<SystemTime>) {
        (&self.suffix, self.made)
    }
}

/// The file that is read, as a look shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldLook {
    pub(crate) size: u64,
    /// It has a name somewhere.
    pub(crate) is_linked: bool,
    /// Its first bytes are those that it began with.
    pub(crate) begins_as_before: bool,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A person should know.
    Tell(Notice),
    /// Read on, and say [`Tail::advanced`].
    Read,
    /// What was read of the last line is the whole line.
    FinishLine,
    /// The file is another one now: read from position 0.
    Restart,
    /// Open this file. If that works, finish the line of the one before, go on with this one, and
    /// say [`Tail::opened`]; if not, the further orders are void: look again.
    Open(Opening),
    /// Let go of the file.
    Close,
    /// Look again when something has happened.
    Wait,
}

/// A file to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// What stands behind the name of the log.
    pub(crate) suffix: String,
    /// Which file it must be; else it was rotated meanwhile.
    pub(crate) id: FileId,
    pub(crate) position: u64,
    /// The last run stopped here.
    pub(crate) is_resumed: bool,
}

/// What a person should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// There is no file of this name.
    Missing,
    /// The file where the last run stopped is not there.
    Lost { position: u64 },
    /// It became shorter than what was read.
    Truncated { position: u64, size: u64 },
    /// It begins otherwise, though it is not shorter.
    Rewritten { position: u64 },
    /// Another file has the name; it goes on with this one.
    Rotated { position: u64 },
    /// It was deleted.
    Deleted { position: u64 },
}

/// What to do about a log file.
#[derive(Debug)]
pub(crate) struct Tail {
    rotate_wait: Millis,
    /// Where to begin in the first file, if no former run says.
    starts_at_end: bool,
    held: Option<Held>,
    resume: Option<(FileId, u64)>,
    is_missing_told: bool,
}

#[derive(Debug)]
struct Held {
    id: FileId,
    position: u64,
    /// Since when it is at its end, without its name.
    quiet_since: Option<Millis>,
    /// The file that got its name.
    heir: Option<FileId>,
}

impl Tail {
    /// A log of which nothing is known but where the last run stopped, if there was one.
    pub(crate) fn new(
        rotate_wait: Millis,
        starts_at_end: bool,
        resume: Option<(FileId, u64)>,
    ) -> Self {
        Self {
            rotate_wait,
            starts_at_end,
            held: None,
            resume,
            is_missing_told: false,
        }
    }

    /// Position of the next byte to be read.
    pub(crate) fn position(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.position)
    }

    /// Whether a look needs the former files, if the name leads to this one.
    pub(crate) fn wants_rotated(&self, named: Option<FileId>) -> bool {
        match &self.held {
            Some(held) => named != Some(held.id),
            None => self.resume.is_some_and(|(id, _)| named != Some(id)),
        }
    }

    /// So many bytes were read.
    pub(crate) fn advanced(&mut self, bytes: u64) {
        if let Some(held) = &mut self.held {
            held.position += bytes;
        }
    }

    /// The file was opened.
    pub(crate) fn opened(&mut self, opening: &Opening) {
        self.resume = None;
        self.starts_at_end = false;
        self.is_missing_told = false;
        self.held = Some(Held {
            id: opening.id,
            position: opening.position,
            quiet_since: None,
            heir: None,
        });
    }

    /// What to do now.
    pub(crate) fn look(&mut self, look: &Look, now: Millis) -> Vec<Order> {
        let (Some(held), Some(file)) = (&mut self.held, look.held) else {
            return self.find(look);
        };
        let position = held.position;
        if !file.begins_as_before || file.size < position {
            held.position = 0;
            held.quiet_since = None;
            let notice = if file.size < position {
                let size = file.size;
                Notice::Truncated { position, size }
            } else {
                Notice::Rewritten { position }
            };
            return vec![Order::Tell(notice), Order::FinishLine, Order::Restart];
        }
        if file.size > position {
            held.quiet_since = None;
            return vec![Order::Read];
        }
        if look.named.is_some_and(|(id, _)| id == held.id) {
            held.quiet_since = None;
            return vec![Order::Wait];
        }
        let named = look.named.map(|(id, _)| id);
        let rotated = look.rotated.iter().map(|former| former.id);
        let mut there = rotated.chain(named);
        held.heir = held
            .heir
            .filter(|heir| there.any(|id| id == *heir))
            .or(named);
        let since = *held.quiet_since.get_or_insert(now);
        if now.0.saturating_sub(since.0) < self.rotate_wait.0 {
            return vec![Order::Wait];
        }
        self.leave(look, file.is_linked)
    }

    /// Goes on from a file that was read to its end and has lost its name.
    fn leave(&mut self, look: &Look, is_linked: bool) -> Vec<Order> {
        let Some(held) = &self.held else {
            return vec![Order::Wait];
        };
        let position = held.position;
        if let Some(opening) = successor(held, look) {
            let notice = Notice::Rotated { position };
            return vec![Order::Open(opening), Order::Tell(notice)];
        }
        if is_linked || look.named.is_some() {
            return vec![Order::Wait];
        }
        self.held = None;
        // It is told that it was deleted; that it is not there goes without saying.
        self.is_missing_told = true;
        let notice = Notice::Deleted { position };
        vec![Order::Tell(notice), Order::FinishLine, Order::Close]
    }

    /// Looks for a file to begin with.
    fn find(&mut self, look: &Look) -> Vec<Order> {
        let mut orders = Vec::new();
        if let Some((id, position)) = self.resume {
            let resumed = |suffix: &str| Opening {
                suffix: suffix.to_owned(),
                id,
                position,
                is_resumed: true,
            };
            if look.named.is_some_and(|(named, _)| named == id) {
                return vec![Order::Open(resumed(""))];
            }
            if let Some(former) = look.rotated.iter().find(|former| former.id == id) {
                return vec![Order::Open(resumed(&former.suffix))];
            }
            if look.named.is_some() {
                self.resume = None;
                self.starts_at_end = false;
                orders.push(Order::Tell(Notice::Lost { position }));
            }
        }
        let Some((id, size)) = look.named else {
            if !std::mem::replace(&mut self.is_missing_told, true) {
                orders.push(Order::Tell(Notice::Missing));
            }
            orders.push(Order::Wait);
            return orders;
        };
        orders.push(Order::Open(Opening {
            suffix: String::new(),
            id,
            position: if self.starts_at_end { size } else { 0 },
            is_resumed: false,
        }));
        orders
    }
}

/// The file that was begun after this one: the next newer of the former ones; for a file that was
/// deleted, and so has no name to compare, the one that got its name; else the one that has it now.
fn successor(held: &Held, look: &Look) -> Option<Opening> {
    let rotated = |wanted: FileId| look.rotated.iter().find(move |former| former.id == wanted);
    let newer = match rotated(held.id) {
        Some(own) => {
            let newer = next_newer(own.age(), look.rotated.iter().map(Former::age));
            let mut all = look.rotated.iter();
            all.find(|former| Some(former.suffix.as_str()) == newer)
        }
        None => held.heir.and_then(rotated),
    };
    let (suffix, id) = match newer {
        Some(former) => (former.suffix.clone(), former.id),
        None => (String::new(), look.named.filter(|(_, size)| *size > 0)?.0),
    };
    Some(Opening {
        suffix,
        id,
        position: 0,
        is_resumed: false,
    })
}

#[cfg(test)]
mod tests;
