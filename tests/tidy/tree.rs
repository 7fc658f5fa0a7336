//! The tree of files.
//!
//! Input: the directory of the repository. Output: its files and packages, without what is built.
//!
//! Invariant: nothing is written.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no source: what is built, and the insides of tools.
pub(crate) const SKIPPED: [&str; 4] = ["target", "node_modules", "__pycache__", ".git"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// All files below a directory, without what is built. Dot files at the top count, dot directories
/// don't.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![directory.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = file_name(&path);
            if SKIPPED.contains(&name.as_str()) {
                // In a linked work tree `.git` is a file.
                continue;
            }
            if path.is_file() {
                found.push(path);
            } else if path.is_dir() && !name.starts_with('.') {
                queue.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The packages of the tree, nested ones too.
pub(crate) fn packages(root: &Path) -> Vec<PathBuf> {
    let manifests = files(root)
        .into_iter()
        .filter(|path| file_name(path) == "Cargo.toml");
    manifests
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect()
}

/// The packages right below a directory.
pub(crate) fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    found.sort();
    found
}

pub(crate) fn is_source(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("rs"))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

pub(crate) fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap()
        .to_string_lossy()
        .into_owned()
}
