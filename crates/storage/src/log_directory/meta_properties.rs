//! `meta.properties`: whose log directory this is.
//!
//! Input: cluster id, node id, directory id. Output: Kafka's properties file, and the ids again.
//!
//! Invariants: a file of a version that this build does not know is refused with its path and line,
//! because its meaning is unknown; so is a garbled one, because it can't be rebuilt.
//!
//! Source: `org.apache.kafka.metadata.properties.MetaProperties`, versions 0 and 1.

use std::fmt::Write as _;
use std::path::Path;

use skein_env::Disk;
use skein_types::{BrokerId, Uuid};

use crate::StorageError;
use crate::atomic_file;

/// The file's name.
pub const META_PROPERTIES: &str = "meta.properties";
/// The newest version that this build reads, and the one it writes.
const VERSION: i32 = 1;

/// Content of `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MetaProperties {
    /// The cluster that the directory belongs to.
    pub cluster_id: Option<String>,
    /// The node that the directory belongs to.
    pub node_id: Option<BrokerId>,
    /// The directory's own id (KIP-858).
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    /// Reads the file in the directory `directory`; `None` if there is none.
    ///
    /// # Errors
    /// What the disk says; [`StorageError::Format`] for a newer version or garbage.
    pub fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, StorageError> {
        let path = directory.join(META_PROPERTIES);
        let Some(content) = atomic_file::read(disk, &path)? else {
            return Ok(None);
        };
        let format = |(line, reason)| StorageError::Format {
            path: path.clone(),
            line,
            reason,
        };
        parse(&content).map(Some).map_err(format)
    }

    /// Writes the file in the directory `directory`, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), StorageError> {
        atomic_file::replace(
            disk,
            &directory.join(META_PROPERTIES),
            self.encode().as_bytes(),
        )
    }

    fn encode(&self) -> String {
        let mut text = String::from("#\n");
        // Writing to a string cannot fail.
        if let Some(cluster_id) = &self.cluster_id {
            let _ = writeln!(text, "cluster.id={}", escaped(cluster_id));
        }
        if let Some(directory_id) = self.directory_id {
            let _ = writeln!(text, "directory.id={directory_id}");
        }
        if let Some(node_id) = self.node_id {
            let _ = writeln!(text, "node.id={node_id}");
        }
        let _ = writeln!(text, "version={VERSION}");
        text
    }
}

/// A value as Java writes it into a properties file.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, ':' | '=' | '#' | '!' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// The value that Java has written as `text`.
fn unescaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next()),
            letter => value.push(letter),
        }
    }
    value
}

fn parse(content: &[u8]) -> Result<MetaProperties, (usize, String)> {
    let text = std::str::from_utf8(content).map_err(|_| (1, "the file is not text".to_owned()))?;
    let mut meta = MetaProperties::default();
    let mut version = None;
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let garbage = |what: &str| (number, format!("{what}: {line:?}"));
        let (key, value) = line
            .split_once(['=', ':'])
            .ok_or_else(|| garbage("no \"=\""))?;
        let value = value.trim();
        match key.trim() {
            "version" => version = Some((number, value.to_owned())),
            "cluster.id" => meta.cluster_id = Some(unescaped(value)),
            "node.id" | "broker.id" => {
                let id = value.parse().map_err(|_| garbage("the id is no number"))?;
                meta.node_id = Some(BrokerId(id));
            }
            "directory.id" => {
                let id = value.parse().map_err(|_| garbage("the id is no uuid"))?;
                meta.directory_id = Some(id);
            }
            // Kafka's tools leave other keys alone, and so do we.
            _ => {}
        }
    }
    let (line, version) = version.ok_or_else(|| (1, "there is no version".to_owned()))?;
    match version.parse::<i32>() {
        Ok(0..=VERSION) => Ok(meta),
        Ok(newer) if newer > VERSION => Err((
            line,
            format!("version {newer} is newer than {VERSION}, the last one known here"),
        )),
        _ => Err((line, format!("{version:?} is no version"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FaultyDisk;

    #[test]
    fn kafkas_file_is_read_and_ours_is_its_twin() {
        let kafkas = "#\n#Sat Nov 21 10:00:00 UTC 2026\ncluster.id=abc\n\
                      directory.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=3\nversion=1\n";
        let meta = parse(kafkas.as_bytes()).unwrap();
        assert_eq!(meta.node_id, Some(BrokerId(3)));
        assert_eq!(meta.cluster_id.as_deref(), Some("abc"));
        assert_eq!(parse(meta.encode().as_bytes()), Ok(meta));
        let odd = parse(b"cluster.id=a\\:b\\=c\\\\d\nnode.id=1\nversion=1\n").unwrap();
        assert_eq!(odd.cluster_id.as_deref(), Some("a:b=c\\d"));
        assert_eq!(parse(odd.encode().as_bytes()), Ok(odd));
        let old = parse(b"version=0\nbroker.id=7\ncluster.id=x").unwrap();
        assert_eq!(old.node_id, Some(BrokerId(7)));
    }

    #[test]
    fn a_newer_version_is_refused_with_its_path_and_line() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let path = directory.path().join(META_PROPERTIES);
        assert_eq!(
            MetaProperties::read(&*disk, directory.path()).unwrap(),
            None
        );
        std::fs::write(&path, "node.id=1\nversion=2\n").unwrap();
        let error = MetaProperties::read(&*disk, directory.path()).unwrap_err();
        assert!(
            matches!(&error, StorageError::Format { line: 2, .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("meta.properties line 2: version 2 is newer")
        );
        for garbage in [
            "",
            "version=x",
            "version=-1",
            "node.id=x\nversion=1",
            "what",
            "\u{0}",
        ] {
            std::fs::write(&path, garbage).unwrap();
            assert!(
                MetaProperties::read(&*disk, directory.path()).is_err(),
                "{garbage:?}"
            );
        }
    }
}
