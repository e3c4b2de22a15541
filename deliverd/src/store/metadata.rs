//! `metadata.json`: what users wrote down about a mailbox, or about their account (RFC 5464).
//!
//! A file of its own in the directory it is about, so it goes where that goes. Names are keys; a value is text, or
//! `{"base64": "…"}` where it is no text.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ipc::Refusal;
use ipc::metadata::{
    Annotation, AnnotationChange, MAX_BYTES, MAX_ENTRIES, MAX_VALUE, SPECIAL_USE, is_name,
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::disk::Dir;
use super::mailbox::Mailbox;
use super::status;
use super::user::User;
use crate::fault::OrFault;

/// File name in a mailbox's, or a user's directory.
pub(super) const FILE: &str = "metadata.json";
/// Where it is written before it has its name.
pub(super) const TEMPORARY: &str = ".metadata.json.new";
/// In a user's directory: what the user wrote down about mailboxes of others, a file for each, named by its MAILBOXID.
pub(super) const NOTES: &str = ".notes";
/// How many mailboxes of others that can be.
const MAX_NOTES: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { base64: String },
}

impl Value {
    fn new(bytes: Vec<u8>) -> Self {
        let is_odd = |letter: char| letter.is_control() && !"\r\n\t".contains(letter);
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains(is_odd) => Self::Text(text),
            Ok(text) => Self::bytes(text.as_bytes()),
            Err(error) => Self::bytes(error.as_bytes()),
        }
    }

    fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes {
            base64: mail::encode::base64(bytes),
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes { base64 } => mail::decode::base64(base64.as_bytes()),
        }
    }
}

/// The annotations of one mailbox or account.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Annotations(BTreeMap<String, Value>);

impl Annotations {
    /// Reads the file. One that is damaged has nothing; it is written anew with the next change.
    fn read(dir: &Dir, file: &str) -> io::Result<Self> {
        let Some(bytes) = dir.read_small(file)? else {
            return Ok(Self::default());
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(%error, file, "annotations are damaged, what they said is not known any more");
            Self::default()
        }))
    }

    /// Writes the file, durably; there is none where nothing is in it.
    fn write(&self, dir: &Dir, file: &str) -> io::Result<()> {
        if self.0.is_empty() {
            return match dir.remove_if_there(file)? {
                true => dir.sync(),
                false => Ok(()),
            };
        }
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        dir.write_small(file, &bytes)
    }

    /// What is there to be told: a file that was written by hand may have more than is lent out.
    fn into_list(self) -> Vec<Annotation> {
        let mut room = MAX_BYTES;
        let entries = self.0.into_iter().filter(|(name, _)| is_name(name));
        let entries = entries.map(|(name, value)| Annotation {
            name,
            value: value.into_bytes(),
        });
        let fitting = entries.filter(|entry| {
            let size = entry.name.len() + entry.value.len();
            let fits = entry.value.len() <= MAX_VALUE && size <= room;
            room -= if fits { size } else { 0 };
            fits
        });
        fitting.take(MAX_ENTRIES).collect()
    }

    fn size(&self) -> usize {
        let size = |(name, value): (&String, &Value)| name.len() + value.clone().into_bytes().len();
        self.0.iter().map(size).sum()
    }

    /// Makes all changes. Refused with [`Refusal::OverQuota`] if there is too much afterwards, and more than before.
    fn change(&mut self, changes: Vec<AnnotationChange>) -> Result<(), Refusal> {
        let before = (self.0.len(), self.size());
        for AnnotationChange { name, value } in changes {
            match value {
                Some(value) => self.0.insert(name, Value::new(value)),
                None => self.0.remove(&name),
            };
        }
        let after = (self.0.len(), self.size());
        let is_full = after.0 > MAX_ENTRIES.max(before.0) || after.1 > MAX_BYTES.max(before.1);
        if is_full {
            Err(Refusal::OverQuota)
        } else {
            Ok(())
        }
    }
}

/// Whether these changes may be asked for at all.
fn doubt(changes: &[AnnotationChange], prefix: &str) -> Result<(), Refusal> {
    let is_fine = |change: &AnnotationChange| {
        let length = change.value.as_ref().map_or(0, Vec::len);
        is_name(&change.name) && change.name.starts_with(prefix) && length <= MAX_VALUE
    };
    if changes.len() > MAX_ENTRIES || !changes.iter().all(is_fine) {
        return Err(Refusal::Invalid(format!(
            "expected at most {MAX_ENTRIES} annotations below /private or /shared, of at most {MAX_VALUE} bytes each"
        )));
    }
    Ok(())
}

