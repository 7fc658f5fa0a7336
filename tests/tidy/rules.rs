//! The rules of the house, each on the text of one file.
//!
//! Input: the path and the text of a file. Output: what breaks the rule, a line each.
//!
//! Invariant, checked by the tests below: each rule sees an example that breaks it.

use std::collections::BTreeSet;

/// Every crate further up in the table, except those that nothing depends on.
const ALL: &[&str] = &["*"];

/// Crates that nothing depends on.
const PROGRAMS: [&str; 2] = ["skein", "sim"];

/// The crates that a crate may depend on. The order is that of the layers, lowest first.
pub(crate) const EDGES: [(&str, &[&str]); 17] = [
    ("types", &[]),
    ("config", &["types"]),
    ("record", &["types"]),
    ("protocol", &["types"]),
    ("partition", &["types", "config", "record"]),
    ("coordinator", &["types", "config", "record", "protocol"]),
    ("metadata", &["types", "config"]),
    ("controller", &["types", "config", "metadata"]),
    ("env", &["types"]),
    ("storage", &["types", "config", "record", "env"]),
    ("net", &["types", "protocol", "env"]),
    (
        "quorum",
        &[
            "types",
            "config",
            "metadata",
            "controller",
            "storage",
            "env",
            "net",
        ],
    ),
    ("broker", ALL),
    (
        "client",
        &["types", "config", "record", "protocol", "env", "net"],
    ),
    (
        "import",
        &[
            "types",
            "config",
            "record",
            "protocol",
            "metadata",
            "controller",
            "env",
            "storage",
            "quorum",
        ],
    ),
    ("skein", ALL),
    ("sim", ALL),
];

/// Members of the workspace outside `crates/`. They see a node from outside, as its users do.
pub(crate) const BLACK_BOXES: [&str; 2] = ["tests", "jepsen"];

/// Crates whose `clippy.toml` bans clocks, I/O, randomness and threads.
pub(crate) const PURE: [&str; 8] = [
    "types",
    "config",
    "record",
    "protocol",
    "partition",
    "coordinator",
    "metadata",
    "controller",
];

/// What such a ban names at least.
pub(crate) const BANS: [&str; 5] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::fs::",
    "std::collections::HashMap",
];

/// What may lie at the top, beside dot files and what is built.
pub(crate) const TOP_LEVEL: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "config",
    "crates",
    "jepsen",
    "tests",
];

/// Lines of a file, its unit tests not counted.
pub(crate) const MAX_FILE_LINES: usize = 800;
/// Lines of unit tests at the end of a file. Longer ones have a file of their own.
pub(crate) const MAX_INLINE_TEST_LINES: usize = 200;
/// Characters of a line.
pub(crate) const MAX_COLUMNS: usize = 100;
/// From so many lines on, a header says what goes in and what comes out.
pub(crate) const LINES_WITH_FULL_HEADER: usize = 100;

/// Crates that a manifest names and the table does not allow, in any section of dependencies.
pub(crate) fn edges_broken(name: &str, manifest: &str) -> Vec<String> {
    let Some(allowed) = allowed_edges(name) else {
        return vec![format!("crates/{name}: not in the table of crates")];
    };
    dependencies(manifest)
        .into_iter()
        .filter(|dependency| !allowed.contains(&dependency.as_str()))
        .map(|dependency| format!("{name} -> {dependency}: not an allowed edge"))
        .collect()
}

fn allowed_edges(name: &str) -> Option<Vec<&'static str>> {
    if BLACK_BOXES.contains(&name) {
        return Some(Vec::new());
    }
    let row = EDGES.iter().position(|(known, _)| *known == name)?;
    let (_, allowed) = EDGES[row];
    if allowed != ALL {
        return Some(allowed.to_vec());
    }
    let above = EDGES[..row].iter().map(|(above, _)| *above);
    Some(above.filter(|above| !PROGRAMS.contains(above)).collect())
}

/// The crates of this workspace that a manifest depends on, without their prefix.
pub(crate) fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            is_dependencies = section.ends_with("dependencies");
            // [dependencies.skein-types] is a section of its own.
            let (table, key) = section.rsplit_once('.').unwrap_or((section, ""));
            if table.ends_with("dependencies") {
                found.extend(key.strip_prefix("skein-").map(str::to_owned));
            }
        } else if is_dependencies && let Some(rest) = line.strip_prefix("skein-") {
            let end = rest
                .find(|char: char| !char.is_ascii_lowercase())
                .unwrap_or(rest.len());
            found.insert(rest[..end].to_owned());
        }
    }
    found
}

