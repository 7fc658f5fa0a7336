//! `.kafka_cleanshutdown`: all logs of the directory were flushed before the process ended.
//!
//! Input: the broker epoch of the run that ends. Output: a marker file, and what it says.
//!
//! Invariants, kept by `LogDirectory`: the marker is written last, after every log and checkpoint,
//! and is removed durably before the first log of the next run is opened.
//!
//! Source: `org.apache.kafka.storage.internals.log.CleanShutdownFileHandler`, version 0.

use std::path::Path;

use skein_env::Disk;
use skein_types::BrokerEpoch;

use crate::StorageError;
use crate::atomic_file;

const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// What a clean shutdown left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanShutdown {
    /// The broker epoch of the run that ended; [`BrokerEpoch::NONE`] if it is not known.
    pub broker_epoch: BrokerEpoch,
}

pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<CleanShutdown>, StorageError> {
    let content = atomic_file::read(disk, &dir.join(CLEAN_SHUTDOWN))?;
    Ok(content.map(|content| CleanShutdown {
        // The file's presence says that the shutdown was clean; a run before KIP-966 left it empty.
        broker_epoch: parse_broker_epoch(&content).unwrap_or(BrokerEpoch::NONE),
    }))
}

pub(crate) fn write(disk: &dyn Disk, dir: &Path, epoch: BrokerEpoch) -> Result<(), StorageError> {
    let content = format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}");
    atomic_file::replace(disk, &dir.join(CLEAN_SHUTDOWN), content.as_bytes())
}

pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    atomic_file::remove(disk, &dir.join(CLEAN_SHUTDOWN))?;
    atomic_file::sync_directory(disk, dir)
}

/// The number after `"brokerEpoch":` in the one object that the file holds.
fn parse_broker_epoch(content: &[u8]) -> Option<BrokerEpoch> {
    let text = std::str::from_utf8(content).ok()?;
    let (_, rest) = text.split_once("\"brokerEpoch\"")?;
    let digits = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit() && letter != '-')
        .unwrap_or(digits.len());
    digits[..end].parse().ok().map(BrokerEpoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FaultyDisk;

    #[test]
    fn the_marker_is_kafkas_and_goes_away() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let dir = directory.path();
        assert_eq!(read(&*disk, dir).unwrap(), None);
        write(&*disk, dir, BrokerEpoch(42)).unwrap();
        let text = std::fs::read_to_string(dir.join(CLEAN_SHUTDOWN)).unwrap();
        assert_eq!(text, r#"{"version":0,"brokerEpoch":42}"#);
        let broker_epoch = BrokerEpoch(42);
        assert_eq!(
            read(&*disk, dir).unwrap(),
            Some(CleanShutdown { broker_epoch })
        );
        remove(&*disk, dir).unwrap();
        assert_eq!(read(&*disk, dir).unwrap(), None);
        for (content, epoch) in [("", -1), ("{}", -1), (r#"{ "brokerEpoch" : 7 }"#, 7)] {
            std::fs::write(dir.join(CLEAN_SHUTDOWN), content).unwrap();
            assert_eq!(
                read(&*disk, dir).unwrap().unwrap().broker_epoch,
                BrokerEpoch(epoch)
            );
        }
    }
}
