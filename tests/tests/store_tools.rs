//! `rmailctl store` against a system that is in use: damage is made while mail comes in and clients read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use system_tests::load::{Load, recognize};
use system_tests::maildir::body;
use system_tests::options::PASSWORD;
use system_tests::program::{self, Outcome};
use system_tests::smtp::Client;
use system_tests::{Options, System, imap, patience};

const ALICE: &str = "alice@example.test";

fn store(system: &System) -> PathBuf {
    system.home().mail_root().join("store/mailstore")
}

/// A file in INBOX as somebody would put it there who knows what belongs there.
fn put(system: &System, name: &str, text: &str) {
    let path = system.account(ALICE).mailbox("INBOX").join(name);
    // Whole at once: it may be taken in at any time.
    let hidden = path.with_file_name(".put");
    std::fs::write(&hidden, text).unwrap();
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o440)).unwrap();
    own(system, &hidden);
    std::fs::rename(hidden, path).unwrap();
}

fn own(system: &System, path: &Path) {
    if system.home().separates_users() {
        let uid = system.home().uid("deliverd");
        chown(path, Some(uid), Some(uid)).unwrap();
    }
}

fn deliver(system: &System, text: &str) {
    let mut client = Client::hello(system.address("smtp")).unwrap();
    let message = format!("Subject: x\r\n\r\n{text}\r\n");
    client
        .deliver("carol@outside.test", ALICE, message.as_bytes())
        .unwrap();
}

/// What a command told, line by line, with the status it ended with.
fn told(outcome: &Outcome, code: i32) -> Vec<Value> {
    assert_eq!(outcome.code(), code, "{}", outcome.text());
    let lines = outcome.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn kinds(lines: &[Value]) -> BTreeSet<String> {
    let kinds = lines.iter().filter_map(|line| line["kind"].as_str());
    kinds.map(str::to_owned).collect()
}

/// Damage of many kinds; gives what it is called.
fn damage(system: &System) -> BTreeSet<String> {
    let inbox = system.account(ALICE).mailbox("INBOX");
    put(
        system,
        "0000/hello.eml",
        "Subject: by hand\r\n\r\nstray\r\n",
    );
    put(
        system,
        "0000/00000001_F.eml",
        "Subject: by hand\r\n\r\nsecond\r\n",
    );
    put(
        system,
        "0000/00007000_.eml",
        "Subject: by hand\r\n\r\nelsewhere\r\n",
    );
    // One that is just being copied would be empty, too.
    let empty = inbox.join("0000/.empty");
    let file = std::fs::File::create(&empty).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o440)).unwrap();
    own(system, &empty);
    std::fs::rename(empty, inbox.join("0000/00000099_.eml")).unwrap();
    put(system, "0000/readme", "x");
    symlink("/etc/passwd", inbox.join("0000/00000098_.eml")).unwrap();
    std::fs::set_permissions(inbox.join("0000"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(inbox.join("../Sent/status.json"), "{").unwrap();
    let kinds = [
        "stray-file",
        "duplicate-uid",
        "wrong-shard",
        "empty-file",
        "unknown-entry",
        "not-a-file",
        "mode",
        "status-damaged",
    ];
    kinds.map(str::to_owned).into()
}

/// Ends the work of other threads, also when an assertion fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn damage_made_while_mail_comes_in_and_is_read_is_found_and_mended() {
    let system = System::start(Options::alice());
    (0..5).for_each(|number| deliver(&system, &format!("before {number}")));
    let clean = told(&system.rmailctl(&["store", "check", "--json"]), 0);
    let summary = &clean.last().unwrap()["summary"];
    assert_eq!(
        (&summary["users"], &summary["messages"]),
        (&1.into(), &5.into())
    );
    let is_over = AtomicBool::new(false);
    let load = Load {
        server: system.address("smtp"),
        login: None,
        from: "carol@outside.test".into(),
        to: ALICE.into(),
    };
    let delivered = std::thread::scope(|threads| {
        let delivering = threads.spawn(|| load.run(0, 400, 4, Duration::from_secs(60)));
        let reading = threads.spawn(|| {
            let mut client = imap::Client::login(system.address("imap"), ALICE, PASSWORD).unwrap();
            client.command("SELECT INBOX").unwrap().ok();
            let mut commands = 0;
            // At least once, however late it comes.
            while commands == 0 || !is_over.load(Ordering::Relaxed) {
                client.command("NOOP").unwrap().ok();
                let fetched = client
                    .command("UID FETCH 1:5 (FLAGS BODY.PEEK[])")
                    .unwrap()
                    .ok();
                let count = fetched
                    .untagged
                    .iter()
                    .filter(|line| line.contains("before "))
                    .count();
                assert_eq!(count, 5, "{fetched:?}");
                commands += 1;
            }
            client.command("NOOP").unwrap().ok();
            let seen = client.command("UID SEARCH ALL").unwrap().ok();
            seen.untagged
        });
        let end = End(&is_over);
        let made = damage(&system);
        let found = kinds(&told(&system.rmailctl(&["store", "check", "--json"]), 1));
        assert!(found.is_superset(&made), "{found:?}");
        let dry = kinds(&told(
            &system.rmailctl(&["store", "repair", "--dry-run", "--json"]),
            1,
        ));
        assert!(dry.is_superset(&made), "{dry:?}");
        let mended = told(&system.rmailctl(&["store", "repair", "--json"]), 0);
        let summary = &mended.last().unwrap()["summary"];
        assert_eq!(summary["damage"], 0, "{mended:?}");
        for command in [
            ["store", "rebuild"],
            ["store", "check"],
            ["store", "stat"],
            ["store", "verify"],
        ] {
            system.rmailctl(&command).succeeded();
        }
        let delivered = delivering.join().unwrap();
        drop(end);
        let seen = reading.join().unwrap();
        let searched = seen
            .iter()
            .find(|line| line.starts_with("* SEARCH"))
            .unwrap();
        let uids = searched.split_ascii_whitespace().skip(2).count();
        assert_eq!(
            uids,
            5 + 3 + delivered.len(),
            "the client saw it all: {searched}"
        );
        delivered
    });
    assert!(delivered.len() >= 400, "{}", delivered.len());
    let messages = system.account(ALICE).messages("INBOX");
    let bodies: Vec<Vec<u8>> = messages
        .iter()
        .map(|file| body(&file.bytes()).to_vec())
        .collect();
    for text in ["before 0", "before 4", "stray", "second", "elsewhere"] {
        let count = bodies
            .iter()
            .filter(|body| body.starts_with(text.as_bytes()))
            .count();
        assert_eq!(count, 1, "{text}");
    }
    let kept = messages.iter().filter_map(|file| recognize(&file.bytes()));
    assert_eq!(
        kept.collect::<BTreeSet<u32>>(),
        delivered.into_iter().collect()
    );
    assert_eq!(
        std::fs::read_dir(store(&system).join(".aside"))
            .unwrap()
            .count(),
        3
    );
    system.rmailctl(&["store", "check"]).succeeded();
}

