//! The module tree of a package.
//!
//! Input: a package's directory. Output: the files that its targets reach through `mod`
//! declarations.
//!
//! Invariant, checked by the test below: every way to declare a module in a file is understood.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tree::{file_name, is_source, read};

/// The files of a package that its targets reach through `mod` declarations, as canonical paths.
pub(crate) fn reachable_files(package: &Path) -> BTreeSet<PathBuf> {
    let mut queue = target_roots(package);
    let mut reached: BTreeSet<PathBuf> = queue.iter().cloned().collect();
    let roots = reached.clone();
    while let Some(file) = queue.pop() {
        let parent = file.parent().unwrap().to_owned();
        let children = if roots.contains(&file) || file_name(&file) == "mod.rs" {
            parent.clone()
        } else {
            file.with_extension("")
        };
        for module in declared_modules(&read(&file)) {
            let candidates = match module {
                Module::Named(path) => {
                    let at = children.join(path);
                    vec![at.with_extension("rs"), at.join("mod.rs")]
                }
                Module::AtPath(path) => vec![parent.join(path)],
            };
            for candidate in candidates.iter().filter_map(|at| fs::canonicalize(at).ok()) {
                if reached.insert(candidate.clone()) {
                    queue.push(candidate);
                }
            }
        }
    }
    reached
}

/// The root files of a package's targets: those that cargo finds, and those that the manifest
/// names.
fn target_roots(package: &Path) -> Vec<PathBuf> {
    let manifest = read(&package.join("Cargo.toml"));
    let named = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'))
        .map(|path| package.join(path));
    let usual = ["src/lib.rs", "src/main.rs", "build.rs"].map(|path| package.join(path));
    let mut roots: Vec<_> = named.chain(usual).filter(|path| path.is_file()).collect();
    for folder in ["src/bin", "tests", "benches", "examples", "fuzz_targets"] {
        let folder = package.join(folder);
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let main = path.join("main.rs");
            roots.extend(
                [path, main]
                    .into_iter()
                    .filter(|path| path.is_file() && is_source(path)),
            );
        }
    }
    roots
}

#[derive(Debug, PartialEq)]
enum Module {
    /// Its path below the directory of the declaring module's children.
    Named(String),
    /// Its path beside the declaring file.
    AtPath(String),
}

/// The modules that a file declares in other files: `mod name;`, also within `mod name { … }`.
fn declared_modules(text: &str) -> Vec<Module> {
    let mut modules = Vec::new();
    let mut inline: Vec<(usize, &str)> = Vec::new();
    let mut path = None;
    for line in text.lines() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if code.starts_with('}') {
            inline.retain(|(at, _)| *at < indent);
        }
        if let Some(rest) = code.strip_prefix("#[path = \"") {
            path = rest.strip_suffix("\"]").map(str::to_owned);
        }
        let Some(name) = module_name(code) else {
            continue;
        };
        if code.ends_with('{') {
            inline.push((indent, name));
        } else if let Some(path) = path.take() {
            modules.push(Module::AtPath(path));
        } else {
            let outer = inline.iter().map(|(_, name)| *name);
            modules.push(Module::Named(
                outer.chain([name]).collect::<Vec<_>>().join("/"),
            ));
        }
    }
    modules
}

fn module_name(code: &str) -> Option<&str> {
    let rest = code
        .strip_prefix("pub")
        .map_or(code, |rest| match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
            None => rest,
        });
    let name = rest
        .trim_start()
        .strip_prefix("mod ")?
        .trim_end_matches([';', '{', ' ']);
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_however_they_are_declared() {
        let text = "mod a;\npub mod b;\npub(crate) mod c;\n#[path = \"x/y.rs\"]\nmod d;\n\
                    mod e {\n    mod f;\n}\nmod g;\nmodule!(h);\nmod tests { }\nlet mod_i = 1;\n";
        let named = |path: &str| Module::Named(path.to_owned());
        let expected = [
            named("a"),
            named("b"),
            named("c"),
            Module::AtPath("x/y.rs".to_owned()),
            named("e/f"),
            named("g"),
        ];
        let found = declared_modules(text);
        assert_eq!(found[..6], expected);
    }
}
