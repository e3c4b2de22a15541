//! Counting messages, and reading them again.

use std::io::{self, Read};

use ipc::tools::{MailboxSize, MessageHash, Row};
use rustix::fs::FileType;
use sha2::{Digest, Sha256};

use super::super::disk::{self, Dir};
use super::super::expunged;
use super::super::message_file;
use super::super::status::Status;
use super::place::{Level, Place};
use super::{Piece, Task, caches};

/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

impl Task<'_> {
    /// Adds what is at a place to its mailbox's row.
    pub(super) fn measure(&self, place: &Place, level: &Level, piece: &mut Piece) {
        let measured = self
            .eye
            .root
            .dir(&place.path())
            .and_then(|dir| match level {
                Level::Shard(..) => shard_size(&dir),
                Level::Store | Level::Domain | Level::User(_) | Level::Mailbox(..) => {
                    Ok((0, 0, caches::size(&dir)?))
                }
            });
        let (messages, bytes, cache_bytes) = match measured {
            Ok(sizes) => sizes,
            Err(error) => return piece.fault(place, &error),
        };
        piece.seen.messages += messages;
        piece.seen.bytes += bytes;
        let mailbox = place.mailbox_text();
        match piece.rows.last_mut() {
            Some(Row::Size(size)) if size.mailbox == mailbox => {
                size.messages += messages;
                size.bytes += bytes;
                size.cache_bytes += cache_bytes;
            }
            _ => piece.rows.push(Row::Size(MailboxSize {
                mailbox,
                messages,
                bytes,
                cache_bytes,
            })),
        }
    }

    /// Counts what a user expunged and can have back.
    pub(super) fn measure_expunged(&self, place: &Place, piece: &mut Piece) {
        match expunged::weigh(self.eye.root, &place.path()) {
            Ok(kept) => {
                piece.seen.expunged_messages += kept.messages;
                piece.seen.expunged_bytes += kept.bytes;
            }
            Err(error) => piece.fault(place, &error),
        }
    }

    /// Reads the messages of a shard with UIDs above `from` again, from the disk as far as they are there. Gives the UID it came to,
    /// `None` at the end.
    pub(super) fn hash(
        &self,
        place: &Place,
        (shard, from): (u32, u32),
        piece: &mut Piece,
        is_over: &dyn Fn(&Piece) -> bool,
    ) -> Option<u32> {
        let root = self.eye.root;
        let listed = root.dir(&place.path()).and_then(|dir| {
            let messages = messages(&dir, shard, from)?;
            Ok((dir, messages))
        });
        let (dir, messages) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                piece.fault(place, &error);
                return None;
            }
        };
        let status = root
            .dir(&place.parent().path())
            .and_then(|dir| Status::read(&dir));
        let uid_validity = status
            .ok()
            .flatten()
            .map_or(0, |status| status.uid_validity);
        let last = messages.last().map(|(uid, _)| *uid);
        for (uid, name) in messages {
            let (size, hash) = match hash_again(&dir, shard, uid, &name) {
                Ok(None) => continue,
                Ok(Some((size, hash))) => (size, Ok(hash)),
                Err(error) => (0, Err(error.to_string())),
            };
            piece.seen.messages += 1;
            piece.seen.bytes += size;
            piece.rows.push(Row::Hash(MessageHash {
                mailbox: place.mailbox_text(),
                uid_validity,
                uid,
                size,
                hash,
            }));
            if is_over(piece) && Some(uid) != last {
                return Some(uid);
            }
        }
        None
    }
}

/// Messages and bytes of a shard, and no caches.
fn shard_size(dir: &Dir) -> io::Result<(u64, u64, u64)> {
    let (mut messages, mut bytes) = (0, 0);
    dir.each_name(|name, kind| {
        let name = name.to_str().ok().filter(|_| kind == FileType::RegularFile);
        let Some(name) = name.filter(|name| !name.starts_with('.') && name.ends_with(".eml"))
        else {
            return Ok(());
        };
        match dir.stat(name) {
            // Renamed or removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            stat => bytes += u64::try_from(stat?.st_size).unwrap_or(0),
        }
        messages += 1;
        Ok(())
    })?;
    Ok((messages, bytes, 0))
}

/// The messages of a shard with UIDs above `from`, ascending.
fn messages(dir: &Dir, shard: u32, from: u32) -> io::Result<Vec<(u32, String)>> {
    let mut messages = Vec::new();
    dir.each_name(|name, kind| {
        let name = name.to_str().ok().filter(|_| kind == FileType::RegularFile);
        let parsed = name.and_then(|name| Some((message_file::parse(name)?.0, name.to_owned())));
        let is_ours = |uid: u32| uid > from && message_file::shard_of(uid) == shard;
        messages.extend(parsed.filter(|(uid, _)| is_ours(*uid)));
        Ok(())
    })?;
    messages.sort_unstable();
    messages.dedup_by_key(|(uid, _)| *uid);
    Ok(messages)
}

/// Reads a message by the name it had, or has now. `None` if it is gone.
fn hash_again(dir: &Dir, shard: u32, uid: u32, name: &str) -> io::Result<Option<(u64, [u8; 32])>> {
    match hash(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(Some),
    }
    // Its flags were changed.
    let name = messages(dir, shard, uid - 1)?
        .into_iter()
        .find(|(now, _)| *now == uid);
    match name.map(|(_, name)| hash(dir, &name)) {
        None => Ok(None),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Some(read) => read.map(Some),
    }
}

fn hash(dir: &Dir, name: &str) -> io::Result<(u64, [u8; 32])> {
    let mut file = dir.open_file(name)?;
    // What is in memory says nothing about the disk; and what is read here need not stay there.
    disk::forget_pages(&file)?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => {
                hasher.update(&buffer[..length]);
                size += length as u64;
            }
        }
    }
    disk::forget_pages(&file)?;
    Ok((size, hasher.finalize().into()))
}
