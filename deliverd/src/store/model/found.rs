//! What the random operations have found, in its smallest form.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{NewMessage, Store, Totals};
use super::by_hand;
use super::verify::{mailbox_of, user_of};

#[test]
fn a_mailbox_made_or_copied_by_hand_gets_a_uid_validity_that_no_other_has() {
    let temp = tempfile::tempdir().unwrap();
    let uid_validity = |store: &Store, name: &str| {
        let mailbox = mailbox_of(&user_of(store, 0), name);
        mailbox.status().unwrap().uid_validity
    };
    let store = Store::open(temp.path()).unwrap();
    let before = uid_validity(&store, "INBOX");
    store.save();
    drop(store);
    let [inbox, copy, bare] =
        ["INBOX", "A copy", "Bare"].map(|name| temp.path().join(by_hand::place(0, name)));
    std::fs::create_dir_all(copy.join("0000")).unwrap();
    std::fs::copy(inbox.join("status.json"), copy.join("status.json")).unwrap();
    std::fs::create_dir_all(bare.join("0000")).unwrap();
    for _ in 0..2 {
        let store = Store::open(temp.path()).unwrap();
        assert_eq!(uid_validity(&store, "INBOX"), before);
        let names = [
            "INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash", "A copy", "Bare",
        ];
        let all: BTreeSet<u32> = names.map(|name| uid_validity(&store, name)).into();
        assert_eq!(all.len(), names.len(), "{all:?}");
    }
}

#[test]
fn a_mailbox_stays_in_memory_until_every_bringer_of_a_message_was_told() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let inbox = mailbox_of(&user_of(&store, 0), "INBOX");
    let mut incoming = store.begin();
    incoming.buffer().extend_from_slice(b"x");
    let file = Arc::new(incoming.seal(1).unwrap());
    let message = NewMessage {
        size: 1,
        ..NewMessage::default()
    };
    let permit = store.shared.journal.admit(4, 1 << 16).unwrap();
    let body = permit.body(1, b"x");
    let mut room = inbox.tally.hold(Totals::message(file.size)).unwrap();
    let promise = inbox
        .promise(&permit, body, &file, &message, &mut room)
        .unwrap();
    // Somebody else shows the message.
    inbox
        .with(|state| {
            inbox.drain(state);
            Ok(())
        })
        .unwrap();
    assert!(!inbox.unload(), "its bringer was not told yet");
    assert_eq!(inbox.publish(&permit, promise), Ok(()));
    assert!(inbox.unload());
}
