//! What a filter is told, what it may answer, and what it may not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use milter::reply::{Change, Field, Refusal, Verdict};
use milter::session::Session;
use milter::{Client, Event, Fault};
use proptest::prelude::*;

const ALL_ACTIONS: u32 = 0x1df;
const LEADING_SPACE: u32 = 0x10_0000;
const SKIP: u32 = 0x400;

fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[kind], data].concat()
}

fn terms(version: u32, actions: u32, steps: u32, macros: &[u8]) -> Vec<u8> {
    let words: Vec<u8> = [version, actions, steps]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
    packet(b'O', &[&words, macros].concat())
}

fn agreed(actions: u32, steps: u32) -> Session {
    let (mut session, offer) = Session::begin(100_000);
    assert_eq!(offer.len(), 17);
    assert!(session.is_waiting() && !session.is_agreed());
    session.feed(&terms(6, actions, steps, b"")).unwrap();
    assert!(session.is_agreed() && !session.is_waiting());
    session
}

fn tell(session: &mut Session, event: Event<'_>) -> Option<Vec<u8>> {
    session.tell(event, &[]).unwrap()
}

/// A session that waits for the verdict on the whole message.
fn at_end(actions: u32) -> Session {
    let mut session = agreed(actions, 0);
    assert_eq!(tell(&mut session, Event::End).unwrap(), packet(b'E', b""));
    session
}

fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.into(),
        value: value.into(),
    }
}

