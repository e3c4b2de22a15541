//! What was expunged and can be had back: as the model says, whole, and once.

use std::io::Read;

use ipc::tools::{ExpungedMessage, ExpungedRange, Row};

use super::super::{MailboxName, Store, Wanted, message_file};
use super::state::{Change, Letter, Tree, What};
use super::{letter, owner};

/// A message that can be had back.
pub(super) struct Found {
    pub(super) mailbox: String,
    pub(super) uid_validity: u32,
    pub(super) letter: Letter,
}

/// Compares what is there with the model, while nothing else happens.
pub(super) fn check(tree: &Tree, store: &Store, user: usize) -> Vec<Found> {
    let found = find(store, user);
    let mut expected = tree.all_kept();
    for Found { letter, .. } in &found {
        let at = expected.iter().position(|kept| kept.may_be(letter));
        let at =
            at.unwrap_or_else(|| panic!("{letter:?} was not expunged, or not so: {expected:?}"));
        expected.remove(at);
    }
    assert_eq!(expected, [], "these were expunged and are not kept");
    found
}

/// The same after a kill: of what was being given back each is here, or among the `come` that came to mailboxes, or both.
pub(super) fn check_after_kill(
    tree: &mut Tree,
    store: &Store,
    user: usize,
    under_way: &[Vec<Change>],
    come: usize,
) {
    let changes = under_way.iter().flatten();
    let restored = changes.filter(|change| change.user == user);
    let restored: Vec<Letter> = restored
        .filter_map(|change| match &change.what {
            What::Restored(letters) => Some(letters.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let found = find(store, user).into_iter().map(|found| found.letter);
    let found: Vec<Letter> = found.collect();
    let mut missing = tree.all_kept();
    for letter in &found {
        let at = missing.iter().position(|kept| kept.may_be(letter));
        let at =
            at.unwrap_or_else(|| panic!("{letter:?} was not expunged, or not so: {missing:?}"));
        missing.remove(at);
    }
    let is_under_way = |letter: &Letter| restored.iter().any(|one| letter.may_be(one));
    assert!(
        missing.iter().all(is_under_way) && missing.len() <= come,
        "these are lost, though {come} came to mailboxes: {missing:?}; under way: {under_way:?}"
    );
    tree.set_kept(found);
}

/// Everything of a user.
fn find(store: &Store, user: usize) -> Vec<Found> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (rows, next) = store
            .expunged(&owner(user), &Wanted::default(), after.as_deref())
            .unwrap();
        for row in rows {
            let Row::Expunged(message) = row else {
                panic!("{row:?}")
            };
            found.push(read(store, user, message));
        }
        if next.is_none() {
            return found;
        }
        after = next;
    }
}

fn read(store: &Store, user: usize, message: ExpungedMessage) -> Found {
    let mailbox = MailboxName::parse(&message.mailbox).unwrap();
    let deleted = if message.with_mailbox { ".deleted" } else { "" };
    let path = format!(
        "{}/.expunged/{}/{}/{}{deleted}/{}/{}",
        owner(user).path().unwrap(),
        message.day,
        mailbox.file_name(),
        message.uid_validity,
        message_file::shard_name(message_file::shard_of(message.uid)),
        message_file::file_name(message.uid, message.flags),
    );
    let mut bytes = Vec::new();
    let mut file = store.shared.root.open_file(&path).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let number = letter::number_of(&bytes);
    Found {
        mailbox: message.mailbox,
        uid_validity: message.uid_validity,
        letter: Letter {
            number: number.unwrap_or_else(|| panic!("{path} is not whole")),
            flags: message.flags,
            keywords: message.keywords.into_iter().collect(),
            date: Some(message.internal_date),
            // What comes back is a message of its own.
            id: None,
            email_id: None,
        },
    }
}

/// Gives back all, or what was in one mailbox.
pub(super) fn undelete(store: &Store, user: usize, mailbox: Option<&str>) {
    let range = ExpungedRange {
        mailbox: mailbox.map(str::to_owned),
        ..ExpungedRange::default()
    };
    let wanted = Wanted::read(&range).unwrap();
    let mut after = None;
    loop {
        let restored = store.undelete(&owner(user), &wanted, after.as_deref());
        after = restored.unwrap().after;
        if after.is_none() {
            return;
        }
    }
}
