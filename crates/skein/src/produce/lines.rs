//! Bytes cut into lines.
//!
//! Input: bytes as they are read, with the position of the first one. Output: whole lines without
//! their ends, each with the position behind it.
//!
//! Invariants:
//! - a line is handed out once and in one piece: only [`Lines::finish`] takes one without its end;
//! - at most `line_max` bytes of an unfinished line are kept, whatever comes: of a longer one the
//!   first `line_max` are kept and the rest is counted.

use bytes::{Buf, Bytes, BytesMut};

/// A line, or what is kept of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Without its end: a line feed, or carriage return and line feed. Of a line that is too long,
    /// the first bytes.
    pub(crate) bytes: Bytes,
    /// Bytes of the whole line, without its end.
    pub(crate) length: u64,
    /// Position behind the line and its end.
    pub(crate) end: u64,
}

impl Line {
    /// Whether it is longer than the limit, so that not all of it is here.
    pub(crate) fn is_cut(&self) -> bool {
        self.length > self.bytes.len() as u64
    }
}

/// Bytes cut into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    line_max: usize,
    /// What follows the last line that was handed out.
    rest: BytesMut,
    /// Bytes of `rest` in which there is no line feed.
    searched: usize,
    /// Position of the first byte of `rest`.
    position: u64,
    /// The unfinished line is too long: its beginning, and how many bytes came behind that.
    long: Option<(Bytes, u64)>,
    /// The rest of the first line belongs to nobody.
    is_skipping: bool,
}

impl Lines {
    /// Lines of at most so many bytes; the first byte to come is at `position`.
    pub(crate) fn new(line_max: usize, position: u64) -> Self {
        Self {
            line_max,
            rest: BytesMut::new(),
            searched: 0,
            position,
            long: None,
            is_skipping: false,
        }
    }

    /// Forgets what there is; the next byte to come is at `position`.
    pub(crate) fn restart(&mut self, position: u64) {
        *self = Self::new(self.line_max, position);
    }

    /// Leaves out everything up to the next line feed.
    pub(crate) fn skip_first(&mut self) {
        self.is_skipping = true;
    }

