//! ENVELOPE, BODYSTRUCTURE and sections of good, odd and hostile messages.

use imap::body::{self, Form, Partial, Section, SectionText};
use imap::envelope;
use mail::mime::Message;
use proptest::prelude::*;

const TREE: &[u8] = b"From: a@example.org\r\nSubject: tree\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n\
preamble\r\n--M\r\nContent-Type: multipart/alternative; boundary=A\r\n\r\n\
--A\r\n\r\nplain\r\n\
--A\r\nContent-Type: multipart/related; boundary=R; type=\"text/html\"\r\n\r\n\
--R\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n<p>=C3=A4</p>\r\n\r\n\
--R\r\nContent-Type: image/png; name=\"a \\\"b\\\".png\"\r\nContent-ID: <i@x>\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: inline; filename=a.png\r\nContent-Language: de, en\r\n\r\nAAAA\r\n\
--R--\r\n--A--\r\n\
--M\r\nContent-Type: message/rfc822\r\nContent-Description: fwd\r\n\r\n\
Subject: inner\r\nContent-Type: multipart/mixed; boundary=I\r\n\r\n--I\r\n\r\none\r\n--I\r\n\r\ntwo\r\n--I--\r\n\
--M\r\nContent-Type: message/rfc822\r\n\r\nSubject: flat\r\n\r\nflat body\r\n\r\n\
--M--\r\n";

