//! The dependency rule, and what each crate may not do, checked against what the crates really are.
//!
//! A new arrow is a change to [`ARROWS`], argued in the commit that makes it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each of our crates is built on.
///
/// mail ← sasl, smtp, imap, ipc ← daemon ← processes, with `sys` (the system calls) and `proxy` below `daemon`.
const ARROWS: [(&str, &[&str]); 22] = [
    ("mail", &[]),
    // Messages of logins: carried by smtp and imap, read by deliverd; below all three, and fuzzed without them.
    ("sasl", &["mail"]),
    ("smtp", &["mail", "sasl"]),
    ("imap", &["mail"]),
    ("ipc", &["mail"]),
    // What comes before any protocol; a crate of its own, so that it can be fuzzed without a runtime.
    ("proxy", &[]),
    // A protocol of its own, with hostile answers of its own.
    ("milter", &[]),
    // Not no_std as the other protocols: aws-lc needs std.
    ("dkim", &["mail"]),
    // Verdicts about senders: names and addresses go in as text, so that it needs no other.
    ("sender", &[]),
    // A crate of its own, so that the root process gets the system calls without a runtime.
    ("sys", &[]),
    ("daemon", &["ipc", "proxy", "sys"]),
    (
        "smtpd",
        &[
            "daemon", "dkim", "ipc", "mail", "milter", "sasl", "sender", "smtp", "sys",
        ],
    ),
    ("imapd", &["daemon", "imap", "ipc", "mail", "sasl", "sys"]),
    // sender: to whom a domain wants its reports sent is read by the code that reads its policy. dkim: what of a message is signed is
    // found where the message is; the keys are elsewhere.
    (
        "relayd",
        &["daemon", "dkim", "ipc", "mail", "sender", "smtp", "sys"],
    ),
    ("deliverd", &["daemon", "ipc", "mail", "sasl", "sys"]),
    ("apid", &["daemon", "ipc", "mail", "sys"]),
    // dkim: keyd makes the signature's field itself, so it must read the header it is about.
    ("keyd", &["daemon", "dkim", "ipc", "mail", "sys"]),
    // smtp: the outside world of `rmailctl demo` receives mail, and the demo sends some. imap: which extensions can be switched off.
    (
        "rmailctl",
        &["daemon", "imap", "ipc", "mail", "smtp", "sys"],
    ),
    ("rmaild", &["sys"]),
    // Looks at everything from outside.
    ("system-tests", &["loopback"]),
    // Which port a test may have: tests of every kind ask.
    ("loopback", &[]),
    // Measures the store as its askers see it: ipc and daemon are how smtpd and imapd talk to it.
    (
        "store-bench",
        &["daemon", "ipc", "loopback", "system-tests"],
    ),
];

/// One crate per process; none may know another.
const PROCESSES: [&str; 8] = [
    "smtpd", "imapd", "relayd", "deliverd", "apid", "keyd", "rmailctl", "rmaild",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A crate of the workspace.
struct Member {
    /// Names of what it is built on.
    normal: BTreeSet<String>,
    /// Names of what only its tests or its build script need.
    other: BTreeSet<String>,
    manifest: PathBuf,
}

impl Member {
    fn directory(&self) -> &Path {
        self.manifest.parent().unwrap()
    }
}

fn members() -> BTreeMap<String, Member> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let member = |package: &Value| {
        let names = |normal: bool| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            dependencies
                .filter(|dependency| dependency["kind"].is_null() == normal)
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let member = Member {
            normal: names(true),
            other: names(false),
            manifest: package["manifest_path"].as_str().unwrap().into(),
        };
        (package["name"].as_str().unwrap().to_owned(), member)
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(member)
        .collect()
}

/// Every crate linked into `package`, however far away.
fn linked_into(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree", "-p", package, "-e", "normal", "--prefix", "none", "--locked",
    ]);
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The Rust files of the shipped crate in `directory`, with their code: comments and tests are left out.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.join("src")];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests stand last in a file.
            let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap();
            let code = shipped.lines().map(|line| line.split("//").next().unwrap());
            found.push((path, code.collect::<Vec<_>>().join("\n")));
        }
    }
    assert!(!found.is_empty(), "no sources in {}", directory.display());
    found
}

/// Says where one of `words` stands in the sources of `package`, except in files whose path contains one of `except`.
fn mentions(member: &Member, words: &[&str], except: &[&str]) -> Vec<String> {
    let mut mentions = Vec::new();
    for (path, code) in sources(member.directory()) {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        if except.iter().any(|part| shown.contains(part)) {
            continue;
        }
        let words = words.iter().filter(|word| code.contains(**word));
        mentions.extend(words.map(|word| format!("{shown}: {word}")));
    }
    mentions
}

#[test]
fn every_arrow_between_our_crates_is_in_the_table() {
    let members = members();
    let allowed: BTreeMap<_, BTreeSet<_>> = ARROWS
        .iter()
        .map(|(name, on)| (*name, on.iter().copied().collect()))
        .collect();
    for (name, member) in &members {
        let allowed = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is a new crate: give it a row in ARROWS"));
        for other in member
            .normal
            .iter()
            .filter(|other| members.contains_key(*other))
        {
            assert!(
                allowed.contains(other.as_str()),
                "{name} → {other} is not in ARROWS"
            );
        }
    }
    for (name, _) in ARROWS {
        assert!(members.contains_key(name), "{name} has a row and no crate");
    }
}

#[test]
fn no_process_knows_another_not_even_in_its_tests() {
    for (name, member) in members() {
        for process in PROCESSES {
            let depends = member.normal.contains(process) || member.other.contains(process);
            assert!(!depends, "{name} depends on {process}");
        }
    }
}

