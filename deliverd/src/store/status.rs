//! `status.json`: the few things about a mailbox its files cannot tell.

use std::io;

use ipc::session::SpecialUse;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::disk::Dir;

/// File name in a mailbox's directory.
pub(super) const FILE: &str = "status.json";

/// Content of `status.json`. Keys this build does not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// RFC 9051 §2.3.1.1.
    pub(crate) uid_validity: u32,
    /// No UID below this is given to a new message.
    ///
    /// Invariant: above every UID whose file was ever removed. Not always the next UID: files with higher UIDs count too.
    pub(crate) uid_next: u32,
    /// RFC 6154 attribute, with its backslash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) special_use: Option<String>,
    /// Names the mailbox for ever, whatever it is called (RFC 8474 §4.1): 32 hexadecimal digits. Empty until it is given.
    #[serde(default)]
    pub(crate) mailbox_id: String,
    /// No modification sequence at or below this is given to a change.
    #[serde(default)]
    pub(crate) modseq_floor: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Status {
    /// A new mailbox.
    pub(crate) fn new(uid_validity: u32, special_use: Option<SpecialUse>) -> Self {
        let mut status = Self {
            uid_validity,
            uid_next: 1,
            special_use: special_use.map(|usage| attribute(usage).to_owned()),
            mailbox_id: String::new(),
            modseq_floor: 0,
            rest: serde_json::Map::new(),
        };
        status.give_id();
        status
    }

    /// Gives the mailbox an id if it has none. True if it got one.
    pub(crate) fn give_id(&mut self) -> bool {
        let is_missing = self.id() == 0;
        if is_missing {
            self.renew_id();
        }
        is_missing
    }

    /// Gives the mailbox an id no other one has.
    pub(crate) fn renew_id(&mut self) {
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            // It gets one when it is read next.
            error!(%error, "cannot get random numbers for the id of a mailbox");
        }
        self.mailbox_id = format!("{:032x}", u128::from_be_bytes(random));
    }

    /// The mailbox's id; 0 if it has none.
    pub(crate) fn id(&self) -> u128 {
        let is_id = self.mailbox_id.len() == 32;
        u128::from_str_radix(&self.mailbox_id, 16)
            .ok()
            .filter(|_| is_id)
            .unwrap_or(0)
    }

    /// Reads the file; `None` if it is missing or is no status.
    pub(crate) fn read(mailbox: &Dir) -> io::Result<Option<Self>> {
        Ok(mailbox
            .read_small(FILE)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes the file, durably.
    pub(crate) fn write(&self, mailbox: &Dir) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        mailbox.write_small(FILE, &bytes)
    }

    /// What the mailbox is for.
    pub(crate) fn special_use(&self) -> Option<SpecialUse> {
        let text = self.special_use.as_deref()?;
        ALL.into_iter()
            .find(|usage| attribute(*usage).eq_ignore_ascii_case(text))
    }
}

const ALL: [SpecialUse; 5] = [
    SpecialUse::Archive,
    SpecialUse::Drafts,
    SpecialUse::Junk,
    SpecialUse::Sent,
    SpecialUse::Trash,
];

// RFC 6154 §2.
pub(super) const fn attribute(usage: SpecialUse) -> &'static str {
    match usage {
        SpecialUse::Archive => "\\Archive",
        SpecialUse::Drafts => "\\Drafts",
        SpecialUse::Junk => "\\Junk",
        SpecialUse::Sent => "\\Sent",
        SpecialUse::Trash => "\\Trash",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::root(temp.path()).unwrap();
        std::fs::write(
            temp.path().join(FILE),
            r#"{"uid_validity":7,"uid_next":42,"colour":"red"}"#,
        )
        .unwrap();
        let mut status = Status::read(&dir).unwrap().unwrap();
        assert_eq!(
            (status.uid_validity, status.uid_next, status.special_use()),
            (7, 42, None)
        );
        status.uid_next = 43;
        status.write(&dir).unwrap();
        let text = std::fs::read_to_string(temp.path().join(FILE)).unwrap();
        assert!(
            text.contains(r#""colour":"red""#) && text.contains(r#""uid_next":43"#),
            "{text}"
        );
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::root(temp.path()).unwrap();
        std::fs::write(temp.path().join(FILE), "{").unwrap();
        assert_eq!(Status::read(&dir).unwrap(), None);
    }

    #[test]
    fn an_id_is_given_once() {
        let mut status = Status::new(1, None);
        let id = status.id();
        assert_ne!(id, 0);
        assert!(!status.give_id());
        assert_eq!(status.id(), id);
        status.mailbox_id = "0123".into();
        assert!(status.give_id());
        assert_ne!(status.id(), Status::new(1, None).id());
    }

    #[test]
    fn every_use_survives_the_round_trip() {
        for usage in ALL {
            assert_eq!(Status::new(1, Some(usage)).special_use(), Some(usage));
        }
    }
}
