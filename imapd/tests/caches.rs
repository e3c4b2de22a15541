//! The answers are the same whether what is known from an earlier reading is there, half there, damaged, or not kept at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod world;

use std::time::Duration;

use world::{Client, World};

/// A source of numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    // SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % bound as u64).unwrap()
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const SUBJECTS: &[&str] = &[
    "invoice 17",
    "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=",
    "=?koi8-r?B?8NLJ18XU?=",
    "Re: [x] a",
];
const SENDERS: &[&str] = &[
    "Carol <carol@example.org>",
    "=?iso-8859-1?q?J=FCrgen?= <j@example.net>",
    "broken <<@",
];
const DATES: &[&str] = &[
    "Mon, 02 Mar 2026 10:00:00 +0000",
    "1 Jan 2020 00:00:00 -1200",
    "whenever",
];
const TYPES: &[&str] = &[
    "text/plain; charset=utf-8",
    "text/html; charset=iso-8859-1",
    "application/pdf",
    "message/rfc822",
];
const ENCODINGS: &[&str] = &["8bit", "quoted-printable", "base64"];
const BODIES: &[&str] = &[
    "Please pay 100 EUR.\r\n",
    "=C3=84rger, lan=\r\nger Text\r\n",
    "8NLJ18XU w7xiZXI=\r\n",
    "Subject: in it\r\n\r\nÄrger\r\n",
];

fn message(dice: &mut Dice) -> Vec<u8> {
    let mut text = format!(
        "From: {}\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}@x>\r\nReferences: <{}@x> <{}@x>\r\n",
        dice.choose(SENDERS),
        dice.choose(SUBJECTS),
        dice.choose(DATES),
        dice.below(1000),
        dice.below(1000),
        dice.below(1000),
    );
    let mut part = |text: &mut String| {
        let (kind, encoding) = (dice.choose(TYPES), dice.choose(ENCODINGS));
        let body = dice.choose(BODIES).repeat(1 + dice.below(3));
        text.push_str(&format!(
            "Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}"
        ));
    };
    let parts = text.len() % 4;
    if parts == 0 {
        part(&mut text);
    } else {
        text.push_str("Content-Type: multipart/mixed; boundary=out\r\n\r\n");
        for _ in 0..parts {
            text.push_str("--out\r\n");
            part(&mut text);
        }
        text.push_str("--out--\r\n");
    }
    text.into_bytes()
}

const QUESTIONS: &[&str] = &[
    "SEARCH SUBJECT \"invoice\"",
    "SEARCH FROM \"carol\"",
    "SEARCH NOT FROM \"example\"",
    "SEARCH TEXT \"pay 100\"",
    "SEARCH BODY \"subject: in\"",
    "SEARCH NOT TEXT \"Please\"",
    "SEARCH OR BODY \"eur\" HEADER Message-ID \"7@x\"",
    "SEARCH SENTON 2-Mar-2026 LARGER 300",
    "SEARCH HEADER Content-Type \"\"",
    "SEARCH CHARSET UTF-8 TEXT {6+}\r\nÄRGER",
    "SEARCH CHARSET UTF-8 SUBJECT {6+}\r\ngrüß",
    "UID SEARCH CHARSET UTF-8 UID 3:90 TEXT {12+}\r\nпривет",
    "SORT (SUBJECT REVERSE DATE FROM) UTF-8 ALL",
    "UID SORT (DISPLAYFROM SIZE) UTF-8 UID 3:90",
    "THREAD REFERENCES UTF-8 ALL",
    "UID THREAD ORDEREDSUBJECT UTF-8 NOT FROM \"carol\"",
    "THREAD REFS UTF-8 ALL",
    "FETCH 1:* ENVELOPE",
    "UID FETCH 5:40,70 (BODYSTRUCTURE FLAGS)",
    "FETCH 1:* BODY",
    "FETCH 1:* (ENVELOPE BODY BODYSTRUCTURE RFC822.SIZE)",
    "FETCH 1:* FULL",
];

async fn answers(client: &mut Client) -> Vec<Vec<String>> {
    let mut answers = Vec::new();
    for question in QUESTIONS {
        answers.push(client.ask(&format!("q {question}")).await);
    }
    answers
}

async fn compare(client: &mut Client, expected: &[Vec<String>], when: &str) {
    let answers = answers(client).await;
    for ((question, answer), expected) in QUESTIONS.iter().zip(&answers).zip(expected) {
        let differ = answer.iter().zip(expected).find(|(a, b)| a != b);
        assert!(answer == expected, "{when}: {question}: {differ:?}");
    }
}

