//! What a signature and its key must be like, one rule after another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod forge;

use dkim::{Answer, Answers, Flaw, Limits, Outcome, Signature, Verdict, Verifier};
use forge::{Forge, GOOD, MESSAGE, NOW, judge, judge_pieces};
use proptest::prelude::*;

/// What is said about a message signed with these tags and a good key.
fn with_tags(tags: &str) -> Signature {
    let forge = Forge::new();
    let signed = forge.signed(tags, MESSAGE.as_bytes());
    only(judge(&signed, &forge.record()))
}

/// What is said about a well signed message with this answer of the DNS.
fn with_answer(answer: &Answer) -> Signature {
    let signed = Forge::new().signed(GOOD, MESSAGE.as_bytes());
    only(judge_pieces([&signed[..]], answer))
}

fn only(outcome: Outcome) -> Signature {
    assert_eq!(outcome.signatures.len(), 1);
    outcome.signatures[0].clone()
}

#[test]
fn a_signature_must_be_complete_and_make_sense() {
    assert_eq!(with_tags(GOOD).flaw, None);
    for (from, to, flaw) in [
        ("v=1; ", "", Flaw::Missing("v")),
        ("v=1", "v=2", Flaw::Bad("v")),
        ("a=ed25519-sha256; ", "", Flaw::Missing("a")),
        ("a=ed25519-sha256", "a=rsa-sha1", Flaw::Sha1),
        ("a=ed25519-sha256", "a=rsa-sha512", Flaw::UnknownAlgorithm),
        ("a=ed25519-sha256", "a=rsa-sha256", Flaw::WrongKey),
        ("d=example.org; ", "", Flaw::Missing("d")),
        ("d=example.org", "d=[192.0.2.1]", Flaw::Bad("d")),
        ("d=example.org", "d=.example.org", Flaw::Bad("d")),
        ("s=s; ", "", Flaw::Missing("s")),
        ("s=s", "s=a..b", Flaw::Bad("s")),
        ("s=s", "s=a b", Flaw::Bad("s")),
        ("; h=from:subject", "", Flaw::Missing("h")),
        ("h=from:subject", "h=subject", Flaw::FromNotSigned),
        ("h=from:subject", "h=from::subject", Flaw::Bad("h")),
        ("c=relaxed/relaxed", "c=relaxed/strict", Flaw::Bad("c")),
        ("s=s", "s=s; s=s", Flaw::Malformed),
        ("s=s", "s=s; q=http", Flaw::Bad("q")),
        ("s=s", "s=s; i=@example.net", Flaw::ForeignIdentity),
        ("s=s", "s=s; i=@notexample.org", Flaw::ForeignIdentity),
        ("s=s", "s=s; i=a", Flaw::Bad("i")),
        ("s=s", "s=s; t=soon", Flaw::Bad("t")),
        ("s=s", "s=s; t=20; x=10", Flaw::Bad("x")),
        ("s=s", "s=s; l=-1", Flaw::Bad("l")),
        ("s=s", "s=s; l=99999999999999999999999", Flaw::Bad("l")),
        ("s=s", "s=s; l=7", Flaw::TooLittleBody),
    ] {
        let tags = GOOD.replace(from, to);
        let signature = with_tags(&tags);
        assert_eq!(signature.flaw, Some(flaw), "{tags}");
        assert_eq!(signature.verdict, Verdict::PermError, "{tags}");
        assert!(flaw.to_string().is_ascii());
    }
}

#[test]
fn what_is_unusual_in_a_signature_and_right_is_taken() {
    for (from, to) in [
        ("d=example.org", "d=EXAMPLE.org"),
        ("s=s", "s=2026-a_b.mail"),
        ("s=s", "s=s; i=joe=20x@mail.example.org"),
        ("s=s", "s=s; q=x : dns/txt"),
        ("s=s", "s=s; unknown=!; z=From:a|Subject:b"),
        ("c=relaxed/relaxed", "c=relaxed"),
        ("c=relaxed/relaxed; ", ""),
        (
            "h=from:subject",
            "h=From : Subject : From:received :\r\n\tx",
        ),
    ] {
        let tags = GOOD.replace(from, to);
        assert_eq!(with_tags(&tags).flaw, None, "{tags}");
    }
}

