//! What a session says fits into frames.

use super::*;
use crate::Return;
use crate::frame::{decode, encode};

#[test]
fn as_many_records_and_ranges_as_one_event_may_carry_go_through_a_frame() {
    let record = Record {
        uid: u32::MAX,
        flags: u8::MAX,
        keywords: u64::MAX,
        size: u64::MAX,
        internal_date: i64::MIN,
        modseq: u64::MAX,
    };
    for event in [
        SessionEvent::Added(vec![record; RECORDS_PER_FRAME]),
        SessionEvent::Changed(vec![record; RECORDS_PER_FRAME]),
        SessionEvent::Removed(vec![(u32::MAX, u32::MAX); RANGES_PER_FRAME]),
    ] {
        let event = Return::<SessionAnswer, SessionEvent>::Event(event);
        // Reading is bounded by what the values take in memory, too.
        assert_eq!(decode(&encode(&event).unwrap()), Ok(event));
    }
}

#[test]
fn all_annotations_of_a_mailbox_fit_a_frame() {
    use crate::metadata::{MAX_BYTES, MAX_ENTRIES, MAX_NAME};
    let annotation = Annotation {
        name: "x".repeat(MAX_NAME),
        value: Vec::new(),
    };
    let mut all = vec![annotation; MAX_BYTES / MAX_NAME];
    all.resize_with(MAX_ENTRIES, || Annotation {
        name: String::new(),
        value: Vec::new(),
    });
    let listed = Return::<SessionAnswer, SessionEvent>::Answer {
        id: u64::MAX,
        result: Ok(SessionAnswer::Annotations(all)),
    };
    assert!(encode(&listed).is_ok_and(|frame| decode(&frame) == Ok(listed)));
}

#[test]
fn a_full_list_of_happenings_fits_a_frame() {
    let name = "x".repeat(MAX_MAILBOX_NAME);
    let happening = Happening {
        mailbox: MailboxInfo {
            name,
            exists: true,
            subscribed: true,
            special_use: Some(SpecialUse::Trash),
            has_children: true,
            rights: Rights::ALL,
        },
        what: What::Annotated("x".repeat(crate::metadata::MAX_NAME)),
    };
    let listed = SessionAnswer::HappeningsListed {
        happenings: vec![happening; HAPPENINGS_PER_FRAME],
        more: true,
        lost: false,
    };
    assert_eq!(decode(&encode(&listed).unwrap()), Ok(listed));
}

#[test]
fn a_full_access_control_list_fits_a_frame() {
    use crate::acl::{MAX_BYTES, MAX_ENTRIES, MAX_IDENTIFIER};
    let rights = Rights::ALL;
    let entry = |length| AclEntry {
        identifier: "x".repeat(length),
        rights,
    };
    let entries = vec![entry(MAX_BYTES / MAX_ENTRIES); MAX_ENTRIES];
    let owner = "x".repeat(MAX_IDENTIFIER);
    let listed = SessionAnswer::Acl { owner, entries };
    assert_eq!(decode(&encode(&listed).unwrap()), Ok(listed));
}

#[test]
fn a_full_list_of_ids_fits_a_frame() {
    let ids = MessageIds {
        uid: u32::MAX,
        id: u128::MAX,
        email_id: u128::MAX,
    };
    let listed = SessionAnswer::IdsListed(vec![ids; IDS_PER_FRAME]);
    assert_eq!(decode(&encode(&listed).unwrap()), Ok(listed));
}

#[test]
fn the_largest_table_of_shards_fits_into_a_frame_with_all_keywords() {
    let answer = SessionAnswer::Selected {
        status: MailboxStatus {
            messages: 0,
            unseen: 0,
            deleted: 0,
            size: 0,
            uid_next: 0,
            uid_validity: 0,
            highest_modseq: 0,
            mailbox_id: 0,
        },
        first_unseen: 0,
        keywords: vec!["x".repeat(MAX_KEYWORD_LEN); MAX_KEYWORDS],
        read_only: false,
        rights: Rights::ALL,
        shards: vec![
            ShardCount {
                shard: u32::MAX,
                messages: u16::MAX,
                modseq: u64::MAX,
            };
            SHARDS_IN_FRAME
        ],
    };
    let answer = Return::<SessionAnswer, SessionEvent>::Answer {
        id: u64::MAX,
        result: Ok(answer),
    };
    assert!(encode(&answer).is_ok());
}

#[test]
fn what_is_said_to_be_appended_in_one_frame_is() {
    let mailbox = "x".repeat(MAX_MAILBOX_NAME);
    for count in [0, 1, MAX_KEYWORDS] {
        let keywords = vec!["x".repeat(MAX_KEYWORD_LEN); count];
        let fits = |size: &usize| append_fits_in_frame(&mailbox, &keywords, *size);
        let size = (0..MAX_FRAME).rfind(fits).unwrap();
        let call = crate::Call {
            id: u64::MAX,
            deadline_ms: u32::MAX,
            context: crate::Context::default(),
            request: SessionRequest::Append {
                mailbox: mailbox.clone(),
                bytes: vec![0; size],
                flags: u8::MAX,
                keywords: keywords.clone(),
                internal_date: Some(i64::MAX),
            },
        };
        let frame = encode(&call).unwrap();
        // It is read back although decoding counts what lists take in memory.
        assert_eq!(decode(&frame), Ok(call), "{count}");
    }
}