/// Waits until everything that was worked out has arrived.
async fn settle(world: &World) {
    let mut before = usize::MAX;
    loop {
        let taken = world.store.caches.lock().unwrap().taken;
        if taken == before {
            return;
        }
        before = taken;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn where_no_text_is_kept_none_is_made() {
    let world = World::new().await;
    let mut dice = Dice(6);
    for _ in 0..30 {
        world.store.deliver(&message(&mut dice));
    }
    world.store.caches.lock().unwrap().off = true;
    let mut alice = world.alice().await;
    let expected = answers(&mut alice).await;
    {
        let mut caches = world.store.caches.lock().unwrap();
        (caches.off, caches.without_text) = (false, true);
    }
    compare(&mut alice, &expected, "without text").await;
    compare(&mut alice, &expected, "without text, again").await;
    settle(&world).await;
    let caches = world.store.caches.lock().unwrap();
    assert_eq!(caches.text_files(), 0);
    assert!(caches.taken > 0, "summaries are kept");
}

#[tokio::test]
async fn answers_do_not_depend_on_what_is_kept() {
    let world = World::new().await;
    let mut dice = Dice(5);
    // Some are in the next shard.
    for _ in 0..120 {
        world.store.deliver(&message(&mut dice));
    }
    world.store.skip_uids(900);
    for _ in 0..20 {
        world.store.deliver(&message(&mut dice));
    }
    world.store.caches.lock().unwrap().off = true;
    let mut alice = world.alice().await;
    let expected = answers(&mut alice).await;
    for (question, lines) in QUESTIONS.iter().zip(&expected) {
        let (last, first) = (lines.last().unwrap(), &lines[0]);
        assert!(
            last.starts_with("q OK") && first != "* SEARCH",
            "{question}"
        );
    }

    world.store.caches.lock().unwrap().off = false;
    compare(&mut alice, &expected, "while it is filled").await;
    settle(&world).await;
    let opened = world.store.opened();
    compare(&mut alice, &expected, "from what is kept").await;
    assert_eq!(world.store.opened(), opened, "messages were read again");

    for round in 0..20 {
        world.store.caches.lock().unwrap().spoil(|file| {
            // Half of the slots emptied, then bits turned, mostly where all is read.
            if round % 2 == 0 {
                for uid in (0..1000).filter(|_| dice.below(2) == 0) {
                    let place = ipc::cache::Slot::place(uid);
                    file[place..place + 12].fill(0);
                }
            }
            for _ in 0..dice.below(50) {
                let most = if dice.below(4) == 0 { 2000 } else { file.len() };
                file[dice.below(most)] ^= 1 << dice.below(8);
            }
            if round % 5 == 4 {
                file.truncate(dice.below(file.len()));
            }
        });
        compare(&mut alice, &expected, &format!("damaged, {round}")).await;
        settle(&world).await;
        if round % 5 == 4 {
            // Nobody mends a file that was cut off here.
            world.store.caches.lock().unwrap().clear();
        }
    }
}

#[tokio::test]
async fn what_was_asked_once_is_answered_without_opening_a_message() {
    let world = World::new().await;
    for n in 0..100 {
        world.store.deliver(
            format!("Subject: {n}\r\nDate: 2 Mar 2026 10:00:00 +0000\r\n\r\nbody {n}\r\n")
                .as_bytes(),
        );
    }
    let mut alice = world.alice().await;
    // The header is asked for, and all is known afterwards.
    alice.ok("c FETCH 1:* ENVELOPE").await;
    alice.ok("d SEARCH SUBJECT 7").await;
    settle(&world).await;
    assert_eq!(world.store.opened(), 200);
    let lines = alice.ok("e FETCH 1:* (UID BODYSTRUCTURE)").await;
    assert_eq!(lines.len(), 101);
    let lines = alice.ok("f SEARCH BODY \"dy 99\"").await;
    assert_eq!(lines[0], "* SEARCH 100");
    alice.ok("g SEARCH SENTSINCE 1-Jan-2026").await;
    assert_eq!(world.store.opened(), 200);
    assert!(world.store.caches.lock().unwrap().lent > 0);
}

#[tokio::test]
async fn of_a_large_message_no_more_is_read_than_asked_for() {
    let world = World::new().await;
    let body = "all of it\r\n".repeat(40_000);
    world
        .store
        .deliver(format!("Subject: large\r\n\r\n{body}the end\r\n").as_bytes());
    let mut alice = world.alice().await;
    for (question, opened) in [
        ("FETCH 1 ENVELOPE", 1),
        ("FETCH 1 ENVELOPE", 1),
        ("FETCH 1 BODYSTRUCTURE", 2),
        ("FETCH 1 (ENVELOPE BODY)", 2),
        ("SEARCH SUBJECT large", 3),
        ("SEARCH SUBJECT large", 3),
        ("SEARCH TEXT large", 3),
        ("SEARCH BODY \"all of it\"", 4),
        ("SEARCH BODY \"all of it\"", 4),
        // Only the beginning is kept.
        ("SEARCH BODY \"the end\"", 5),
        ("SEARCH BODY \"the end\"", 6),
        ("SEARCH FROM nobody", 6),
    ] {
        let lines = alice.ok(&format!("c {question}")).await;
        let found = if question.contains("nobody") {
            "* SEARCH"
        } else {
            "* SEARCH 1"
        };
        assert!(
            lines[0] == found || question.starts_with("FETCH"),
            "{question}: {lines:?}"
        );
        settle(&world).await;
        assert_eq!(world.store.opened(), opened, "{question}");
    }
}

#[tokio::test]
async fn a_search_over_a_message_that_cannot_be_read_says_so() {
    let world = World::new().await;
    for n in 1..=3 {
        world
            .store
            .deliver(format!("Subject: {n}\r\n\r\nx\r\n").as_bytes());
    }
    world.store.spoil(2);
    let mut alice = world.alice().await;
    for question in ["SEARCH TEXT x", "SEARCH NOT SUBJECT 7", "UID SEARCH BODY x"] {
        let lines = alice.ask(&format!("c {question}")).await;
        assert_eq!(lines[0], "* SEARCH 1 3");
        assert_eq!(lines[1], "c NO [SERVERBUG] some messages could not be read");
    }
    // Nor can it be kept up to date what they are.
    let lines = alice.ask("d SEARCH RETURN (UPDATE COUNT) TEXT x").await;
    assert_eq!(
        lines[0],
        "* NO [NOUPDATE \"d\"] some messages could not be read"
    );
    assert_eq!(lines[1], "* ESEARCH (TAG \"d\") COUNT 2");
    // Nor is some of it saved.
    for question in ["ESEARCH RETURN (SAVE)", "SEARCH RETURN (SAVE)"] {
        let lines = alice.ask(&format!("d {question} TEXT x")).await;
        assert_eq!(lines, ["d NO [SERVERBUG] some messages could not be read"]);
        assert_eq!(alice.ok("d UID SEARCH $").await[0], "* SEARCH");
    }
    // Where it does not matter, nobody complains.
    alice.ok("e SEARCH TEXT x NOT UID 2").await;
}

#[tokio::test]
async fn what_was_seen_once_is_put_in_order_without_opening_a_message() {
    let world = World::new().await;
    for n in 0..100 {
        let parent = n / 2;
        let letter = format!("Subject: {n}\r\nMessage-ID: <{n}@x>\r\nReferences: <{parent}@x>\r\n");
        world.store.deliver(format!("{letter}\r\nx\r\n").as_bytes());
    }
    let mut alice = world.alice().await;
    alice.ok("c SORT (ARRIVAL REVERSE SIZE) UTF-8 ALL").await;
    assert_eq!(world.store.opened(), 0, "nothing in a header was asked for");
    alice.ok("d FETCH 1:* BODYSTRUCTURE").await;
    settle(&world).await;
    assert_eq!(world.store.opened(), 100);
    let lines = alice.ok("e SORT (REVERSE SUBJECT) UTF-8 1:12").await;
    assert_eq!(lines[0], "* SORT 10 9 8 7 6 5 4 3 12 11 2 1");
    let lines = alice.ok("f THREAD REFS UTF-8 1:5").await;
    assert_eq!(lines[0], "* THREAD (1 2 (3 5)(4))");
    assert_eq!(world.store.opened(), 100);
}

#[tokio::test]
async fn a_sort_over_a_message_that_cannot_be_read_says_so() {
    let world = World::new().await;
    for n in 1..=3 {
        let letter = format!("Subject: {}\r\n\r\nx\r\n", 9 - n);
        world.store.deliver(letter.as_bytes());
    }
    world.store.spoil(2);
    let mut alice = world.alice().await;
    for (question, answer) in [
        ("SORT (SUBJECT) UTF-8 ALL", "* SORT 3 1"),
        ("THREAD REFERENCES UTF-8 ALL", "* THREAD (1)(3)"),
    ] {
        let lines = alice.ask(&format!("c {question}")).await;
        assert_eq!(lines[0], answer);
        assert_eq!(lines[1], "c NO [SERVERBUG] some messages could not be read");
    }
    // Where it does not matter, nobody complains.
    let lines = alice.ok("d SORT (REVERSE ARRIVAL) UTF-8 ALL").await;
    assert_eq!(lines[0].len(), "* SORT 1 2 3".len());
}

#[tokio::test]
async fn a_hundred_thousand_references_are_threads_all_the_same() {
    let world = World::new().await;
    let many: Vec<String> = (0..100_000).map(|n| format!("<{n}@x>")).collect();
    let (some, all) = (many[..50_000].join(" "), many.join("\r\n "));
    for letter in [
        format!("Message-ID: <99999@x>\r\nReferences: {all}"),
        format!("Message-ID: <a@x>\r\nReferences: {all}"),
        format!("Message-ID: <b@x>\r\nReferences: <a@x> {some}"),
        format!("Message-ID: <c@x>\r\nReferences: {some}\r\n <b@x>"),
    ] {
        world
            .store
            .deliver(format!("{letter}\r\n\r\nx\r\n").as_bytes());
    }
    let mut alice = world.alice().await;
    for kind in ["REFERENCES", "REFS"] {
        let lines = alice.ok(&format!("c THREAD {kind} UTF-8 ALL")).await;
        // No header is read beyond its first megabyte, so that the first is not seen to be what the second answers.
        assert_eq!(lines[0], "* THREAD ((1)(2))(3 4)");
    }
}
