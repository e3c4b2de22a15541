//! Hostile signatures of DKIM and chains of ARC.

use std::hint::black_box;

use dkim::{Answer, Answers, Limits, Verifier};

/// A signature that holds up to the last step, the mathematics, over an empty body.
const SIGNATURE: &str = "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.example; s=s; b=YQ==; \
bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; h=from";
const KEY: &str = "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn field(more: &str) -> Vec<u8> {
    format!("DKIM-Signature: {SIGNATURE}{more}\r\n").into_bytes()
}

pub(crate) fn signatures(size: usize) -> Vec<u8> {
    let one = field("");
    one.repeat(size / one.len())
}

pub(crate) fn names(size: usize) -> Vec<u8> {
    let names = ":x:y".repeat(size / 8);
    [field(&names), b"X:\r\n".repeat(size / 8)].concat()
}

pub(crate) fn tags(size: usize) -> Vec<u8> {
    let tags: String = (0..size / 10)
        .map(|number| format!("; t{number:06}="))
        .collect();
    field(&tags)
}

pub(crate) fn seals(size: usize) -> Vec<u8> {
    let set = |number: usize| {
        let instance = number % 50 + 1;
        format!(
            "ARC-Seal: i={instance}; cv=none\r\nARC-Message-Signature: i={instance}\r\nARC-Authentication-Results: i={instance};\r\n"
        )
    };
    (0..size / 80)
        .flat_map(|number| set(number).into_bytes())
        .collect()
}

pub(crate) fn blank_lines(size: usize) -> Vec<u8> {
    [
        field(""),
        b"\r\n".to_vec(),
        b" \t\r\n\r\n\r\n\r\nx".repeat(size / 11),
    ]
    .concat()
}

/// Judges a message; all keys are there.
pub(crate) fn judge(message: &[u8]) {
    let mut verifier = Verifier::new(Limits::default());
    message
        .chunks(1400)
        .for_each(|packet| verifier.feed(packet));
    let evidence = verifier.end();
    let answer = Answer::Records(vec![KEY.into()]);
    let names = evidence.questions().into_iter();
    let answers: Answers = names.map(|name| (name, answer.clone())).collect();
    black_box(evidence.judge(&answers, 1_700_000_000));
}

/// Takes bytes for a key record.
pub(crate) fn key(record: &[u8]) {
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(&field(""));
    let name = "s._domainkey.a.example".to_owned();
    let records = Answer::Records(vec![record.to_vec()]);
    black_box(
        verifier
            .end()
            .judge(&Answers::from([(name, records)]), 1_700_000_000),
    );
}
