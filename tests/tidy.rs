//! The tidiness of the source tree, as a test.
//!
//! Input: every file of the repository that is not built. Output: a list of all that breaks a rule
//! of the house, with file and line; an empty one passes.
//!
//! Invariants of the tree, checked here because no compiler does:
//! - crates depend on one another only along [`rules::EDGES`], and each pure crate bans what makes
//!   it impure;
//! - files are short, within 100 columns, and begin by saying what they are;
//! - every source file belongs to a module, and nothing is left half done or tied to one machine.
//!
//! Functions of more than 70 lines are clippy's business. This test reads and never writes.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/tree.rs"]
mod tree;

use rules::{BLACK_BOXES, PURE, TOP_LEVEL};
use tree::{SKIPPED, directories, file_name, files, is_source, packages, read, relative, root};

#[test]
fn crates_depend_only_along_the_allowed_edges() {
    let root = root();
    let mut broken = Vec::new();
    for directory in directories(&root.join("crates")) {
        let name = file_name(&directory);
        let manifest = read(&directory.join("Cargo.toml"));
        broken.extend(rules::edges_broken(&name, &manifest));
    }
    for name in BLACK_BOXES {
        let manifest = root.join(name).join("Cargo.toml");
        if manifest.exists() {
            broken.extend(rules::edges_broken(name, &read(&manifest)));
        }
    }
    report(&broken);
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_is_a_member() {
    let root = root();
    let members = read(&root.join("Cargo.toml"));
    let mut broken = Vec::new();
    for directory in directories(&root.join("crates")) {
        let path = relative(&root, &directory);
        let manifest = read(&directory.join("Cargo.toml"));
        if !members.contains(&format!("\"{path}\"")) {
            broken.push(format!("{path}: not a member of the workspace"));
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            broken.push(format!(
                "{path}/Cargo.toml: does not take the workspace's lints"
            ));
        }
    }
    report(&broken);
}

#[test]
fn pure_crates_ban_clocks_files_randomness_and_threads() {
    let root = root();
    let workspace = read(&root.join(".clippy.toml"));
    let mut broken = Vec::new();
    for name in PURE {
        let directory = root.join("crates").join(name);
        if directory.exists() {
            let bans = fs::read_to_string(directory.join("clippy.toml")).unwrap_or_default();
            broken.extend(rules::bans_missing(name, &bans, &workspace));
        }
    }
    report(&broken);
}

#[test]
fn source_files_are_short_and_narrow_and_say_what_they_are() {
    report(&each_source_file(|path, text| {
        let mut broken = rules::size_broken(path, text);
        broken.extend(rules::columns_broken(path, text));
        broken.extend(rules::header_broken(path, text));
        broken.extend(rules::outside_world_broken(path, text));
        broken
    }));
}

#[test]
fn nothing_is_left_half_done_or_tied_to_one_machine() {
    let root = root();
    let mut broken = Vec::new();
    for path in files(&root) {
        let name = relative(&root, &path);
        // The rules name what they look for; a lock file names where its packages came from.
        if name == "tests/tidy/rules.rs" || name.ends_with("Cargo.lock") {
            continue;
        }
        if let Ok(text) = fs::read_to_string(&path) {
            broken.extend(rules::words_broken(&name, &text));
        }
    }
    report(&broken);
}

#[test]
fn every_source_file_belongs_to_a_module() {
    let root = root();
    let alive: BTreeSet<_> = packages(&root)
        .iter()
        .flat_map(|package| modules::reachable_files(package))
        .collect();
    let mut broken = Vec::new();
    for file in files(&root).into_iter().filter(|file| is_source(file)) {
        if !alive.contains(&file) {
            broken.push(format!("{}: no `mod` declares it", relative(&root, &file)));
        }
        if file_name(&file) == "mod.rs" {
            broken.push(format!(
                "{}: name it after its module",
                relative(&root, &file)
            ));
        }
    }
    report(&broken);
}

#[test]
fn the_top_level_holds_what_it_should() {
    let mut broken = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = file_name(&entry.unwrap().path());
        let is_known = name.starts_with('.') || SKIPPED.contains(&name.as_str());
        if !is_known && !TOP_LEVEL.contains(&name.as_str()) {
            broken.push(format!("{name}: does not belong at the top"));
        }
    }
    report(&broken);
}

fn each_source_file(check: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    let root = root();
    let sources = files(&root).into_iter().filter(|path| is_source(path));
    sources
        .flat_map(|path| check(&relative(&root, &path), &read(&path)))
        .collect()
}

fn report(broken: &[String]) {
    let list = broken.iter().fold(String::new(), |mut list, line| {
        let _ = write!(list, "\n  {line}");
        list
    });
    assert!(broken.is_empty(), "{} to tidy:{list}", broken.len());
}
