//! Whatever files an interrupted swap has left: what a start makes of them.
//!
//! Input: a log, what a compaction makes of its sealed segments, and for each file how far the swap
//! has come with it, in every combination. Output: nothing, or a record that is gone.

use std::collections::BTreeSet;
use std::path::Path;

use super::compacting::{append, budget, compacting, forty, large, last_values, settings, told};
use super::*;

/// How far the swap has come with a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    Absent,
    Cleaned,
    Swap,
    InPlace,
}

/// What has become of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    There,
    Deleted,
    Gone,
}

const NEW: [New; 4] = [New::Absent, New::Cleaned, New::Swap, New::InPlace];
const SOURCES: [Source; 3] = [Source::There, Source::Deleted, Source::Gone];
const KINDS: [&str; 3] = ["log", "index", "timeindex"];

/// One state of the files: of the new log and its two indexes, and of the first, the middle and
/// the last source.
#[derive(Clone, Copy, Debug)]
struct Combination {
    new: [New; 3],
    sources: [Source; 3],
}

impl Combination {
    fn all() -> impl Iterator<Item = Self> {
        let new = NEW.into_iter().flat_map(|log| {
            NEW.into_iter().flat_map(move |index| {
                NEW.into_iter()
                    .map(move |timeindex| [log, index, timeindex])
            })
        });
        new.flat_map(|new| {
            SOURCES.into_iter().flat_map(move |first| {
                SOURCES.into_iter().flat_map(move |middle| {
                    SOURCES.into_iter().map(move |last| Self {
                        new,
                        sources: [first, middle, last],
                    })
                })
            })
        })
    }

    /// Whether nothing may be missing: the sources are there, or their complete replacement is and
    /// they do not contradict it.
    fn is_complete(&self) -> bool {
        let [log, index, timeindex] = self.new;
        let are_there = self.sources.iter().all(|source| *source == Source::There);
        let has_cleaned = index == New::Cleaned || timeindex == New::Cleaned;
        match log {
            New::Absent | New::Cleaned => are_there,
            // Its indexes get the name first: beside a `.cleaned` the set is not complete.
            New::Swap => are_there || !has_cleaned,
            New::InPlace => self.sources[1..]
                .iter()
                .all(|source| *source != Source::There),
        }
    }
}

struct Files {
    /// Of the log as it was, by name.
    old: BTreeMap<String, Vec<u8>>,
    /// Of the new segment: the ends of their names.
    new: BTreeMap<&'static str, Vec<u8>>,
    /// The base offsets of the sources, as names tell them.
    sources: Vec<String>,
}

impl Files {
    fn lay_out(&self, directory: &Path, combination: Combination) {
        std::fs::remove_dir_all(directory).unwrap();
        std::fs::create_dir(directory).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
        for (name, bytes) in &self.old {
            let source = self.sources.iter().position(|base| name.starts_with(base));
            let state = match source {
                None => Source::There,
                Some(0) => combination.sources[0],
                Some(last) if last + 1 == self.sources.len() => combination.sources[2],
                Some(_) => combination.sources[1],
            };
            match state {
                Source::There => write(name, bytes),
                Source::Deleted => write(&format!("{name}.deleted"), bytes),
                Source::Gone => {}
            }
        }
        for (kind, state) in KINDS.iter().zip(combination.new) {
            let name = format!("{}.{kind}", self.sources[0]);
            let bytes = &self.new[kind];
            match state {
                New::Absent => {}
                New::Cleaned => write(&format!("{name}.cleaned"), bytes),
                New::Swap => write(&format!("{name}.swap"), bytes),
                New::InPlace => write(&name, bytes),
            }
        }
    }
}