#[test]
fn a_signature_has_its_time() {
    for (more, flaw) in [
        (format!("t={NOW}; x={NOW}"), None),
        (format!("x={}", NOW - 1), Some(Flaw::Expired)),
        (format!("t={}", NOW + 300), None),
        (format!("t={}", NOW + 301), Some(Flaw::InFuture)),
    ] {
        assert_eq!(with_tags(&format!("{GOOD}; {more}")).flaw, flaw, "{more}");
    }
}

#[test]
fn what_is_shown_of_a_signature() {
    let signature = with_tags(GOOD);
    assert_eq!(signature.identity.as_deref(), Some("@example.org"));
    assert_eq!(signature.selector.as_deref(), Some("s"));
    assert_eq!(signature.signature.len(), 8);
    let long = format!("{GOOD}; i={}@example.org", "a".repeat(400));
    assert_eq!(with_tags(&long).flaw, Some(Flaw::Bad("i")));
    assert_eq!(with_tags(&long).identity, None);
    let forge = Forge::new();
    let text = format!("DKIM-Signature: {GOOD}; bh=YQ==; b= \"<a\r\n\r\n");
    let outcome = judge(text.as_bytes(), &forge.record());
    assert_eq!(outcome.signatures[0].flaw, Some(Flaw::Bad("b")));
    assert_eq!(outcome.signatures[0].signature, "a");
}

/// RFC 8616.
#[test]
fn u_labels_become_a_labels_for_the_dns() {
    let forge = Forge::new();
    let tags =
        "v=1; a=ed25519-sha256; d=Bücher.example; s=schlüssel; h=from; i=jörg@post.bücher.example";
    let signed = forge.signed(tags, "From: jörg@bücher.example\r\n\r\n".as_bytes());
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(&signed);
    let name = "xn--schlssel-95a._domainkey.xn--bcher-kva.example";
    assert_eq!(verifier.end().questions(), [name]);
    let signature = only(judge(&signed, &forge.record()));
    assert_eq!(signature.flaw, None);
    let domain = signature.domain.unwrap();
    assert_eq!(domain.as_str(), "xn--bcher-kva.example");
}

#[test]
fn a_key_must_be_there_and_for_such_signatures() {
    let good = Forge::new().record();
    let records =
        |texts: &[&str]| Answer::Records(texts.iter().map(|t| t.as_bytes().to_vec()).collect());
    let spf = "v=spf1 -all";
    for (answer, flaw) in [
        (Answer::Failed, Some(Flaw::NoAnswer)),
        (Answer::Missing, Some(Flaw::NoKey)),
        (records(&[]), Some(Flaw::NoKey)),
        (records(&[spf]), Some(Flaw::BadKeyRecord)),
        (records(&[spf, &good]), None),
        (records(&[&good, &good]), Some(Flaw::SeveralKeys)),
    ] {
        assert_eq!(with_answer(&answer).flaw, flaw, "{answer:?}");
    }
    for (from, to, flaw) in [
        ("v=DKIM1; ", "", None),
        ("v=DKIM1", "v=DKIM2", Some(Flaw::BadKeyRecord)),
        (
            "v=DKIM1; k=ed25519",
            "k=ed25519; v=DKIM1",
            Some(Flaw::BadKeyRecord),
        ),
        ("k=ed25519; ", "", Some(Flaw::WrongKey)),
        ("k=ed25519", "k=rsa", Some(Flaw::WrongKey)),
        ("p=", "x=", Some(Flaw::BadKeyRecord)),
        ("p=", "p=; x=", Some(Flaw::Revoked)),
        ("p=", "p=YWJj; x=", Some(Flaw::BadKeyRecord)),
        ("p=", "h=sha1; p=", Some(Flaw::WrongKey)),
        ("p=", "h=sha1 : sha256; p=", None),
        ("p=", "s=tlsrpt; p=", Some(Flaw::WrongKey)),
        ("p=", "s=tlsrpt:*; p=", None),
        ("p=", "s=email; n=a note; p=", None),
        ("p=", "t=s:z; p=", None),
        ("p=", "p=A", Some(Flaw::BadKeyRecord)),
    ] {
        let record = good.replace(from, to);
        assert_eq!(with_answer(&records(&[&record])).flaw, flaw, "{record}");
    }
}

