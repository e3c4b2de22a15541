//! What the mailboxes hold, as a simple list of all that ever happened to them. It is changed by what commands mean, never by what the
//! server says; only what the server alone can choose (modification sequences, sizes after transport, ids) is learned, once.

use std::collections::BTreeMap;

use super::sharing::Rights;
use super::wire::Flags;

/// A text that messages can have; copies share it.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) subject: String,
    pub(crate) word: String,
    /// Bytes; `None` until the server has told, for what came through another door.
    pub(crate) size: Option<u64>,
    /// INTERNALDATE, as it was given or told.
    pub(crate) date: Option<String>,
    pub(crate) email_id: Option<String>,
}

impl Content {
    /// A number that grows with the date, which is in UTC: `07-Jan-2024 21:13:57 +0000`.
    pub(crate) fn moment(&self) -> u64 {
        let date = self.date.as_deref().unwrap().trim();
        let words: Vec<&str> = date.split([' ', '-', ':', '+']).collect();
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let month = months.find(words[1]).unwrap() as u64 / 3;
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        let day = (number(2) * 12 + month) * 31 + number(0);
        ((day * 24 + number(3)) * 60 + number(4)) * 60 + number(5)
    }
}

/// What a message was from some moment on.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) flags: Flags,
    /// Known when the mailbox has been asked for its own.
    pub(crate) modseq: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) content: usize,
    pub(crate) versions: Vec<Version>,
    pub(crate) is_gone: bool,
    /// When it went away.
    pub(crate) gone_at: Option<u64>,
}

impl Message {
    pub(crate) fn flags(&self) -> &Flags {
        &self.versions.last().unwrap().flags
    }

    pub(crate) fn modseq(&self) -> Option<u64> {
        self.versions.last().unwrap().modseq
    }
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Changes when it is renamed, or deleted and made again: whoever selected it before is thrown out.
    pub(crate) generation: u64,
    pub(crate) validity: u32,
    pub(crate) uid_next: u32,
    /// HIGHESTMODSEQ when it was asked for last.
    pub(crate) highest: u64,
    /// All that ever were in it.
    pub(crate) messages: BTreeMap<u32, Message>,
    /// What its own id is.
    pub(crate) id: Option<String>,
    /// Something happened since it was asked last.
    pub(crate) is_changed: bool,
    /// What others may do with it, or may not.
    pub(crate) acl: BTreeMap<String, Rights>,
}

impl Mailbox {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            validity: 0,
            uid_next: 1,
            highest: 0,
            messages: BTreeMap::new(),
            id: None,
            is_changed: true,
            acl: BTreeMap::new(),
        }
    }

    /// Those that are there, ascending.
    pub(crate) fn present(&self) -> impl Iterator<Item = (u32, &Message)> {
        let all = self.messages.iter();
        all.filter(|(_, message)| !message.is_gone)
            .map(|(uid, message)| (*uid, message))
    }

    pub(crate) fn is_present(&self, uid: u32) -> bool {
        self.messages.get(&uid).is_some_and(|one| !one.is_gone)
    }

    /// A message comes in. Its UID.
    pub(crate) fn add(&mut self, content: usize, flags: Flags) -> u32 {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.is_changed = true;
        let versions = vec![Version {
            flags,
            modseq: None,
        }];
        let message = Message {
            content,
            versions,
            is_gone: false,
            gone_at: None,
        };
        self.messages.insert(uid, message);
        uid
    }

    /// Flags become these. Whether that was a change.
    pub(crate) fn set(&mut self, uid: u32, flags: Flags) -> bool {
        let message = self.messages.get_mut(&uid).unwrap();
        if message.is_gone || *message.flags() == flags {
            return false;
        }
        self.is_changed = true;
        message.versions.push(Version {
            flags,
            modseq: None,
        });
        true
    }

    pub(crate) fn remove(&mut self, uid: u32) {
        let message = self.messages.get_mut(&uid).unwrap();
        assert!(!message.is_gone, "a mistake of the model");
        message.is_gone = true;
        self.is_changed = true;
    }

    /// Its modification sequence may be a later one when it is asked next, but never an earlier one.
    pub(crate) fn may_have_changed(&mut self) {
        self.highest -= 1;
        self.is_changed = true;
    }

    /// The mailbox was asked: what happened since the last time has this modification sequence.
    pub(crate) fn settle(&mut self, highest: u64) -> Result<(), String> {
        if self.is_changed != (highest > self.highest) {
            let (before, is_changed) = (self.highest, self.is_changed);
            return Err(format!(
                "HIGHESTMODSEQ went from {before} to {highest}; changed: {is_changed}"
            ));
        }
        for (uid, message) in &mut self.messages {
            for version in &mut message.versions {
                // One order, one modification sequence (docs/store.md).
                if *version.modseq.get_or_insert(highest) > highest {
                    return Err(format!("UID {uid} is beyond HIGHESTMODSEQ {highest}"));
                }
            }
            if message.is_gone {
                message.gone_at.get_or_insert(highest);
            }
        }
        self.highest = highest;
        self.is_changed = false;
        Ok(())
    }
}

/// All mailboxes, by the names that the first of the accounts has for them.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) mailboxes: BTreeMap<String, Mailbox>,
    pub(crate) contents: Vec<Content>,
    pub(crate) generations: u64,
}

impl World {
    pub(crate) fn create(&mut self, name: &str) {
        self.generations += 1;
        let made = Mailbox::new(self.generations);
        self.mailboxes.insert(name.into(), made);
    }

    pub(crate) fn mailbox(&self, name: &str) -> &Mailbox {
        &self.mailboxes[name]
    }

    pub(crate) fn mailbox_mut(&mut self, name: &str) -> &mut Mailbox {
        self.mailboxes.get_mut(name).unwrap()
    }

    /// A mailbox of that generation is there under that name.
    pub(crate) fn is_current(&self, name: &str, generation: u64) -> bool {
        self.mailboxes
            .get(name)
            .is_some_and(|mailbox| mailbox.generation == generation)
    }
}
