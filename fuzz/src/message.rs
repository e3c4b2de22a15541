//! Messages: divided into parts that nest, shown in valid syntax, and every field read or passed over.

use imap::body::{self, Extract, Form, Partial, Section, SectionText};
use imap::envelope;
use mail::address::{Address, Domain, ForwardPath, ReversePath};
use mail::content::{ContentType, Disposition, Encoding, languages};
use mail::mime::{MAX_DEPTH, MAX_PARAMETERS, MAX_PARTS, Message, Part, Structure};
use mail::{date, decode, encode, header, mailbox_list, parameter};

use super::search_text::{self, Needle};

/// The input is a message, and the value of every kind of field.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let message = Message::walk(data);
    check_parts(&message);
    check_fields(data);
    check_shown(&message);
    check_value(data);
    for field in header::fields(data).take(20) {
        check_value(field.value);
    }
    check_content(data);
    if let Ok(text) = std::str::from_utf8(data) {
        check_text(text);
    }
    let _ = search_text::text_contains(&message, &Needle::new("x"));
}

fn check_parts(message: &Message<'_>) {
    let (bytes, parts) = (message.bytes(), message.parts());
    assert!(
        (1..=MAX_PARTS + 1).contains(&parts.len()),
        "{} parts",
        parts.len()
    );
    let parameters = parts
        .iter()
        .map(|part| part.content_type.parameters.raw().len());
    assert!(parameters.sum::<usize>() <= MAX_PARAMETERS, "parameters");
    for (index, part) in parts.iter().enumerate() {
        assert!(part.depth <= MAX_DEPTH, "depth");
        assert!(part.header.start <= part.header.end, "header");
        assert!(part.header.end <= part.body.start, "header and body");
        assert!(
            part.body.start <= part.body.end && part.body.end <= bytes.len(),
            "body"
        );
        let newlines = message.body(part).iter().filter(|&&byte| byte == b'\n');
        assert_eq!(part.lines, newlines.count(), "lines");
        check_place(message, index, part);
    }
}

fn check_place(message: &Message<'_>, index: usize, part: &Part) {
    assert_eq!(part.parent.is_none(), index == 0, "one root");
    if let Some(parent) = part.parent {
        let around = &message.parts()[parent];
        assert!(parent < index && around.depth + 1 == part.depth, "nesting");
        assert!(around.body.start <= part.header.start, "before its parent");
        assert!(part.body.end <= around.body.end, "behind its parent");
    }
    if let Some(next) = part.next_sibling {
        let next = &message.parts()[next];
        assert_eq!(next.parent, part.parent, "siblings");
        assert!(part.body.end <= next.header.start, "siblings overlap");
    }
    let children = message.children(part).count();
    match part.structure {
        Structure::Leaf => assert_eq!(children, 0, "a leaf with children"),
        Structure::Message => assert_eq!(children, 1, "messages in a message"),
        Structure::Multipart => {}
    }
}

fn check_fields(data: &[u8]) {
    assert!(header::body_start(data) <= data.len(), "body");
    let mut end = 0;
    for field in header::fields(data) {
        assert!(
            end <= field.start && field.start < field.end,
            "fields overlap"
        );
        assert!(field.end <= data.len(), "a field outside");
        assert!(data[field.start..].starts_with(field.name), "name");
        assert!(!field.name.is_empty(), "a name of nothing");
        assert!(!field.unfolded().contains(&b'\n'), "still folded");
        end = field.end;
    }
}

fn check_shown(message: &Message<'_>) {
    for form in [Form::Body, Form::BodyStructure] {
        let mut out = Vec::new();
        body::write_structure(message, form, &mut out);
        assert!(out.len() <= 16 << 20, "a structure of {} bytes", out.len());
        check_syntax(&out);
    }
    let mut out = Vec::new();
    envelope::write(message.bytes(), &mut out);
    check_syntax(&out);
    for part in [&[][..], &[1], &[2], &[1, 1], &[1, 2], &[2, 1, 1]] {
        let names = || vec!["To".to_owned()];
        for text in [
            None,
            Some(SectionText::Header),
            Some(SectionText::HeaderFields(names())),
            Some(SectionText::HeaderFieldsNot(names())),
            Some(SectionText::Text),
            Some(SectionText::Mime),
        ] {
            let part = part.to_vec();
            if let Some(extract) = (Section { part, text }).extract(message) {
                check_extract(extract, message.bytes());
            }
        }
    }
}