#[test]
fn what_a_list_of_hashes_says_is_compared_with_what_is_there() {
    let system = System::start(Options::default());
    (0..3).for_each(|number| deliver(&system, &format!("text {number}")));
    let list = system.rmailctl(&["store", "verify"]).succeeded().stdout;
    assert_eq!(list.lines().count(), 3, "{list}");
    let messages = system.account(ALICE).messages("INBOX");
    for (line, message) in list.lines().zip(&messages) {
        let mut sha256 = program::command("sha256sum");
        let sum = program::run(sha256.arg(&message.path), b"", Duration::from_secs(10));
        let hash = sum.stdout.split(' ').next().unwrap();
        let size = message.bytes().len();
        assert!(
            line.starts_with(&format!("{hash}\t{size}\texample.test/alice/INBOX\t")),
            "{line}"
        );
    }
    let file = system.dir().join("list");
    std::fs::write(&file, &list).unwrap();
    let against = |code: i32| {
        let outcome = system.rmailctl(&["store", "verify", "--against", file.to_str().unwrap()]);
        assert_eq!(outcome.code(), code, "{}", outcome.text());
        outcome.stdout
    };
    assert_eq!(against(0), "");
    // Flags are no change.
    let mut client = imap::Client::login(system.address("imap"), ALICE, PASSWORD).unwrap();
    client.command("SELECT INBOX").unwrap().ok();
    client.command(r"STORE 1 +FLAGS (\Seen)").unwrap().ok();
    assert_eq!(against(0), "");
    deliver(&system, "text 3");
    assert_eq!(against(0), "new\texample.test/alice/INBOX\t4\n");
    let second = &messages[1].path;
    let text = String::from_utf8(messages[1].bytes()).unwrap();
    std::fs::remove_file(second).unwrap();
    put(&system, "0000/00000002_.eml", &text.replace("text", "tExt"));
    std::fs::remove_file(&messages[2].path).unwrap();
    let differences = against(1);
    for line in [
        "changed\texample.test/alice/INBOX\t2\n",
        "missing\texample.test/alice/INBOX\t3\n",
    ] {
        assert!(differences.contains(line), "{differences}");
    }
    let bob = [
        "store",
        "verify",
        "--user",
        "bob@example.test",
        "--against",
        file.to_str().unwrap(),
    ];
    system.rmailctl(&bob).succeeded();
}