#[test]
fn events_go_out_as_the_protocol_has_them() {
    let mut session = agreed(ALL_ACTIONS, 0);
    let client = Client {
        name: "[192.0.2.7]".into(),
        address: "192.0.2.7".parse().unwrap(),
    };
    let parameters = ["SIZE=10".to_owned()];
    let events: [(Event<'_>, u8, &[u8]); 9] = [
        (
            Event::Connect(&client),
            b'C',
            b"[192.0.2.7]\x004\0\x00192.0.2.7\0",
        ),
        (Event::Helo("mx.example"), b'H', b"mx.example\0"),
        (
            Event::Mail("a@example.com", &parameters),
            b'M',
            b"<a@example.com>\0SIZE=10\0",
        ),
        (
            Event::Rcpt("b@example.org", &[]),
            b'R',
            b"<b@example.org>\0",
        ),
        (Event::Data, b'T', b""),
        (
            Event::Header(b"Subject", b" hi\n you"),
            b'L',
            b"Subject\0hi\n you\0",
        ),
        (Event::EndOfHeader, b'N', b""),
        (Event::Body(b"text\r\n"), b'B', b"text\r\n"),
        (Event::End, b'E', b""),
    ];
    for (event, kind, data) in events {
        assert_eq!(tell(&mut session, event).unwrap(), packet(kind, data));
        assert!(session.is_waiting());
        session.feed(&packet(b'c', b"")).unwrap();
        assert_eq!(session.take_verdict(), Verdict::Continue);
    }
}

#[test]
fn macros_come_before_their_command_and_only_those_that_are_wanted() {
    let macros = [("i", "m1".to_owned()), ("{auth_type}", "AUTH".to_owned())];
    let mut session = agreed(ALL_ACTIONS, 0);
    let sent = session.tell(Event::Data, &macros).unwrap().unwrap();
    let all = packet(b'D', b"Ti\0m1\0{auth_type}\0AUTH\0");
    assert_eq!(sent, [all, packet(b'T', b"")].concat());

    let (mut session, _) = Session::begin(0);
    let wanted = [&[0, 0, 0, 4][..], b"auth_type j\0"].concat();
    session.feed(&terms(6, 0x100, 0, &wanted)).unwrap();
    let sent = session.tell(Event::Data, &macros).unwrap().unwrap();
    let one = packet(b'D', b"T{auth_type}\0AUTH\0");
    assert_eq!(sent, [one, packet(b'T', b"")].concat());
}

#[test]
fn what_a_filter_does_not_hear_is_not_said_and_what_it_does_not_answer_not_awaited() {
    let mut session = agreed(0, 0x2 | 0x80);
    assert_eq!(tell(&mut session, Event::Helo("x")), None);
    assert!(tell(&mut session, Event::Header(b"A", b"b")).is_some());
    assert!(!session.is_waiting());
    // Nobody asked.
    assert_eq!(
        session.feed(&packet(b'c', b"")),
        Err(Fault::Unexpected(b'c'))
    );
}

#[test]
fn a_filter_of_an_older_version_does_not_hear_of_data() {
    let (mut session, _) = Session::begin(0);
    session.feed(&terms(2, 0, 0, b"")).unwrap();
    assert_eq!(tell(&mut session, Event::Data), None);
}

#[test]
fn the_rest_of_a_body_is_skipped_where_that_was_agreed() {
    let mut session = agreed(0, SKIP);
    tell(&mut session, Event::Body(b"x")).unwrap();
    session.feed(&packet(b's', b"")).unwrap();
    assert_eq!(tell(&mut session, Event::Body(b"y")), None);
    assert!(tell(&mut session, Event::End).is_some());
    let mut session = agreed(0, 0);
    tell(&mut session, Event::Body(b"x")).unwrap();
    assert_eq!(
        session.feed(&packet(b's', b"")),
        Err(Fault::Unexpected(b's'))
    );
}

#[test]
fn verdicts_are_read() {
    for (sent, verdict) in [
        (packet(b'a', b""), Verdict::Accept),
        (packet(b'd', b""), Verdict::Discard),
        (packet(b'r', b""), Verdict::Reject),
        (packet(b't', b""), Verdict::TempFail),
        (packet(b'f', b""), Verdict::TempFail),
    ] {
        let mut session = agreed(0, 0);
        tell(&mut session, Event::Mail("", &[])).unwrap();
        session.feed(&packet(b'p', b"")).unwrap();
        assert!(session.is_waiting());
        session.feed(&sent).unwrap();
        assert_eq!(session.take_verdict(), verdict);
    }
}

#[test]
fn a_filter_that_accepted_hears_no_more_and_need_not_give_up() {
    let mut session = agreed(0, 0);
    tell(&mut session, Event::Mail("", &[])).unwrap();
    assert_eq!(
        session.leave(),
        [packet(b'A', b""), packet(b'Q', b"")].concat()
    );
    session.feed(&packet(b'a', b"")).unwrap();
    assert_eq!(tell(&mut session, Event::Data), None);
    assert_eq!(session.leave(), packet(b'Q', b""));
}

#[test]
fn the_own_words_of_a_filter_are_a_reply_or_a_fault() {
    let refusal = |text: &[u8]| {
        let mut session = agreed(0, 0);
        tell(&mut session, Event::Data).unwrap();
        session.feed(&packet(b'y', text))?;
        match session.take_verdict() {
            Verdict::Refuse(refusal) => Ok(refusal),
            other => panic!("{other:?}"),
        }
    };
    let words = |code, enhanced, lines: &[&str]| Refusal {
        code,
        enhanced,
        lines: lines.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(
        refusal(b"550 5.7.1 spam\0"),
        Ok(words(550, Some((5, 7, 1)), &["spam"]))
    );
    assert_eq!(
        refusal(b"451-4.7.0 one\r\n451 4.7.0 two\0"),
        Ok(words(451, Some((4, 7, 0)), &["one", "two"]))
    );
    // The class of the enhanced code is that of the code, or it is no such code.
    assert_eq!(refusal(b"550 4.7.1 x\0"), Ok(words(550, None, &["x"])));
    assert_eq!(refusal(b"550\0"), Ok(words(550, None, &[""])));
    assert_eq!(
        refusal(b"550 a\x07\xc3\xa9b\0"),
        Ok(words(550, None, &["a??b"]))
    );
    for bad in [
        &b"250 2.0.0 ok\0"[..],
        b"354 go on\0",
        b"600 x\0",
        b"55\0",
        b"5500 x\0",
        b"\0",
        b"550 x",
        b"550 x\0y\0",
        b"550-x\r\n451 y\0",
        b"550 \xff\0",
    ] {
        assert_eq!(refusal(bad), Err(Fault::Malformed(b'y')), "{bad:?}");
    }
}

#[test]
fn changes_come_at_the_end_and_are_read() {
    let mut session = at_end(ALL_ACTIONS);
    for sent in [
        packet(b'h', b"X-A\0b\n\tc\0"),
        packet(b'i', b"\0\0\0\x01X-B\0c\0"),
        packet(b'm', b"\0\0\0\x02Subject\0\0"),
        packet(b'e', b"<s@example.com>\0SIZE=1\0"),
        packet(b'+', b"<r@example.com>\0"),
        packet(b'2', b"t@example.com\0NOTIFY=NEVER\0"),
        packet(b'-', b"<u@example.com>\0"),
        packet(b'b', b"new body\r\n"),
        packet(b'c', b""),
    ] {
        assert!(session.is_waiting());
        session.feed(&sent).unwrap();
    }
    assert!(!session.is_waiting());
    assert_eq!(session.take_verdict(), Verdict::Continue);
    assert_eq!(
        session.take_changes(),
        [
            Change::AddHeader(field("X-A", "b\r\n\tc")),
            Change::InsertHeader(1, field("X-B", "c")),
            Change::ChangeHeader(2, field("Subject", "")),
            Change::Sender("s@example.com".into()),
            Change::AddRecipient("r@example.com".into()),
            Change::AddRecipient("t@example.com".into()),
            Change::DeleteRecipient("u@example.com".into()),
            Change::Body(b"new body\r\n".to_vec()),
        ]
    );
}

#[test]
fn a_change_needs_the_right_to_it_and_its_time() {
    let change = packet(b'h', b"X-A\0b\0");
    assert_eq!(at_end(0).feed(&change), Err(Fault::NotAgreed(b'h')));
    let mut session = agreed(ALL_ACTIONS, 0);
    tell(&mut session, Event::Data).unwrap();
    assert_eq!(session.feed(&change), Err(Fault::Unexpected(b'h')));
}

#[test]
fn a_field_that_would_be_more_than_one_is_a_fault() {
    for data in [
        &b"X-A\0b\nX-B: c\0"[..],
        b"X-A\0b\n\n c\0",
        b"X-A\0b\rc\0",
        b"X-A\0b\r\nc\0",
        b"X A\0b\0",
        b"X:A\0b\0",
        b"X\nA\0b\0",
        b"\0b\0",
        b"X-A\0b",
        b"X-A\0b\0c\0",
        b"X-A\0",
    ] {
        let fed = at_end(ALL_ACTIONS).feed(&packet(b'h', data));
        assert_eq!(fed, Err(Fault::Malformed(b'h')), "{data:?}");
    }
}

#[test]
fn hostile_lengths_are_faults_before_anything_is_kept() {
    for length in [0, 65_537, u32::MAX] {
        let fed = at_end(ALL_ACTIONS).feed(&length.to_be_bytes());
        assert_eq!(fed, Err(Fault::Length(length)));
    }
    let mut session = at_end(ALL_ACTIONS);
    session.feed(&packet(b'b', &[b'x'; 65_535])).unwrap();
}

#[test]
fn changes_without_end_are_a_fault() {
    let mut session = at_end(ALL_ACTIONS);
    session.feed(&packet(b'b', &[b'x'; 60_000])).unwrap();
    assert_eq!(
        session.feed(&packet(b'b', &[b'x'; 60_000])),
        Err(Fault::TooMuch)
    );
    let mut session = at_end(ALL_ACTIONS);
    let many = packet(b'-', b"\0").repeat(10_001);
    assert_eq!(session.feed(&many), Err(Fault::TooMuch));
}

#[test]
fn terms_that_were_not_offered_are_a_fault() {
    for (sent, fault) in [
        (terms(1, 0, 0, b""), Fault::Version(1)),
        (terms(7, 0, 0, b""), Fault::Version(7)),
        // Packets of a megabyte.
        (terms(6, 0, 0x2000_0000, b""), Fault::Terms),
        (packet(b'O', &[0; 11]), Fault::Malformed(b'O')),
        (
            terms(6, 0, 0, &[0, 0, 0, 7, b'i', 0]),
            Fault::Malformed(b'O'),
        ),
        (terms(6, 0, 0, &[0, 0, 0, 1, b'i']), Fault::Malformed(b'O')),
        (packet(b'c', b""), Fault::Unexpected(b'c')),
    ] {
        let (mut session, _) = Session::begin(0);
        assert_eq!(session.feed(&sent), Err(fault));
    }
}

#[test]
fn what_a_filter_may_do_of_its_own_accord_is_no_fault_until_it_does_it() {
    const QUARANTINE: u32 = 0x20;
    let mut session = at_end(ALL_ACTIONS | QUARANTINE);
    session.feed(&packet(b'h', b"X-A\0b\0")).unwrap();
    assert_eq!(
        session.feed(&packet(b'q', b"because\0")),
        Err(Fault::Quarantine)
    );
    assert_eq!(session.take_changes().len(), 1);
}

#[test]
fn a_field_longer_than_a_packet_is_not_sent() {
    let mut session = agreed(0, LEADING_SPACE);
    let value = vec![b'x'; 65_531];
    assert!(session.tell(Event::Header(b"A", &value), &[]).is_ok());
    session.feed(&packet(b'c', b"")).unwrap();
    let value = vec![b'x'; 65_533];
    assert_eq!(
        session.tell(Event::Header(b"A", &value), &[]),
        Err(Fault::LongField)
    );
}

#[test]
fn a_nul_in_a_field_does_not_end_it() {
    let mut session = agreed(0, LEADING_SPACE);
    let sent = tell(&mut session, Event::Header(b"A", b"b\0c")).unwrap();
    assert_eq!(sent, packet(b'L', b"A\0b c\0"));
}

proptest! {
    #[test]
    fn whatever_comes_is_the_same_however_it_is_cut(
        bytes in proptest::collection::vec(
            prop_oneof![Just(0_u8), Just(1), Just(5), proptest::sample::select(b"acdrtyspfhime+2-bO4".to_vec()), any::<u8>()],
            0..60,
        ),
        cut in 0_usize..60,
    ) {
        let cut = cut.min(bytes.len());
        let mut whole = at_end(ALL_ACTIONS);
        let one = whole.feed(&bytes);
        let mut halves = at_end(ALL_ACTIONS);
        let (first, second) = bytes.split_at(cut);
        let two = halves.feed(first).and_then(|()| match halves.is_waiting() || second.is_empty() {
            true => halves.feed(second),
            false => Err(Fault::Unexpected(0)),
        });
        prop_assert_eq!(one.is_ok(), two.is_ok());
        if one.is_ok() {
            prop_assert_eq!(whole.take_verdict(), halves.take_verdict());
            prop_assert_eq!(whole.take_changes(), halves.take_changes());
        }
    }
}
