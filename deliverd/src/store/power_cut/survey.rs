//! The store as its clients see it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::SessionEvent;
use ipc::snapshot::Record;

use super::super::{BUFFER, Incoming, Listener, Mailbox, MailboxName, NewMessage, Owner, Store};
use super::ledger::{Message, Place};
use super::verdict::{Findings, Found};
use super::{FOLDERS, MAILBOXES, OWNERS, letter};

/// The INTERNALDATE of what is appended.
const DATE: i64 = 1_000_000_000;

struct Silent;
impl Listener for Silent {
    fn tell(&self, _: SessionEvent) -> bool {
        true
    }
}

/// The owner of that number.
pub(in crate::store) fn owner_of(number: usize) -> Owner {
    let (local, domain) = OWNERS[number];
    Owner {
        local: local.into(),
        domain: domain.into(),
    }
}

/// The number of an owner's INBOX.
pub(in crate::store) const fn inbox_of(owner: usize) -> usize {
    owner * FOLDERS.len()
}

/// The mailbox of that number; its user is made if need be.
pub(in crate::store) fn mailbox(store: &Store, number: usize) -> Result<Arc<Mailbox>, Refusal> {
    store
        .user(&owner_of(number / FOLDERS.len()))?
        .mailbox(&MailboxName::parse(FOLDERS[number % FOLDERS.len()])?)
}

/// A message on its way in.
pub(in crate::store) fn incoming(store: &Store, number: u64) -> Result<Incoming, Refusal> {
    let mut incoming = store.begin();
    for chunk in letter::bytes_of(number).chunks(BUFFER) {
        incoming.buffer().extend_from_slice(chunk);
        if incoming.is_full() {
            incoming.spill()?;
        }
    }
    Ok(incoming)
}

/// Appends a message and gives its UID.
pub(in crate::store) fn append(
    store: &Store,
    number: usize,
    message: &Message,
) -> Result<u32, Refusal> {
    let new = NewMessage {
        flags: message.flags,
        keywords: message.keywords.iter().cloned().collect(),
        size: 0,
        internal_date: DATE,
    };
    let mailbox = mailbox(store, number)?;
    Ok(store
        .append(incoming(store, message.number)?, &mailbox, new)?
        .1)
}

/// Puts messages together into a mailbox; gives their UIDs.
pub(in crate::store) fn append_together(
    store: &Store,
    number: usize,
    messages: &[Message],
) -> Result<Vec<u32>, Refusal> {
    let park = |message: &Message| {
        let new = NewMessage {
            flags: message.flags,
            keywords: message.keywords.iter().cloned().collect(),
            size: 0,
            internal_date: DATE,
        };
        incoming(store, message.number)?.park(new)
    };
    let parked = messages.iter().map(park).collect::<Result<Vec<_>, _>>()?;
    Ok(store.append_together(&mailbox(store, number)?, parked)?.1)
}

/// What a message is known by: id and EMAILID.
pub(in crate::store) fn ids(store: &Store, place: Place) -> Result<(u128, u128), Refusal> {
    let ids = mailbox(store, place.mailbox)?.ids(&vec![(place.uid, place.uid)])?;
    let ids = ids.first().map(|ids| (ids.id, ids.email_id));
    Ok(ids.unwrap_or_else(|| panic!("nothing is at {place:?}")))
}

/// The messages of a mailbox, and the names of its keywords.
fn list(mailbox: &Arc<Mailbox>) -> Result<(Vec<Record>, Vec<String>), Refusal> {
    let selected = mailbox.select(Arc::new(Silent))?;
    mailbox.unselect(selected.selection);
    Ok((mailbox.records()?, selected.keywords))
}

/// The number of the message that a file holds, if it is whole. `None` as well if it is gone.
fn number_of(mailbox: &Arc<Mailbox>, record: &Record) -> Result<Option<u64>, Refusal> {
    let mut bytes = Vec::new();
    for (_, mut file) in mailbox.open(&[record.uid])? {
        if file.read_to_end(&mut bytes).is_err() {
            return Err(Refusal::StorageFault);
        }
    }
    let is_right_size = bytes.len() as u64 == record.size;
    Ok(letter::number_of(&bytes).filter(|_| is_right_size))
}

/// Where the message is that was delivered into a mailbox a moment ago.
pub(super) fn find(store: &Store, number: usize, message: u64) -> Result<Place, Refusal> {
    let mailbox = mailbox(store, number)?;
    let size = letter::bytes_of(message).len() as u64;
    for record in list(&mailbox)?.0.iter().rev() {
        if record.size == size && number_of(&mailbox, record)? == Some(message) {
            return Ok(Place {
                mailbox: number,
                uid: record.uid,
            });
        }
    }
    panic!("message {message:x} was acknowledged and is not in mailbox {number}");
}

/// UIDVALIDITY of all mailboxes.
pub(super) fn uid_validity(store: &Store) -> Result<BTreeMap<usize, u32>, Refusal> {
    (0..MAILBOXES)
        .map(|number| Ok((number, mailbox(store, number)?.status()?.uid_validity)))
        .collect()
}

/// Everything that is in the store.
pub(in crate::store) fn findings(store: &Store) -> Result<Findings, Refusal> {
    findings_in(store, 0..MAILBOXES)
}

/// Everything that is in some of the mailboxes.
pub(in crate::store) fn findings_in(
    store: &Store,
    mailboxes: Range<usize>,
) -> Result<Findings, Refusal> {
    let mut findings = Findings::new();
    for number in mailboxes {
        let mailbox = mailbox(store, number)?;
        let (records, keywords) = list(&mailbox)?;
        for record in records {
            let place = Place {
                mailbox: number,
                uid: record.uid,
            };
            let (id, email_id) = ids(store, place)?;
            let found = Found {
                id,
                email_id,
                number: number_of(&mailbox, &record)?,
                flags: record.flags,
                keywords: named(&keywords, record.keywords),
            };
            let twice = findings.insert(place, found);
            assert!(twice.is_none(), "a UID is there twice: {place:?}");
        }
    }
    Ok(findings)
}

fn named(table: &[String], bits: u64) -> BTreeSet<String> {
    let named = table.iter().enumerate();
    named
        .filter(|(at, _)| bits & 1 << at != 0)
        .map(|(_, word)| word.clone())
        .collect()
}

/// What can be had back in the store in `directory` and is no whole message.
pub(super) fn torn(directory: &Path) -> Vec<String> {
    let users = OWNERS.iter().map(|(local, domain)| {
        let path = format!("mailstore/domains/{domain}/users/{local}/.expunged");
        directory.join(path)
    });
    let (mut torn, mut waiting) = (Vec::new(), users.collect::<Vec<_>>());
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end == "eml")
                && letter::number_of(&std::fs::read(&path).unwrap()).is_none()
            {
                torn.push(path.display().to_string());
            }
        }
    }
    torn
}
