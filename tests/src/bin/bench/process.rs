//! What the kernel knows of a process.
//!
//! Input: a process id. Output: the CPU time it has used, with all its threads, and its resident
//! memory. See proc(5).

use std::fs;
use std::io;

/// `utime` and `stime` are the fields 14 and 15 of `stat`; these follow the name, which ends at the
/// last parenthesis and is field 2.
const UTIME_AFTER_NAME: usize = 11;

/// User and system time so far, in seconds.
///
/// # Errors
///
/// When there is no such process.
pub(crate) fn cpu_seconds(id: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| strange("stat", &stat))?;
    Ok(float(ticks) / float(rustix::param::clock_ticks_per_second()))
}

/// As [`cpu_seconds`], but exact and of the threads that live now: for a step that takes less than
/// a tick of the clock, and ends no thread.
///
/// # Errors
///
/// When there is no such process.
pub(crate) fn exact_cpu_seconds(id: u32) -> io::Result<f64> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        let on_cpu = stat.split_whitespace().next();
        let on_cpu = on_cpu.and_then(|nanos| nanos.parse::<u64>().ok());
        nanos += on_cpu.ok_or_else(|| strange("schedstat", &stat))?;
    }
    Ok(float(nanos) / 1e9)
}

/// Resident memory in megabytes of 10^6 bytes.
///
/// # Errors
///
/// When there is no such process.
pub(crate) fn resident_mb(id: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kib = kib_of("VmRSS:", &status).ok_or_else(|| strange("status", &status))?;
    Ok(float(kib * 1024) / 1e6)
}

/// A line `NAME 123 kB` of a file below `/proc`.
pub(crate) fn kib_of(name: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(UTIME_AFTER_NAME);
    let utime: u64 = times.next()?.parse().ok()?;
    let stime: u64 = times.next()?.parse().ok()?;
    Some(utime + stime)
}

/// Exact up to 2^53, which neither ticks nor bytes reach.
#[allow(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}

fn strange(file: &str, text: &str) -> io::Error {
    io::Error::other(format!("unknown form of /proc/ID/{file}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 2047 0 11 0 1234 66 5 6 20 0 1 0 100 8 9";
        assert_eq!(cpu_ticks(stat), Some(1_300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn memory_is_found_by_its_name() {
        let status = "Name:\tx\nVmPeak:\t  99 kB\nVmRSS:\t   1234 kB\n";
        assert_eq!(kib_of("VmRSS:", status), Some(1_234));
        assert_eq!(kib_of("VmSwap:", status), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let id = std::process::id();
        let before = cpu_seconds(id).unwrap();
        let mut sum = 0_u64;
        while cpu_seconds(id).unwrap() <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_mb(id).unwrap() > 0.1);
    }
}
