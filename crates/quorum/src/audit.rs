//! What a node saw happen, a JSON line each, for whoever compares nodes from outside.
//!
//! ```text
//!   {"time":1704067200000,"event":"start","raft_id":"…"}
//!   {"time":…,"event":"leader","term":3,"leader":"…" or null}
//!   {"time":…,"event":"snapshot","term":2,"index":7,"hash":"…"}
//!   {"time":…,"event":"applied","term":3,"index":8,"hash":"…"}
//!   {"time":…,"event":"partition","index":8,"topic":"t","topic_id":"…","partition":0,"leader":1,
//!    "leader_epoch":4,"partition_epoch":9,"isr":[1,2],"elr":[],"last_known":[],"recovering":false}
//! ```
//!
//! Input: terms and leaders, entries and the images that they lead to. Output: lines at the end of
//! a file.
//!
//! Invariants:
//! - a line is with the kernel before the node goes on: a process that is killed loses at most the
//!   line that it was writing, and the next process takes what there is of it away;
//! - the hash is one of the whole image (`skein_metadata::ImageDigest`): who has applied the same
//!   entries has the same one, also who starts again and applies them once more, or begins with a
//!   snapshot; a line costs what its entry changes, however large the image is;
//! - a node without an audit log pays for one branch.
//!
//! A file that cannot be written is told once; the node goes on, and so does the file when there is
//! room. Leaders that follow each other fast may be seen as one.
//!
//! Source: own format.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use skein_env::{Clock, Disk, Env, File, OpenMode};
use skein_metadata::{Image, ImageDigest, LogId, Part, Partition, Record, Topic};
use skein_types::{BrokerId, PartitionIndex, TopicId};

use crate::QuorumError;

/// How each line begins: what does not is no audit log, and is left alone.
const LINE_START: &[u8] = b"{\"time\":";
/// Bytes at the end of a file in which its last whole line must end.
const TAIL_MAX_BYTES: u64 = 1024 * 1024;

/// The audit log of this node. Cheap to clone; all clones are the same file.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// Of the image that was last told.
    digest: Mutex<ImageDigest>,
    end: Mutex<End>,
}

/// The end of the file.
struct End {
    file: Arc<dyn File>,
    position: u64,
    is_broken: bool,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditLog({})", self.inner.path.display())
    }
}

impl AuditLog {
    /// Opens the file at `path`, or makes it, and goes on behind its last whole line. Blocks.
    ///
    /// # Errors
    /// [`QuorumError::Io`]: what the system says; the file holds something else.
    pub fn open(env: &Env, path: &Path) -> Result<Self, QuorumError> {
        let failed = |source| QuorumError::io("open", path, source);
        let file = open_or_create(&*env.disk, path).map_err(failed)?;
        let position = whole_lines(&*file).map_err(failed)?;
        file.set_length(position).map_err(failed)?;
        let end = End {
            file,
            position,
            is_broken: false,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_path_buf(),
                clock: Arc::clone(&env.clock),
                digest: Mutex::default(),
                end: Mutex::new(end),
            }),
        })
    }

    /// The node begins.
    pub(crate) fn start(&self, raft_id: u64) {
        self.append(|lines| {
            line(
                lines,
                format_args!("\"start\",\"raft_id\":\"{raft_id:016x}\""),
            );
        });
    }

    /// The node knows of this term and its leader.
    pub(crate) fn leader(&self, term: u64, leader: Option<u64>) {
        let leader = leader.map_or("null".to_owned(), |id| format!("\"{id:016x}\""));
        self.append(|lines| {
            line(
                lines,
                format_args!("\"leader\",\"term\":{term},\"leader\":{leader}"),
            );
        });
    }

    /// The image is now this one, which came as a whole.
    pub(crate) fn snapshot(&self, image: &Image) {
        let digest = ImageDigest::of(image);
        *self.inner.digest.lock() = digest;
        let Some(log_id) = image.last_applied() else {
            return;
        };
        self.append(|lines| state(lines, "snapshot", log_id, digest.hash(image)));
    }

    /// The entry at `log_id` with these `records` has made `image` of `former`, the last one told.
    pub(crate) fn applied(&self, log_id: LogId, records: &[Record], former: &Image, image: &Image) {
        let parts = Part::touched_by(records, former);
        let hash = {
            let mut digest = self.inner.digest.lock();
            digest.follow(&parts, former, image);
            debug_assert_eq!(*digest, ImageDigest::of(image), "{records:?}");
            digest.hash(image)
        };
        self.append(|lines| {
            state(lines, "applied", log_id, hash);
            for part in &parts {
                if let Part::Partition(topic_id, index) = part {
                    partition(lines, log_id, (*topic_id, *index), former, image);
                }
            }
        });
    }

    fn append(&self, write: impl FnOnce(&mut Lines)) {
        let mut lines = Lines {
            text: String::new(),
            time: self.inner.clock.now().get(),
        };
        write(&mut lines);
        let mut end = self.inner.end.lock();
        let written = end.write(lines.text.as_bytes());
        let was_broken = std::mem::replace(&mut end.is_broken, written.is_err());
        if let Err(error) = written
            && !was_broken
        {
            let path = self.inner.path.display();
            tracing::warn!(%error, %path, "the audit log has a gap from here on");
        }
    }
}