#[test]
fn a_name_that_was_not_asked_for_is_asked_for_later() {
    let forge = Forge::new();
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(&forge.signed(GOOD, MESSAGE.as_bytes()));
    let outcome = verifier.end().judge(&Answers::new(), NOW);
    assert_eq!(outcome.verdict(), Verdict::TempError);
}

#[test]
fn a_strict_key_is_for_its_own_domain_only() {
    let forge = Forge::new();
    let strict = forge.record().replace("p=", "t=s; p=");
    for (identity, flaw) in [
        ("a@example.org", None),
        ("a@mail.example.org", Some(Flaw::StrictKey)),
    ] {
        let tags = format!("{GOOD}; i={identity}");
        let signed = forge.signed(&tags, MESSAGE.as_bytes());
        assert_eq!(only(judge(&signed, &strict)).flaw, flaw);
    }
}

#[test]
fn a_domain_that_is_only_trying_does_not_fail() {
    let forge = Forge::new();
    let testing = forge.record().replace("p=", "t=y; p=");
    let signed = forge.signed(GOOD, MESSAGE.as_bytes());
    let signature = only(judge(&signed, &testing));
    assert!(signature.passes() && signature.testing);
    let changed = [&signed[..], b"more"].concat();
    let signature = only(judge(&changed, &testing));
    assert_eq!(signature.flaw, Some(Flaw::BodyChanged));
    assert_eq!(signature.verdict, Verdict::Neutral);
}

/// DER of an RSA public key of so many bits, as PKCS #1 has it.
fn rsa(bits: usize) -> String {
    let mut modulus = vec![0xa5; bits / 8];
    modulus.insert(0, 0);
    let integer = |octets: &[u8]| element(2, octets);
    let body = [integer(&modulus), integer(&[1, 0, 1])].concat();
    mail::encode::base64(&element(0x30, &body))
}

fn element(kind: u8, octets: &[u8]) -> Vec<u8> {
    let length = octets.len().to_be_bytes();
    let zeros = length.iter().take_while(|octet| **octet == 0).count();
    let length = &length[zeros..];
    let head = match length {
        [short] if *short < 0x80 => vec![kind, *short],
        _ => [&[kind, 0x80 | u8::try_from(length.len()).unwrap()], length].concat(),
    };
    [&head, octets].concat()
}

#[test]
fn rsa_keys_that_are_too_short_or_too_long_are_not_used() {
    let forge = Forge::new();
    let tags = GOOD.replace("ed25519", "rsa");
    let signed = forge.signed(&tags, MESSAGE.as_bytes());
    let judge = |bits| {
        let signature = only(judge(&signed, &format!("p={}", rsa(bits))));
        (signature.flaw.unwrap(), signature.verdict)
    };
    assert_eq!(judge(768), (Flaw::ShortKey(768), Verdict::Fail));
    assert_eq!(judge(1016), (Flaw::ShortKey(1016), Verdict::Fail));
    assert_eq!(judge(1024), (Flaw::HeaderChanged, Verdict::Fail));
    assert_eq!(judge(8192), (Flaw::HeaderChanged, Verdict::Fail));
    assert_eq!(judge(8200), (Flaw::LongKey(8200), Verdict::PermError));
    assert_eq!(judge(16_384), (Flaw::LongKey(16_384), Verdict::PermError));
    assert_eq!(judge(65_536), (Flaw::BadKeyRecord, Verdict::PermError));
}

