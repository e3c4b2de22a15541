//! Large messages and many: they come in, are put together and go out in constant memory; of several that come together there are all or
//! none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Instant;

use serde_json::json;
use system_tests::imap::Client;
use system_tests::options::PASSWORD;
use system_tests::{Options, System};

/// MiB of what the first test appends; twice as much is put together.
const SIZE: &str = "RMAIL_COMPOSING_MIB";
/// Messages of the tests that read many.
const COUNT: &str = "RMAIL_READING_COUNT";
/// A daemon may grow by so many KiB.
const MOST: u64 = 10_000;

fn alice(system: &System) -> Client {
    Client::login(system.address("imap"), "alice@example.test", PASSWORD).unwrap()
}

/// The most memory a daemon ever had, in KiB.
fn peak(system: &System, daemon: &str) -> u64 {
    let pid = system.pid(daemon).unwrap();
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a literal of so many MiB.
fn send(client: &mut Client, mebibytes: usize) {
    let line = [&[b'x'; 62][..], b"\r\n"].concat();
    let mebibyte = line.repeat((1 << 20) / line.len());
    for _ in 0..mebibytes {
        client.send(&mebibyte).unwrap();
    }
}

#[test]
fn however_much_is_appended_or_put_together_memory_stays_the_same() {
    let mebibytes = std::env::var(SIZE).map_or(96, |text| text.parse().unwrap());
    let limit = (2 * mebibytes + 1) << 20;
    let config = json!({"smtp": {"max_message_size": limit}});
    let system = System::start(Options::alice().config(&config));
    let mut client = alice(&system);
    // Once small, so that what is made once is made.
    client.send(b"a APPEND INBOX {6+}\r\nA: 1\r\n {6+}\r\nA: 2\r\n CATENATE (URL /INBOX/;UID=1 URL /INBOX/;UID=1/;SECTION=1)\r\n").unwrap();
    assert!(client.answer("a").unwrap().result.starts_with("NO [BADURL"));
    client
        .send(b"b APPEND INBOX {6+}\r\nA: 1\r\n {6+}\r\nA: 2\r\n\r\n")
        .unwrap();
    client.answer("b").unwrap().ok();
    let daemons = ["imapd", "deliverd"];
    let before = daemons.map(|daemon| peak(&system, daemon));
    // Eight messages, then one of all of them twice.
    let each = mebibytes / 8;
    client.send(b"c APPEND INBOX").unwrap();
    for _ in 0..8 {
        client
            .send(format!(" {{{}+}}\r\n", each << 20).as_bytes())
            .unwrap();
        send(&mut client, each);
    }
    client.send(b"\r\n").unwrap();
    assert!(
        client
            .answer("c")
            .unwrap()
            .ok()
            .result
            .contains("APPENDUID")
    );
    let urls: Vec<String> = (0..16)
        .map(|n| format!("URL /INBOX/;UID={}", 3 + n % 8))
        .collect();
    let parts = format!("d APPEND INBOX CATENATE ({})\r\n", urls.join(" "));
    client.send(parts.as_bytes()).unwrap();
    client.answer("d").unwrap().ok();
    let account = system.account("alice@example.test");
    let sizes: Vec<u64> = account
        .messages("INBOX")
        .iter()
        .map(|message| message.path.metadata().unwrap().len())
        .collect();
    let (each, all) = ((each as u64) << 20, (each as u64) << 24);
    assert_eq!(sizes[2..], [[each; 8].as_slice(), &[all]].concat());
    for (daemon, before) in daemons.iter().zip(before) {
        let grown = peak(&system, daemon) - before;
        eprintln!("{daemon}: {before} KiB, grew by {grown} KiB");
        assert!(grown < MOST, "{daemon} grew by {grown} KiB");
    }
}

#[test]
fn a_message_of_any_size_comes_in_and_goes_out_also_decoded_in_the_same_memory() {
    let mebibytes: usize = std::env::var(SIZE).map_or(32, |text| text.parse().unwrap());
    let limit = (mebibytes + 1) << 20;
    let config = json!({"smtp": {"max_message_size": limit}});
    let system = System::start(Options::alice().config(&config));
    let mut client = alice(&system);
    let head = "Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let fetch = |client: &mut Client, number: usize, item: &str| {
        let command = format!("{item} FETCH {number} {item}\r\n");
        client.send(command.as_bytes()).unwrap();
        client.pass_over(item).unwrap()
    };
    let items = [
        "BODY.PEEK[]",
        "BINARY.PEEK[1]",
        "BINARY.PEEK[1]<1000.500000>",
    ];
    // Once small, so that what is made once is made.
    let small = format!(
        "a APPEND INBOX {{{}+}}\r\n{head}QUFB\r\n\r\n",
        head.len() + 6
    );
    client.send(small.as_bytes()).unwrap();
    client.answer("a").unwrap().ok();
    client.command("SELECT INBOX").unwrap().ok();
    for item in &items[..2] {
        fetch(&mut client, 1, item);
    }
    let daemons = ["imapd", "deliverd"];
    let before = daemons.map(|daemon| peak(&system, daemon));
    let size = head.len() + (mebibytes << 20);
    client
        .send(format!("b APPEND INBOX {{{size}+}}\r\n{head}").as_bytes())
        .unwrap();
    send(&mut client, mebibytes);
    client.send(b"\r\n").unwrap();
    client.answer("b").unwrap().ok();
    // Of the 64 octets of a line 62 are base64.
    let decoded = (mebibytes << 20) / 64 * 62 / 4 * 3;
    let expected = [size, decoded, 500_000];
    for (item, expected) in items.iter().zip(expected) {
        assert_eq!(fetch(&mut client, 2, item), expected as u64, "{item}");
    }
    for (daemon, before) in daemons.iter().zip(before) {
        let grown = peak(&system, daemon) - before;
        eprintln!("{daemon}: {before} KiB, grew by {grown} KiB");
        assert!(grown < MOST, "{daemon} grew by {grown} KiB");
    }
}

