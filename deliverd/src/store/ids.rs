//! What a message is known by for ever: its id, which no other message of the account ever has, and its EMAILID (RFC 8474 §5.1),
//! which its copies share.
//!
//! Both follow from where the message stood first, so nothing is kept about a message that stays there. What came by COPY or MOVE
//! has a line in a small text file per shard under `.ids/`: its UID, its id – or `-`, for a copy is a message of its own – and its
//! EMAILID. The first line names the mailbox, so that in one that was copied by hand the lines mean nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ipc::Refusal;
use ipc::session::{IDS_PER_FRAME, MessageIds, UidRanges};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk::Dir;
use super::journal::Event;
use super::mailbox::{Mailbox, State};
use super::message_file::{self, MAX_UID, shard_of};
use super::status::Status;
use crate::fault::OrFault;

/// Directory of these files in a mailbox.
pub(crate) const DIRECTORY: &str = ".ids";
/// Begins the first line; the mailbox's id follows, as in `status.json`.
const HEAD: &str = "mailbox_id ";
/// Distinguishes this use of the hash from any other.
const DOMAIN: &[u8] = b"rmail message id\0";

/// What a message is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) id: u128,
    pub(super) email_id: u128,
}

/// What a message that came from elsewhere brought along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Brought {
    /// `None` for a copy: its id follows from where it stands.
    id: Option<u128>,
    email_id: u128,
}

/// Messages that came from elsewhere, by UID.
pub(super) type Lines = BTreeMap<u32, Brought>;

/// A shard's file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) lines: Lines,
    /// Lines that cannot be read.
    pub(super) damaged: usize,
    /// It belongs to another mailbox. None of its lines are read.
    pub(super) is_foreign: bool,
}

impl Ids {
    /// What a copy of the message takes along.
    pub(super) const fn of_copy(self) -> Brought {
        Brought {
            id: None,
            email_id: self.email_id,
        }
    }

    /// What the message itself takes along.
    pub(super) const fn of_move(self) -> Brought {
        Brought {
            id: Some(self.id),
            email_id: self.email_id,
        }
    }
}

impl Status {
    /// What the message with this UID is known by.
    fn ids(&self, uid: u32, brought: Option<&Brought>) -> Ids {
        let own = || {
            let mut hash = Sha256::new();
            hash.update(DOMAIN);
            hash.update(self.id().to_be_bytes());
            hash.update(self.uid_validity.to_be_bytes());
            hash.update(uid.to_be_bytes());
            let hash = hash.finalize();
            let bytes = hash.first_chunk().copied().unwrap_or_default();
            u128::from_be_bytes(bytes)
        };
        match brought {
            None => {
                let id = own();
                Ids { id, email_id: id }
            }
            Some(Brought { id, email_id }) => Ids {
                id: id.unwrap_or_else(own),
                email_id: *email_id,
            },
        }
    }
}

impl Text {
    /// Reads the file of a shard in the mailbox with this id.
    pub(super) fn parse(text: &[u8], mailbox_id: u128, shard: u32) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines();
        let mailbox = lines.next().and_then(|line| line.strip_prefix(HEAD));
        let mut read = Self {
            is_foreign: mailbox.and_then(number) != Some(mailbox_id),
            ..Self::default()
        };
        if read.is_foreign {
            return read;
        }
        for line in lines {
            match message(line).filter(|(uid, _)| shard_of(*uid) == shard) {
                Some((uid, brought)) => drop(read.lines.insert(uid, brought)),
                None => read.damaged += 1,
            }
        }
        read
    }
}

fn message(line: &str) -> Option<(u32, Brought)> {
    let mut words = line.split_ascii_whitespace();
    let uid = words.next()?.parse().ok()?;
    let id = match words.next()? {
        "-" => None,
        id => Some(number(id)?),
    };
    let email_id = number(words.next()?)?;
    let brought = Brought { id, email_id };
    words.next().is_none().then_some((uid, brought))
}

fn number(digits: &str) -> Option<u128> {
    let fits = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| u128::from_str_radix(digits, 16).ok())?
}

