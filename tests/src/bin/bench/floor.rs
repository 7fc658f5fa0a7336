//! The kernel's floor: what a program costs that only receives, writes and answers.
//!
//! Input: the frames that a client has sent. Output: CPU seconds of `floor`, which gets them again.
//!
//! As many frames are on their way at once as franz-go has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skein_tests::guardian::Guarded;

use crate::{Outcome, process};

/// Requests of an idempotent producer that wait for their answers.
const IN_FLIGHT: usize = 5;
/// As in `floor`.
const ANSWER_BYTES: usize = 200;

/// Sends frames of these sizes, and returns what they cost.
pub(crate) fn cpu_seconds(parent: &Path, frames: &[u32]) -> Outcome<f64> {
    let directory = tempfile::tempdir_in(parent)?;
    let mut command = Command::new(program()?);
    command.arg(directory.path()).stdout(Stdio::piped());
    let mut floor = Guarded::spawn(&mut command)?;
    let output = floor.child().stdout.take().ok_or("floor has no output")?;
    let mut port = String::new();
    BufReader::new(output).read_line(&mut port)?;
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port.trim().parse()?))?;
    connection.set_nodelay(true)?;
    let longest = frames.iter().copied().max().unwrap_or_default();
    let mut bytes = vec![0x5a; usize::try_from(longest)?];
    let before = process::cpu_seconds(floor.id())?;
    let mut answers = [0; ANSWER_BYTES * IN_FLIGHT];
    for (number, frame) in frames.iter().enumerate() {
        if number >= IN_FLIGHT {
            connection.read_exact(&mut answers[..ANSWER_BYTES])?;
        }
        let bytes = &mut bytes[..usize::try_from(*frame)?];
        let length = frame.saturating_sub(4).to_be_bytes();
        bytes[..length.len()].copy_from_slice(&length);
        connection.write_all(bytes)?;
    }
    connection.read_exact(&mut answers[..ANSWER_BYTES * frames.len().min(IN_FLIGHT)])?;
    Ok(process::cpu_seconds(floor.id())? - before)
}

/// Cargo builds it with this program, next to it.
fn program() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("floor");
    match path.exists() {
        true => Ok(path),
        false => Err(format!("there is no {}: build it with `make bench`", path.display()).into()),
    }
}
