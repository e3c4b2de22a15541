//! What those who replay the dialogs in `tests/dialogs/smtp/` read in the same way.

use smtp::auth::Mechanism;
use smtp::data::Stray;
use smtp::hold::HoldLimit;
use smtp::server::{Config, Proxying};

/// Changes what a port does, as a word of a dialog's first statement wants it.
pub(crate) fn change(config: &mut Config, word: &str) {
    match word {
        "normalize" => config.stray_line_ends = Stray::Normalize,
        "binary" => config.binary_mime = true,
        "dsn" => config.offer.dsn = true,
        "deliverby" => config.offer.deliver_by = true,
        "hold" => {
            let (seconds, until) = (3600, 3600);
            config.offer.hold = Some(HoldLimit { seconds, until });
        }
        "priority" => config.offer.priority = true,
        "requiretls" => config.offer.require_tls = true,
        "proxy" => config.proxying = Proxying::Client,
        "login" => config.proxying = Proxying::Login,
        "clear" => config.cleartext_auth = true,
        "few" => {
            let scram = sasl::Mechanism::ScramSha256;
            config.mechanisms = vec![Mechanism::Login, Mechanism::Exchange(scram)];
        }
        "external" => {
            config.mechanisms = vec![Mechanism::Exchange(sasl::Mechanism::External)];
        }
        "redact" => config.redact_received = true,
        other => panic!("no such word: {other}"),
    }
}

/// The octets a text stands for.
pub(crate) fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b'0') => out.push(0),
            Some(b'\\') => out.push(b'\\'),
            Some(b'x') => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                let digits = str::from_utf8(&digits).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
            }
            other => panic!("bad escape {other:?}"),
        }
    }
    out
}

/// Whether a line is as the pattern says, in which a star stands for any text.
pub(crate) fn matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((head, tail)) => {
            let rest = line.strip_prefix(head);
            rest.is_some_and(|rest| {
                (0..=rest.len()).any(|n| rest.is_char_boundary(n) && matches(tail, &rest[n..]))
            })
        }
    }
}
