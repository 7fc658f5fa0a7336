//! Scenarios, a line per look, and a follower against a model of a directory.

use proptest::prelude::*;

use super::*;
use crate::produce::lines::Lines;

const WAIT: Millis = Millis(10);
/// First bytes that a file is known by.
const FIRST_MAX: usize = 64;

fn id(inode: u64) -> FileId {
    FileId { device: 1, inode }
}

/// Nobody knows when it was made: the names decide.
fn former(suffix: &str, inode: u64) -> Former {
    Former {
        suffix: suffix.to_owned(),
        id: id(inode),
        made: None,
    }
}

/// Which file is read and its size, which has the name, and its size.
fn look(held: Option<(u64, bool)>, named: Option<(u64, u64)>, rotated: &[(&str, u64)]) -> Look {
    Look {
        held: held.map(|(size, begins_as_before)| HeldLook {
            size,
            is_linked: true,
            begins_as_before,
        }),
        named: named.map(|(inode, size)| (id(inode), size)),
        rotated: rotated
            .iter()
            .map(|(suffix, inode)| former(suffix, *inode))
            .collect(),
    }
}

fn opening(suffix: &str, inode: u64, position: u64, is_resumed: bool) -> Opening {
    Opening {
        suffix: suffix.into(),
        id: id(inode),
        position,
        is_resumed,
    }
}

/// A tail that has read so much of file 1.
fn reading(position: u64) -> Tail {
    let mut tail = Tail::new(WAIT, false, None);
    tail.opened(&opening("", 1, position, false));
    tail
}

#[test]
fn it_waits_for_a_file_that_is_not_there_and_says_so_once() {
    let mut tail = Tail::new(WAIT, false, None);
    let nothing = look(None, None, &[]);
    let told = [Order::Tell(Notice::Missing), Order::Wait];
    assert_eq!(tail.look(&nothing, Millis(0)), told);
    assert_eq!(tail.look(&nothing, Millis(1)), [Order::Wait]);
    let there = look(None, Some((1, 5)), &[(".1", 9)]);
    let open = opening("", 1, 0, false);
    assert_eq!(tail.look(&there, Millis(2)), [Order::Open(open)]);
}

#[test]
fn it_begins_at_the_end_only_of_a_file_that_was_there_before_it() {
    let mut tail = Tail::new(WAIT, true, None);
    let there = look(None, Some((1, 5)), &[]);
    let at_end = opening("", 1, 5, false);
    assert_eq!(tail.look(&there, Millis(0)), [Order::Open(at_end.clone())]);
    tail.opened(&at_end);
    let rotated = look(Some((5, true)), Some((2, 3)), &[(".1", 1)]);
    tail.look(&rotated, Millis(0));
    let orders = tail.look(&rotated, WAIT);
    assert_eq!(orders[0], Order::Open(opening("", 2, 0, false)));
}

#[test]
fn a_file_that_grows_is_read_and_one_that_does_not_is_waited_for() {
    let mut tail = reading(5);
    let longer = look(Some((9, true)), Some((1, 9)), &[]);
    assert_eq!(tail.look(&longer, Millis(0)), [Order::Read]);
    tail.advanced(4);
    assert_eq!(tail.position(), 9);
    assert_eq!(tail.look(&longer, Millis(0)), [Order::Wait]);
    assert!(!tail.wants_rotated(Some(id(1))));
    assert!(tail.wants_rotated(Some(id(2))) && tail.wants_rotated(None));
}

