use ipc::session::MailboxStatus;
use ipc::snapshot::ShardCount;

use super::*;

mod lazy;

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
            uid_next: uids.last().map_or(100, |last| (last + 1).max(100)),
            uid_validity: 7,
            highest_modseq: 1,
            mailbox_id: 1,
        },
        keywords: vec!["a".into(), "b)".into()],
        read_only: false,
        rights: ipc::acl::Rights::ALL,
        first_unseen: u32::from(!uids.is_empty()),
        shards: counts(uids),
    }
}

fn counts(uids: &[u32]) -> Vec<ShardCount> {
    let mut shards: Vec<ShardCount> = Vec::new();
    for uid in uids {
        match shards.last_mut() {
            Some(last) if last.shard == shard_of(*uid) => last.messages += 1,
            _ => shards.push(ShardCount {
                shard: shard_of(*uid),
                messages: 1,
                modseq: 1,
            }),
        }
    }
    shards
}

/// A view whose pages were all read.
fn view(uids: &[u32]) -> View {
    let mut view = View::new("INBOX".into(), selection(uids));
    view.take(pages(uids), Vec::new());
    view
}

/// Messages without flags, by shard.
fn pages(uids: &[u32]) -> Pages {
    let page = |line: ShardCount| {
        let mine = uids.iter().filter(|uid| shard_of(**uid) == line.shard);
        (line.shard, mine.map(|uid| record(*uid, 0)).collect())
    };
    counts(uids).into_iter().map(page).collect()
}

fn told(view: &mut View, expunges: Expunges) -> String {
    let mut out = Vec::new();
    view.tell(expunges, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn messages_keep_their_numbers_until_the_client_may_be_told() {
    let mut view = view(&[2, 4, 6]);
    view.note(SessionEvent::Removed(vec![(1, 4)]));
    view.note(SessionEvent::Added(vec![record(109, 0)]));
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
    view.note(SessionEvent::Added(vec![record(109, 0), record(110, 0)]));
    view.note(SessionEvent::Changed(vec![record(110, bit::SEEN)]));
    view.note(SessionEvent::Removed(vec![(109, 109)]));
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
fn what_was_lost_is_found_by_comparing() {
    let mut view = view(&[2, 4]);
    view.note(SessionEvent::Added(vec![record(108, 0)]));
    view.note(SessionEvent::Resync);
    assert_eq!(view.fate(), Fate::Stale);
    let mut now = selection(&[4, 109]);
    now.status.uid_next = 110;
    let comparison = view.compare_with(now, view.noted(), None).unwrap();
    let read = vec![(0, vec![record(4, bit::FLAGGED), record(109, 0)])];
    view.compare(&comparison, read, Vec::new()).unwrap();
    assert_eq!(
        told(&mut view, Expunges::Allowed),
        "* 2 FETCH (UID 4 FLAGS (\\Flagged))\r\n* 1 EXPUNGE\r\n* 2 EXISTS\r\n* 0 RECENT\r\n"
    );
    let mut other = selection(&[]);
    other.status.uid_validity = 8;
    assert!(view.compare_with(other, 0, None).is_err());
    assert_eq!(view.fate(), Fate::Lost);
}

#[test]
fn selecting_tells_what_the_rfc_wants() {
    let mut out = Vec::new();
    view(&[2, 4]).introduce(Off::default(), &mut out);
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