impl End {
    /// Writes behind the last whole line. What was written of it before an error is written over.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let position = self.position + written as u64;
            match self
                .file
                .write_at(&[IoSlice::new(&bytes[written..])], position)?
            {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => written += count,
            }
        }
        self.position += written as u64;
        Ok(())
    }
}

/// Lines in the making, all of one moment.
struct Lines {
    text: String,
    time: i64,
}

fn line(lines: &mut Lines, event: fmt::Arguments<'_>) {
    let time = lines.time;
    // A string takes whatever is written to it.
    let _ = writeln!(lines.text, "{{\"time\":{time},\"event\":{event}}}");
}

fn state(lines: &mut Lines, event: &str, log_id: LogId, hash: u64) {
    let LogId { term, index } = log_id;
    line(
        lines,
        format_args!("\"{event}\",\"term\":{term},\"index\":{index},\"hash\":\"{hash:016x}\""),
    );
}

/// A partition, if it is new, or has another ISR, leader or leader epoch than before.
fn partition(
    lines: &mut Lines,
    log_id: LogId,
    (topic_id, index): (TopicId, PartitionIndex),
    former: &Image,
    image: &Image,
) {
    let Some((topic, now)) = image.topic(topic_id).zip(image.partition(topic_id, index)) else {
        return; // it is gone
    };
    let known = former.partition(topic_id, index);
    if known.is_none_or(|known| is_another(known, now)) {
        of_partition(lines, log_id, topic, index, now);
    }
}

fn is_another(former: &Arc<Partition>, now: &Arc<Partition>) -> bool {
    let seen = |partition: &Partition| (partition.leader, partition.leader_epoch);
    !Arc::ptr_eq(former, now) && (seen(former) != seen(now) || former.isr != now.isr)
}

fn of_partition(
    lines: &mut Lines,
    log_id: LogId,
    topic: &Topic,
    index: PartitionIndex,
    partition: &Partition,
) {
    // The name of a topic has no character that JSON would escape.
    line(
        lines,
        format_args!(
            "\"partition\",\"index\":{},\"topic\":\"{}\",\"topic_id\":\"{}\",\"partition\":{},\
             \"leader\":{},\"leader_epoch\":{},\"partition_epoch\":{},\"isr\":{},\"elr\":{},\
             \"last_known\":{},\"recovering\":{}",
            log_id.index,
            topic.name,
            topic.id,
            index.get(),
            partition.leader.get(),
            partition.leader_epoch.get(),
            partition.partition_epoch.get(),
            ids(&partition.isr),
            ids(&partition.elr),
            ids(&partition.last_known),
            partition.leader_recovery_state != skein_metadata::LeaderRecoveryState::Recovered,
        ),
    );
}

fn ids(ids: &[BrokerId]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| id.get().to_string()).collect();
    format!("[{}]", ids.join(","))
}

fn open_or_create(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn File>> {
    match disk.open(path, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.open(path, OpenMode::CreateNew)
        }
        opened => opened,
    }
}

