//! The log on a simulated disk that dies at every call.
//!
//! Model: a list of entries and a vote. What was acknowledged must be there after each crash; what
//! was being done may be there, in part and in order; nothing else.

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use proptest::prelude::*;
use skein_env::OpenMode;
use skein_env::sim::{Fault, SimWorld};
use skein_metadata::{Entry, Record};
use skein_types::Uuid;

use super::*;
use crate::types::{Proposal, raft_log_id};

const DIRECTORY: &str = "/meta";

fn entry(term: u64, index: u64) -> RaftEntryOf {
    let log_id = raft_log_id(LogId { term, index });
    if index.is_multiple_of(3) {
        return RaftEntryOf::new(log_id, EntryPayload::Blank);
    }
    // Some are larger than a page, so that they can be torn.
    let records = vec![
        Record::Feature {
            name: "x".repeat(900),
            level: 1
        };
        usize::try_from(index % 7).unwrap()
    ];
    let removal = Record::RemoveTopic { id: Uuid([1; 16]) };
    let records = records.into_iter().chain([removal]).collect();
    let proposal = Proposal::new(Entry {
        base: None,
        records,
    })
    .unwrap();
    RaftEntryOf::new(log_id, EntryPayload::Normal(proposal))
}

#[derive(Clone, Debug)]
enum Step {
    /// So many entries, then a flush.
    Append(u64),
    Vote(u64),
    /// Keep so many of the entries.
    Truncate(prop::sample::Index),
    Purge(prop::sample::Index),
    Reopen,
    /// A clean stop, and the next start.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_u64..6).prop_map(Step::Append),
        2 => (1_u64..9).prop_map(Step::Vote),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Step::Purge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

/// What must be there.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: Vec<LogId>,
    purged: Option<LogId>,
    term: u64,
    vote: Option<u64>,
}

impl Model {
    fn next_index(&self) -> u64 {
        self.entries
            .last()
            .copied()
            .or(self.purged)
            .map_or(0, |last| last.index + 1)
    }
}

struct Subject<'a> {
    world: &'a SimWorld,
    files: Option<LogFiles>,
    model: Model,
    /// The model if the step under way takes effect.
    next: Model,
}

impl<'a> Subject<'a> {
    fn new(world: &'a SimWorld) -> Self {
        world
            .node("a")
            .disk
            .create_directory(Path::new(DIRECTORY))
            .unwrap();
        world.node("a").disk.sync_directory(Path::new("/")).unwrap();
        Self {
            world,
            files: None,
            model: Model::default(),
            next: Model::default(),
        }
    }

    /// Opens the log, compares it with the model, and takes what is there for the model.
    fn open(&mut self) -> Result<(), QuorumError> {
        drop(self.files.take());
        let disk = self.world.node("a").disk;
        let recovered = recover(Arc::clone(&disk), Path::new(DIRECTORY))?;
        let found: Vec<LogId> = recovered.entries.iter().map(log_id_of).collect();
        for entry in &recovered.entries {
            let id = log_id_of(entry);
            assert_eq!(
                entry.to_string(),
                entry_again(id.term, id.index).to_string()
            );
        }
        self.check(&found, recovered.purged);
        let bytes = small_file::read(&*disk, &Path::new(DIRECTORY).join(VOTE_FILE), 1024)?;
        let vote = bytes.map(|bytes| frozen::vote_of(&bytes).unwrap().leader_id.term);
        assert!(
            vote == self.model.vote || vote == self.next.vote,
            "vote {vote:?}"
        );
        let behind = |id: &LogId| {
            self.model
                .purged
                .is_none_or(|purged| id.index > purged.index)
        };
        self.model.entries = found.iter().copied().filter(behind).collect();
        self.model.purged = self.model.purged.max(recovered.purged);
        self.model.vote = vote;
        self.model.term = self.model.term.max(self.next.term);
        self.next = self.model.clone();
        self.files = Some(recovered.files);
        Ok(())
    }

