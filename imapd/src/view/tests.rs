use imap::sequence::Number;
use ipc::session::MailboxStatus;

use super::*;

fn record(uid: u32, flags: u8) -> Record {
    Record {
        uid,
        flags,
        keywords: 0,
        size: 10,
        internal_date: 0,
        modseq: 1,
    }
}

fn selection(uids: &[u32]) -> Selection {
    Selection {
        status: MailboxStatus {
            messages: u32::try_from(uids.len()).unwrap(),
            unseen: 0,
            deleted: 0,
            size: 0,
            uid_next: 100,
            uid_validity: 7,
            highest_modseq: 1,
            mailbox_id: 1,
        },
        keywords: vec!["a".into(), "b)".into()],
        read_only: false,
        messages: uids.iter().map(|uid| record(*uid, 0)).collect(),
    }
}

fn view(uids: &[u32]) -> View {
    View::new("INBOX".into(), selection(uids))
}

fn told(view: &mut View, expunges: Expunges) -> String {
    let mut out = Vec::new();
    view.tell(expunges, &mut out);
    String::from_utf8(out).unwrap()
}

fn set(first: u32, last: Number) -> SequenceSet {
    SequenceSet::new(vec![(Number::Value(first), last)])
}

#[test]
fn messages_keep_their_numbers_until_the_client_may_be_told() {
    let mut view = view(&[2, 4, 6]);
    view.note(SessionEvent::Removed(vec![(1, 4)]));
    view.note(SessionEvent::Added(vec![record(9, 0)]));
    assert_eq!(
        told(&mut view, Expunges::Held),
        "* 4 EXISTS\r\n* 0 RECENT\r\n"
    );
    assert_eq!(view.message(2).unwrap().uid, 6);
    assert_eq!(
        told(&mut view, Expunges::Allowed),
        "* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n"
    );
    assert_eq!(view.message(0).unwrap().uid, 6);
    assert!(!view.has_news());
}

#[test]
fn a_message_that_came_and_went_is_not_mentioned() {
    let mut view = view(&[2]);
    view.note(SessionEvent::Added(vec![record(9, 0), record(10, 0)]));
    view.note(SessionEvent::Changed(vec![record(10, bit::SEEN)]));
    view.note(SessionEvent::Removed(vec![(9, 9)]));
    assert_eq!(
        told(&mut view, Expunges::Allowed),
        "* 2 EXISTS\r\n* 0 RECENT\r\n"
    );
    assert_eq!(view.message(1).unwrap().flags, bit::SEEN);
}

#[test]
fn changed_flags_are_told_once_and_never_of_a_message_that_is_gone() {
    let mut view = view(&[2, 4]);
    view.note(SessionEvent::Changed(vec![
        record(2, bit::SEEN),
        record(4, bit::SEEN),
    ]));
    view.note(SessionEvent::Removed(vec![(4, 4)]));
    assert_eq!(
        told(&mut view, Expunges::Allowed),
        "* 1 FETCH (UID 2 FLAGS (\\Seen))\r\n* 2 EXPUNGE\r\n"
    );
    view.note(SessionEvent::Changed(vec![record(2, bit::SEEN)]));
    assert_eq!(told(&mut view, Expunges::Allowed), "");
}

#[test]
fn an_event_that_is_older_than_what_is_known_changes_nothing() {
    let mut view = view(&[2]);
    let newer = Record {
        modseq: 9,
        ..record(2, bit::SEEN)
    };
    view.note(SessionEvent::Changed(vec![newer]));
    view.note(SessionEvent::Changed(vec![record(2, 0)]));
    assert_eq!(view.message(0).unwrap().flags, bit::SEEN);
}

#[test]
fn keywords_imap_cannot_write_are_left_out() {
    let view = view(&[1]);
    let mut message = record(1, 0);
    message.keywords = 3;
    assert_eq!(view.flags_of(&message), [Flag::Keyword("a".into())]);
    let has = |keyword: &str| has_flag(view.keywords(), &message, &Flag::Keyword(keyword.into()));
    assert!(has("A") && !has("c"));
}

#[test]
fn numbers_beyond_the_last_message_are_an_error_and_uids_are_not() {
    let view = view(&[2, 4, 6]);
    let by = Numbering::Sequence;
    assert_eq!(view.pick(by, &set(4, Number::Value(4))), Err(NoSuchNumber));
    let pick = |by, set| view.pick(by, &set).map(|places| format!("{places:?}"));
    assert_eq!(pick(by, set(2, Number::Value(9))).unwrap(), "[1..3]");
    assert_eq!(pick(by, set(1, Number::Last)).unwrap(), "[0..3]");
    let by = Numbering::Uid;
    assert_eq!(view.pick(by, &set(5, Number::Value(5))), Ok(vec![]));
    assert_eq!(pick(by, set(3, Number::Value(50))).unwrap(), "[1..3]");
    assert_eq!(pick(by, set(50, Number::Last)).unwrap(), "[2..3]");
    let places = view
        .pick(Numbering::Sequence, &set(1, Number::Value(2)))
        .unwrap();
    assert_eq!(view.uid_ranges(&places), [(2, 4)]);
}

#[test]
fn an_empty_mailbox_has_nothing_to_pick() {
    let view = view(&[]);
    for by in [Numbering::Sequence, Numbering::Uid] {
        assert_eq!(view.pick(by, &set(1, Number::Last)), Ok(vec![]));
    }
    assert_eq!(
        view.pick(Numbering::Sequence, &set(1, Number::Value(1))),
        Err(NoSuchNumber)
    );
}

#[test]
fn what_was_lost_is_found_by_comparing() {
    let mut view = view(&[2, 4]);
    view.note(SessionEvent::Added(vec![record(8, 0)]));
    view.note(SessionEvent::Resync);
    assert_eq!(view.fate(), Fate::Stale);
    let mut now = selection(&[4, 9]);
    now.messages[0].flags = bit::FLAGGED;
    assert!(view.compare(now));
    assert_eq!(
        told(&mut view, Expunges::Allowed),
        "* 2 FETCH (UID 4 FLAGS (\\Flagged))\r\n* 1 EXPUNGE\r\n* 2 EXISTS\r\n* 0 RECENT\r\n"
    );
    let mut other = selection(&[]);
    other.status.uid_validity = 8;
    assert!(!view.compare(other));
}

#[test]
fn selecting_tells_what_the_rfc_wants() {
    let mut out = Vec::new();
    view(&[2, 4]).introduce(&mut out);
    let text = String::from_utf8(out).unwrap();
    for line in [
        "* FLAGS (",
        "* 2 EXISTS",
        "* 0 RECENT",
        "[UNSEEN 1]",
        "[UIDVALIDITY 7]",
        "[UIDNEXT 100]",
        "\\*)]",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
