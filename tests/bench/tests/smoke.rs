//! The benchmark runs, with sizes that say nothing about speed: no root, no Dovecot, no strace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::process::Command;

fn bench(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-bench"));
    let output = command.args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn every_workload_runs_and_has_its_table() {
    let (success, tables, complaints) = bench(&["--smoke"]);
    assert!(success, "{complaints}");
    for row in [
        "### Durable delivery\n",
        "| 4 KiB, 1 writer | maildir writer |",
        "|  | rmail store |",
        "|  | rmail SMTP |",
        "### What the disk can do\n",
        "### Bringing a message to deliverd, without committing it\n",
        "### Kept for readers, bytes per message of 4 KiB\n",
        "| 10 connections | rmail |",
        "### SELECT\n",
        "### SELECT, deliverd alone\n",
        "| ENVELOPE, 50 | rmail |",
        "| absent word, 50 | rmail |",
        "| 64 KiB each | rmail |",
        "### STORE 1:* +FLAGS.SILENT (\\Flagged)\n",
        "| in 50 | rmail |",
        "| 64 KiB to 10 | maildir writer |",
        "### Goals\n",
    ] {
        assert!(tables.contains(row), "{row} is missing in\n{tables}");
    }
}

#[test]
fn large_stores_are_made_and_asked_and_have_their_tables() {
    let (success, tables, complaints) = bench(&["--scale", "--smoke"]);
    assert!(success, "{complaints}");
    for row in [
        "### Start\n",
        "| 40 accounts, 400 mailboxes | rmail |",
        "### Users\n",
        "### Tools over all mailboxes\n",
        "| 30 mailboxes | rmail |",
        "### SELECT of a large mailbox, deliverd alone\n",
        "| 3k | rmail |",
        "### Use of a large mailbox, over IMAP\n",
        "| 1200 messages | rmail |",
    ] {
        assert!(tables.contains(row), "{row} is missing in\n{tables}");
    }
    let busy = tables
        .lines()
        .find(|line| line.starts_with("| 1200 messages"));
    // No reading missed a UID, and in the end all is as the files say.
    assert!(
        busy.unwrap().ends_with("| 0.00 | 0.00 | 0.00 |"),
        "{tables}"
    );
}

#[test]
fn mail_is_relayed_and_has_its_table() {
    let is_there = |path| std::path::Path::new(path).exists();
    if !is_there("/usr/sbin/nsd") || !is_there("/usr/sbin/smtp-sink") {
        eprintln!(
            "SKIPPED: nsd or smtp-sink is not installed; tests/PACKAGES names the Debian packages"
        );
        return;
    }
    let (success, tables, complaints) = bench(&["relay", "--smoke"]);
    assert!(success, "{complaints}");
    for row in [
        "### Relay through to a sink, 4 KiB\n",
        "| 1 session | rmail |",
        "| 20 sessions | rmail |",
        "| messages/s, times Postfix | ≥ 3 | – | not measured |",
    ] {
        assert!(tables.contains(row), "{row} is missing in\n{tables}");
    }
}

#[test]
fn an_unknown_workload_is_refused_with_the_usage() {
    let (success, tables, complaints) = bench(&["--smoke", "fly"]);
    assert!(!success && tables.is_empty());
    assert!(
        complaints.contains("no workload fly\nusage:"),
        "{complaints}"
    );
}