fn check_extract(extract: Extract, message: &[u8]) {
    let whole = extract.bytes(message).to_vec();
    assert!(whole.len() <= message.len() + 4, "more than there is");
    let partial = Partial {
        origin: 3,
        count: 5,
    };
    let cut: Vec<u8> = whole.iter().copied().skip(3).take(5).collect();
    assert_eq!(extract.partial(partial).bytes(message), cut, "partial");
}

/// Whether `out` is one parenthesized list of lists, strings, numbers and NIL (RFC 3501 §4).
fn check_syntax(out: &[u8]) {
    let (mut rest, mut open) = (out, 0_usize);
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'(' => {
                open += 1;
                after
            }
            b')' => {
                assert!(open > 0, "nothing to close");
                open -= 1;
                assert!(open > 0 || after.is_empty(), "more behind the end");
                after
            }
            b' ' | b'0'..=b'9' | b'N' | b'I' | b'L' => after,
            b'"' => behind_quoted(after),
            b'{' => behind_literal(after),
            other => panic!("{other:?} outside of strings"),
        };
        assert!(open > 0 || rest.is_empty(), "outside of the list");
    }
    assert!(open == 0 && !out.is_empty(), "not closed");
}

fn behind_quoted(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return after,
            [b'\\', b'"' | b'\\', after @ ..] => after,
            [0 | b'\r' | b'\n' | b'\\' | 128.., ..] | [] => panic!("a string is badly quoted"),
            [_, after @ ..] => after,
        };
    }
}

fn behind_literal(rest: &[u8]) -> &[u8] {
    let size = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let size = size.fold(0, |size, digit| size * 10 + usize::from(digit - b'0'));
    let end = rest
        .iter()
        .position(|byte| *byte == b'}')
        .unwrap_or_default();
    let after = rest[end..].strip_prefix(b"}\r\n").unwrap_or_default();
    assert!(size <= after.len(), "a literal without its bytes");
    assert!(!after[..size].contains(&0), "NUL in a literal");
    &after[size..]
}

fn check_value(value: &[u8]) {
    let entries = mailbox_list::parse(value);
    assert!(entries.len() <= mailbox_list::MAX_ENTRIES + 1, "entries");
    let content_type = ContentType::parse(value);
    let parameters = content_type.map(|found| found.parameters);
    let disposed = Disposition::parse(value).map(|found| found.parameters);
    for parameters in [parameters, disposed].into_iter().flatten() {
        assert!(
            parameters.raw().len() <= parameter::MAX_PARAMETERS,
            "parameters"
        );
        for name in ["boundary", "charset", "filename", "name", ""] {
            let decoded = parameters.decoded(name);
            assert_eq!(
                decoded.is_some(),
                parameters.value(name).is_some(),
                "{name}"
            );
        }
    }
    assert!(languages(value).len() <= 100, "languages");
    assert!(!Encoding::parse(value).as_str().is_empty(), "encoding");
    if let Some(found) = date::parse_rfc5322(value) {
        let written = date::format_rfc5322(found);
        let again = date::parse_rfc5322(written.as_bytes());
        assert_eq!(again, Some(found), "{written}");
    }
    let _ = (date::parse_imap(value), date::parse_imap_day(value));
}

fn check_content(data: &[u8]) {
    assert!(decode::base64(data).len() <= data.len(), "base64 grows");
    assert!(
        decode::quoted_printable(data).len() <= data.len(),
        "quoted-printable grows"
    );
    assert_eq!(
        decode::base64(encode::base64_body(data).as_bytes()),
        data,
        "base64"
    );
    if let Some(bytes) = decode::base64_strict(data) {
        assert_eq!(encode::base64(&bytes).as_bytes(), data, "strict base64");
    }
    let quoted = encode::quoted_printable(data);
    assert!(
        quoted.is_ascii() && quoted.lines().all(|line| line.len() <= 76),
        "lines"
    );
}

fn check_text(text: &str) {
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.to_string()), Ok(address), "address");
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()), Ok(domain), "domain");
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(&path.to_string()), Ok(path), "sender");
    }
    let _ = ForwardPath::parse(text);
    let encoded = encode::header_text(text);
    assert!(
        encoded
            .split("\r\n ")
            .all(|line| !line.contains(['\r', '\n'])),
        "a new field"
    );
    if encoded != text {
        let header = format!("Subject: {encoded}\r\n");
        let field = header::find(header.as_bytes(), "Subject");
        assert_eq!(
            field.as_ref().map(search_text::field_text).as_deref(),
            Some(text),
            "text"
        );
    }
}
