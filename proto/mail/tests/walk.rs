//! The MIME walker on good, odd and hostile messages.

use mail::content::{ContentType, Encoding};
use mail::decode::Decoder;
use mail::header;
use mail::mailbox_list::{self, Entry};
use mail::mime::{MAX_DEPTH, MAX_PARAMETERS, MAX_PARTS, Message, Skeleton, Structure};
use proptest::prelude::*;

/// One line per part: depth, type, body, number of lines.
fn outline(bytes: &[u8]) -> Vec<(usize, String, String, usize)> {
    let message = Message::walk(bytes);
    let line = |part: &mail::mime::Part| {
        let kind = format!("{}/{}", part.content_type.kind, part.content_type.subtype);
        let body = String::from_utf8_lossy(message.body(part)).into_owned();
        (part.depth, kind, body, part.lines)
    };
    message.parts().iter().map(line).collect()
}

fn leaves(bytes: &[u8]) -> Vec<(usize, String)> {
    let message = Message::walk(bytes);
    let leaves = message
        .parts()
        .iter()
        .filter(|part| part.structure == Structure::Leaf);
    leaves
        .map(|part| {
            (
                part.depth,
                String::from_utf8_lossy(message.body(part)).into_owned(),
            )
        })
        .collect()
}

fn leaf(depth: usize, body: &str) -> (usize, String) {
    (depth, body.to_owned())
}

#[test]
fn empty_and_headerless_messages_have_one_text_part() {
    let plain = || "text/plain".to_owned();
    assert_eq!(outline(b""), [(0, plain(), String::new(), 0)]);
    assert_eq!(
        outline(b"\r\nhello\r\n"),
        [(0, plain(), "hello\r\n".into(), 1)]
    );
    assert_eq!(
        outline(b"no colon here\r\nhello"),
        [(0, plain(), String::new(), 0)]
    );
    assert_eq!(outline(b"Subject: x"), [(0, plain(), String::new(), 0)]);
}

#[test]
fn the_line_end_before_a_boundary_belongs_to_it() {
    let message = b"Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b  \t\r\n\r\none\r\n\r\n--a b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--a b-- \r\nepilogue\r\n--a b\r\nmore";
    assert_eq!(leaves(message), [leaf(1, "one\r\n"), leaf(1, "two")]);
}

#[test]
fn bare_line_feeds_are_line_ends_too() {
    let message = b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\none\n--x\n\ntwo\n--x--\n";
    assert_eq!(leaves(message), [leaf(1, "one"), leaf(1, "two")]);
}

#[test]
fn an_outer_boundary_ends_an_inner_multipart_without_its_own_end() {
    let message = b"Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: multipart/alternative; boundary=out-in\r\n\r\n--out-in\r\n\r\na\r\n--out-in\r\n\r\nb\r\n--out\r\n\r\nc\r\n--out-in\r\nstill c\r\n--out--\r\n";
    assert_eq!(
        leaves(message),
        [
            leaf(2, "a"),
            leaf(2, "b"),
            leaf(1, "c\r\n--out-in\r\nstill c")
        ]
    );
}

#[test]
fn a_message_cut_off_keeps_its_last_part() {
    let message = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\nContent-Type: text/html";
    let outline = outline(message);
    assert_eq!(outline.len(), 3);
    assert_eq!(outline[2], (1, "text/html".into(), String::new(), 0));
}

#[test]
fn boundaries_right_after_each_other_make_empty_parts() {
    let message = b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n--x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n--x--";
    let message = Message::walk(message);
    let depths: Vec<_> = message.parts().iter().map(|part| part.depth).collect();
    assert_eq!(depths, [0, 1, 2, 1, 2, 1]);
    assert!(
        message
            .parts()
            .iter()
            .skip(1)
            .all(|part| part.body.is_empty())
    );
}

#[test]
fn a_digest_holds_messages() {
    let message = b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: a\r\n\r\nbody\r\n--x--\r\n";
    let outline = outline(message);
    assert_eq!(outline[1].1, "message/rfc822");
    assert_eq!(outline[2], (2, "text/plain".into(), "body".into(), 0));
}