    /// The log found is the model's, or a step on the way to the next one.
    fn check(&self, found: &[LogId], purged: Option<LogId>) {
        let (model, next) = (&self.model.entries, &self.next.entries);
        // Entries that were purged may be there still.
        let known = self.model.purged.max(self.next.purged);
        assert!(
            purged <= known,
            "purged up to {purged:?}, asked for {known:?}"
        );
        let kept = model.iter().zip(next).take_while(|(a, b)| a == b).count();
        let needed = if next.is_empty() && self.next.purged > self.model.purged {
            &[]
        } else {
            &model[..kept]
        };
        let behind = needed
            .iter()
            .filter(|id| purged.is_none_or(|purged| id.index > purged.index));
        for id in behind.filter(|id| self.next.purged.is_none_or(|p| id.index > p.index)) {
            assert!(found.contains(id), "{id} was acknowledged; found {found:?}");
        }
        for id in found
            .iter()
            .filter(|id| self.model.purged.is_none_or(|p| id.index > p.index))
        {
            assert!(
                model.contains(id) || next.contains(id),
                "{id} is not the log's"
            );
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), QuorumError> {
        let Some(files) = &mut self.files else {
            return self.open();
        };
        match step {
            Step::Append(count) => {
                let start = self.model.next_index();
                let entries: Vec<_> = (start..start + count)
                    .map(|index| entry(self.model.term, index))
                    .collect();
                self.next.entries.extend(entries.iter().map(log_id_of));
                files.append(&entries)?;
                files.flush()?;
            }
            Step::Vote(more) => {
                let vote = self.model.vote.unwrap_or(0) + more;
                self.next.vote = Some(vote);
                files.save_vote(&RaftVote::new(vote, 5))?;
            }
            Step::Truncate(at) => {
                let kept = at.index(self.model.entries.len() + 1);
                self.next.entries.truncate(kept);
                // What follows comes from another leader.
                self.next.term += 1;
                let after = self.next.entries.last().copied().or(self.model.purged);
                files.truncate_after(after)?;
            }
            Step::Purge(at) if !self.model.entries.is_empty() => {
                let upto = self.model.entries[at.index(self.model.entries.len())];
                self.next.purged = Some(upto);
                self.next.entries.retain(|id| id.index > upto.index);
                files.purge(upto)?;
            }
            Step::Purge(_) => {}
            Step::Reopen => return self.open(),
            Step::Close => {
                if let Some(files) = self.files.take() {
                    files.close()?;
                }
                return self.open();
            }
        }
        self.model = self.next.clone();
        Ok(())
    }
}

/// The entry that was written with this id.
fn entry_again(term: u64, index: u64) -> RaftEntryOf {
    entry(term, index)
}

fn crash(steps: &[Step], seed: u64, at_call: u64, fault: Fault) -> bool {
    let world = SimWorld::new(seed);
    let mut subject = Subject::new(&world);
    subject.open().unwrap();
    world.disk("a").fail_after(at_call, fault);
    let mut crashed = false;
    for step in steps.iter().chain([&Step::Reopen]) {
        if let Err(error) = subject.run(step) {
            assert!(!crashed, "after the crash: {error}");
            assert!(!world.is_alive("a"), "{error}");
            crashed = true;
            subject.open().unwrap();
        }
    }
    world.disk("a").heal();
    subject.open().unwrap();
    crashed
}

/// The disk fails the call; the process is killed, the next one reads what the page cache has, and
/// the power is cut: what was read must be there, as somebody may have been told of it.
fn fail_kill_and_cut(steps: &[Step], seed: u64, at_call: u64) -> bool {
    let world = SimWorld::new(seed);
    let mut subject = Subject::new(&world);
    subject.open().unwrap();
    world.disk("a").fail_after(at_call, Fault::Eio);
    let at_call = world.disk("a").calls() + at_call;
    for step in steps.iter().chain([&Step::Reopen]) {
        if subject.run(step).is_err() {
            world.kill("a");
            subject.open().unwrap();
            world.power_cut("a");
            subject.open().unwrap();
        }
    }
    let is_struck = world.disk("a").calls() > at_call;
    world.disk("a").heal();
    world.power_cut("a");
    subject.open().unwrap();
    is_struck
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_call_loses_nothing_that_was_acknowledged(
        steps in proptest::collection::vec(step(), 1..14),
        seed: u64,
    ) {
        for fault in [Fault::Kill, Fault::PowerCut] {
            let mut at_call = 0;
            while crash(&steps, seed.wrapping_add(at_call), at_call, fault) {
                at_call += 1;
            }
            prop_assert!(at_call < 1000);
        }
    }

    #[test]
    fn what_is_read_after_a_failed_call_survives_a_power_cut(
        steps in proptest::collection::vec(step(), 1..14),
        seed: u64,
    ) {
        let mut at_call = 0;
        while fail_kill_and_cut(&steps, seed.wrapping_add(at_call), at_call) {
            at_call += 1;
        }
        prop_assert!(at_call < 1000);
    }
}

fn filled(world: &SimWorld, batches: u64) -> LogFiles {
    let mut subject = Subject::new(world);
    subject.open().unwrap();
    for _ in 0..batches {
        subject.run(&Step::Append(2)).unwrap();
    }
    subject.files.take().unwrap()
}

fn reopen(world: &SimWorld) -> Result<Recovered, QuorumError> {
    recover(world.node("a").disk, Path::new(DIRECTORY))
}

#[test]
fn a_torn_end_is_cut_off_and_the_log_goes_on() {
    let world = SimWorld::new(1);
    let files = filled(&world, 3);
    let path = files.files[0].file.path().to_path_buf();
    let end = files.files[0].file.end();
    let mut torn = Vec::new();
    frozen::write_entry(&entry(0, 6), end, &mut torn).unwrap();
    torn.pop();
    drop(files);
    let file = world
        .node("a")
        .disk
        .open(&path, OpenMode::ReadWrite)
        .unwrap();
    file.write_at(&[IoSlice::new(&torn)], end).unwrap();
    let mut recovered = reopen(&world).unwrap();
    let cut = recovered.cut.take().unwrap();
    assert_eq!((cut.end, cut.bytes), (end, torn.len() as u64));
    assert_eq!(recovered.entries.len(), 6);
    recovered.files.append(&[entry(0, 6)]).unwrap();
    recovered.files.flush().unwrap();
    let again = reopen(&world).unwrap();
    assert_eq!((again.entries.len(), again.cut), (7, None));
}

#[test]
fn a_corrupt_entry_that_was_flushed_is_never_cut_off() {
    let world = SimWorld::new(1);
    let files = filled(&world, 3);
    let path = files.files[0].file.path().to_path_buf();
    let start = files.files[0].starts[1];
    drop(files);
    assert!(world.disk("a").rot(&path, start + 9, 0x40).is_some());
    let error = reopen(&world).err().unwrap();
    assert!(matches!(error, QuorumError::Lost { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("corrupt at byte {start}")),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_noticed() {
    let world = SimWorld::new(1);
    let mut files = filled(&world, 1);
    for round in 0..2 {
        files.begin_file(files.last, 2 + round).unwrap();
        files.append(&[entry(0, 2 + round)]).unwrap();
        files.flush().unwrap();
    }
    drop(files);
    let disk = world.node("a").disk;
    disk.remove_file(&Path::new(DIRECTORY).join(format!("{:020}.log", 1)))
        .unwrap();
    // It looks like a purge that was interrupted: what came before is gone, and only a snapshot
    // that reaches so far makes up for it (`node::check_snapshot`).
    let recovered = reopen(&world).unwrap();
    assert_eq!(recovered.purged, Some(LogId { term: 0, index: 2 }));
    assert_eq!(recovered.entries.len(), 1);
}

#[test]
fn long_files_are_followed_by_new_ones() {
    let world = SimWorld::new(1);
    let mut files = filled(&world, 1);
    files.files[0].file.seal();
    files.append(&[entry(0, 2)]).unwrap();
    files.flush().unwrap();
    assert_eq!(files.files.len(), 2);
    files.purge(LogId { term: 0, index: 1 }).unwrap();
    assert_eq!(files.files.len(), 1);
    drop(files);
    let recovered = reopen(&world).unwrap();
    assert_eq!(recovered.purged, Some(LogId { term: 0, index: 1 }));
    assert_eq!(log_id_of(&recovered.entries[0]).index, 2);
}

#[test]
fn after_a_failure_nothing_is_taken() {
    let world = SimWorld::new(1);
    let mut files = filled(&world, 1);
    world.disk("a").fail_after(0, Fault::NoSpace);
    assert!(files.append(&[entry(0, 2)]).is_err());
    world.disk("a").heal();
    assert!(files.append(&[entry(0, 2)]).is_err());
    assert!(files.flush().is_err());
}

/// What was taken from the end looks like a tear, but there was no crash.
#[test]
fn after_a_clean_stop_a_log_that_ends_early_is_refused_at_every_start() {
    let world = SimWorld::new(1);
    let files = filled(&world, 3);
    let path = files.files[0].file.path().to_path_buf();
    let end = files.files[0].file.end();
    files.close().unwrap();
    let disk = world.node("a").disk;
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    let mut bytes = vec![0; usize::try_from(end).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    for length in (0..end).rev() {
        file.set_length(length).unwrap();
        for _ in 0..2 {
            let error = reopen(&world).err().unwrap();
            assert!(matches!(error, QuorumError::Lost { .. }), "{error}");
            assert!(error.to_string().contains("clean stop"), "{error}");
            assert_eq!(file.length().unwrap(), length, "it was cut");
        }
    }
    disk.remove_file(&path).unwrap();
    let error = reopen(&world).err().unwrap().to_string();
    assert!(error.contains("missing"), "{error}");
    // Restored, it opens.
    let file = disk.open(&path, OpenMode::CreateOrTruncate).unwrap();
    file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
    assert_eq!(reopen(&world).unwrap().entries.len(), 6);
}

#[test]
fn a_log_that_was_written_since_a_clean_stop_may_have_a_torn_end() {
    let world = SimWorld::new(1);
    filled(&world, 3).close().unwrap();
    // An opening that writes nothing keeps the end in mind.
    drop(reopen(&world).unwrap());
    let mut recovered = reopen(&world).unwrap();
    assert!(recovered.files.is_closed);
    recovered.files.append(&[entry(0, 6)]).unwrap();
    recovered.files.flush().unwrap();
    let path = recovered.files.files[0].file.path().to_path_buf();
    let start = recovered.files.files[0].starts[6];
    drop(recovered);
    let disk = world.node("a").disk;
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.set_length(start + 3).unwrap();
    let recovered = reopen(&world).unwrap();
    assert_eq!(recovered.cut.map(|cut| cut.end), Some(start));
    assert_eq!(recovered.entries.len(), 6);
}
