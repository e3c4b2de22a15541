//! Changes that filters make to messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use milter::message::Message;
use milter::reply::{Change, Field};
use proptest::prelude::*;

const TEXT: &str = "Received: from x\r\n\tby us\r\nSubject: hi\r\n you\r\nFrom : a\r\nsubject: again\r\n\r\nbody\r\n";

fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.into(),
        value: value.into(),
    }
}

fn whole(message: Message) -> String {
    let (header, body) = message.into_parts();
    String::from_utf8([header, body].concat()).unwrap()
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut message = Message::parse(text.as_bytes().to_vec());
    message.change(changes, false);
    whole(message)
}

#[test]
fn our_own_trace_field_is_not_shown_and_the_others_are() {
    let message = Message::parse(TEXT.as_bytes().to_vec());
    let fields: Vec<_> = message
        .fields()
        .map(|(name, value)| {
            (
                String::from_utf8(name).unwrap(),
                String::from_utf8(value).unwrap(),
            )
        })
        .collect();
    let shown = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        fields,
        [
            shown("Subject", " hi\n you"),
            shown("From", " a"),
            shown("subject", " again")
        ]
    );
    assert_eq!(message.body(), b"body\r\n");
    let trace = "Received: from x\r\n\tby us\r\n";
    assert_eq!(message.size(), TEXT.len() - trace.len());
}

#[test]
fn fields_are_added_below_and_inserted_where_they_shall_stand() {
    let text = "Received: us\r\nA: 1\r\nB: 2\r\n\r\nbody\r\n";
    let inserted = |place| changed(text, &[Change::InsertHeader(place, field("X", "y"))]);
    assert_eq!(
        inserted(0),
        "X: y\r\nReceived: us\r\nA: 1\r\nB: 2\r\n\r\nbody\r\n"
    );
    assert_eq!(
        inserted(1),
        "Received: us\r\nX: y\r\nA: 1\r\nB: 2\r\n\r\nbody\r\n"
    );
    assert_eq!(
        inserted(2),
        "Received: us\r\nA: 1\r\nX: y\r\nB: 2\r\n\r\nbody\r\n"
    );
    let below = "Received: us\r\nA: 1\r\nB: 2\r\nX: y\r\n\r\nbody\r\n";
    assert_eq!(inserted(u32::MAX), below);
    assert_eq!(changed(text, &[Change::AddHeader(field("X", "y"))]), below);
}

#[test]
fn the_space_behind_the_colon_is_the_filters_where_that_was_agreed() {
    let mut message = Message::parse(b"R: x\r\n\r\n".to_vec());
    message.change(&[Change::AddHeader(field("X", "\ty"))], true);
    assert_eq!(whole(message), "R: x\r\nX:\ty\r\n\r\n");
}

#[test]
fn the_nth_field_of_a_name_is_changed_or_goes() {
    let change = |number, value| {
        changed(
            TEXT,
            &[Change::ChangeHeader(number, field("SUBJECT", value))],
        )
    };
    assert!(
        change(1, "new").contains("by us\r\nSUBJECT: new\r\nFrom : a\r\nsubject: again\r\n\r\n")
    );
    assert!(change(2, "new").contains("hi\r\n you\r\nFrom : a\r\nSUBJECT: new\r\n\r\n"));
    assert!(change(2, "").contains("hi\r\n you\r\nFrom : a\r\n\r\n"));
    assert!(change(3, "new").contains("subject: again\r\nSUBJECT: new\r\n\r\n"));
    assert_eq!(change(3, ""), TEXT);
    let from = changed(TEXT, &[Change::ChangeHeader(1, field("From", "b"))]);
    assert!(from.contains("\r\nFrom: b\r\n"), "{from}");
}

#[test]
fn a_new_body_has_line_ends_and_no_others() {
    let pieces = [
        Change::Body(b"a\nb\r".to_vec()),
        Change::Body(b"\nc\r.\r\0\n.\n".to_vec()),
        Change::Body(b"end".to_vec()),
    ];
    let text = changed("R: x\r\n\r\nold\r\n", &pieces);
    assert_eq!(text, "R: x\r\n\r\na\r\nb\r\nc\r\n.\r\n\r\n.\r\nend\r\n");
}

#[test]
fn a_new_body_is_never_read_as_header() {
    for text in ["R: x\r\nA: b\r\n", "R: x\r\nno field\r\n"] {
        let text = changed(text, &[Change::Body(b"Bcc: all\r\n".to_vec())]);
        assert!(text.ends_with("\r\n\r\nBcc: all\r\n"), "{text:?}");
    }
}

#[test]
fn a_header_ends_at_a_line_that_is_no_field() {
    let message = Message::parse(b"R: x\r\nA: b\r\nno field\r\nC: d\r\n\r\n".to_vec());
    assert_eq!(message.fields().count(), 1);
    assert_eq!(message.body(), b"no field\r\nC: d\r\n\r\n");
}

proptest! {
    #[test]
    fn a_message_without_changes_is_what_it_was(text in "(([A-C]:?|[ \tx]|\r\n){0,6}\r\n){0,8}") {
        let message = Message::parse(text.clone().into_bytes());
        prop_assert!(message.size() <= text.len());
        prop_assert_eq!(whole(message), text);
    }
}
