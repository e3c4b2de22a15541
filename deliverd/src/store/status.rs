//! `status.json`: the few things about a mailbox its files cannot tell.

use std::io;

use ipc::session::SpecialUse;
use serde::{Deserialize, Serialize};

use super::disk::Dir;

/// File name in a mailbox's directory.
const FILE: &str = "status.json";

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
    /// No modification sequence at or below this is given to a change.
    #[serde(default)]
    pub(crate) modseq_floor: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Status {
    /// A new mailbox.
    pub(crate) fn new(uid_validity: u32, special_use: Option<SpecialUse>) -> Self {
        Self {
            uid_validity,
            uid_next: 1,
            special_use: special_use.map(|usage| attribute(usage).to_owned()),
            modseq_floor: 0,
            rest: serde_json::Map::new(),
        }
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
const fn attribute(usage: SpecialUse) -> &'static str {
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
            r#"{"uid_validity":7,"uid_next":42,"mailbox_id":"x"}"#,
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
            text.contains(r#""mailbox_id":"x""#) && text.contains(r#""uid_next":43"#),
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
    fn every_use_survives_the_round_trip() {
        for usage in ALL {
            assert_eq!(Status::new(1, Some(usage)).special_use(), Some(usage));
        }
    }
}