#[test]
fn a_file_that_was_emptied_or_written_anew_is_read_from_its_start() {
    let mut tail = reading(5);
    let shorter = look(Some((2, true)), Some((1, 2)), &[]);
    let (position, size) = (5, 2);
    let notice = Notice::Truncated { position, size };
    let again = |notice| [Order::Tell(notice), Order::FinishLine, Order::Restart];
    assert_eq!(tail.look(&shorter, Millis(0)), again(notice));
    assert_eq!(tail.look(&shorter, Millis(0)), [Order::Read]);
    let mut tail = reading(5);
    let other = look(Some((7, false)), Some((1, 7)), &[]);
    let notice = Notice::Rewritten { position };
    assert_eq!(tail.look(&other, Millis(0)), again(notice));
    assert_eq!(tail.position(), 0);
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_left_when_it_was_quiet_for_long_enough() {
    let mut tail = reading(5);
    let still_written = look(Some((9, true)), Some((2, 3)), &[(".1", 1)]);
    assert_eq!(tail.look(&still_written, Millis(0)), [Order::Read]);
    tail.advanced(4);
    assert_eq!(tail.look(&still_written, Millis(5)), [Order::Wait]);
    let more = look(Some((10, true)), Some((2, 3)), &[(".1", 1)]);
    assert_eq!(tail.look(&more, Millis(14)), [Order::Read]);
    tail.advanced(1);
    assert_eq!(tail.look(&more, Millis(14)), [Order::Wait]);
    assert_eq!(tail.look(&more, Millis(23)), [Order::Wait]);
    // Nobody has written to the new one yet: there is nothing to leave for.
    let empty = look(Some((10, true)), Some((2, 0)), &[(".1", 1)]);
    assert_eq!(tail.look(&empty, Millis(24)), [Order::Wait]);
    let notice = Notice::Rotated { position: 10 };
    let next = [Order::Open(opening("", 2, 0, false)), Order::Tell(notice)];
    assert_eq!(tail.look(&more, Millis(24)), next);
}

#[test]
fn after_two_rotations_at_once_the_file_between_is_read_too() {
    let mut tail = reading(5);
    let twice = look(
        Some((5, true)),
        Some((3, 9)),
        &[(".1", 2), (".2", 1), (".3", 8)],
    );
    tail.look(&twice, Millis(0));
    let orders = tail.look(&twice, WAIT);
    let between = opening(".1", 2, 0, false);
    assert_eq!(orders[0], Order::Open(between.clone()));
    tail.opened(&between);
    tail.look(&look(Some((0, true)), Some((3, 9)), &twice_rotated()), WAIT);
    let orders = tail.look(
        &look(Some((0, true)), Some((3, 9)), &twice_rotated()),
        Millis(20),
    );
    assert_eq!(orders[0], Order::Open(opening("", 3, 0, false)));
}

fn twice_rotated() -> [(&'static str, u64); 2] {
    [(".1", 2), (".2", 1)]
}

#[test]
fn the_heir_of_a_deleted_file_is_found_when_it_was_rotated_too() {
    let mut tail = reading(5);
    tail.look(&look(Some((5, true)), Some((2, 0)), &[]), Millis(0));
    let rotated = look(Some((5, true)), Some((3, 0)), &[(".1", 2)]);
    let orders = tail.look(&rotated, WAIT);
    assert_eq!(orders[0], Order::Open(opening(".1", 2, 0, false)));
}

#[test]
fn a_deleted_file_is_let_go_and_a_renamed_one_is_not() {
    let mut tail = reading(5);
    let mut gone = look(Some((5, true)), None, &[]);
    tail.look(&gone, Millis(0));
    assert_eq!(tail.look(&gone, WAIT), [Order::Wait]);
    if let Some(held) = &mut gone.held {
        held.is_linked = false;
    }
    let notice = Notice::Deleted { position: 5 };
    let close = [Order::Tell(notice), Order::FinishLine, Order::Close];
    assert_eq!(tail.look(&gone, WAIT), close);
    assert_eq!(tail.look(&look(None, None, &[]), WAIT), [Order::Wait]);
}

#[test]
fn it_goes_on_where_the_last_run_stopped_by_whatever_name() {
    let resume = || Tail::new(WAIT, true, Some((id(1), 5)));
    let here = look(None, Some((1, 9)), &[]);
    let orders = resume().look(&here, Millis(0));
    assert_eq!(orders, [Order::Open(opening("", 1, 5, true))]);
    let renamed = look(None, Some((2, 9)), &[(".1", 1)]);
    assert!(resume().wants_rotated(Some(id(2))));
    let orders = resume().look(&renamed, Millis(0));
    assert_eq!(orders, [Order::Open(opening(".1", 1, 5, true))]);
    // Lost: what is there now is new, and read from its start.
    let lost = look(None, Some((2, 9)), &[(".1", 3)]);
    let orders = resume().look(&lost, Millis(0));
    let told = Order::Tell(Notice::Lost { position: 5 });
    assert_eq!(orders, [told, Order::Open(opening("", 2, 0, false))]);
    let mut tail = resume();
    assert_eq!(tail.look(&look(None, None, &[]), Millis(0)).len(), 2);
    assert_eq!(tail.look(&lost, Millis(0)).len(), 2, "still known as lost");
}

/// What happens to a log.
#[derive(Clone, Debug)]
enum Event {
    /// A few bytes of a line, or its end too.
    Write {
        bytes: usize,
        ends: bool,
    },
    /// Renamed and made anew; who writes notices at once, or at the next `Reopen`.
    Rotate {
        is_noticed: bool,
    },
    Reopen,
    /// Copied and emptied.
    CopyTruncate,
    DeleteAndCreate,
    /// The follower looks so often.
    Look(usize),
    Time(i64),
    /// The follower dies; so many of the last lines were not acknowledged.
    Crash {
        unacknowledged: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6_usize, any::<bool>()).prop_map(|(bytes, ends)| Event::Write { bytes, ends }),
        2 => any::<bool>().prop_map(|is_noticed| Event::Rotate { is_noticed }),
        1 => Just(Event::Reopen),
        1 => Just(Event::CopyTruncate),
        1 => Just(Event::DeleteAndCreate),
        3 => (1..4_usize).prop_map(Event::Look),
        2 => (1..2 * WAIT.0).prop_map(Event::Time),
        1 => (0..4_usize).prop_map(|unacknowledged| Event::Crash { unacknowledged }),
    ]
}

/// A directory: files by inode, names by suffix.
struct Directory {
    files: Vec<Vec<u8>>,
    /// Inode of the file with the name, then those of its former files, `.1` first.
    names: Vec<u64>,
    /// Whom the writer writes to.
    written_to: u64,
    /// Since when another file has the name than the one that is written to.
    behind_since: Option<Millis>,
    written: Vec<String>,
    line: String,
    lines: usize,
    now: Millis,
}

/// Who reads it.
struct Follower {
    tail: Tail,
    lines: Lines,
    /// Inode, and its first bytes.
    held: Option<(u64, Vec<u8>)>,
    /// Where a run begins that has sent nothing: kept when the first file is opened.
    anchor: Option<(FileId, u64)>,
    /// The first bytes of the file that the last run stopped in, as its state keeps them.
    kept_first: Option<Vec<u8>>,
    /// Lines that were acknowledged in former runs.
    acknowledged: usize,
    /// Each with the place behind it.
    sent: Vec<(String, FileId, u64)>,
}

impl Directory {
    fn new() -> Self {
        Self {
            files: vec![Vec::new()],
            names: vec![0],
            written_to: 0,
            behind_since: None,
            written: Vec::new(),
            line: String::new(),
            lines: 0,
            now: Millis(0),
        }
    }

    fn file(&mut self) -> &mut Vec<u8> {
        let at = usize::try_from(self.written_to).unwrap();
        &mut self.files[at]
    }

    fn write(&mut self, bytes: usize, ends: bool) {
        // Every line is another one, so that every file begins in its own way.
        if self.line.is_empty() {
            self.lines += 1;
            self.line = format!("{}:", self.lines);
            let begin = self.line.clone();
            self.file().extend(begin.as_bytes());
        }
        let more = "x".repeat(bytes);
        self.file().extend(more.as_bytes());
        self.line.push_str(&more);
        if ends {
            self.file().push(b'\n');
            self.written.push(std::mem::take(&mut self.line));
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.write(0, true);
        }
    }

    fn create(&mut self) -> u64 {
        self.files.push(Vec::new());
        self.files.len() as u64 - 1
    }

    fn reopen(&mut self) {
        self.end_line();
        self.written_to = self.names[0];
        self.behind_since = None;
    }

    /// Nobody writes to a former file for longer than a follower waits.
    fn pass(&mut self, millis: i64) {
        let now = Millis(self.now.0 + millis);
        if self
            .behind_since
            .is_some_and(|since| now.0 - since.0 >= WAIT.0)
        {
            self.reopen();
        }
        self.now = now;
    }

    fn look(&self, follower: &Follower) -> Look {
        let size = |inode: u64| self.files[usize::try_from(inode).unwrap()].len() as u64;
        let held = follower.held.as_ref().map(|(inode, first)| HeldLook {
            size: size(*inode),
            is_linked: self.names.contains(inode),
            begins_as_before: self.files[usize::try_from(*inode).unwrap()].starts_with(first),
        });
        let rotated = self.names.iter().enumerate().skip(1);
        Look {
            held,
            named: Some((id(self.names[0]), size(self.names[0]))),
            rotated: rotated
                .map(|(number, inode)| former(&format!(".{number}"), *inode))
                .collect(),
        }
    }
}

impl Follower {
    fn new(resume: Option<(FileId, u64)>) -> Self {
        Self {
            tail: Tail::new(WAIT, false, resume),
            lines: Lines::new(1000, 0),
            held: None,
            anchor: resume,
            acknowledged: 0,
            kept_first: None,
            sent: Vec::new(),
        }
    }

    fn inode(&self) -> u64 {
        self.held.as_ref().map_or(0, |(inode, _)| *inode)
    }

    fn send_whole(&mut self) {
        while let Some(line) = self.lines.next_line() {
            let text = String::from_utf8(line.bytes.to_vec()).unwrap();
            self.sent.push((text, id(self.inode()), line.end));
        }
    }

    fn finish_line(&mut self) {
        if let Some(line) = self.lines.finish() {
            let text = String::from_utf8(line.bytes.to_vec()).unwrap();
            self.sent.push((text, id(self.inode()), line.end));
        }
    }

    /// Looks once; whether there was something to do.
    fn look(&mut self, directory: &Directory) -> bool {
        let orders = self.tail.look(&directory.look(self), directory.now);
        let mut is_busy = false;
        for order in orders {
            is_busy |= order != Order::Wait;
            match order {
                Order::Tell(_) | Order::Wait => {}
                Order::FinishLine => self.finish_line(),
                Order::Restart => {
                    self.lines.restart(0);
                    if let Some((_, first)) = &mut self.held {
                        first.clear();
                    }
                }
                Order::Close => self.held = None,
                Order::Open(opening) => {
                    self.finish_line();
                    self.lines.restart(opening.position);
                    let kept = self.kept_first.take().filter(|_| opening.is_resumed);
                    self.held = Some((opening.id.inode, kept.unwrap_or_default()));
                    self.tail.opened(&opening);
                    self.anchor.get_or_insert((opening.id, opening.position));
                }
                Order::Read => self.read(directory),
            }
        }
        is_busy
    }

    fn read(&mut self, directory: &Directory) {
        let Some((inode, first)) = &mut self.held else {
            panic!("nothing to read from");
        };
        let file = &directory.files[usize::try_from(*inode).unwrap()];
        let from = usize::try_from(self.tail.position()).unwrap();
        let read = &file[from..file.len().min(from + 7)];
        self.lines.push(read);
        self.tail.advanced(read.len() as u64);
        *first = file[..file.len().min(FIRST_MAX)].to_vec();
        self.send_whole();
    }

    /// Dies and starts again; lines that were not acknowledged count as not sent.
    fn crash(&mut self, unacknowledged: usize, directory: &Directory) {
        let keep = self.sent.len().saturating_sub(unacknowledged);
        let keep = keep.max(self.acknowledged);
        self.sent.truncate(keep);
        let resume = self.sent.last().map(|(_, id, end)| (*id, *end));
        let resume = resume.or(self.anchor);
        let sent = std::mem::take(&mut self.sent);
        *self = Self::new(resume);
        self.sent = sent;
        self.acknowledged = keep;
        self.kept_first = resume.map(|(id, _)| {
            let file = &directory.files[usize::try_from(id.inode).unwrap()];
            file[..file.len().min(FIRST_MAX)].to_vec()
        });
    }

    /// Reads all that there is.
    fn catch_up(&mut self, directory: &mut Directory) {
        directory.reopen();
        for _ in 0..100_000 {
            let is_busy = self.look(directory);
            let has_all = self.sent.len() == directory.written.len();
            if !is_busy && has_all {
                return;
            }
            if !is_busy {
                directory.pass(WAIT.0);
            }
        }
        panic!("{:?} of {:?}", self.sent, directory.written);
    }
}

fn apply(event: Event, directory: &mut Directory, follower: &mut Follower) {
    match event {
        Event::Write { bytes, ends } => directory.write(bytes, ends),
        Event::Rotate { is_noticed } => {
            directory.reopen();
            let new = directory.create();
            directory.names.insert(0, new);
            directory.behind_since = Some(directory.now);
            if is_noticed {
                directory.reopen();
            }
        }
        Event::Reopen => directory.reopen(),
        Event::CopyTruncate => {
            // What was not read before is lost, to every follower.
            directory.end_line();
            follower.catch_up(directory);
            let copy = directory.file().clone();
            let inode = directory.create();
            let at = usize::try_from(inode).unwrap();
            directory.files[at] = copy;
            directory.names.insert(1, inode);
            directory.file().clear();
        }
        Event::DeleteAndCreate => {
            directory.end_line();
            follower.catch_up(directory);
            directory.names[0] = directory.create();
            directory.reopen();
            // A new file that is renamed before anybody has looked is like any other file.
            follower.look(directory);
        }
        Event::Look(times) => {
            for _ in 0..times {
                follower.look(directory);
            }
        }
        Event::Time(millis) => directory.pass(millis),
        Event::Crash { unacknowledged } => follower.crash(unacknowledged, directory),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_line_is_sent_once_in_order_through_any_rotation(
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut directory = Directory::new();
        let mut follower = Follower::new(None);
        follower.look(&directory);
        let mut safe_crashes = true;
        for event in events {
            // After these, what was read last has no place any more to go on from.
            match event {
                Event::CopyTruncate | Event::DeleteAndCreate => safe_crashes = false,
                Event::Crash { .. } if !safe_crashes => continue,
                _ => {}
            }
            apply(event, &mut directory, &mut follower);
        }
        directory.end_line();
        follower.catch_up(&mut directory);
        let sent: Vec<_> = follower.sent.into_iter().map(|(text, ..)| text).collect();
        prop_assert_eq!(sent, directory.written);
    }
}