#[test]
fn a_multipart_without_boundary_is_text() {
    assert_eq!(
        outline(b"Content-Type: multipart/mixed\r\n\r\nx\r\n")[0].1,
        "text/plain"
    );
}

#[test]
fn a_folded_boundary_is_found() {
    let message = b"Content-Type: multipart/mixed; (a (comment))\r\n boundary=\r\n \"abc\"\r\n\r\n--abc\r\n\r\none\r\n--abc--";
    assert_eq!(leaves(message), [leaf(1, "one")]);
}

#[test]
fn only_valid_names_are_fields() {
    let header = b"From: a\r\nFr om: b\r\n more b\r\n:From: c\r\nFrom : d\r\n__proto__:\r\n e\r\n\r\nFrom: body\r\n";
    let names: Vec<_> = header::fields(header).map(|field| field.name).collect();
    assert_eq!(names, [&b"From"[..], b"From", b"__proto__"]);
    for field in header::fields(header) {
        assert!(header[field.start..field.end].starts_with(field.name));
    }
    let last = header::find(header, "__PROTO__").unwrap();
    assert_eq!(&*last.unfolded(), b"e");
}

#[test]
fn continued_and_encoded_parameters_are_joined() {
    let value = b"application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\"; name*=utf-8''%e2%82%ac; name=euro";
    let parameters = ContentType::parse(value).unwrap().parameters;
    let title = parameters.decoded("title").unwrap();
    assert_eq!(title.value, b"This is even more ***fun*** isn't it!");
    assert_eq!(title.charset.as_deref(), Some("us-ascii"));
    assert_eq!(parameters.decoded("name").unwrap().value, "€".as_bytes());
    assert_eq!(parameters.value("name").unwrap(), b"euro");
    assert_eq!(parameters.raw()[0].name, "title*0*");
}

#[test]
fn a_hundred_thousand_parameters_are_cut_short() {
    let mut value = b"text/plain".to_vec();
    for number in 0..100_000 {
        value.extend(format!("; name*{number}*=%41").bytes());
    }
    let parameters = ContentType::parse(&value).unwrap().parameters;
    assert_eq!(parameters.raw().len(), mail::parameter::MAX_PARAMETERS);
    assert_eq!(
        parameters.decoded("name").unwrap().value.len(),
        mail::parameter::MAX_PARAMETERS
    );
}

#[test]
fn a_hundred_thousand_addresses_are_cut_short() {
    let value = b"\"N\" <a@example.org>, ".repeat(100_000);
    assert_eq!(mailbox_list::parse(&value).len(), mailbox_list::MAX_ENTRIES);
    for hostile in [
        b"(".repeat(1_000_000),
        b"<".repeat(100_000),
        b"\"\\".repeat(100_000),
        b"a:".repeat(100_000),
        b"@[".repeat(100_000),
    ] {
        assert!(mailbox_list::parse(&hostile).len() <= mailbox_list::MAX_ENTRIES + 1);
    }
}

#[test]
fn addresses_of_all_shapes_are_read() {
    let value = b"Joe Q. Public <john.q.public@example.com>, Mary (x \\) (y)) <@a.example,@b.example:mary@c.example>,, boss@nil.test (The Boss), A Group: \"a b\"@[192.0.2.1], x . y @ d . example ; , =?utf-8?q?J=C3?= <j@e>, root";
    let mailbox = |name: &str, route: &str, local: &str, domain: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        Entry::Mailbox(mailbox_list::Mailbox {
            name: some(name),
            route: some(route),
            local: local.into(),
            domain: domain.into(),
        })
    };
    assert_eq!(
        mailbox_list::parse(value),
        [
            mailbox("Joe Q. Public", "", "john.q.public", "example.com"),
            mailbox("Mary", "@a.example,@b.example", "mary", "c.example"),
            mailbox("The Boss", "", "boss", "nil.test"),
            Entry::GroupStart(b"A Group".to_vec()),
            mailbox("", "", "a b", "[192.0.2.1]"),
            mailbox("", "", "x.y", "d.example"),
            Entry::GroupEnd,
            mailbox("=?utf-8?q?J=C3?=", "", "j", "e"),
            mailbox("", "", "root", ""),
        ]
    );
}