/// Where the last whole line of an audit log ends.
fn whole_lines(file: &dyn File) -> io::Result<u64> {
    let foreign = || io::Error::other("it holds something else than an audit log");
    let length = file.length()?;
    let start = length.saturating_sub(TAIL_MAX_BYTES);
    let mut head = [0; LINE_START.len()];
    let read = file.read_at(&mut head, 0)?;
    if !LINE_START.starts_with(&head[..read]) {
        return Err(foreign());
    }
    let mut tail = vec![0; usize::try_from(length - start).unwrap_or(0)];
    let read = file.read_at(&mut tail, start)?;
    let end = tail[..read].iter().rposition(|byte| *byte == b'\n');
    match end {
        Some(end) => Ok(start + end as u64 + 1),
        None if start == 0 => Ok(0),
        None => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    use skein_env::sim::SimWorld;
    use skein_metadata::Entry;
    use skein_types::{LeaderEpoch, PartitionEpoch, TopicName, Uuid};

    use super::*;

    const PATH: &str = "/audit";

    fn text(env: &Env) -> String {
        let file = env.disk.open(Path::new(PATH), OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    fn write(env: &Env, bytes: &str) {
        let file = env
            .disk
            .open(Path::new(PATH), OpenMode::CreateOrTruncate)
            .unwrap();
        let count = file.write_at(&[IoSlice::new(bytes.as_bytes())], 0).unwrap();
        assert_eq!(count, bytes.len());
    }

    fn open(env: &Env) -> Result<AuditLog, QuorumError> {
        AuditLog::open(env, Path::new(PATH))
    }

    #[test]
    fn a_line_that_was_cut_is_taken_away_and_the_others_stay() {
        let env = SimWorld::new(1).node("a");
        open(&env).unwrap().start(7);
        let first = text(&env);
        assert!(first.ends_with(",\"event\":\"start\",\"raft_id\":\"0000000000000007\"}\n"));
        write(&env, &format!("{first}{{\"time\":17"));
        open(&env).unwrap().leader(3, None);
        let both = text(&env);
        let second = both.strip_prefix(&first).unwrap();
        assert_eq!(second.matches("time").count(), 1, "{second}");
        assert!(second.ends_with(",\"event\":\"leader\",\"term\":3,\"leader\":null}\n"));
        write(&env, "{\"ti");
        open(&env).unwrap();
        assert_eq!(text(&env), "");
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_alone() {
        let env = SimWorld::new(1).node("a");
        for bytes in ["root:x:0\n", "\n", "{\"tim\n"] {
            write(&env, bytes);
            let error = open(&env).unwrap_err().to_string();
            assert!(error.contains("/audit: it holds something else"), "{error}");
            assert_eq!(text(&env), bytes);
        }
    }

    #[test]
    fn an_entry_is_a_line_with_the_hash_of_its_image_and_one_for_each_partition_it_changes() {
        let env = SimWorld::new(1).node("a");
        let log = open(&env).unwrap();
        let topic_id = Uuid([9; 16]);
        let partition = |leader: i32, epoch: i32| Partition {
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(leader)],
            elr: vec![],
            last_known: vec![],
            offline: vec![],
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: PartitionEpoch(epoch),
            leader_recovery_state: skein_metadata::LeaderRecoveryState::Recovered,
        };
        let record = |index, partition| Record::Partition {
            topic_id,
            index: PartitionIndex(index),
            partition,
        };
        let name = TopicName::new("t").unwrap();
        let created = vec![
            Record::Topic { id: topic_id, name },
            record(0, partition(1, 0)),
            record(1, partition(1, 0)),
        ];
        let mut image = Image::new();
        for (index, records) in [(1, created), (2, vec![record(1, partition(2, 1))])] {
            let former = image.clone();
            let log_id = LogId { term: 1, index };
            let base = image.last_decision();
            let entry = Entry { base, records };
            image.apply(log_id, &entry).unwrap();
            log.applied(log_id, &entry.records, &former, &image);
        }
        let written = text(&env);
        let events = written.lines().map(|line| {
            let (_, event) = line.split_once("\"event\":").unwrap();
            event.split(",\"hash\"").next().unwrap()
        });
        let of = |index, partition, leader, epoch| {
            format!(
                "\"partition\",\"index\":{index},\"topic\":\"t\",\"topic_id\":\"{topic_id}\",\
                 \"partition\":{partition},\"leader\":{leader},\"leader_epoch\":{epoch},\
                 \"partition_epoch\":{epoch},\"isr\":[{leader}],\"elr\":[],\"last_known\":[],\
                 \"recovering\":false}}"
            )
        };
        let expected = [
            "\"applied\",\"term\":1,\"index\":1".to_owned(),
            of(1, 0, 1, 0),
            of(1, 1, 1, 0),
            "\"applied\",\"term\":1,\"index\":2".to_owned(),
            of(2, 1, 2, 1),
        ];
        assert_eq!(events.collect::<Vec<_>>(), expected);
        let hashes: Vec<_> = written
            .lines()
            .filter(|line| line.contains("hash"))
            .collect();
        let hash = |line: &str| line.rsplit_once(':').unwrap().1.to_owned();
        assert_ne!(hash(hashes[0]), hash(hashes[1]));
        // Who begins with that image has the same one.
        log.snapshot(&image);
        let whole = text(&env);
        assert_eq!(hash(whole.lines().last().unwrap()), hash(hashes[1]));
    }
}