fn structure(bytes: &[u8], form: Form) -> String {
    let mut out = Vec::new();
    body::write_structure(&Message::walk(bytes), form, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn envelope_of(header: &[u8]) -> String {
    let mut out = Vec::new();
    envelope::write(header, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn section(part: &[u32], text: Option<SectionText>) -> Section {
    Section {
        part: part.to_vec(),
        text,
    }
}

fn extract(bytes: &[u8], part: &[u32], text: Option<SectionText>) -> Option<String> {
    let extract = section(part, text).extract(&Message::walk(bytes))?;
    Some(String::from_utf8_lossy(extract.bytes(bytes)).into_owned())
}

#[test]
fn a_plain_message_is_text_plain() {
    let message = b"Subject: x\r\n\r\nhello\r\nworld\r\n";
    assert_eq!(
        structure(message, Form::Body),
        r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 14 2)"#
    );
    assert_eq!(
        structure(b"", Form::BodyStructure),
        r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)"#
    );
}

#[test]
fn a_tree_is_shown_whole() {
    let shown = structure(TREE, Form::BodyStructure);
    let related = concat!(
        r#"(("text" "html" ("charset" "utf-8") NIL NIL "quoted-printable" 15 1 NIL NIL NIL NIL)"#,
        r#"("image" "png" ("name" "a \"b\".png") "<i@x>" NIL "base64" 4 NIL ("inline" ("filename" "a.png")) ("de" "en") NIL)"#,
        r#" "related" ("boundary" "R" "type" "text/html") NIL NIL NIL)"#,
    );
    assert!(shown.contains(related), "{shown}");
    let flat = concat!(
        r#"("message" "rfc822" NIL NIL NIL "7bit" 28 (NIL "flat" NIL NIL NIL NIL NIL NIL NIL NIL) "#,
        r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 11 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)"#,
        r#" "mixed" ("boundary" "M") NIL NIL NIL)"#,
    );
    assert!(shown.ends_with(flat), "{shown}");
    assert!(shown.starts_with(
        r#"((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0 NIL NIL NIL NIL)(("text""#
    ));
}

#[test]
fn sections_are_numbered_as_the_rfc_says() {
    let get = |part: &[u32], text| extract(TREE, part, text);
    assert_eq!(get(&[], None).unwrap().as_bytes(), TREE);
    assert_eq!(get(&[1, 1], None).unwrap(), "plain");
    assert_eq!(get(&[1, 2, 1], None).unwrap(), "<p>=C3=A4</p>\r\n");
    assert_eq!(get(&[1, 2, 2], None).unwrap(), "AAAA");
    assert_eq!(get(&[2, 1], None).unwrap(), "one");
    assert_eq!(get(&[2, 2], None).unwrap(), "two");
    assert_eq!(get(&[3, 1], None).unwrap(), "flat body\r\n");
    assert_eq!(
        get(&[3], Some(SectionText::Header)).unwrap(),
        "Subject: flat\r\n\r\n"
    );
    assert_eq!(get(&[3], Some(SectionText::Text)).unwrap(), "flat body\r\n");
    assert_eq!(
        get(&[3, 1], Some(SectionText::Mime)).unwrap(),
        "Subject: flat\r\n\r\n"
    );
    assert_eq!(
        get(&[2], Some(SectionText::Mime)).unwrap(),
        "Content-Type: message/rfc822\r\nContent-Description: fwd\r\n\r\n"
    );
    for absent in [
        &[4][..],
        &[0],
        &[1, 3],
        &[1, 1, 1],
        &[3, 2],
        &[3, 1, 1],
        &[u32::MAX],
    ] {
        assert_eq!(get(absent, None), None, "{absent:?}");
    }
    assert_eq!(get(&[1, 1], Some(SectionText::Header)), None);
    assert_eq!(get(&[], Some(SectionText::Mime)), None);
}

#[test]
fn part_one_of_a_plain_message_is_its_body() {
    let message = b"Subject: x\r\n\r\nhello\r\n";
    assert_eq!(extract(message, &[1], None).unwrap(), "hello\r\n");
    assert_eq!(
        extract(message, &[1], Some(SectionText::Mime)).unwrap(),
        "Subject: x\r\n\r\n"
    );
    assert_eq!(extract(message, &[2], None), None);
    assert_eq!(extract(message, &[1, 1], None), None);
    let forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody";
    assert_eq!(extract(forwarded, &[1, 1], None).unwrap(), "body");
    assert_eq!(
        extract(forwarded, &[1], Some(SectionText::Header)).unwrap(),
        "Subject: in\r\n\r\n"
    );
}

#[test]
fn a_structure_that_is_too_long_goes_on_without_what_headers_say() {
    let author = format!(
        "\r\nContent-MD5: c\r\nFrom: {}\r\n\r\n--x\r\n",
        ":;".repeat(500)
    );
    let mut digest = b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n".to_vec();
    digest.extend(author.repeat(3_000).bytes());
    let shown = structure(&digest, Form::BodyStructure);
    assert!(
        shown.len() < body::MAX_STRUCTURE + 2_000_000,
        "{}",
        shown.len()
    );
    let bare = concat!(
        r#"("message" "rfc822" NIL NIL NIL "7bit" 1024 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) "#,
        r#"("text" "plain" NIL NIL NIL "7bit" 0 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)"#,
    );
    assert_eq!(shown.matches(r#"("message" "rfc822" "#).count(), 3_001);
    assert!(
        shown.matches(bare).count() > 2_000,
        "{}",
        &shown[shown.len() - 1_000..]
    );
    assert!(shown.ends_with(r#" "digest" NIL NIL NIL NIL)"#));
}

#[test]
fn header_fields_are_picked_as_they_are() {
    let message = b"A: 1\r\n  folded\r\nB: 2\r\njunk\r\na: 3\r\n\r\nbody";
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    let fields = SectionText::HeaderFields(names(&["a", "zz"]));
    assert_eq!(
        extract(message, &[], Some(fields)).unwrap(),
        "A: 1\r\n  folded\r\na: 3\r\n\r\n"
    );
    let others = SectionText::HeaderFieldsNot(names(&["A"]));
    assert_eq!(extract(message, &[], Some(others)).unwrap(), "B: 2\r\n\r\n");
    let cut = SectionText::HeaderFields(names(&["b"]));
    // RFC 3501 §6.4.5: an empty line follows, except of a message which has no body and no blank line.
    for (message, expected) in [
        ("B: 2", "B: 2"),
        ("B: 2\r\nA: 3\r\n", "B: 2\r\n"),
        ("B: 2\r\nA: 3\r\n\r\n", "B: 2\r\n\r\n"),
        ("\r\n", "\r\n"),
        ("", ""),
    ] {
        let picked = extract(message.as_bytes(), &[], Some(cut.clone()));
        assert_eq!(picked.unwrap(), expected, "{message:?}");
    }
}

#[test]
fn partials_never_reach_past_the_end() {
    let whole = || {
        section(&[], None)
            .extract(&Message::walk(b"0123456789"))
            .unwrap()
    };
    let cut = |origin, count| {
        whole()
            .partial(Partial { origin, count })
            .bytes(b"0123456789")
            .to_vec()
    };
    assert_eq!(cut(2, 3), b"234");
    assert_eq!(cut(8, 100), b"89");
    assert_eq!(cut(10, 1), b"");
    assert_eq!(cut(u64::MAX, u64::MAX), b"");
}

#[test]
fn sections_are_written_as_they_were_asked() {
    let mut out = Vec::new();
    let names = vec!["Subject".to_owned(), "x y".to_owned()];
    section(&[1, 2], Some(SectionText::HeaderFields(names))).write(&mut out);
    assert_eq!(out, b"1.2.HEADER.FIELDS (Subject \"x y\")");
}

#[test]
fn an_envelope_has_its_defaults_groups_and_literals() {
    assert_eq!(
        envelope_of(b""),
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    );
    let header = b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: gr\xc3\xbc\r\n\xc3\x9fe\r\nFROM: \"A \\\"B\\\"\" <a@x>\r\nReply-To:\r\nTo: G: b@y (Bee), c@z;\r\nCc: undisclosed:;\r\nIn-Reply-To: <1@x>\r\n <2@x>\r\nMessage-ID: <3@x>\r\n\r\n";
    let from = r#"(("A \"B\"" NIL "a" "x"))"#;
    assert_eq!(
        envelope_of(header),
        format!(
            "(\"Mon, 1 Jan 2024 00:00:00 +0000\" {{4}}\r\ngr\u{fc} {from} {from} {from} {} {} NIL {} {})",
            r#"((NIL NIL "G" NIL)("Bee" NIL "b" "y")(NIL NIL "c" "z")(NIL NIL NIL NIL))"#,
            r#"((NIL NIL "undisclosed" NIL)(NIL NIL NIL NIL))"#,
            r#""<1@x> <2@x>""#,
            r#""<3@x>""#,
        )
    );
}

#[test]
fn strings_are_quoted_only_when_safe() {
    let written = |text: &[u8]| {
        let mut out = Vec::new();
        envelope::write_string(text, &mut out);
        out
    };
    assert_eq!(written(b"a\"\\\0b"), b"\"a\\\"\\\\b\"");
    assert_eq!(written(b"a\rb"), b"{3}\r\na\rb");
    assert_eq!(written(b"\xff"), b"{1}\r\n\xff");
}

#[test]
fn a_multipart_without_parts_has_a_valid_form() {
    let message = b"Content-Type: multipart/mixed; boundary=x\r\n\r\nnothing\r\n";
    assert_eq!(
        structure(message, Form::Body),
        r#"(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")"#
    );
}

#[test]
fn nesting_bombs_have_a_balanced_structure() {
    let messages = b"Content-Type: message/rfc822\r\n\r\n".repeat(25_000);
    assert!(is_balanced(
        structure(&messages, Form::BodyStructure).as_bytes()
    ));
    let mut multiparts = Vec::new();
    for number in 0..40_000 {
        multiparts.extend(
            format!("Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n")
                .bytes(),
        );
    }
    let shown = structure(&multiparts, Form::BodyStructure);
    assert!(is_balanced(shown.as_bytes()));
    assert!(shown.contains(r#""application" "octet-stream""#));
}

/// Whether `text` is one parenthesised list, strings and literals passed over.
fn is_balanced(text: &[u8]) -> bool {
    let (mut depth, mut at) = (0_i32, 0);
    while at < text.len() {
        match text[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += 1 + usize::from(text[at] == b'\\');
                }
            }
            b'{' => {
                let Some(length) = text[at..].iter().position(|&byte| byte == b'}') else {
                    return false;
                };
                let digits = std::str::from_utf8(&text[at + 1..at + length]).ok();
                let Some(size) = digits.and_then(|digits| digits.parse::<usize>().ok()) else {
                    return false;
                };
                at += length + 2 + size;
            }
            b'\r' | b'\n' | 0 | 0x80.. => return false,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    depth == 0 && at == text.len()
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"Content-Type: multipart/mixed; boundary=a\r\n"[..],
        b"Content-Type: multipart/digest; boundary=ab\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/plain; x=\"(\xff\\\"\"; y*0*=a''%41\n",
        b"--a\r\n",
        b"--ab\n",
        b"--a--\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"text",
        b"Subject: \xff(\"\\\r\n",
        b" {3}\0\r\n",
        b"From: \"a\rb\" <(\xfe@[x>, g:\r\n",
        b"Content-ID: <\">\r\n",
        b"Content-Disposition: attachment; filename=\xfc(x)\r\n",
        b"Content-Language: de, (x) en\r\n",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_structure_is_one_balanced_list(bytes in messages(), noise: Vec<u8>) {
        for bytes in [&bytes, &noise] {
            for form in [Form::Body, Form::BodyStructure] {
                let mut out = Vec::new();
                body::write_structure(&Message::walk(bytes), form, &mut out);
                prop_assert!(is_balanced(&out), "{}", String::from_utf8_lossy(&out));
            }
            let mut out = Vec::new();
            envelope::write(bytes, &mut out);
            prop_assert!(is_balanced(&out), "{}", String::from_utf8_lossy(&out));
        }
    }
}