#[test]
fn deeply_nested_messages_stop_at_the_limit() {
    let bytes = b"Content-Type: message/rfc822\r\n\r\n".repeat(25_000);
    let message = Message::walk(&bytes);
    assert_eq!(message.parts().len(), MAX_DEPTH + 1);
    let last = &message.parts()[MAX_DEPTH];
    assert!(last.content_type.is("application", "octet-stream"));
    assert_eq!(last.body.end, bytes.len());
}

#[test]
fn deep_unterminated_multiparts_stop_at_the_limit() {
    let mut bytes = Vec::new();
    for number in 0..40_000 {
        bytes.extend(
            format!("Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n")
                .bytes(),
        );
    }
    let message = Message::walk(&bytes);
    assert_eq!(message.parts().len(), MAX_DEPTH + 1);
    assert_eq!(message.parts()[MAX_DEPTH].body.end, bytes.len());
}

#[test]
fn three_megabytes_of_false_boundaries_are_one_body() {
    let mut bytes = Vec::new();
    for number in 0..90 {
        bytes.extend(
            format!("Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n")
                .bytes(),
        );
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend(b"--bb\n".repeat(600_000));
    let message = Message::walk(&bytes);
    assert_eq!(message.parts().len(), 91);
    assert_eq!(message.parts()[90].lines, 600_000);
}

#[test]
fn too_many_parts_belong_to_the_last_one() {
    let mut bytes = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n".to_vec();
    bytes.extend(b"--x\r\n\r\na\r\n".repeat(20_000));
    let message = Message::walk(&bytes);
    assert_eq!(message.parts().len(), MAX_PARTS);
    assert_eq!(message.parts()[MAX_PARTS - 1].body.end, bytes.len());
    assert_eq!(message.children(&message.parts()[0]).count(), MAX_PARTS - 1);
}

#[test]
fn parameters_of_all_parts_together_are_counted() {
    let mut bytes = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n".to_vec();
    let part = format!(
        "Content-Type: multipart/mixed{}; boundary=y\r\n\r\n--y\r\n\r\n--x\r\n",
        ";a=b".repeat(150)
    );
    bytes.extend(part.repeat(4_000).bytes());
    let message = Message::walk(&bytes);
    let kept = message
        .parts()
        .iter()
        .map(|part| part.content_type.parameters.raw().len());
    assert_eq!(kept.sum::<usize>(), MAX_PARAMETERS);
    // What divides the message is found all the same.
    let last_child = &message.parts()[8_000];
    assert_eq!(
        (last_child.depth, last_child.structure),
        (2, Structure::Leaf)
    );
}

#[test]
fn a_word_of_any_length_is_no_type() {
    let longest = "a".repeat(mail::content::MAX_WORD);
    let parse = |text: String| ContentType::parse(text.as_bytes());
    assert!(parse(format!("{longest}/{longest}")).is_some());
    assert!(parse(format!("{longest}a/b")).is_none());
    assert!(parse(format!("b/{longest}a")).is_none());
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "Content-Type: multipart/mixed; boundary=a\r\n",
        "Content-Type: multipart/digest; boundary=ab\r\n",
        "Content-Type: message/rfc822\r\n",
        "Content-Type: text/plain\n",
        "--a\r\n",
        "--ab\n",
        "--a--\r\n",
        "--ab--",
        "\r\n",
        "\n",
        "\r",
        "text",
        "Subject: x\r\n",
        " folded\r\n",
        "--",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

// The line is longer than any boundary, and than what is held of a line.
#[test]
fn a_line_of_megabytes_is_passed_in_pieces() {
    let long = "x".repeat(3 << 20);
    let text = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{long}\r\n--b\r\nX: {long}\r\n\r\n{long}\n--b--\r\n"
    );
    let message = Message::walk(text.as_bytes());
    assert_eq!(message.parts().len(), 3);
    for size in [1000, 65536, 1 << 20] {
        let mut skeleton = Skeleton::new();
        text.as_bytes()
            .chunks(size)
            .for_each(|piece| skeleton.push(piece));
        assert_eq!(skeleton.finish(), message.parts());
    }
    for (at, end) in [(1, "\r\n"), (2, "\r\n"), (1, "\n")] {
        let text = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{long}{end}--b--\r\n"
        );
        let (first, second) = text.as_bytes().split_at(text.len() - 7 - at);
        let mut skeleton = Skeleton::new();
        skeleton.push(first);
        skeleton.push(second);
        assert_eq!(skeleton.finish(), Message::walk(text.as_bytes()).parts());
    }
}