#[test]
fn a_signature_of_one_octet_fails() {
    let forge = Forge::new();
    for algorithm in ["ed25519", "rsa"] {
        let tags = GOOD.replace("ed25519", algorithm);
        let signed = String::from_utf8(forge.signed(&tags, MESSAGE.as_bytes())).unwrap();
        let start = signed.find(" b=").unwrap();
        let end = signed.find("\r\n").unwrap();
        let short = format!("{} b=YQ=={}", &signed[..start], &signed[end..]);
        let record = if algorithm == "rsa" {
            format!("p={}", rsa(2048))
        } else {
            forge.record()
        };
        let signature = only(judge(short.as_bytes(), &record));
        assert_eq!(signature.flaw, Some(Flaw::HeaderChanged), "{algorithm}");
        assert_eq!(signature.signature, "YQ==");
        for none in ["", "!", "YQ\u{e4}"] {
            let none = format!("{} b={none}{}", &signed[..start], &signed[end..]);
            let signature = only(judge(none.as_bytes(), &record));
            assert_eq!(signature.flaw, Some(Flaw::Bad("b")), "{algorithm}");
            assert_eq!(signature.verdict, Verdict::PermError, "{algorithm}");
        }
    }
}

#[test]
fn a_body_that_goes_on_behind_the_signed_part_does_not_pass() {
    let forge = Forge::new();
    for (covered, uncovered) in [(5, 6), (0, 11)] {
        let signed = forge.signed(&format!("{GOOD}; l={covered}"), MESSAGE.as_bytes());
        let added = [&signed[..], b"evil \r\n"].concat();
        let signature = only(judge(&added, &forge.record()));
        assert_eq!(signature.flaw, Some(Flaw::Uncovered(uncovered)));
        assert_eq!(signature.verdict, Verdict::Policy);
        assert!(signature.limited && !signature.passes());
    }
    let whole = only(judge(
        &forge.signed(&format!("{GOOD}; l=5"), MESSAGE.as_bytes()),
        &forge.record(),
    ));
    assert!(whole.passes() && whole.limited);
}

#[test]
fn of_a_thousand_signatures_the_first_ten_are_looked_at() {
    let forge = Forge::new();
    let good = forge.signed(GOOD, MESSAGE.as_bytes());
    let junk = |number: usize| {
        format!(
            "DKIM-Signature: {}; bh=YQ==; b=YQ==\r\n",
            GOOD.replace("s=s", &format!("s=s{number}"))
        )
    };
    let many: String = (0..1000).map(junk).collect();
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(many.as_bytes());
    verifier.feed(&good);
    let evidence = verifier.end();
    assert_eq!(evidence.questions().len(), 10);
    let outcome = judge(&[many.as_bytes(), &good].concat(), &forge.record());
    assert_eq!(outcome.signatures.len(), 10);
    assert_eq!(outcome.passed_over, 991);
    assert_eq!(outcome.verdict(), Verdict::Fail);
    let nine: String = (0..9).map(junk).collect();
    let outcome = judge(&[nine.as_bytes(), &good].concat(), &forge.record());
    assert_eq!(outcome.verdict(), Verdict::Pass);
}

#[test]
fn signatures_with_one_key_ask_once() {
    let forge = Forge::new();
    let twice = forge.signed(GOOD, &forge.signed(GOOD, MESSAGE.as_bytes()));
    let mut verifier = Verifier::new(Limits::default());
    verifier.feed(&twice);
    assert_eq!(verifier.end().questions(), ["s._domainkey.example.org"]);
    let outcome = judge(&twice, &forge.record());
    assert_eq!(outcome.signatures.iter().filter(|s| s.passes()).count(), 2);
}

