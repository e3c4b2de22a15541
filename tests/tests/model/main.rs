//! Eight clients on the same mailboxes, beside a model of what they hold (RFC 3501 §7.4.1, RFC 7162): first one step at a time, where each
//! untagged response is compared with all that happened, and three of them are of others, who may do what the owner lets them do at the moment
//! (RFC 4314); then all at once, where what each believes in the end is what is there.
//!
//! `RMAIL_MODEL_SEED` chooses another run, `RMAIL_MODEL_STEPS` a longer one, and `RMAIL_MODEL_MINUTES` goes on with rising seeds for so long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test stops at what it did not expect"
)]

mod changing;
mod crowd;
mod dice;
mod keys;
mod reading;
mod session;
mod sharing;
mod steps;
mod truth;
mod wire;

use std::time::{Duration, Instant};

use system_tests::{Options, System};

use steps::{Run, SESSIONS};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn every_untagged_response_of_eight_sessions_is_true() {
    let (seed, steps) = (
        number("RMAIL_MODEL_SEED", 1),
        number("RMAIL_MODEL_STEPS", 10_000),
    );
    let end = Instant::now() + Duration::from_secs(60 * number("RMAIL_MODEL_MINUTES", 0));
    for seed in seed.. {
        one_at_a_time(seed, steps);
        if Instant::now() >= end {
            break;
        }
    }
}

#[test]
fn what_eight_sessions_at_once_believe_in_the_end_is_there() {
    let (seed, steps) = (
        number("RMAIL_MODEL_SEED", 1),
        number("RMAIL_MODEL_STEPS", 4_000),
    );
    let end = Instant::now() + Duration::from_secs(60 * number("RMAIL_MODEL_MINUTES", 0));
    for seed in seed.. {
        let system = start(Options::alice());
        let steps = usize::try_from(steps).unwrap() / SESSIONS;
        if let Err(error) = crowd::all_at_once(system.address("imap"), seed, steps) {
            panic!("RMAIL_MODEL_SEED={seed}: {error}");
        }
        println!("seed {seed}: {steps} steps each");
        if Instant::now() >= end {
            break;
        }
    }
}

fn start(options: Options) -> System {
    System::start(options.config(&serde_json::json!({"log_level": "info"})))
}

fn one_at_a_time(seed: u64, steps: u64) {
    let mut options = Options::alice();
    for name in &sharing::ACCOUNTS[1..] {
        options = options.user(&format!("{name}@example.test"));
    }
    let system = start(options);
    let mut run = Run::begin(&system, seed).unwrap_or_else(|error| panic!("{error}"));
    for step in 0..steps {
        let at = run.dice.below(SESSIONS);
        if let Err(error) = run.take_step(at) {
            let failed = run.failed(at, &error);
            panic!("RMAIL_MODEL_SEED={seed}, step {step}: {failed}");
        }
    }
    println!("seed {seed}: {steps} steps");
}