#[test]
fn a_long_line_of_quoted_printable_is_decoded_in_pieces() {
    for pad in 0..4 {
        let text = format!("{}{}", "x".repeat(pad), "=C3=A4".repeat(60_000));
        let mut decoder = Decoder::new(&Encoding::QuotedPrintable).unwrap();
        let mut content = Vec::new();
        text.as_bytes()
            .chunks(777)
            .for_each(|piece| decoder.push(piece, &mut content));
        decoder.finish(&mut content);
        assert_eq!(
            content,
            format!("{}{}", "x".repeat(pad), "ä".repeat(60_000)).into_bytes()
        );
    }
}

proptest! {
    #[test]
    fn parts_lie_inside_their_parents_in_order(bytes in pieces()) {
        let message = Message::walk(&bytes);
        for (index, part) in message.parts().iter().enumerate() {
            prop_assert!(part.header.start <= part.header.end);
            prop_assert!(part.header.end <= part.body.start && part.body.start <= part.body.end);
            prop_assert!(part.body.end <= bytes.len());
            let newlines = message.body(part).iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(part.lines, newlines);
            if let Some(parent) = part.parent {
                let around = &message.parts()[parent];
                prop_assert!(parent < index && around.depth + 1 == part.depth);
                prop_assert!(around.body.start <= part.header.start && part.body.end <= around.body.end);
            }
            if let Some(next) = part.next_sibling {
                prop_assert!(part.body.end <= message.parts()[next].header.start);
            }
            if part.structure == Structure::Message {
                prop_assert_eq!(message.children(part).count(), 1);
            }
        }
    }

    #[test]
    fn a_message_shown_in_pieces_has_the_same_parts(bytes in pieces(), size in 1_usize..40) {
        let mut skeleton = Skeleton::new();
        bytes.chunks(size).for_each(|piece| skeleton.push(piece));
        let parts = skeleton.finish();
        let message = Message::walk(&bytes);
        prop_assert_eq!(parts.as_slice(), message.parts());
    }

    #[test]
    fn a_body_shown_in_pieces_has_the_same_content(
        text in "([a-zA-Z0-9+/]|=[0-9A-F]{2}|=|\\r|\\n| |\t|\r\n){0,60}",
        size in 1_usize..20,
    ) {
        for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Binary] {
            let mut decoder = Decoder::new(&encoding).unwrap();
            let mut content = Vec::new();
            text.as_bytes().chunks(size).for_each(|piece| decoder.push(piece, &mut content));
            decoder.finish(&mut content);
            prop_assert_eq!(content.as_slice(), &*mail::decode::decode(&encoding, text.as_bytes()));
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes: Vec<u8>) {
        let _ = Message::walk(&bytes);
        let _ = mailbox_list::parse(&bytes);
        let _ = ContentType::parse(&bytes);
        let _ = mail::content::Disposition::parse(&bytes);
        let _ = mail::date::parse_rfc5322(&bytes);
        let _ = mail::date::parse_imap(&bytes);
        let _ = mail::decode::base64(&bytes);
        let _ = mail::decode::quoted_printable(&bytes);
    }
}