/// What a pure crate's `clippy.toml` lacks: a ban, or a line of the workspace's, which it replaces.
pub(crate) fn bans_missing(name: &str, bans: &str, workspace: &str) -> Vec<String> {
    if bans.is_empty() {
        return vec![format!("crates/{name}: a pure crate without a clippy.toml")];
    }
    let settings = workspace.lines().filter(|line| !line.trim().is_empty());
    settings
        .chain(BANS)
        .filter(|wanted| !bans.contains(wanted))
        .map(|wanted| format!("crates/{name}/clippy.toml: lacks {wanted}"))
        .collect()
}

pub(crate) fn size_broken(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let tests_at = inline_tests_at(&lines);
    let (code, tests) = (tests_at, lines.len() - tests_at);
    let mut broken = Vec::new();
    if code > MAX_FILE_LINES {
        broken.push(format!(
            "{path}: {code} lines; split it at {MAX_FILE_LINES}"
        ));
    }
    if tests > MAX_INLINE_TEST_LINES {
        let limit = MAX_INLINE_TEST_LINES;
        broken.push(format!(
            "{path}: {tests} lines of tests; over {limit} get their own file"
        ));
    }
    broken
}

/// The line on which the unit tests at the end of a file begin; the number of lines where it has
/// none.
pub(crate) fn inline_tests_at(lines: &[&str]) -> usize {
    let is_test = |line: &str| line.starts_with("#[cfg(") && line.contains("test");
    let is_module = |line: &&str| line.starts_with("mod ") && line.ends_with('{');
    (0..lines.len())
        .find(|&at| is_test(lines[at]) && lines.get(at + 1).is_some_and(is_module))
        .unwrap_or(lines.len())
}

/// Crates that reach the outside world through `skein_env` only.
const BEHIND_ENV: [&str; 6] = ["broker", "client", "import", "net", "quorum", "storage"];

/// Names of the outside world that belong to `skein_env` alone.
const OUTSIDE_WORLD: [&str; 6] = [
    "std::fs",
    "std::thread",
    "tokio::fs",
    "tokio::net",
    "TcpListener",
    "SystemTime",
];

/// Uses of the outside world past `skein_env`, outside of tests.
pub(crate) fn outside_world_broken(path: &str, text: &str) -> Vec<String> {
    let is_behind = BEHIND_ENV
        .iter()
        .any(|name| path.starts_with(&format!("crates/{name}/src/")));
    if !is_behind || path.contains("/tests") || path.contains("/testing") {
        return Vec::new();
    }
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    let named = |line: &&str| !line.trim_start().starts_with("//");
    let uses = shipped.lines().enumerate().filter(|(_, line)| named(line));
    uses.filter_map(|(number, line)| {
        let name = OUTSIDE_WORLD.iter().find(|name| line.contains(**name))?;
        Some(format!(
            "{path}:{}: {name} is skein_env's alone",
            number + 1
        ))
    })
    .collect()
}

pub(crate) fn columns_broken(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| (index + 1, line, line.chars().count()))
        .filter(|(_, line, columns)| *columns > MAX_COLUMNS && can_be_broken(line))
        .map(|(number, _, columns)| format!("{path}:{number}: {columns} columns"))
        .collect()
}

/// A link or a long literal without blanks stays as it is.
pub(crate) fn can_be_broken(line: &str) -> bool {
    let longest = line
        .split_whitespace()
        .map(|word| word.chars().count())
        .max()
        .unwrap_or(0);
    longest < MAX_COLUMNS / 2
}

/// A header is a `//!` comment on the first line that begins with a whole sentence. A longer file
/// also says what goes in and what comes out; a test's own name says what it checks.
pub(crate) fn header_broken(path: &str, text: &str) -> Vec<String> {
    let header: Vec<_> = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .map(|line| line.trim_start_matches("//!").trim())
        .collect();
    let sentence = header
        .split(|line| line.is_empty())
        .next()
        .unwrap_or_default()
        .join(" ");
    let begins_well = sentence.starts_with(|char: char| char.is_alphanumeric() || char == '`');
    if !begins_well || !sentence.contains(['.', ':']) {
        return vec![format!(
            "{path}:1: begin with a //! sentence that says what the file is"
        )];
    }
    if is_test_file(path) || text.lines().count() < LINES_WITH_FULL_HEADER {
        return Vec::new();
    }
    let header = header.join("\n").to_lowercase();
    ["input", "output"]
        .into_iter()
        .filter(|word| !header.contains(word))
        .map(|word| format!("{path}:1: the header does not name its {word}"))
        .collect()
}

pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/benches/")
}