#[test]
fn a_signature_may_sign_the_others_but_not_itself() {
    let forge = Forge::new();
    let inner = forge.signed(GOOD, MESSAGE.as_bytes());
    let tags = GOOD.replace("h=from", "h=dkim-signature:dkim-signature:from");
    let outer = forge.signed(&tags, &inner);
    let outcome = judge(&outer, &forge.record());
    assert_eq!(outcome.signatures.iter().filter(|s| s.passes()).count(), 2);
}

#[test]
fn a_header_that_is_too_large_is_not_looked_at() {
    let forge = Forge::new();
    let signed = forge.signed(GOOD, MESSAGE.as_bytes());
    for junk in [
        "X: y\r\n".repeat(100_000),
        format!("X: {}\r\n", "y".repeat(1 << 20)),
    ] {
        let outcome = judge(
            &[&signed[..signed.len() - 8], junk.as_bytes(), b"\r\nHi.\r\n"].concat(),
            &forge.record(),
        );
        assert!(outcome.header_too_large);
        assert_eq!(outcome.verdict(), Verdict::None);
        assert!(outcome.signatures.is_empty());
    }
    let small = Limits {
        header: 100,
        ..Limits::default()
    };
    let mut verifier = Verifier::new(small);
    verifier.feed(&signed);
    assert!(verifier.end().judge(&Answers::new(), NOW).header_too_large);
}

#[test]
fn names_over_and_over_cost_no_more_than_their_length() {
    let forge = Forge::new();
    let names = "from:subject:x:".repeat(1000);
    let tags = GOOD.replace("h=from", &format!("h={names}from"));
    let fields = "X: y\r\n".repeat(2000);
    let mut message = [fields.as_bytes(), MESSAGE.as_bytes()].concat();
    for _ in 0..10 {
        message = forge.signed(&tags, &message);
    }
    let outcome = judge(&message, &forge.record());
    assert_eq!(outcome.signatures.iter().filter(|s| s.passes()).count(), 10);
}

/// Bodies and values in which forms differ.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop::sample::select(&b"aB .\t\t  \r\r\n"[..]).prop_map(|octet| vec![octet]);
    let piece = prop_oneof![4 => octet, 2 => Just(b"\r\n".to_vec()), 1 => Just(b" \r\n".to_vec())];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn forms() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "simple/simple",
            "simple/relaxed",
            "relaxed/simple",
            "relaxed/relaxed",
        ][..],
    )
}

proptest! {
    /// The forms are made by whole strings there and in streams here.
    #[test]
    fn however_a_message_is_cut_what_is_said_is_the_same(
        body in text(),
        value in text(),
        forms in forms(),
        lengths in prop::collection::vec(1..20_usize, 1..6),
        covered in prop::option::of(0..20_usize),
        added in prop::option::of(text()),
    ) {
        // Blanks before a continuation keep it one; in values lines end nowhere else.
        let value: Vec<_> = value.iter().filter(|b| !b"\r\n".contains(b)).copied().collect();
        let (first, second) = value.split_at(value.len() / 2);
        let message = [b"From: a\r\nSubject:", first, b"\r\n ", second, b"\r\n\r\n", &body].concat();
        let forge = Forge::new();
        let mut tags = GOOD.replace("relaxed/relaxed", forms);
        if let Some(covered) = covered {
            tags = format!("{tags}; l={covered}");
        }
        let mut signed = forge.signed(&tags, &message);
        signed.extend(added.iter().flatten());
        let whole = judge(&signed, &forge.record());
        let mut pieces = Vec::new();
        let mut rest = &signed[..];
        for length in lengths.iter().cycle() {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let answer = Answer::Records(vec![forge.record().into_bytes()]);
        prop_assert_eq!(&judge_pieces(pieces, &answer), &whole);
        let flaw = whole.signatures[0].flaw;
        if added.is_none() && covered.is_none() {
            prop_assert_eq!(flaw, None);
        }
        if added.is_none() {
            let partly = matches!(flaw, None | Some(Flaw::Uncovered(_) | Flaw::TooLittleBody));
            prop_assert!(partly, "{:?}", flaw);
        }
    }
}
