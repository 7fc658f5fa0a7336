//! `floor` does what every broker must do with a produce, and nothing else: what the kernel asks
//! for that is the floor of a broker's costs.
//!
//! Input: a directory. A connection on the port that it prints first; frames as a Kafka client
//! sends them, each with its length before it. Output: their bytes, in one file; an answer to each
//! of as many bytes as Kafka's to a Produce.
//!
//! Invariant: three system calls at most for a frame that fits into the buffer; no byte is looked
//! at but those of the lengths.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that tells its port and why it ends"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

/// As a broker would take at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Of an answer for a few partitions.
const ANSWER_BYTES: usize = 200;
/// Bytes of a frame's length.
const PREFIX_BYTES: usize = 4;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: floor DIRECTORY");
        return ExitCode::from(2);
    };
    let path = std::path::Path::new(&directory).join("floor");
    match File::create(&path).and_then(|file| serve(&file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// Takes one connection, to its end.
fn serve(file: &File) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    let (mut connection, _) = listener.accept()?;
    connection.set_nodelay(true)?;
    let (mut buffer, mut held, mut position) = (vec![0; BUFFER_BYTES], 0, 0);
    loop {
        let read = connection.read(&mut buffer[held..])?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        while let Some(frame) = frame(&buffer[..held]) {
            take(&mut connection, file, &mut position, &buffer, (held, frame))?;
            // What has come of the next one moves to the front.
            buffer.copy_within(frame.min(held)..held, 0);
            held = held.saturating_sub(frame);
        }
    }
}

/// Bytes of the frame at the front, its length included; `None` until there is something to do: it
/// is all there, or the buffer is full of it.
fn frame(held: &[u8]) -> Option<usize> {
    let prefix = held.first_chunk::<PREFIX_BYTES>()?;
    let bytes = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    let frame = bytes.saturating_add(PREFIX_BYTES);
    (held.len() >= frame || held.len() == BUFFER_BYTES).then_some(frame)
}

/// Writes a frame, of which `held` bytes may be there, and answers.
fn take(
    connection: &mut TcpStream,
    file: &File,
    position: &mut u64,
    buffer: &[u8],
    (held, frame): (usize, usize),
) -> io::Result<()> {
    let here = &buffer[..held.min(frame)];
    write(file, position, here)?;
    let mut missing = frame - here.len();
    let mut rest = vec![0; missing.min(BUFFER_BYTES)];
    while missing > 0 {
        let piece = &mut rest[..missing.min(BUFFER_BYTES)];
        connection.read_exact(piece)?;
        write(file, position, piece)?;
        missing -= piece.len();
    }
    connection.write_all(&[0; ANSWER_BYTES])
}

fn write(file: &File, position: &mut u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, *position)?;
    *position += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(bytes: usize) -> [u8; PREFIX_BYTES] {
        u32::try_from(bytes).unwrap().to_be_bytes()
    }

    #[test]
    fn a_frame_is_taken_when_it_is_there_or_fills_the_buffer() {
        let mut held = vec![0, 0, 0, 10];
        assert_eq!(frame(&held[..3]), None);
        assert_eq!(frame(&held), None);
        held.extend([1; 10]);
        assert_eq!(frame(&held), Some(14));
        held.push(0);
        assert_eq!(frame(&held), Some(14));
        let mut large = vec![0; BUFFER_BYTES];
        large[..PREFIX_BYTES].copy_from_slice(&prefix(BUFFER_BYTES));
        assert_eq!(frame(&large[..BUFFER_BYTES - 1]), None);
        assert_eq!(frame(&large), Some(BUFFER_BYTES + PREFIX_BYTES));
    }

    #[test]
    fn frames_are_written_whole_and_answered_each() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("floor");
        let file = File::create(&path).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        // The end of one that does not fit is still on its way.
        client.write_all(&[7; 30]).unwrap();
        let mut buffer = vec![7; BUFFER_BYTES];
        buffer[..PREFIX_BYTES].copy_from_slice(&prefix(BUFFER_BYTES + 26));
        let frame = frame(&buffer).unwrap();
        let mut position = 0;
        take(
            &mut connection,
            &file,
            &mut position,
            &buffer,
            (BUFFER_BYTES, frame),
        )
        .unwrap();
        assert_eq!(position, BUFFER_BYTES as u64 + 30);
        assert!(
            std::fs::read(&path).unwrap()[PREFIX_BYTES..]
                .iter()
                .all(|byte| *byte == 7)
        );
        client.read_exact(&mut [0; ANSWER_BYTES]).unwrap();
    }
}
