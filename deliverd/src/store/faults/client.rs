//! A client that does everything a client can do, and takes a refusal for what it is.

use std::collections::BTreeSet;
use std::path::Path;

use ipc::Refusal;
use ipc::session::FlagChange;
use ipc::snapshot::flag;

use super::super::dice::Dice;
use super::super::power_cut::ledger::{Message, Place};
use super::super::power_cut::survey::{self, inbox_of, owner_of};
use super::super::power_cut::{FOLDERS, MAILBOXES, OWNERS, letter};
use super::super::{BUFFER, FlagOrder, MailboxName, Store, ranges};
use super::book::Book;

/// What one operation is about, at most.
const TOGETHER: usize = 4;

/// The only client of a store.
pub(super) struct Client {
    pub(super) book: Book,
    pub(super) dice: Dice,
    pub(super) refusals: usize,
}

impl Client {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            book: Book::default(),
            dice: Dice::new(seed),
            refusals: 0,
        }
    }

    /// An operation is done or refused for a reason of the disk.
    fn result<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(Refusal::DiskFull | Refusal::StorageFault) => {
                self.refusals += 1;
                None
            }
            Err(other) => panic!("refused for another reason: {other:?}"),
        }
    }

    /// Every kind of operation, once.
    pub(super) fn do_everything(&mut self, store: &Store) {
        self.deliver(store, &[0, 2], false);
        self.append(store, 0, false);
        self.append(store, 1, true);
        self.deliver(store, &[0, 1, 2, 3], true);
        self.append(store, 0, false);
        self.append(store, 0, false);
        self.change_flags(store, 0);
        self.copy(store, 0, 1);
        self.look(store);
        self.move_away(store, 0, 2);
        self.expunge(store, 0, TOGETHER);
        self.change_mailboxes(store);
        self.look(store);
        store.save();
        self.append(store, 0, false);
    }

    /// One operation of any kind but reading.
    pub(super) fn do_something(&mut self, store: &Store) {
        let mailbox = self.dice.below(MAILBOXES);
        let folder = self.dice.below(FOLDERS.len());
        let target = mailbox / FOLDERS.len() * FOLDERS.len() + folder;
        let is_large = self.dice.below(8) == 0;
        match self.dice.below(10) {
            0..=2 => {
                self.deliver(store, &[0, 1, 2, 3][..=mailbox % OWNERS.len()], is_large);
            }
            3..=5 => {
                self.append(store, mailbox, is_large);
            }
            6 => self.change_flags(store, mailbox),
            7 => self.copy(store, mailbox, target),
            8 => self.move_away(store, mailbox, target),
            _ => self.expunge(store, mailbox, 1),
        }
    }

    fn new_number(&mut self, is_large: bool) -> u64 {
        self.book
            .new_number(|number| (letter::bytes_of(number).len() > BUFFER) == is_large)
    }

    /// False if it is refused.
    pub(super) fn deliver(&mut self, store: &Store, owners: &[usize], is_large: bool) -> bool {
        let number = self.new_number(is_large);
        let names: Vec<_> = owners.iter().map(|owner| owner_of(*owner)).collect();
        let incoming = survey::incoming(store, number);
        let delivered = incoming.and_then(|incoming| store.deliver(incoming, &names));
        let is_done = self.result(delivered).is_some();
        if is_done {
            for owner in owners {
                self.book.is_somewhere(number, vec![inbox_of(*owner)]);
            }
        }
        is_done
    }

    /// False if it is refused.
    pub(super) fn append(&mut self, store: &Store, mailbox: usize, is_large: bool) -> bool {
        let number = self.new_number(is_large);
        let message = Message::new(number, flag::SEEN, BTreeSet::from(["work".to_owned()]));
        let appended = survey::append(store, mailbox, &message);
        let uid = self.result(appended);
        if let Some(uid) = uid {
            self.book.comes(Place { mailbox, uid }, message);
        }
        uid.is_some()
    }

    fn some(&mut self, mailbox: usize, count: usize) -> Vec<(Place, Message)> {
        let mut messages = self.book.certain(mailbox);
        while messages.len() > count {
            messages.remove(self.dice.below(messages.len()));
        }
        messages
    }

    pub(super) fn change_flags(&mut self, store: &Store, mailbox: usize) {
        let some = self.some(mailbox, TOGETHER);
        let keyword = self.dice.choose(&["later", "$Junk", "x"]);
        let flag = self
            .dice
            .choose(&[flag::FLAGGED, flag::ANSWERED, flag::DRAFT]);
        let change = self.dice.choose(&[FlagChange::Add, FlagChange::Remove]);
        self.store_flags(store, mailbox, &some, change, flag, &[keyword]);
    }

    /// Gives the messages as they are now; empty if it is refused.
    fn store_flags(
        &mut self,
        store: &Store,
        mailbox: usize,
        messages: &[(Place, Message)],
        change: FlagChange,
        flags: u8,
        keywords: &[&str],
    ) -> Vec<(Place, Message)> {
        let keywords: Vec<String> = keywords.iter().map(|word| (*word).to_owned()).collect();
        let order = FlagOrder {
            change,
            flags,
            keywords: keywords.clone(),
            unchanged_since: None,
            heard: u64::MAX,
        };
        let changed = survey::mailbox(store, mailbox)
            .and_then(|mailbox| mailbox.store_flags(&uids(messages), &order));
        let is_done = self.result(changed).is_some();
        let mut now = Vec::new();
        for (place, message) in messages {
            let mut message = message.clone();
            if change == FlagChange::Remove {
                message.flags &= !flags;
                message.keywords.retain(|word| !keywords.contains(word));
            } else {
                message.flags |= flags;
                message.keywords.extend(keywords.iter().cloned());
            }
            if is_done {
                self.book.is(*place, Some(message.clone()));
                now.push((*place, message));
            } else {
                self.book.may_be(*place, Some(message));
            }
        }
        now
    }

    pub(super) fn expunge(&mut self, store: &Store, mailbox: usize, count: usize) {
        let some = self.some(mailbox, count);
        let marked = self.store_flags(store, mailbox, &some, FlagChange::Add, flag::DELETED, &[]);
        let expunged = survey::mailbox(store, mailbox)
            .and_then(|mailbox| mailbox.expunge(Some(&uids(&marked))));
        let is_done = self.result(expunged).is_some();
        for (place, _) in marked {
            if is_done {
                self.book.is(place, None);
            } else {
                self.book.may_be(place, None);
            }
        }
    }

    fn copy(&mut self, store: &Store, from: usize, to: usize) {
        let some = self.some(from, TOGETHER);
        let copied = survey::mailbox(store, from)
            .and_then(|source| source.copy(&uids(&some), &survey::mailbox(store, to)?));
        let Some(transfer) = self.result(copied) else {
            return;
        };
        assert_eq!(transfer.source, places(&some));
        for ((_, message), uid) in some.into_iter().zip(transfer.target) {
            self.book.comes(Place { mailbox: to, uid }, message.copy());
        }
    }

    fn move_away(&mut self, store: &Store, from: usize, to: usize) {
        let some = self.some(from, TOGETHER);
        let moved = survey::mailbox(store, from)
            .and_then(|source| source.move_to(&uids(&some), &survey::mailbox(store, to)?));
        let Some(transfer) = self.result(moved) else {
            for (place, message) in some {
                self.book.is_somewhere(message.number, vec![from, to]);
                self.book.may_be(place, None);
            }
            return;
        };
        assert_eq!(transfer.source, places(&some));
        for ((place, message), uid) in some.into_iter().zip(transfer.target) {
            self.book.is(place, None);
            self.book.comes(Place { mailbox: to, uid }, message);
        }
    }

    /// Makes a mailbox, renames it and removes it.
    fn change_mailboxes(&mut self, store: &Store) {
        let Some(user) = self.result(store.user(&owner_of(0))) else {
            return;
        };
        let name = |text: &str| MailboxName::parse(text).unwrap();
        // What a refusal left of the last time goes first.
        let mut changes = Vec::new();
        for old in ["New", "Newer"] {
            changes.push(user.delete_mailbox(&name(old)));
        }
        changes.push(user.create_mailbox(&name("New"), None));
        changes.push(user.rename_mailbox(&name("New"), &name("Newer")));
        changes.push(user.subscribe(&name("Newer"), true));
        changes.push(user.delete_mailbox(&name("Newer")));
        for change in changes {
            match change {
                Err(Refusal::NoSuchMailbox | Refusal::MailboxExists) => {}
                other => {
                    self.result(other);
                }
            }
        }
    }

    /// Reads one mailbox. It is refused, or everything acknowledged is there.
    pub(super) fn look(&mut self, store: &Store) {
        let found = survey::findings_in(store, 0..2);
        if let Some(found) = self.result(found) {
            let broken = self.book.broken(&found, |mailbox| mailbox < 2);
            assert!(broken.is_empty(), "while it runs:\n{}", broken.join("\n"));
        }
    }

    /// Without faults, the store must have all that was acknowledged.
    pub(super) fn check(&self, store: &Store, when: &str) {
        let broken = match survey::findings(store) {
            Ok(found) => self.book.broken(&found, |_| true),
            Err(refusal) => vec![format!("it cannot be read: {refusal:?}")],
        };
        assert!(broken.is_empty(), "{when}:\n{}", broken.join("\n"));
    }

    /// Opens the store, checks it, and takes over what is there.
    pub(super) fn reopen(&mut self, directory: &Path, when: &str) -> Store {
        let store = Store::open(directory).unwrap_or_else(|why| panic!("{when}: {why}"));
        self.check(&store, when);
        self.book.settle(survey::findings(&store).unwrap());
        store
    }
}

fn places(messages: &[(Place, Message)]) -> Vec<u32> {
    messages.iter().map(|(place, _)| place.uid).collect()
}

fn uids(messages: &[(Place, Message)]) -> ipc::session::UidRanges {
    ranges(&places(messages))
}