    /// Takes further bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next whole line.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        loop {
            let unsearched = &self.rest[self.searched..];
            let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.rest.len();
                self.shorten();
                return None;
            };
            let line = self.take(self.searched + found, 1);
            if !std::mem::take(&mut self.is_skipping) {
                return Some(line);
            }
        }
    }

    /// What is there of a line that has no end, as a line.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        let is_empty = self.rest.is_empty() && self.long.is_none();
        if is_empty || std::mem::take(&mut self.is_skipping) {
            self.restart(self.position + self.rest.len() as u64);
            return None;
        }
        Some(self.take(self.rest.len(), 0))
    }

    /// Whether a line has begun that is too long and has no end yet.
    pub(crate) fn is_within_long_line(&self) -> bool {
        self.long.is_some()
    }

    /// The line that ends after `length` bytes of the rest, and `end` bytes behind that.
    fn take(&mut self, length: usize, end: usize) -> Line {
        let part = self.rest.split_to(length).freeze();
        self.rest.advance(end);
        self.searched = 0;
        self.position += (length + end) as u64;
        let (bytes, length) = match self.long.take() {
            None => {
                let line = part.strip_suffix(b"\r").unwrap_or(&part).len();
                (part.slice(..line.min(self.line_max)), line as u64)
            }
            Some((head, more)) => {
                let length = head.len() as u64 + more + part.len() as u64;
                (head, length)
            }
        };
        Line {
            bytes,
            length,
            end: self.position,
        }
    }

    /// Lets go of what is too much of an unfinished line.
    fn shorten(&mut self) {
        let keep = if self.is_skipping { 0 } else { self.line_max };
        // One more, because a carriage return may stand there.
        if self.rest.len() <= keep + 1 && self.long.is_none() {
            return;
        }
        let more = self.rest.split();
        self.searched = 0;
        self.position += more.len() as u64;
        match &mut self.long {
            Some((_, count)) => *count += more.len() as u64,
            None => {
                let head = Bytes::copy_from_slice(&more[..keep.min(more.len())]);
                let count = (more.len() - head.len()) as u64;
                self.long = Some((head, count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<(String, u64, u64)> {
        std::iter::from_fn(|| lines.next_line())
            .map(|line| {
                let text = String::from_utf8_lossy(&line.bytes).into_owned();
                (text, line.length, line.end)
            })
            .collect()
    }

    fn line(text: &str, length: u64, end: u64) -> (String, u64, u64) {
        (text.into(), length, end)
    }

    #[test]
    fn lines_end_at_a_line_feed_and_the_last_one_when_it_is_said() {
        let mut lines = Lines::new(9, 100);
        lines.push(b"one\r\n\nt");
        assert_eq!(all(&mut lines), [line("one", 3, 105), line("", 0, 106)]);
        lines.push(b"wo");
        assert_eq!(lines.next_line(), None);
        let last = lines.finish().unwrap();
        assert_eq!((&last.bytes[..], last.end), (&b"two"[..], 109));
        assert_eq!(lines.finish(), None);
        lines.push(b"\xff\0\n");
        assert_eq!(lines.next_line().unwrap().bytes[..], [0xff, 0]);
    }

    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_kept_and_the_rest_counted() {
        let mut lines = Lines::new(3, 0);
        lines.push(b"abc\r\nabcd\r\nabcdefg");
        let first: Vec<_> = [lines.next_line(), lines.next_line(), lines.next_line()]
            .into_iter()
            .flatten()
            .map(|line| (line.is_cut(), line.length, line.end))
            .collect();
        assert_eq!(first, [(false, 3, 5), (true, 4, 11)]);
        assert!(lines.is_within_long_line());
        assert!(lines.rest.is_empty(), "only the beginning is kept");
        lines.push(b"hijk\nx\n");
        assert_eq!(all(&mut lines), [line("abc", 11, 23), line("x", 1, 25)]);
    }

    #[test]
    fn the_rest_of_a_line_that_was_begun_elsewhere_can_be_left_out() {
        let mut lines = Lines::new(3, 7);
        lines.skip_first();
        lines.push(b"a long rest");
        assert_eq!(lines.next_line(), None);
        lines.push(b" of it\nx\n");
        assert_eq!(all(&mut lines), [line("x", 1, 27)]);
        lines.skip_first();
        lines.push(b"no end");
        assert_eq!(lines.finish(), None);
    }

    proptest! {
        #[test]
        fn however_the_bytes_arrive_the_lines_are_the_same(
            text in "[ab\r\n]{0,60}",
            cuts in prop::collection::vec(0..60_usize, 0..6),
            line_max in 0..9_usize,
        ) {
            let mut at_once = Lines::new(line_max, 5);
            at_once.push(text.as_bytes());
            let mut expected = all(&mut at_once);
            expected.extend(at_once.finish().map(|last| {
                line(std::str::from_utf8(&last.bytes).unwrap(), last.length, last.end)
            }));
            let whole: Vec<_> = text.split_terminator('\n').collect();
            prop_assert_eq!(expected.len(), whole.len());
            for (found, raw) in expected.iter().zip(whole) {
                let raw = raw.strip_suffix('\r').unwrap_or(raw);
                prop_assert_eq!(&found.0, &raw[..raw.len().min(line_max)]);
            }
            let mut lines = Lines::new(line_max, 5);
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let (mut begin, mut found) = (0, Vec::new());
            for cut in cuts {
                lines.push(&text.as_bytes()[begin..cut]);
                begin = cut;
                found.extend(all(&mut lines));
                prop_assert!(lines.rest.len() <= line_max + 1);
            }
            found.extend(lines.finish().map(|last| {
                line(std::str::from_utf8(&last.bytes).unwrap(), last.length, last.end)
            }));
            let ends = |lines: &[(String, u64, u64)]| -> Vec<_> {
                lines.iter().map(|(text, _, end)| (text.clone(), *end)).collect()
            };
            prop_assert_eq!(ends(&found), ends(&expected));
        }
    }
}
