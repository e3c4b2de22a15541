//! Twice the hostile input costs twice the work: instructions counted by callgrind, which are the same in every run.
//!
//! `cargo test --release -p system-tests --test linear -- --ignored --nocapture --exact table` prints what each shape costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod shapes;
mod signatures;

// The one reader of messages outside of proto/; a process may be no dependency, so its file is read.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "its other functions are tested where they belong"
)]
#[path = "../../../imapd/src/fuzzy.rs"]
mod fuzzy;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "its other functions are tested where they belong"
)]
#[path = "../../../imapd/src/search_text.rs"]
mod search_text;
#[path = "../../../proto/smtp/tests/world/mod.rs"]
mod world;

use std::path::Path;
use std::process::Command;

use shapes::SHAPES;

/// Where the child that is counted finds the sizes to try.
const SIZES: &str = "RMAIL_TEST_SIZES";
/// How much a byte may cost more when there are four times as many: logarithms, and buffers that grow.
const ALLOWANCE: f64 = 1.15;

#[test]
fn four_times_the_input_costs_four_times_the_instructions() {
    // Small, so that no limit on parts, fields or entries hides how the work grows below it.
    let Some(counts) = instructions(&[6_000, 24_000]) else {
        println!("SKIPPED: there is no valgrind to count instructions with");
        return;
    };
    for (shape, count) in SHAPES.iter().zip(&counts) {
        let [small, large] = [count[0].per_byte(), count[1].per_byte()];
        assert!(
            large <= small * ALLOWANCE,
            "{}: {small:.1} instructions for each of {} bytes, {large:.1} for each of {}",
            shape.name,
            count[0].bytes,
            count[1].bytes
        );
    }
}

#[test]
#[ignore = "prints a table; takes minutes"]
fn table() {
    let sizes = [1 << 20, 2 << 20, 4 << 20, 10 << 20];
    let counts = instructions(&sizes).expect("needs valgrind");
    println!("Instructions per byte at 1, 2, 4 and 10 MiB");
    for (shape, counts) in SHAPES.iter().zip(&counts) {
        let cells: Vec<_> = counts
            .iter()
            .map(|count| format!("{:8.2}", count.per_byte()))
            .collect();
        println!("{:45}{}", shape.name, cells.join(""));
    }
}

/// Not a test: what the tests above run under callgrind.
#[test]
#[ignore = "is run by the others"]
fn child() {
    let sizes = std::env::var(SIZES).unwrap_or_default();
    for shape in &SHAPES {
        for size in sizes.split_whitespace() {
            let bytes = (shape.make)(size.parse().unwrap());
            println!("bytes {}", bytes.len());
            counted_work(shape.work, &bytes);
        }
    }
}

/// Callgrind counts what happens in here and writes a profile each time it is left.
#[inline(never)]
fn counted_work(work: fn(&[u8]), bytes: &[u8]) {
    work(bytes);
    std::hint::black_box(bytes);
}

struct Count {
    bytes: u64,
    instructions: u64,
}

impl Count {
    #[expect(
        clippy::cast_precision_loss,
        reason = "only shown and compared roughly"
    )]
    fn per_byte(&self) -> f64 {
        self.instructions as f64 / self.bytes as f64
    }
}

/// What each shape costs at each of the sizes; `None` without valgrind.
fn instructions(sizes: &[usize]) -> Option<Vec<Vec<Count>>> {
    let missing = Command::new("valgrind").arg("--version").output().is_err();
    if missing {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("profile");
    let sizes_text: Vec<_> = sizes.iter().map(ToString::to_string).collect();
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .args([
            "--toggle-collect=linear::counted_work",
            "--dump-after=linear::counted_work",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(SIZES, sizes_text.join(" "))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    let bytes: Vec<u64> = said
        .lines()
        .filter_map(|line| line.split_once("bytes ")?.1.parse().ok())
        .collect();
    assert_eq!(bytes.len(), SHAPES.len() * sizes.len(), "{said}");
    let counts = bytes.iter().enumerate().map(|(index, &bytes)| Count {
        bytes,
        instructions: total(&directory.path().join(format!("profile.{}", index + 1))),
    });
    let counts: Vec<_> = counts.collect();
    let mut counts = counts.into_iter();
    let take = |_: &shapes::Shape| counts.by_ref().take(sizes.len()).collect();
    Some(SHAPES.iter().map(take).collect())
}

/// The instructions of one profile.
fn total(profile: &Path) -> u64 {
    let text = std::fs::read_to_string(profile).unwrap();
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    totals.unwrap().trim().parse().unwrap()
}