/// The text of a shard's file.
pub(super) fn format(mailbox_id: u128, lines: &Lines) -> String {
    let mut text = format!("{HEAD}{mailbox_id:032x}\n");
    for (uid, Brought { id, email_id }) in lines {
        let id = id.map_or("-".to_owned(), |id| format!("{id:032x}"));
        text.push_str(&format!("{uid:08} {id} {email_id:032x}\n"));
    }
    text
}

/// The file of a shard.
pub(super) fn path(shard: u32) -> String {
    format!("{DIRECTORY}/{}", message_file::shard_name(shard))
}

/// What the file of a shard says; nothing if there is none.
pub(super) fn read(mailbox: &Dir, mailbox_id: u128, shard: u32) -> io::Result<Lines> {
    let text = mailbox.read_small(&path(shard))?;
    Ok(text.map_or_else(Lines::new, |text| {
        Text::parse(&text, mailbox_id, shard).lines
    }))
}

/// Writes the file of a shard, durably.
pub(super) fn write(mailbox: &Dir, mailbox_id: u128, shard: u32, lines: &Lines) -> io::Result<()> {
    let text = format(mailbox_id, lines);
    mailbox
        .make_path(DIRECTORY)?
        .write_small(&message_file::shard_name(shard), text.as_bytes())
}

/// A UID above all that have a line, if that is above `uid_next`.
pub(super) fn above(mailbox: &Dir, mailbox_id: u128, uid_next: u32) -> io::Result<u32> {
    let dir = match mailbox.dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(uid_next),
        dir => dir?,
    };
    let names = dir.entries()?.into_iter().map(|entry| entry.name);
    let shards = names.filter_map(|name| message_file::parse_shard(&name));
    let mut above = uid_next;
    for shard in shards.filter(|shard| *shard >= shard_of(uid_next)) {
        let lines = read(mailbox, mailbox_id, shard)?;
        let highest = lines.keys().rfind(|uid| **uid <= MAX_UID);
        above = above.max(highest.map_or(0, |highest| highest + 1));
    }
    Ok(above)
}

impl Mailbox {
    /// What messages are known by, ascending; at most [`IDS_PER_FRAME`] of them. Those that are gone are left out.
    pub(crate) fn ids(self: &Arc<Self>, uids: &UidRanges) -> Result<Vec<MessageIds>, Refusal> {
        self.with(|state| {
            self.need(state, uids)?;
            let members = state.records.members(uids).into_iter();
            let uids: Vec<u32> = members
                .map(|record| record.uid)
                .take(IDS_PER_FRAME)
                .collect();
            let ids = self.identify(state, &uids)?;
            let known = uids.into_iter().zip(ids);
            let known = known.map(|(uid, Ids { id, email_id })| MessageIds { uid, id, email_id });
            Ok(known.collect())
        })
    }

    /// What these messages are known by, in the same order; `uids` ascending.
    pub(super) fn identify(&self, state: &State, uids: &[u32]) -> Result<Vec<Ids>, Refusal> {
        let dir = self.dir().or_fault("open a mailbox")?;
        let mut all = Vec::with_capacity(uids.len());
        for uids in uids.chunk_by(|a, b| shard_of(*a) == shard_of(*b)) {
            let shard = shard_of(uids[0]);
            let lines = read(&dir, state.status.id(), shard).or_fault("read ids")?;
            all.extend(uids.iter().map(|uid| {
                let brought = state.brought.get(uid).or_else(|| lines.get(uid));
                state.status.ids(*uid, brought)
            }));
        }
        Ok(all)
    }

    /// Writes the ids of a shard, durably. Lines of messages that are gone go too.
    pub(super) fn write_ids(
        self: &Arc<Self>,
        state: &mut State,
        shard: u32,
    ) -> Result<(), Refusal> {
        self.need(state, &message_file::uids_of(shard))?;
        let dir = self.dir().or_fault("open a mailbox")?;
        let mailbox_id = state.status.id();
        let mut lines = read(&dir, mailbox_id, shard).or_fault("read ids")?;
        let is_there = |uid: &u32| shard_of(*uid) == shard;
        lines.extend(state.brought.iter().filter(|(uid, _)| is_there(uid)));
        lines.retain(|uid, _| state.record(*uid).is_some());
        write(&dir, mailbox_id, shard, &lines).or_fault("write ids")?;
        state.brought.retain(|uid, _| !is_there(uid));
        Ok(())
    }

