//! Makes signatures of every kind, wrong ones too, in a way of its own: whole strings instead of streams.
#![allow(dead_code, reason = "each test file uses another part")]

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use dkim::{Answer, Answers, Limits, Outcome, Verifier};

pub(crate) const NOW: u64 = 1_700_000_000;
/// Tags of a signature with which nothing is wrong.
pub(crate) const GOOD: &str =
    "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org; s=s; h=from:subject";
pub(crate) const MESSAGE: &str = "From: a@example.org\r\nSubject: x\r\n\r\nHi.\r\n";

/// An Ed25519 key (RFC 8463 A.2) that signs whatever it is told.
pub(crate) struct Forge {
    key: Ed25519KeyPair,
}

impl Forge {
    pub(crate) fn new() -> Self {
        let seed = mail::decode::base64(b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=");
        Self {
            key: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(),
        }
    }

    pub(crate) fn record(&self) -> String {
        let key = mail::encode::base64(self.key.public_key().as_ref());
        format!("v=DKIM1; k=ed25519; p={key}")
    }

    /// The message with a signature that says `tags` and what follows from them.
    pub(crate) fn signed(&self, tags: &str, message: &[u8]) -> Vec<u8> {
        let field = self.field("DKIM-Signature", tags, message);
        [field.as_bytes(), message].concat()
    }

    /// A field like DKIM-Signature or ARC-Message-Signature.
    pub(crate) fn field(&self, name: &str, tags: &str, message: &[u8]) -> String {
        let start = mail::header::body_start(message);
        let (header, body) = message.split_at(start);
        let forms = value(tags, "c").unwrap_or("simple/simple");
        let (header_form, body_form) = forms.split_once('/').unwrap_or((forms, "simple"));
        let mut body = body_in_form(body_form, body);
        if let Some(length) = value(tags, "l").and_then(|length| length.parse().ok()) {
            body.truncate(length);
        }
        let hash = digest::digest(&digest::SHA256, &body);
        let own = format!(
            "{name}: {tags}; bh={}; b=",
            mail::encode::base64(hash.as_ref())
        );
        let mut fields: Vec<_> = mail::header::fields(header)
            .map(|field| {
                (
                    field.name.to_ascii_lowercase(),
                    &header[field.start..field.end],
                )
            })
            .collect();
        let mut text = Vec::new();
        for named in value(tags, "h").unwrap_or_default().split(':') {
            let named = named.trim().to_ascii_lowercase();
            let found = fields
                .iter()
                .rposition(|(name, _)| *name == named.as_bytes());
            if let Some(place) = found {
                text.extend(field_in_form(header_form, fields.remove(place).1));
            }
        }
        text.extend(field_in_form(header_form, own.as_bytes()));
        self.close(own, &text)
    }

    /// Adds a set to a chain. `cv` and `more` stand in its ARC-Seal.
    pub(crate) fn sealed(&self, instance: usize, cv: &str, more: &str, message: &[u8]) -> Vec<u8> {
        let results =
            format!("ARC-Authentication-Results: i={instance}; mx{instance}.example; none\r\n");
        let tags = format!("i={instance}; {}", GOOD.strip_prefix("v=1; ").unwrap());
        let signature = self.field("ARC-Message-Signature", &tags, message);
        let own = format!(
            "ARC-Seal: i={instance}; a=ed25519-sha256; d=example.org; s=s; cv={cv}{more}; b="
        );
        let mut text = Vec::new();
        // The sets stand as they were added: the newest on top, each with its seal first.
        let fields: Vec<_> = mail::header::fields(message)
            .filter(|field| field.name.starts_with(b"ARC-"))
            .map(|field| field_in_form("relaxed", &message[field.start..field.end]))
            .collect();
        for set in fields.rchunks(3) {
            set.iter().rev().for_each(|field| text.extend(field));
        }
        for field in [&results, &signature, &own] {
            text.extend(field_in_form("relaxed", field.as_bytes()));
        }
        let seal = self.close(own, &text);
        [
            seal.as_bytes(),
            signature.as_bytes(),
            results.as_bytes(),
            message,
        ]
        .concat()
    }

    /// Puts the signature of `text` behind `own`, whose line end in `text` does not count.
    fn close(&self, own: String, text: &[u8]) -> String {
        let text = text.strip_suffix(b"\r\n").unwrap();
        let hash = digest::digest(&digest::SHA256, text);
        let signature = self.key.sign(hash.as_ref());
        format!("{own}{}\r\n", mail::encode::base64(signature.as_ref()))
    }
}

fn value<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let mut tags = tags.split(';').filter_map(|tag| tag.split_once('='));
    tags.find(|(tag, _)| tag.trim() == name)
        .map(|(_, value)| value.trim())
}

fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut rest = text;
    while let [first, more @ ..] = rest {
        if let [b'\r', b'\n', more @ ..] = rest {
            lines.push(Vec::new());
            rest = more;
        } else {
            lines.last_mut().unwrap().push(*first);
            rest = more;
        }
    }
    lines
}

fn squeezed(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in line {
        match byte {
            b' ' | b'\t' if out.last() == Some(&b' ') => {}
            b' ' | b'\t' => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    if out.last() == Some(&b' ') {
        out.pop();
    }
    out
}

fn body_in_form(form: &str, body: &[u8]) -> Vec<u8> {
    let mut lines = lines(body);
    if form == "relaxed" {
        lines = lines.iter().map(|line| squeezed(line)).collect();
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    if lines.is_empty() && form == "simple" {
        lines.push(Vec::new());
    }
    lines
        .into_iter()
        .flat_map(|line| [line, b"\r\n".to_vec()].concat())
        .collect()
}

fn field_in_form(form: &str, field: &[u8]) -> Vec<u8> {
    let field = field.strip_suffix(b"\r\n").unwrap_or(field);
    if form == "simple" {
        return [field, b"\r\n"].concat();
    }
    let colon = field.iter().position(|byte| *byte == b':').unwrap();
    let unfolded: Vec<_> = field[colon + 1..]
        .iter()
        .filter(|b| !b"\r\n".contains(b))
        .copied()
        .collect();
    let name = field[..colon].trim_ascii().to_ascii_lowercase();
    [&name, &b":"[..], squeezed(&unfolded).trim_ascii(), b"\r\n"].concat()
}

/// What is said about a message in pieces, with the same answer to all questions.
pub(crate) fn judge_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    answer: &Answer,
) -> Outcome {
    let mut verifier = Verifier::new(Limits::default());
    pieces.into_iter().for_each(|piece| verifier.feed(piece));
    let evidence = verifier.end();
    let questions = evidence.questions().into_iter();
    let answers: Answers = questions.map(|name| (name, answer.clone())).collect();
    evidence.judge(&answers, NOW)
}

pub(crate) fn judge(message: &[u8], record: &str) -> Outcome {
    let answer = Answer::Records(vec![record.as_bytes().to_vec()]);
    judge_pieces([message], &answer)
}