#[test]
fn all_messages_of_a_mailbox_go_out_in_the_same_memory_however_many_there_are() {
    let wanted: u64 = std::env::var(COUNT).map_or(4000, |text| text.parse().unwrap());
    let mut system = System::start(Options::alice());
    let mut client = alice(&system);
    let letter = format!("Subject: one\r\n\r\n{}\r\n", "x".repeat(4000));
    let append = format!("a APPEND INBOX {{{}+}}\r\n{letter}\r\n", letter.len());
    client.send(append.as_bytes()).unwrap();
    client.answer("a").unwrap().ok();
    let mut count = 1;
    client.command("SELECT INBOX").unwrap().ok();
    while count < wanted {
        let more = count.min(wanted - count);
        let copy = format!("b COPY 1:{more} INBOX\r\n");
        client.send(copy.as_bytes()).unwrap();
        client.pass_over("b").unwrap();
        count += more;
    }
    // What copying took is not asked here.
    system.stop();
    system.start_again();
    let mut client = alice(&system);
    client.command("SELECT INBOX").unwrap().ok();
    let fetch = |client: &mut Client, set: &str| {
        let command = format!("c FETCH {set} (ENVELOPE BODY.PEEK[])\r\n");
        client.send(command.as_bytes()).unwrap();
        client.pass_over("c").unwrap()
    };
    fetch(&mut client, "1:1000");
    let daemons = ["imapd", "deliverd"];
    let before = daemons.map(|daemon| peak(&system, daemon));
    assert_eq!(fetch(&mut client, "1:*"), count * letter.len() as u64);
    for (daemon, before) in daemons.iter().zip(before) {
        let grown = peak(&system, daemon) - before;
        eprintln!("{daemon}: {before} KiB, grew by {grown} KiB");
        assert!(grown < MOST, "{daemon} grew by {grown} KiB");
    }
}

/// Puts letters into the inbox by hand, in a row of `count` that answer one another in groups of ten; the subject of letter `n` is
/// the number `subject(n)`.
fn write_letters(system: &System, count: u64, subject: impl Fn(u64) -> u64) {
    let inbox = system.account("alice@example.test").mailbox("INBOX");
    for number in 1..=count {
        let shard = inbox.join(format!("{:04}", number / 1000));
        if number % 1000 == 0 || number == 1 {
            fs::create_dir_all(&shard).unwrap();
        }
        let answered = match number % 10 {
            1 => String::new(),
            _ => format!("References: <{}@ids.test>\r\n", number - 1),
        };
        let text = format!(
            "Subject: {:08}\r\nFrom: a{number}@x.test\r\nMessage-ID: <{number}@ids.test>\r\n{answered}\r\ntext\r\n",
            subject(number)
        );
        fs::write(shard.join(format!("{number:08}_.eml")), text).unwrap();
    }
    let owner = fs::metadata(&inbox).unwrap();
    let chown = Command::new("chown")
        .args(["-R", &format!("{}:{}", owner.uid(), owner.gid())])
        .arg(&inbox)
        .status();
    assert!(chown.unwrap().success());
}