    /// Removes the file of a shard whose messages are all gone. What stays of a fault means nothing.
    pub(super) fn forget_ids(&self, state: &State, shard: u32) {
        let is_empty = state
            .records
            .shard(shard)
            .is_some_and(|known| known.sums().messages == 0);
        if is_empty {
            // The fault is logged.
            let _ = self
                .dir()
                .and_then(|dir| match dir.dir(DIRECTORY) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    dir => dir?.remove_if_there(&message_file::shard_name(shard)),
                })
                .or_fault("remove ids");
        }
    }
}

impl State {
    /// What messages brought along that the files do not say yet, as the journal would tell it.
    pub(super) fn brought(&self, place: &super::journal::Place) -> Event {
        Event::Transferred {
            place: place.clone(),
            brought: self.brought.iter().map(|(uid, it)| (*uid, *it)).collect(),
            gone: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPIED: Brought = Brought {
        id: None,
        email_id: 2,
    };
    const MOVED: Brought = Brought {
        id: Some(u128::MAX),
        email_id: 1 << 127,
    };

    #[test]
    fn a_file_survives_the_round_trip() {
        let lines = Lines::from([(41, COPIED), (999, MOVED)]);
        let text = format(7, &lines);
        let expected = "mailbox_id 00000000000000000000000000000007\n\
            00000041 - 00000000000000000000000000000002\n\
            00000999 ffffffffffffffffffffffffffffffff 80000000000000000000000000000000\n";
        assert_eq!(text, expected);
        let read = Text::parse(text.as_bytes(), 7, 0);
        assert_eq!(
            (read.lines, read.damaged, read.is_foreign),
            (lines, 0, false)
        );
    }

    #[test]
    fn the_file_of_another_mailbox_says_nothing() {
        let text = format(7, &Lines::from([(41, MOVED)]));
        for text in [
            &*text,
            "",
            "\n",
            "00000041 - 00000000000000000000000000000002\n",
        ] {
            let read = Text::parse(text.as_bytes(), 8, 0);
            assert!(read.is_foreign && read.lines.is_empty(), "{text}");
        }
    }

    #[test]
    fn garbage_in_a_file_is_passed_over() {
        let good = format(7, &Lines::from([(41, MOVED)]));
        for garbage in [
            "",
            "x",
            "00000042",
            "00000042 -",
            "00000042 - 2",
            "00000042 - +0000000000000000000000000000002",
            "00000042 - 00000000000000000000000000000002 x",
            "00000042 0 00000000000000000000000000000002",
            "99999999999 - 00000000000000000000000000000002",
            // That of another shard.
            "00001000 - 00000000000000000000000000000002",
            "\u{fffd}",
        ] {
            let text = format!("{good}{garbage}\n");
            let read = Text::parse(text.as_bytes(), 7, 0);
            assert_eq!(read.lines, Lines::from([(41, MOVED)]), "{garbage}");
            assert_eq!(read.damaged, 1, "{garbage}");
        }
    }

    /// Whoever has ids of messages keeps them: another way to work them out is another id for every message there is.
    #[test]
    fn an_id_follows_from_mailbox_uidvalidity_and_uid_and_never_changes() {
        let status = |mailbox_id: u128, uid_validity| {
            let mut status = Status::new(uid_validity, None);
            status.mailbox_id = format!("{mailbox_id:032x}");
            status
        };
        let ids = status(7, 1_700_000_000).ids(41, None);
        assert_eq!(ids.id, ids.email_id);
        assert_eq!(
            format!("{:032x}", ids.id),
            "bea376e2b2965231b08ac36313a68d59"
        );
        for (other, uid) in [
            (status(8, 1_700_000_000), 41),
            (status(7, 1_700_000_001), 41),
        ] {
            assert_ne!(other.ids(uid, None).id, ids.id);
        }
        let next = status(7, 1_700_000_000).ids(42, Some(&ids.of_copy()));
        assert_ne!(next.id, ids.id);
        assert_eq!(next.email_id, ids.email_id);
        let moved = status(7, 1_700_000_000).ids(42, Some(&ids.of_move()));
        assert_eq!(moved, ids);
    }
}
