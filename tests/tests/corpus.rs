//! What the fuzzers look for, tried on the inputs in `fuzz/corpus`: hostile ones in small form, and whatever was found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::path::Path;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is a crate of its own, which cannot be a dependency: it is built on the fuzzer"
)]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// Tries a property on each file of a corpus, which must not be empty.
fn replay(target: &str, check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut tried = 0;
    for entry in std::fs::read_dir(fuzz.join(target)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
        tried += 1;
    }
    assert!(tried > 5, "{tried} inputs");
}

#[test]
fn messages_of_the_corpus_are_divided_and_shown_in_valid_syntax() {
    replay("mail", fuzz::message::check);
}

#[test]
fn commands_of_the_corpus_are_the_same_however_they_are_cut() {
    replay("imap", fuzz::commands::check);
}

#[test]
fn sessions_of_the_corpus_are_the_same_however_they_are_cut() {
    replay("smtp", fuzz::session::check);
}

#[test]
fn replies_of_the_corpus_give_each_recipient_one_verdict() {
    replay("replies", fuzz::replies::check);
}

#[test]
fn logins_of_the_corpus_are_read_whole_or_not_at_all() {
    replay("sasl", fuzz::sasl_messages::check);
}

#[test]
fn headers_of_the_corpus_are_the_same_however_they_are_cut() {
    replay("proxy", fuzz::proxies::check);
}

#[test]
fn answers_of_filters_in_the_corpus_are_the_same_however_they_are_cut() {
    replay("milter", fuzz::filters::check);
}

#[test]
fn signatures_of_the_corpus_are_judged_the_same_however_they_are_cut() {
    replay("dkim", fuzz::signatures::check);
}

#[test]
fn senders_of_the_corpus_are_judged_with_few_questions_and_no_forged_result_is_left() {
    replay("sender", fuzz::senders::check);
}