#[test]
fn the_root_process_links_no_runtime_no_parser_and_no_protocol() {
    let linked = linked_into("rmaild");
    assert!(linked.contains("sys"), "{linked:?}");
    for name in [
        "tokio",
        "mio",
        "clap",
        "serde",
        "serde_json",
        "bincode",
        "rustls",
        "tracing",
        "daemon",
        "ipc",
        "mail",
        "smtp",
        "imap",
    ] {
        assert!(!linked.contains(name), "rmaild links {name}");
    }
}

#[test]
fn sys_links_no_runtime() {
    let linked = linked_into("sys");
    for name in ["tokio", "mio", "serde", "tracing"] {
        assert!(!linked.contains(name), "sys links {name}");
    }
}

#[test]
fn the_words_between_processes_need_no_runtime_and_no_system_calls() {
    let linked = linked_into("ipc");
    for name in ["tokio", "mio", "nix", "rustix", "libc", "serde"] {
        assert!(!linked.contains(name), "ipc links {name}");
    }
}

#[test]
fn the_protocols_are_no_std_and_touch_nothing_outside_themselves() {
    let members = members();
    for name in ["mail", "sasl", "smtp", "imap", "proxy", "milter", "sender"] {
        let main = members[name].directory().join("src/lib.rs");
        let text = std::fs::read_to_string(&main).unwrap();
        assert!(text.contains("no_std"), "{name} is not no_std");
        let linked = linked_into(name);
        for other in ["tokio", "nix", "rustix", "libc", "getrandom", "serde"] {
            assert!(!linked.contains(other), "{name} links {other}");
        }
    }
}

#[test]
fn signatures_are_judged_without_network_files_or_a_clock() {
    let linked = linked_into("dkim");
    for other in ["tokio", "nix", "rustix", "hickory-resolver", "serde"] {
        assert!(!linked.contains(other), "dkim links {other}");
    }
    let forbidden = [
        "std::net",
        "std::fs",
        "std::io",
        "std::process",
        "std::time",
    ];
    let mentions = mentions(&members()["dkim"], &forbidden, &[]);
    assert!(mentions.is_empty(), "{mentions:?}");
}

#[test]
fn only_sys_may_hold_unsafe_code() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for (name, member) in members() {
        let manifest = std::fs::read_to_string(&member.manifest).unwrap();
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert_eq!(inherits, name != "sys", "lints of {name}");
        if name == "sys" {
            assert!(manifest.contains("undocumented_unsafe_blocks = \"deny\""));
        }
    }
}

#[test]
fn only_the_frame_knows_how_words_become_bytes() {
    for (name, member) in members() {
        assert!(
            name == "ipc" || !member.normal.contains("bincode"),
            "{name} depends on bincode"
        );
        let mentions = mentions(&member, &["bincode"], &["proto/ipc/src/frame.rs"]);
        assert!(mentions.is_empty(), "{mentions:?}");
    }
}

/// nix and caps are for becoming less (users, namespaces, capabilities), which is done in one place. rustix is how files
/// are opened beneath a directory without following links; std cannot, so deliverd's store names it, too. Its
/// functions are safe, and what they can reach is what the jail leaves.
#[test]
fn system_calls_are_made_in_sys_and_files_opened_in_the_store() {
    for (name, member) in members() {
        for library in ["nix", "caps", "libc"] {
            assert!(
                name == "sys" || !member.normal.contains(library),
                "{name} depends on {library}"
            );
        }
        match name.as_str() {
            "sys" | "system-tests" => {}
            "deliverd" => {
                let mentions = mentions(&member, &["rustix::"], &["deliverd/src/store/"]);
                assert!(mentions.is_empty(), "{mentions:?}");
            }
            _ => assert!(
                !member.normal.contains("rustix"),
                "{name} depends on rustix"
            ),
        }
    }
}

#[test]
fn processes_that_face_the_network_open_no_file_and_no_connection() {
    let members = members();
    for name in ["smtpd", "imapd", "apid"] {
        // A descriptor that was lent is read through a `File`, so the type itself is fine.
        let forbidden = [
            "File::open",
            "File::create",
            "OpenOptions",
            "fs::read",
            "fs::write",
            "fs::metadata",
            "fs::remove",
            "fs::rename",
            "fs::create_dir",
            "tokio::fs",
            "TcpStream::connect",
            "UdpSocket",
            "lookup_host",
            "to_socket_addrs",
            "process::Command",
            "tokio::process",
        ];
        let mentions = mentions(&members[name], &forbidden, &[]);
        assert!(mentions.is_empty(), "{mentions:?}");
    }
}

#[test]
fn the_keeper_of_the_store_has_no_network() {
    let members = members();
    let linked = linked_into("deliverd");
    for name in [
        "hyper",
        "axum",
        "hickory-resolver",
        "smtp",
        "imap",
        "mail-parser",
    ] {
        assert!(!linked.contains(name), "deliverd links {name}");
    }
    let forbidden = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "process::Command",
        "tokio::process",
    ];
    // The power cut test runs programs that make a disk.
    let tests = ["deliverd/src/store/power_cut/"];
    let mentions = mentions(&members["deliverd"], &forbidden, &tests);
    assert!(mentions.is_empty(), "{mentions:?}");
}

#[test]
fn the_keeper_of_the_keys_has_no_network_and_no_message() {
    let members = members();
    let linked = linked_into("keyd");
    for name in [
        "hyper",
        "axum",
        "hickory-resolver",
        "rusqlite",
        "smtp",
        "imap",
        "mail-parser",
    ] {
        assert!(!linked.contains(name), "keyd links {name}");
    }
    let forbidden = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "channel::Client",
        "process::Command",
        "tokio::process",
    ];
    let mentions = mentions(&members["keyd"], &forbidden, &[]);
    assert!(mentions.is_empty(), "{mentions:?}");
}