fn read(dir: io::Result<Dir>) -> Result<Annotations, Refusal> {
    dir.and_then(|dir| Annotations::read(&dir, FILE))
        .or_fault("read metadata.json")
}

fn rewrite(dir: io::Result<Dir>, changes: Vec<AnnotationChange>) -> Result<(), Refusal> {
    let dir = dir.or_fault("open the directory of metadata.json")?;
    rewrite_file(&dir, FILE, changes)
}

fn rewrite_file(dir: &Dir, file: &str, changes: Vec<AnnotationChange>) -> Result<(), Refusal> {
    let mut known = Annotations::read(dir, file).or_fault("read annotations")?;
    known.change(changes)?;
    known.write(dir, file).or_fault("write annotations")
}

impl Mailbox {
    /// The annotations of the mailbox, and what it is for as one of them.
    pub(crate) fn annotations(self: &Arc<Self>) -> Result<Vec<Annotation>, Refusal> {
        let special_use = self.special_use()?;
        let mut known = self.hold(|_| read(self.dir()))??;
        // Whatever a file that was written by hand says.
        known.0.remove(SPECIAL_USE);
        if let Some(usage) = special_use {
            let attribute = status::attribute(usage).to_owned();
            known
                .0
                .insert(SPECIAL_USE.to_owned(), Value::Text(attribute));
        }
        Ok(known.into_list())
    }

    /// Changes annotations, all or none, durably.
    pub(crate) fn annotate(
        self: &Arc<Self>,
        changes: Vec<AnnotationChange>,
    ) -> Result<(), Refusal> {
        doubt(&changes, "/")?;
        if changes.iter().any(|change| change.name == SPECIAL_USE) {
            return Err(Refusal::NotPermitted);
        }
        self.hold(|_| rewrite(self.dir(), changes))?
    }
}

impl User {
    /// The annotations of the account.
    pub(crate) fn annotations(&self) -> Result<Vec<Annotation>, Refusal> {
        let known = self.undisturbed(|_| read(self.dir()))?;
        Ok(known.into_list())
    }

    /// Changes annotations of the account, all or none, durably. What is shared is shared with all accounts, and so nobody's to change.
    pub(crate) fn annotate(&self, changes: Vec<AnnotationChange>) -> Result<(), Refusal> {
        doubt(&changes, "/private/")?;
        self.undisturbed(|_| {
            // Under the lock: an account that was removed has another directory now, or none.
            if self.is_removed() {
                return Err(Refusal::NoSuchUser);
            }
            rewrite(self.dir(), changes)
        })
    }

    /// What this user wrote down about a mailbox of somebody else.
    pub(crate) fn notes_on(&self, mailbox: &Arc<Mailbox>) -> Result<Vec<Annotation>, Refusal> {
        let file = notes_file(mailbox)?;
        let known = self.undisturbed(|_| match self.dir().and_then(|dir| dir.dir(NOTES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Annotations::default()),
            notes => notes.and_then(|notes| Annotations::read(&notes, &file)),
        });
        Ok(known.or_fault("read annotations")?.into_list())
    }

    /// Changes that, all or none, durably.
    pub(crate) fn note_on(
        &self,
        mailbox: &Arc<Mailbox>,
        changes: Vec<AnnotationChange>,
    ) -> Result<(), Refusal> {
        doubt(&changes, "/private/")?;
        if changes.iter().any(|change| change.name == SPECIAL_USE) {
            return Err(Refusal::NotPermitted);
        }
        let file = notes_file(mailbox)?;
        self.undisturbed(|_| {
            if self.is_removed() {
                return Err(Refusal::NoSuchUser);
            }
            let notes = self.dir().and_then(|dir| dir.make_path(NOTES));
            let notes = notes.or_fault("make a directory for annotations")?;
            let known = notes.entries().or_fault("list annotations")?;
            let is_new = !known.iter().any(|entry| entry.name == file);
            if is_new && known.len() >= MAX_NOTES {
                return Err(Refusal::OverQuota);
            }
            rewrite_file(&notes, &file, changes)
        })
    }
}

fn notes_file(mailbox: &Arc<Mailbox>) -> Result<String, Refusal> {
    Ok(format!("{:032x}.json", mailbox.status()?.mailbox_id))
}