#[test]
fn many_messages_are_put_in_order_in_the_memory_that_is_stated() {
    let count: u64 = std::env::var(COUNT).map_or(4000, |text| text.parse().unwrap());
    let mut system = System::start(Options::alice());
    alice(&system).command("SELECT INBOX").unwrap().ok();
    system.stop();
    // A permutation: the factor is a prime that no count here is a multiple of.
    let subject = |number: u64| number * 1_000_003 % (count + 1);
    write_letters(&system, count, subject);
    system.start_again();
    let mut client = alice(&system);
    let selected = client.command("SELECT INBOX").unwrap().ok();
    assert!(selected.untagged.contains(&format!("* {count} EXISTS")));
    client.command("SORT (SUBJECT) UTF-8 1:100").unwrap().ok();
    client.command("THREAD REFS UTF-8 1:100").unwrap().ok();
    let before = peak(&system, "imapd");
    let mut uids: Vec<u64> = (1..=count).collect();
    uids.sort_by_key(|number| subject(*number));
    let words: Vec<String> = uids.iter().map(u64::to_string).collect();
    let sorted = format!("* SORT {}", words.join(" "));
    let threads: String = (0..count.div_ceil(10))
        .map(|group| {
            let last = (10 * group + 10).min(count);
            let numbers: Vec<String> = (10 * group + 1..=last).map(|n| n.to_string()).collect();
            format!("({})", numbers.join(" "))
        })
        .collect();
    let asked = [
        ("SORT (SUBJECT) UTF-8 ALL", sorted),
        ("THREAD REFERENCES UTF-8 ALL", format!("* THREAD {threads}")),
        ("THREAD REFS UTF-8 ALL", format!("* THREAD {threads}")),
    ];
    // The second time what the first time was worked out is at hand.
    for time in ["first", "second"] {
        for (command, expected) in &asked {
            let begin = Instant::now();
            let answer = client.command(command).unwrap().ok();
            eprintln!("{command}, {time}: {} ms", begin.elapsed().as_millis());
            // Not as a whole where it fails: it is long.
            assert!(answer.untagged == [expected.as_str()], "{command}");
        }
    }
    let grown = peak(&system, "imapd") - before;
    eprintln!("imapd: {before} KiB, grew by {grown} KiB");
    let stated = count * 512 / 1024;
    assert!(grown < MOST + stated, "imapd grew by {grown} KiB");
}

#[test]
fn where_deliverd_dies_between_two_messages_there_is_none() {
    let system = System::start(Options::alice());
    let mut client = alice(&system);
    client.send(b"a APPEND INBOX {6}\r\n").unwrap();
    assert!(client.line().unwrap().starts_with('+'));
    client.send(b"A: 1\r\n {6}\r\n").unwrap();
    // deliverd has the first one, whole.
    assert!(client.line().unwrap().starts_with('+'));
    let before = system.kill("deliverd");
    system.wait_for_restart("deliverd", before);
    client.send(b"A: 2\r\n\r\n").unwrap();
    let answer = client.answer("a");
    assert!(answer.is_err() || answer.unwrap().result.starts_with("NO"));
    let mut client = alice(&system);
    let status = client.command("STATUS INBOX (MESSAGES)").unwrap().ok();
    assert_eq!(status.untagged, ["* STATUS INBOX (MESSAGES 0)"]);
    let incoming = system.dir().join("mail/store/mailstore/.incoming");
    if let Ok(left) = std::fs::read_dir(incoming) {
        assert_eq!(left.count(), 0, "what was sent is left behind");
    }
    client
        .send(b"b APPEND INBOX {6+}\r\nA: 1\r\n {6+}\r\nA: 2\r\n\r\n")
        .unwrap();
    client.answer("b").unwrap().ok();
}

#[test]
fn a_draft_is_replaced_and_its_first_words_are_kept_for_others() {
    let system = System::start(Options::alice());
    let mut client = alice(&system);
    client
        .send(b"a APPEND INBOX {6+}\r\nA: 1\r\n {6+}\r\nA: 2\r\n\r\n")
        .unwrap();
    client.answer("a").unwrap().ok();
    client.command("SELECT INBOX").unwrap().ok();
    client
        .send(b"b UID REPLACE 1 INBOX (\\Draft) {16+}\r\nA: 1\r\n\r\nBetter\r\n\r\n")
        .unwrap();
    let replaced = client.answer("b").unwrap().ok();
    assert!(
        replaced.untagged[0].starts_with("* OK [APPENDUID"),
        "{replaced:?}"
    );
    assert!(
        replaced.untagged.contains(&"* 1 EXPUNGE".to_owned()),
        "{replaced:?}"
    );
    // The text of the mailbox and its files are the same.
    let uids = |system: &System| {
        let files = system.account("alice@example.test").messages("INBOX");
        files.iter().map(|file| file.uid).collect::<Vec<_>>()
    };
    assert_eq!(uids(&system), [2, 3]);
    let lazy = "UID FETCH 3 (PREVIEW (LAZY))";
    let shown = client.command(lazy).unwrap().ok();
    assert_eq!(shown.untagged, ["* 2 FETCH (UID 3 PREVIEW NIL)"]);
    let shown = client.command("UID FETCH 3 (PREVIEW)").unwrap().ok();
    assert_eq!(shown.untagged, ["* 2 FETCH (UID 3 PREVIEW \"Better\")"]);
    client.command("LOGOUT").unwrap().ok();
    // Another session need not read the message.
    let mut client = alice(&system);
    client.command("EXAMINE INBOX").unwrap().ok();
    let shown = client.command(lazy).unwrap().ok();
    assert_eq!(shown.untagged, ["* 2 FETCH (UID 3 PREVIEW \"Better\")"]);
    let missing = client.command("UID REPLACE 9 INBOX {6}").unwrap();
    assert!(missing.result.starts_with("NO [READ-ONLY]"), "{missing:?}");
}
