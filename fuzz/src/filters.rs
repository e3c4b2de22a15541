//! What a filter answers is the same however its packets are cut, and a message it changed is one message with one header.

use milter::message::Message;
use milter::reply::{Change, Verdict};
use milter::session::Session;
use milter::{Event, Fault};

/// Octets its changes may have.
const LIMIT: usize = 4096;
const TEXT: &[u8] = b"Received: us\r\nSubject: hi\r\n you\r\nFrom: a\r\n\r\nbody\r\n";

/// The input is what a filter says to everything from its terms to the end.
///
/// # Panics
/// When a property does not hold.
pub fn check(data: &[u8]) {
    let packets = converse(data, packet);
    let octets = converse(data, |_| 1);
    assert_eq!(packets, octets);
    if let Ok((_, changes)) = packets {
        change(&changes);
    }
}

/// How long the next packet is, or what is left of it.
fn packet(rest: &[u8]) -> usize {
    let length = rest
        .first_chunk::<4>()
        .map(|head| u32::from_be_bytes(*head));
    let whole = length.map_or(4, |length| (length as usize).saturating_add(4));
    whole.min(rest.len())
}

/// Tells a filter everything, with the answers it gives in pieces as long as `cut` says.
fn converse(mut rest: &[u8], cut: fn(&[u8]) -> usize) -> Result<(Verdict, Vec<Change>), Fault> {
    let (mut session, _) = Session::begin(LIMIT);
    let mut answer = |session: &mut Session| {
        while session.is_waiting() && !rest.is_empty() {
            let (piece, behind) = rest.split_at(cut(rest));
            rest = behind;
            session.feed(piece)?;
        }
        Ok(())
    };
    let events = [
        Event::Helo("x"),
        Event::Mail("a@example.com", &[]),
        Event::Rcpt("b@example.org", &[]),
        Event::Data,
        Event::Header(b"A", b" b"),
        Event::EndOfHeader,
        Event::Body(b"c"),
        Event::End,
    ];
    answer(&mut session)?;
    let mut last = Verdict::Continue;
    for event in events {
        if session.is_waiting() || last != Verdict::Continue {
            break;
        }
        if session.tell(event, &[])?.is_some() {
            answer(&mut session)?;
        }
        last = session.take_verdict();
    }
    assert!(session.leave().len() <= 10, "a long goodbye");
    Ok((last, session.take_changes()))
}

/// Makes the changes, and looks at what became of the message.
fn change(changes: &[Change]) {
    for leading_space in [false, true] {
        let mut message = Message::parse(TEXT.to_vec());
        message.change(changes, leading_space);
        let fields = message.fields().count();
        let body = message.body().to_vec();
        let (header, rest) = message.into_parts();
        assert_eq!(body, rest);
        let text = [header, rest].concat();
        let bare = |n: usize, octet: u8| match octet {
            b'\n' => n == 0 || text.get(n - 1) != Some(&b'\r'),
            b'\r' => text.get(n + 1) != Some(&b'\n'),
            _ => octet == 0,
        };
        let stray = text.iter().enumerate().any(|(n, octet)| bare(n, *octet));
        assert!(!stray, "{}", text.escape_ascii());
        // Read again, it has the same fields; one may stand above our own trace now.
        let above = changes
            .iter()
            .filter(|change| matches!(change, Change::InsertHeader(0, _)));
        let again = Message::parse(text.clone());
        assert_eq!(again.fields().count(), fields + above.count());
        assert_eq!(again.body(), body);
    }
}
