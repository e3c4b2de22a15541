//! Chains of ARC, whole and broken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod forge;

use dkim::{Answer, Chain, ChainFlaw, ChainVerdict, Flaw, Limits, Verifier};
use forge::{Forge, MESSAGE, judge, judge_pieces};

/// A message that so many passed on.
fn passed_on(times: usize) -> Vec<u8> {
    let forge = Forge::new();
    let mut message = MESSAGE.as_bytes().to_vec();
    for instance in 1..=times {
        let cv = if instance == 1 { "none" } else { "pass" };
        message = forge.sealed(instance, cv, "", &message);
    }
    message
}

fn chain(message: &[u8]) -> Chain {
    judge(message, &Forge::new().record()).chain
}

/// What is said about a message in which every `from` has become `to`; there must be one.
#[track_caller]
fn changed(message: &[u8], from: &str, to: &str) -> Option<ChainFlaw> {
    let text = String::from_utf8(message.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    chain(text.replace(from, to).as_bytes()).flaw
}

#[test]
fn a_chain_may_have_fifty_links() {
    for length in [1, 2, 3, 50] {
        let chain = chain(&passed_on(length));
        assert_eq!(chain.flaw, None, "{length}");
        assert_eq!(chain.verdict, ChainVerdict::Pass);
        assert_eq!(chain.sealers.len(), length);
        let results = format!("mx{length}.example; none");
        assert_eq!(chain.newest().unwrap().results, results.as_bytes());
    }
    assert_eq!(chain(MESSAGE.as_bytes()).verdict, ChainVerdict::None);
    assert_eq!(chain(&passed_on(51)).flaw, Some(ChainFlaw::TooLong));
}

#[test]
fn a_chain_asks_for_each_key_once() {
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(&passed_on(50));
    assert_eq!(verifier.end().questions(), ["s._domainkey.example.org"]);
}

#[test]
fn a_chain_with_a_gap_or_a_field_too_many_is_broken() {
    let whole = passed_on(2);
    let text = String::from_utf8(whole.clone()).unwrap();
    let lines: Vec<_> = text.split_inclusive("\r\n").collect();
    for (number, line) in lines.iter().enumerate().take(6) {
        let without: String = lines
            .iter()
            .filter(|other| *other != line)
            .copied()
            .collect();
        assert_eq!(
            chain(without.as_bytes()).flaw,
            Some(ChainFlaw::Broken),
            "{number}"
        );
        let twice = format!("{line}{text}");
        let flaw = chain(twice.as_bytes()).flaw;
        assert_eq!(flaw, Some(ChainFlaw::Broken), "{number}");
    }
    for (from, to) in [
        ("i=2;", "i=3;"),
        ("i=2;", "i=1;"),
        ("i=2;", "i=0;"),
        ("i=2;", "i=two;"),
        ("i=2;", "i=002;"),
        ("i=2;", ""),
        ("cv=pass", "cv=none"),
        ("cv=none", "cv=pass"),
        ("cv=none", "cv=fail"),
        ("; cv=pass", ""),
        ("cv=pass", "cv=pass; h=from"),
    ] {
        assert_eq!(
            changed(&whole, from, to),
            Some(ChainFlaw::Broken),
            "{from} {to}"
        );
    }
    assert_eq!(
        changed(&whole, "cv=pass", "cv=fail"),
        Some(ChainFlaw::FailedBefore)
    );
}

#[test]
fn every_field_of_a_chain_is_sealed() {
    let whole = passed_on(3);
    for (from, to, flaw) in [
        (
            "mx1.example",
            "evil.example",
            ChainFlaw::Seal(1, Flaw::HeaderChanged),
        ),
        (
            "mx2.example",
            "evil.example",
            ChainFlaw::Seal(2, Flaw::HeaderChanged),
        ),
        (
            "mx3.example",
            "evil.example",
            ChainFlaw::Seal(3, Flaw::HeaderChanged),
        ),
        (
            "Subject: x",
            "Subject: y",
            ChainFlaw::Message(Flaw::HeaderChanged),
        ),
        ("Hi.", "Ho.", ChainFlaw::Message(Flaw::BodyChanged)),
        (
            "h=from:subject",
            "h=subject",
            ChainFlaw::Message(Flaw::FromNotSigned),
        ),
        (
            "h=from:subject",
            "h=from:arc-seal",
            ChainFlaw::Message(Flaw::Bad("h")),
        ),
        ("cv=none;", "cv=none; a=x;", ChainFlaw::Broken),
        (
            "a=ed25519-sha256; d=example.org; s=s; cv=none",
            "a=rsa-sha1; d=example.org; s=s; cv=none",
            ChainFlaw::Seal(1, Flaw::Sha1),
        ),
    ] {
        assert_eq!(changed(&whole, from, to), Some(flaw), "{from} {to}");
    }
}

#[test]
fn who_changed_the_message_may_seal_it_anew() {
    let forge = Forge::new();
    let first = String::from_utf8(passed_on(1)).unwrap();
    let changed = first
        .replace("Hi.", "Hi, list.")
        .replace("Subject: x", "Subject: [l] x");
    assert_eq!(chain(changed.as_bytes()).verdict, ChainVerdict::Fail);
    let sealed = forge.sealed(2, "pass", "", changed.as_bytes());
    assert_eq!(chain(&sealed).verdict, ChainVerdict::Pass);
}

#[test]
fn a_message_that_was_added_to_behind_the_signed_part_fails() {
    let forge = Forge::new();
    let message = String::from_utf8(passed_on(1)).unwrap();
    let limited = message.replace("h=from:subject;", "h=from:subject; l=0;");
    // The hash of nothing.
    let start = limited.find("bh=").unwrap();
    let end = start + limited[start..].find(';').unwrap();
    let empty = "bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let text = format!("{}{empty}{}", &limited[..start], &limited[end..]);
    assert_eq!(
        chain(text.as_bytes()).flaw,
        Some(ChainFlaw::Message(Flaw::HeaderChanged))
    );
    let tags = "i=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org; s=s; h=from; l=0";
    let signature = forge.field("ARC-Message-Signature", tags, MESSAGE.as_bytes());
    let seal = "ARC-Seal: i=1; a=ed25519-sha256; d=example.org; s=s; cv=none; b=YQ==\r\n";
    let results = "ARC-Authentication-Results: i=1; x; none\r\n";
    let text = format!("{seal}{signature}{results}{MESSAGE}");
    let flaw = ChainFlaw::Message(Flaw::Uncovered(5));
    assert_eq!(chain(text.as_bytes()).flaw, Some(flaw));
}

#[test]
fn a_chain_whose_keys_cannot_be_had_fails() {
    let message = passed_on(2);
    for (answer, flaw) in [
        (Answer::Failed, Flaw::NoAnswer),
        (Answer::Missing, Flaw::NoKey),
    ] {
        let chain = judge_pieces([&message[..]], &answer).chain;
        assert_eq!(chain.flaw, Some(ChainFlaw::Message(flaw)));
        assert!(chain.sealers.is_empty());
    }
}

#[test]
fn a_chain_is_the_same_however_the_message_is_cut() {
    let message = passed_on(3);
    let answer = Answer::Records(vec![Forge::new().record().into_bytes()]);
    for length in [1, 2, 3, 64, 1000] {
        let outcome = judge_pieces(message.chunks(length), &answer);
        assert_eq!(outcome.chain, chain(&message));
    }
}