fn read_all(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap();
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn an_interrupted_swap_loses_nothing_in_any_combination_of_files() {
    let (fixture, mut log) = forty();
    log.set_config(large());
    let source = log.compaction_source(None);
    let dirty = source.dirty(&settings(), Millis(2000)).unwrap().unwrap();
    let mut compaction = Compaction::new(source, dirty, &settings(), budget(1000), Millis(2000));
    let cleaned = loop {
        if let CompactionStep::Cleaned(cleaned) = compaction.step(usize::MAX).unwrap() {
            break cleaned;
        }
    };
    let expected = last_values(&told(&log.view()));
    let end = log.log_end_offset();
    let sources: Vec<String> = (log.sealed.iter())
        .map(|segment| format!("{:020}", segment.base_offset.0))
        .collect();
    assert!(sources.len() > 2, "{sources:?}");
    let mut old = read_all(&fixture.path(""));
    let mut new = BTreeMap::new();
    for kind in KINDS {
        let name = format!("{}.{kind}.cleaned", sources[0]);
        new.insert(kind, old.remove(&name).unwrap());
    }
    let cleaned_end = log.active.base_offset;
    drop((log, compaction, cleaned));
    let files = Files { old, new, sources };
    let mut complete = 0;
    for combination in Combination::all() {
        for config in [compacting(), small()] {
            files.lay_out(&fixture.path(""), combination);
            let checkpoint = match combination.new[0] {
                New::InPlace => BTreeMap::from([(orders(), cleaned_end)]),
                _ => BTreeMap::new(),
            };
            let root = fixture.temporary.path();
            let _ = std::fs::remove_file(root.join("cleaner-offset-checkpoint"));
            fixture
                .directory()
                .write_checkpoint(CheckpointFile::Cleaner, &checkpoint)
                .unwrap();
            // What cannot come about must not end the process either.
            let opened = fixture.try_open(config);
            if !combination.is_complete() {
                continue;
            }
            complete += 1;
            let mut log = opened.unwrap().log;
            log.publish_all();
            assert_eq!(log.log_end_offset(), end, "{combination:?}");
            let left = told(&log.view());
            assert_eq!(last_values(&left), expected, "{combination:?}");
            log.view().check_indexes().unwrap();
            for suffix in [".cleaned", ".swap", ".deleted"] {
                assert_eq!(fixture.names(suffix), [] as [&str; 0], "{combination:?}");
            }
        }
    }
    assert!(complete > 500, "{complete}");
}

/// The table of keys was full in the middle of a segment, and the policy was another one when the
/// swap was finished: what was not compared then must not count as compacted.
#[test]
fn a_swap_that_another_policy_finishes_is_compacted_on_from_where_it_came() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    for number in 0..40_u8 {
        let key = match number {
            0..10 => number % 2,
            // Here there is no room for another one.
            10..14 => number,
            14..24 => 20 + number % 2,
            _ => number,
        };
        append(&mut log, &[(key, Some(number))]);
    }
    log.flush(Millis(1)).unwrap();
    log.set_config(large());
    let source = log.compaction_source(None);
    let dirty = source.dirty(&settings(), Millis(2000)).unwrap().unwrap();
    let mut compaction = Compaction::new(source, dirty, &settings(), budget(7), Millis(2000));
    let cleaned = match (0..1000)
        .map(|_| compaction.step(usize::MAX).unwrap())
        .find(|step| !matches!(step, CompactionStep::Worked(_)))
    {
        Some(CompactionStep::Cleaned(cleaned)) => cleaned,
        _ => panic!("nothing was compacted"),
    };
    let expected = last_values(&told(&log.view()));
    drop((log, compaction, cleaned));
    for name in fixture.names(".cleaned") {
        let swap = format!("{}.swap", name.strip_suffix(".cleaned").unwrap());
        std::fs::rename(fixture.path(&name), fixture.path(&swap)).unwrap();
    }
    let mut log = fixture.open(small()).log;
    log.publish_all();
    log.flush(Millis(1)).unwrap();
    log.set_config(large());
    assert!(log.compact(2000).is_some(), "the table had no room for all");
    while log.compact(2000).is_some() {}
    let left = told(&log.view());
    assert_eq!(last_values(&left), expected);
    let mut keys = BTreeSet::new();
    for (offset, key, _) in left {
        let is_compacted = Offset(offset) < log.active.base_offset;
        assert!(
            !is_compacted || keys.insert(key),
            "{key} is there again at {offset}"
        );
    }
}

#[test]
fn a_garbled_checkpoint_of_the_cleaner_costs_a_compaction_and_nothing_else() {
    for garbage in [
        "",
        "rubbish",
        "0\n1\n",
        "0\n1\norders 0 x\n",
        "0\n1\norders 0 -7\n",
        "0\n1\norders 0 9223372036854775807\n",
        "7\n1\norders 0 3\n",
        "0\n99999999999\norders 0 3\n",
    ] {
        let (fixture, mut log) = forty();
        let expected = last_values(&told(&log.view()));
        log.compact(2000).unwrap();
        drop(log);
        let path = fixture.temporary.path().join("cleaner-offset-checkpoint");
        std::fs::write(path, garbage).unwrap();
        let opened = fixture.open(compacting());
        assert_eq!(opened.recovery.cut, None, "{garbage:?}");
        let mut log = opened.log;
        log.publish_all();
        log.flush(Millis(1)).unwrap();
        assert_eq!(last_values(&told(&log.view())), expected);
        let stats = log.compact(2000).unwrap();
        assert_eq!(stats.start, Offset(0), "{garbage:?}");
        assert_eq!(log.compact(2000), None);
        assert_eq!(last_values(&told(&log.view())), expected);
    }
}
