//! The machine: what it is, and its memory made warm.
//!
//! Input: files below `/proc`, and a directory. Output: facts for the head of the report.
//!
//! Memory that a virtual machine has not touched before is slow the first time: the same broker
//! costs several times as much CPU on it. So a file larger than what will lie in the page cache at
//! once is written and deleted before anything is measured.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::fs::Advice;

use crate::process::{float, kib_of};
use crate::{Outcome, table};

/// One write of the file that touches memory.
const CHUNK_BYTES: usize = 4 << 20;
/// Zeros might be shared by whatever is below the machine.
const PATTERN: u8 = 0xa5;
const GIB: u64 = 1 << 30;

/// Writes a file of this size and deletes it, or half of the available memory if that is less.
/// Returns the bytes written. The file has no name: it is gone however this program ends.
pub(crate) fn touch_memory(directory: &Path, bytes: u64) -> Outcome<u64> {
    let available = kib_of("MemAvailable:", &fs::read_to_string("/proc/meminfo")?).unwrap_or(0);
    let bytes = bytes.min(available * 1024 / 2);
    let mut file = tempfile::tempfile_in(directory)?;
    let chunk = vec![PATTERN; CHUNK_BYTES];
    let mut written = 0;
    while written < bytes {
        file.write_all(&chunk)?;
        written += CHUNK_BYTES as u64;
    }
    Ok(written)
}

/// Processors that this program may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Processor, memory, kernel and load, in one line.
pub(crate) fn facts() -> Outcome<String> {
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let gib = float(kib_of("MemTotal:", &memory).unwrap_or(0) * 1024) / float(GIB);
    Ok(format!(
        "{} cores of {}, {} GiB of memory, Linux {}",
        cores(),
        model(&processor),
        table::number(gib),
        kernel.trim(),
    ))
}

/// Runnable tasks over the last minute.
pub(crate) fn load_average() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(first.parse()?)
}

/// The version that `java` says it has.
pub(crate) fn java() -> Outcome<String> {
    let said = Command::new("java").arg("-version").output()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    Ok(said.lines().next().unwrap_or("java").replace('"', ""))
}

fn model(processor: &str) -> &str {
    let line = processor
        .lines()
        .find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or("an unnamed processor", |(_, model)| model.trim())
}

/// Drops all files below `directory` from the page cache, as far as they are written back.
pub(crate) fn forget(directory: &Path) -> Outcome<()> {
    rustix::fs::sync();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_files(&entry.path())?;
        }
    }
    Ok(())
}

/// Drops the files in `directory`.
pub(crate) fn forget_files(directory: &Path) -> Outcome<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            let file = fs::File::open(path)?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_where_it_has_a_name() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: Fast One\n"),
            "Fast One"
        );
        assert_eq!(model("processor\t: 0\n"), "an unnamed processor");
    }

    #[test]
    fn touching_writes_what_is_asked_in_whole_chunks() {
        let directory = tempfile::tempdir().unwrap();
        let written = touch_memory(directory.path(), CHUNK_BYTES as u64 + 1).unwrap();
        assert_eq!(written, 2 * CHUNK_BYTES as u64);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