#[test]
fn sizes_are_told_and_scopes_kept() {
    let system = System::start(Options::default());
    deliver(&system, "x");
    let stat = |scope: &[&str]| {
        let arguments = [&["store", "stat", "--json"], scope].concat();
        told(&system.rmailctl(&arguments), 0).remove(0)
    };
    let all = stat(&[]);
    assert_eq!(
        (&all["users"], &all["mailboxes"], &all["messages"]),
        (&2.into(), &12.into(), &1.into())
    );
    assert_eq!(all["largest"][0]["mailbox"], "example.test/alice/INBOX");
    assert_eq!(all["journal"]["closed"], false);
    assert!(
        all["journal"]["bytes"].as_u64().unwrap() >= 32 << 20,
        "{all}"
    );
    let size = system.account(ALICE).messages("INBOX")[0].bytes().len();
    assert_eq!(all["bytes"], size);
    assert_eq!(stat(&["--user", "bob@example.test"])["messages"], 0);
    let inbox = ["--user", ALICE, "--mailbox", "inbox"];
    assert_eq!(
        (&stat(&inbox)["mailboxes"], &stat(&inbox)["messages"]),
        (&1.into(), &1.into())
    );
    assert_eq!(stat(&["--domain", "example.test"])["mailboxes"], 12);
    for (scope, words) in [
        (["--user", "nobody@example.test"], "no such user"),
        (["--domain", "other.test"], "no such domain"),
        (["--after", "nowhere/../x"], "no place of this scope"),
    ] {
        let outcome = system.rmailctl(&[&["store", "check"], &scope[..]].concat());
        assert_eq!(outcome.code(), 65, "{}", outcome.text());
        assert!(outcome.stderr.contains(words), "{}", outcome.text());
    }
}

#[test]
fn a_tenant_can_have_no_text_kept_for_searching() {
    let system = System::start(Options::alice());
    deliver(&system, "a needle in it");
    let text = system.account(ALICE).mailbox("INBOX").join(".cache/text");
    let search = || {
        let mut client = imap::Client::login(system.address("imap"), ALICE, PASSWORD).unwrap();
        client.command("SELECT INBOX").unwrap().ok();
        let answer = client.command("SEARCH TEXT needle").unwrap().ok();
        let found = |line: &String| line.trim_end() == "* SEARCH 1";
        assert!(answer.untagged.iter().any(found), "{answer:?}");
        // Given away when the answer is written: the next command is answered after that.
        client.command("NOOP").unwrap().ok();
    };
    let is_kept = || text.join("0000").exists();
    search();
    patience::wait_for(Duration::from_secs(10), || is_kept().then_some(())).unwrap();
    for command in [
        &["tenant", "add", "acme"][..],
        &["domain", "assign", "example.test", "acme"],
        &["tenant", "search", "acme", "off"],
    ] {
        system.rmailctl(command).succeeded();
    }
    assert!(!text.exists());
    let list = ["tenant", "list", "--json"];
    let tenants: Value = serde_json::from_str(&system.rmailctl(&list).succeeded().text()).unwrap();
    assert_eq!(tenants[0]["search_text"], false);
    search();
    system.rmailctl(&["store", "check"]).succeeded();
    assert!(!text.exists());
    system
        .rmailctl(&["tenant", "search", "acme", "on"])
        .succeeded();
    search();
    patience::wait_for(Duration::from_secs(10), || is_kept().then_some(())).unwrap();
}

#[test]
fn an_interrupted_walk_says_where_to_go_on_and_goes_on_there() {
    // More than a piece tells.
    const MANY: usize = 6_000;
    let system = System::start(Options::alice());
    let inbox = system.account(ALICE).mailbox("INBOX");
    for shard in 0..MANY / 1000 {
        let shard = inbox.join(format!("{shard:04}"));
        std::fs::create_dir_all(&shard).unwrap();
        own(&system, &shard);
    }
    (1..MANY).for_each(|uid| put(&system, &format!("{:04}/{uid:08}_.eml", uid / 1000), "x"));
    let mut command = system.home().command("rmailctl");
    command.arg("--config").arg(system.home().config_file());
    let mut child = command
        .args(["store", "verify"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut first = vec![lines.next().unwrap().unwrap()];
    program::send(child.id(), Signal::INT);
    first.extend(lines.map(Result::unwrap));
    let ended = child.wait_with_output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(70), "{text}");
    assert!(text.contains("interrupted") && first.len() < MANY, "{text}");
    let hint = text
        .lines()
        .find_map(|line| line.strip_prefix("go on with: --after '"));
    let place = hint.unwrap().trim_end_matches('\'');
    let rest = system
        .rmailctl(&["store", "verify", "--after", place])
        .succeeded();
    let uids = first.iter().map(String::as_str).chain(rest.stdout.lines());
    let uids: Vec<usize> = uids
        .map(|line| line.rsplit('\t').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(uids, (1..MANY).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn what_the_last_start_after_a_crash_did_is_told() {
    let system = System::start(Options::alice());
    let none = system.rmailctl(&["store", "fsck-report"]).succeeded();
    assert_eq!(none.stdout, "no recovery is known of\n");
    deliver(&system, "just before the crash");
    let pid = system.kill("deliverd");
    system.wait_for_restart("deliverd", pid);
    let report = told(&system.rmailctl(&["store", "fsck-report", "--json"]), 0).remove(0);
    assert_eq!(
        (&report["mailboxes"], &report["messages"]),
        (&1.into(), &1.into()),
        "{report}"
    );
    assert_eq!(
        report["restored"], 0,
        "a killed process loses no files: {report}"
    );
    let text = system
        .rmailctl(&["store", "fsck-report"])
        .succeeded()
        .stdout;
    assert!(text.contains("1 messages in 1 mailboxes"), "{text}");
}