pub(crate) fn words_broken(path: &str, text: &str) -> Vec<String> {
    const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "dbg!", "FIXME", "TODO"];
    const PLACES: [&str; 4] = ["/home/", "/work/", "/root/", "/Users/"];
    // Packages come from wherever a machine's own settings say.
    const REGISTRIES: [&str; 7] = [
        "index.crates.io",
        "static.crates.io",
        "repo1.maven.org",
        "repo.maven.apache.org",
        "proxy.golang.org",
        "files.pythonhosted.org",
        "pypi.org",
    ];
    let words = UNFINISHED.iter().chain(&PLACES).chain(&REGISTRIES);
    let words: Vec<_> = words.collect();
    text.lines()
        .enumerate()
        .flat_map(|(index, line)| {
            let found = words.iter().filter(move |word| line.contains(**word));
            found.map(move |word| format!("{path}:{}: {word}", index + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outside_world_is_reached_through_env() {
        let broken = |path, text| outside_world_broken(path, text).len();
        assert_eq!(broken("crates/net/src/a.rs", "use std::fs;\n"), 1);
        assert_eq!(broken("crates/net/src/a.rs", "// std::fs\n"), 0);
        assert_eq!(
            broken("crates/net/src/a.rs", "#[cfg(test)]\nuse std::fs;\n"),
            0
        );
        assert_eq!(broken("crates/net/src/a/tests.rs", "use std::fs;\n"), 0);
        assert_eq!(broken("crates/env/src/real.rs", "use std::fs;\n"), 0);
    }

    #[test]
    fn a_forbidden_edge_is_seen_in_every_way_to_write_it() {
        let manifest = "[dependencies]\nskein-types.workspace = true\n\n[dev-dependencies]\n\
                        skein-net = { path = \"../net\" }\n[dependencies.skein-env]\nx = 1\n\
                        [target.'cfg(unix)'.dependencies]\nskein-sim.workspace = true\n[features]\n\
                        skein-none = []\n";
        assert_eq!(
            dependencies(manifest).into_iter().collect::<Vec<_>>(),
            ["env", "net", "sim", "types"]
        );
        assert_eq!(edges_broken("config", manifest).len(), 3);
        assert_eq!(
            edges_broken("nowhere", manifest),
            ["crates/nowhere: not in the table of crates"]
        );
        assert_eq!(edges_broken("tests", manifest).len(), 4);
    }

    #[test]
    fn a_missing_ban_and_a_missing_setting_are_seen() {
        let full = BANS.join("\n") + "\nsetting = true\n";
        assert!(bans_missing("x", &full, "setting = true\n").is_empty());
        assert_eq!(bans_missing("x", &full, "other = true\n").len(), 1);
        assert_eq!(
            bans_missing("x", &full.replace("std::fs::", ""), "").len(),
            1
        );
        assert_eq!(bans_missing("x", "", "").len(), 1);
    }

    #[test]
    fn size_is_counted_without_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(150));
        assert!(size_broken("f", &("x\n".repeat(800) + &tests)).is_empty());
        assert_eq!(size_broken("f", &("x\n".repeat(801) + &tests)).len(), 1);
        assert_eq!(
            size_broken("f", &("x\n".repeat(9) + &tests + &"x\n".repeat(60))).len(),
            1
        );
        assert_eq!(
            size_broken("f", &("x\n".repeat(800) + "#[cfg(test)]\nmod tests;\n")).len(),
            1
        );
    }

    #[test]
    fn columns_are_characters_and_links_are_exempt() {
        assert!(columns_broken("f", &"é ".repeat(50)).is_empty());
        assert_eq!(columns_broken("f", &"e ".repeat(51)), ["f:1: 102 columns"]);
        assert!(columns_broken("f", &format!("// See {}", "u".repeat(120))).is_empty());
    }

    #[test]
    fn a_header_is_a_sentence_and_in_longer_files_more() {
        assert!(header_broken("f.rs", "//! What it is.\n").is_empty());
        assert_eq!(header_broken("f.rs", "use std::fs;\n").len(), 1);
        assert_eq!(header_broken("f.rs", "//! no sentence\n").len(), 1);
        let long = "//! What it is.\n//!\n//! Input: a.\n".to_owned() + &"\n".repeat(200);
        assert_eq!(header_broken("src/f.rs", &long).len(), 1, "no output");
        assert!(header_broken("src/f/tests.rs", &long).is_empty());
    }

    #[test]
    fn unfinished_work_and_places_are_seen() {
        let text = [
            "fine",
            "to",
            "do!()",
            "a /ho",
            "me/me",
            "https://py",
            "pi.org",
        ];
        let text = [
            text[0], "\n", text[1], text[2], "\n", text[3], text[4], "\n", text[5], text[6],
        ];
        assert_eq!(words_broken("f", &text.concat()).len(), 3);
    }

    #[test]
    fn the_table_of_edges_has_no_circle() {
        for (row, (name, _)) in EDGES.iter().enumerate() {
            for dependency in allowed_edges(name).unwrap() {
                let at = EDGES.iter().position(|(known, _)| *known == dependency);
                assert!(at.is_some_and(|at| at < row), "{name} -> {dependency}");
            }
        }
        assert_eq!(allowed_edges("sim"), allowed_edges("skein"));
        assert_eq!(allowed_edges("broker").unwrap().len(), 12);
    }
}
