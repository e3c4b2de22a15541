//! A thousand messages of all kinds, and what they are said to be by imapd and by Debian's Dovecot: each difference is one that
//! `docs/dovecot-differences.md` names, with the reason why we are right, or this fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use system_tests::dovecot::{self, Dovecot};
use system_tests::{Options, System, program, python, skip_unless};

const COMPARE: &str = r#"
import differences, imap_tree, zoo
wild, tame = zoo.Zoo(seed), zoo.Zoo(seed + 1, tame=True)
wild = [wild.message(number) for number in range(1, 1001)]
tame = [tame.message(number) for number in range(1, 301)]
ours = imap_tree.Connection(ports["imap"], ALICE, password)
theirs = imap_tree.Connection(dovecot, "alice", secret)
unlisted, counts = differences.compare(ours, theirs, wild, zoo.corpus(corpus), tame)
for item, number, a, b in unlisted[:20]:
    print(f"UNLISTED {item} of message {number}\n  ours   {a!r:.600}\n  theirs {b!r:.600}")
assert not unlisted, len(unlisted)
print("USED", " ".join(sorted(counts)))
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Names of the differences in the document: the first cell of each row.
fn listed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/dovecot-differences.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect()
}

#[test]
fn a_thousand_messages_are_shown_as_dovecot_shows_them_or_it_is_known_why_not() {
    skip_unless!(
        Dovecot::is_possible() && python::interpreter().is_some(),
        "Dovecot and Python must be installed, and only root can start Dovecot"
    );
    let seed = std::env::var("RMAIL_ZOO_SEED").map_or(1, |text| text.parse().expect("a number"));
    let system = System::start(Options::alice().config(&json!({"log_level": "info"})));
    let dovecot = Dovecot::start("");
    let more = json!({
        "dovecot": dovecot.port(), "secret": dovecot::PASSWORD, "seed": seed, "corpus": root().join("fuzz/corpus/mail"),
    });
    let mut script = python::command(COMPARE, &system.variables(&more));
    let outcome = program::run(&mut script, b"", Duration::from_secs(280)).succeeded();
    let used = outcome
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("USED "));
    let used: BTreeSet<String> = used
        .expect("the script ends with it")
        .split(' ')
        .map(str::to_owned)
        .collect();
    // What no message needs any more is to be taken out, what one needs to be explained.
    assert_eq!(used, listed());
}
