//! What a recovery does with messages that were expunged: they are kept as if nothing had happened, and whole.
//!
//! A message that was expunged in the seconds before a power cut may be there in part. The journal has its bytes then.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use tracing::warn;

use super::super::disk::{Dir, Likeness};
use super::super::incoming::Nursery;
use super::super::message_file;
use super::shelf::{self, Series, Shelf};
use super::{Attic, DIRECTORY, Day, open, split};

/// What is kept of a shard of a mailbox that is being recovered.
pub(in crate::store) struct Recovered<'a> {
    root: &'a Dir,
    nursery: &'a Arc<Nursery>,
    /// Whether files that are still in the mailbox are kept.
    keeps: bool,
    /// Where to: a series, beneath the root.
    path: String,
    shard: u32,
    /// Messages that are kept already: UID, which directory, name.
    kept: Vec<(u32, usize, String)>,
    directories: Vec<Dir>,
}

/// A message of the journal that was expunged.
pub(in crate::store) struct Expunged {
    pub(in crate::store) uid: u32,
    /// Its flags, if they are known.
    pub(in crate::store) flags: Option<u8>,
    pub(in crate::store) keywords: Vec<String>,
    /// Its bytes and its date, if the journal has them.
    pub(in crate::store) body: Option<(Vec<u8>, i64)>,
}

impl<'a> Recovered<'a> {
    /// What is kept of a shard of the mailbox that was in the directory `mailbox`; `None` for a directory that is no mailbox's.
    pub(in crate::store) fn of(
        attic: &Attic,
        root: &'a Dir,
        nursery: &'a Arc<Nursery>,
        (mailbox, uid_validity): (&str, u32),
        shard: u32,
    ) -> io::Result<Option<Self>> {
        let Some((user, name)) = split(mailbox) else {
            return Ok(None);
        };
        let series = Series {
            uid_validity,
            is_deleted: false,
        };
        let (mut kept, mut directories) = (Vec::new(), Vec::new());
        let visit = |found: &Shelf, dir: &Dir| -> io::Result<_> {
            if found.series == series && found.shard == shard {
                let dir = dir.dir(&message_file::shard_name(shard))?;
                for entry in dir.entries()?.into_iter().filter(|entry| entry.is_file) {
                    let parsed = message_file::parse(&entry.name);
                    kept.extend(parsed.map(|(uid, _)| (uid, directories.len(), entry.name)));
                }
                directories.push(dir);
            }
            Ok(ControlFlow::Continue(()))
        };
        shelf::walk(root, user, (None, None), |_| true, visit)?;
        Ok(Some(Self {
            root,
            nursery,
            keeps: attic.keeps(root),
            path: format!("{user}/{DIRECTORY}/{}/{name}/{series}", Day::today()),
            shard,
            kept,
            directories,
        }))
    }

    /// Has an expunged message kept, and nothing of it left in its mailbox, where its shard `dir` has these names of it.
    ///
    /// # Errors
    /// When a file cannot be read or removed. One that cannot be kept is removed.
    pub(in crate::store) fn keep(
        &self,
        dir: &Dir,
        names: &[(u8, String)],
        message: &Expunged,
    ) -> io::Result<()> {
        let mut is_kept = false;
        for (_, at, name) in self.kept.iter().filter(|(uid, ..)| *uid == message.uid) {
            if let Some(dir) = self.directories.get(*at) {
                is_kept |= self.make_whole(dir, name, message)?;
            }
        }
        for (flags, name) in names {
            let takes = self.keeps && !is_kept && self.make_whole(dir, name, message)?;
            is_kept |= takes && self.take(dir, name, message.flags.unwrap_or(*flags), message);
            // Its name is still there if it was not taken.
            dir.remove_if_there(name)?;
        }
        Ok(())
    }

    /// False if the message stays where it is.
    fn take(&self, from: &Dir, name: &str, flags: u8, message: &Expunged) -> bool {
        let Expunged { uid, keywords, .. } = message;
        let line = match &keywords[..] {
            [] => String::new(),
            words => format!("{uid:08} {}\n", words.join(" ")),
        };
        let kept = message_file::file_name(*uid, flags);
        let taken = open(self.root, &self.path, self.shard, &line)
            .and_then(|to| from.rename(name, &to, &kept));
        if let Err(error) = &taken {
            warn!(uid, directory = self.path, %error, "an expunged message cannot be kept");
        }
        taken.is_ok()
    }

    /// Writes a file of the message again if a power cut left it incomplete. False if it is gone.
    fn make_whole(&self, dir: &Dir, name: &str, message: &Expunged) -> io::Result<bool> {
        let Some((bytes, date)) = &message.body else {
            return Ok(true);
        };
        if dir.likeness(name, bytes)? != Likeness::Remnant {
            return Ok(true);
        }
        dir.unlink(name)?;
        let written = self.nursery.write_to(bytes, *date, dir, name);
        if let Err(error) = &written {
            let uid = message.uid;
            warn!(uid, %error, "an expunged message was incomplete and cannot be written again");
        }
        Ok(written.is_ok())
    }
}

/// The directory of a mailbox that was deleted and is kept, by the directory it had.
pub(in crate::store) fn deleted(
    root: &Dir,
    mailbox: &str,
    uid_validity: u32,
) -> io::Result<Option<Dir>> {
    let Some((user, _)) = split(mailbox) else {
        return Ok(None);
    };
    let series = Series {
        uid_validity,
        is_deleted: true,
    };
    let mut known = None;
    let visit = |found: &Shelf, dir: &Dir| -> io::Result<_> {
        if found.series != series {
            return Ok(ControlFlow::Continue(()));
        }
        known = Some(dir.dir(".")?);
        Ok(ControlFlow::Break(()))
    };
    shelf::walk(root, user, (None, None), |_| true, visit)?;
    Ok(known)
}
