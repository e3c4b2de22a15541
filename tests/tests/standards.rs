//! The documents are true where that can be checked: `docs/rfc.md` has a row for every RFC that the code cites, and the
//! files and functions that documents name exist.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/rfc.md",
    "docs/hostile-smtp.md",
    "docs/hostile-relay.md",
    "docs/hostile-imap.md",
    "docs/dovecot-differences.md",
];
const PLACES: [&str; 12] = [
    "proto",
    "smtpd",
    "imapd",
    "relayd",
    "deliverd",
    "keyd",
    "apid",
    "rmailctl",
    "tests",
    "docs",
    "packaging",
    ".ci",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Everything below the workspace's directories, relative to its root.
fn files() -> Vec<PathBuf> {
    let mut waiting: Vec<PathBuf> = PLACES.iter().map(|name| root().join(name)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.push(path.strip_prefix(root()).unwrap().to_owned());
    }
    found
}

/// The text of every Rust file.
fn sources() -> BTreeMap<PathBuf, String> {
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        (path, text)
    };
    files().into_iter().filter(rust).map(read).collect()
}

fn cited(text: &str) -> impl Iterator<Item = u32> {
    text.split("RFC ").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    })
}

fn rows() -> BTreeSet<u32> {
    let text = std::fs::read_to_string(root().join("docs/rfc.md")).unwrap();
    let number = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse().ok();
    text.lines().filter_map(number).collect()
}

#[test]
fn every_rfc_that_the_code_cites_has_a_row() {
    let rows = rows();
    assert!(rows.len() > 20, "{rows:?}");
    let mut missing = BTreeMap::new();
    for (path, text) in sources() {
        for number in cited(&text).filter(|number| !rows.contains(number)) {
            missing.insert(number, path.clone());
        }
    }
    assert!(missing.is_empty(), "no row in docs/rfc.md: {missing:?}");
}

/// What stands between backticks, outside of code blocks.
fn quoted(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether a document means a file of ours by this.
fn is_path(word: &str) -> bool {
    let has_name = [".rs", ".md", ".json", ".toml"]
        .iter()
        .any(|end| word.ends_with(end));
    let is_below = PLACES.iter().any(|place| {
        let rest = word.strip_prefix("./").unwrap_or(word).strip_prefix(place);
        rest.is_some_and(|rest| rest.starts_with('/'))
    });
    let is_plain = !word.starts_with('/') && !word.contains([' ', '<', '*']);
    is_plain && (has_name || is_below)
}

#[test]
fn every_file_that_a_document_names_exists() {
    let files = files();
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        for word in quoted(document).iter().filter(|word| is_path(word)) {
            let path = Path::new(word.trim_start_matches("./").trim_end_matches('/'));
            // A name may be short where the sentence has named its directory.
            let exists =
                root().join(path).exists() || files.iter().any(|file| file.ends_with(path));
            // What `rmailctl init` writes is no file of the tree.
            if !exists && word != "config.json" {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_function_that_the_architecture_names_exists() {
    let sources = sources();
    let is_identifier = |word: &str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|c| c.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_lowercase() || c == '_')
    };
    for word in quoted("ARCHITECTURE.md") {
        let Some((_, name)) = word
            .rsplit_once("::")
            .filter(|(_, name)| is_identifier(name))
        else {
            continue;
        };
        let definition = format!("fn {name}");
        let exists = sources.values().any(|text| text.contains(&definition));
        assert!(exists, "{word}");
    }
}

/// The cells of a document's tables that have this head.
fn table_rows(document: &str, head: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let tables = text.split("\n\n").filter(|part| part.starts_with(head));
    let rows = tables.flat_map(|table| table.lines().skip(2));
    rows.map(|row| row.split(" | ").map(str::to_owned).collect())
        .collect()
}

fn in_backticks(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_and_guard_of_the_tables_of_hostile_input_exists() {
    let sources = sources();
    let head = "| precedent | input | here | tests | guard |";
    let smtp = table_rows("docs/hostile-smtp.md", head);
    assert!(smtp.len() > 35, "{} rows", smtp.len());
    let imap = table_rows("docs/hostile-imap.md", head);
    assert!(imap.len() > 20, "{} rows", imap.len());
    let relay = table_rows("docs/hostile-relay.md", head);
    assert!(relay.len() > 20, "{} rows", relay.len());
    for row in smtp.into_iter().chain(imap).chain(relay) {
        let [precedent, _, _, tests, guards] = row.as_slice() else {
            panic!("not five cells: {row:?}");
        };
        assert!(in_backticks(tests).count() > 0, "{precedent}: no test");
        for name in in_backticks(tests) {
            let definition = format!("fn {name}(");
            let is_test = |text: &String| {
                let mut parts: Vec<&str> = text.split(&definition).collect();
                parts.pop();
                let attributes = parts
                    .iter()
                    .filter_map(|before| before.rsplit("\n\n").next());
                attributes.into_iter().any(|lines| {
                    ["#[test", "#[tokio::test"]
                        .iter()
                        .any(|test| lines.contains(test))
                })
            };
            assert!(sources.values().any(is_test), "{precedent}: no test {name}");
        }
        let mut functions = Vec::new();
        for word in in_backticks(guards) {
            if !is_path(word) {
                functions.push(word.rsplit("::").next().unwrap_or(word));
                continue;
            }
            let text = &sources[Path::new(word)];
            for name in std::mem::take(&mut functions) {
                let definition = format!("fn {name}");
                assert!(text.contains(&definition), "{word} has no {name}");
            }
        }
        assert!(
            functions.is_empty(),
            "{precedent}: no file for {functions:?}"
        );
    }
}
