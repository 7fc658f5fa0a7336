//! The file that `cluster.secret.file` names.
//!
//! Input: a configuration. Output: the cluster's secret, or what is wrong with its file.
//!
//! Invariants:
//! - no more is read than a secret can have, and one byte that tells a longer file;
//! - what is no regular file is opened too, but nobody waits for it: a pipe without a writer is
//!   empty.
//!
//! Source: none.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use skein_config::{BrokerConfig, ClusterSecret, ConfigError, SECRET_MAX_BYTES, SecretFile};

/// The secret of the cluster, if `config` names a file with one.
///
/// # Errors
/// It can't be read, others can read or replace it, or it is none.
pub(crate) fn of_cluster(config: &BrokerConfig) -> Result<Option<ClusterSecret>, ConfigError> {
    let path = config.node.cluster_secret_file.as_deref();
    path.map(|path| ClusterSecret::from_file(path, read(path)))
        .transpose()
}

/// What the file at `path` holds, as far as a secret goes.
pub(crate) fn read(path: &Path) -> io::Result<SecretFile> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(SECRET_MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(SecretFile { bytes, mode })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use skein_config::Layers;

    use super::*;

    /// What comes of a file with this content and mode.
    fn secret_in(content: &[u8], mode: u32) -> Result<Option<ClusterSecret>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        secret_at(&path)
    }

    fn secret_at(path: &Path) -> Result<Option<ClusterSecret>, String> {
        let option = format!("cluster.secret.file={}", path.display());
        let (config, _) = Layers::new().set(&option).build().unwrap();
        of_cluster(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_for_its_owner_alone_holds_the_secret_without_its_last_line_break() {
        let secret = secret_in(b"0123456789abcdef\n", 0o600).unwrap().unwrap();
        assert_eq!(secret.as_bytes(), b"0123456789abcdef");
        let longest = [b'x'; SECRET_MAX_BYTES];
        assert!(secret_in(&longest, 0o400).unwrap().is_some());
        let (config, _) = Layers::new().build().unwrap();
        assert_eq!(of_cluster(&config).unwrap(), None);
    }

    #[test]
    fn what_is_no_secret_is_refused_with_its_path_and_the_reason() {
        for (content, mode, reason) in [
            (&b"short"[..], 0o600, "it has 5 bytes"),
            (b"0123456789abcdef", 0o644, "every user of this machine"),
            (&[b'x'; 2 * SECRET_MAX_BYTES], 0o600, "has over 4096 bytes"),
        ] {
            let error = secret_in(content, mode).unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(error.starts_with("cluster.secret.file /"), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let error = secret_at(&directory.path().join("absent")).unwrap_err();
        assert!(error.contains("there is no such file"), "{error}");
        let error = secret_at(directory.path()).unwrap_err();
        assert!(error.contains("it cannot be read"), "{error}");
    }

    #[test]
    fn a_file_that_never_ends_is_not_read_to_its_end() {
        let error = secret_at(Path::new("/dev/zero")).unwrap_err();
        assert!(error.contains("every user"), "{error}");
        assert_eq!(read(Path::new("/dev/zero")).unwrap().bytes.len(), 4097);
    }
}
