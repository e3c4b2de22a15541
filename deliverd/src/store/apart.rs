//! Mailboxes that are set apart: their files cannot be written, and the journal must not wait for them, or one broken mailbox would
//! in time keep everybody's mail out. What the journal would have told of them is in a file of its own meanwhile, `.journal/apart`.
//!
//! The file says up to which record of the journal it knows everything. It is replaced, or out of date, before the journal forgets
//! more than that: so a start believes it if the journal's floor is not above it, and reads the journal after it.

use std::io;

use ipc::Refusal;
use tracing::error;

use super::disk::{Dir, MAX_SMALL_FILE};
use super::journal::Event;
use crate::fault::OrFault;

const FILE: &str = "apart";
/// Changes with the format.
const MAGIC: [u8; 8] = *b"rmail\0a1";

/// Writes what the journal need not tell any more up to record `known`, durably.
pub(super) fn write(journal: &Dir, known: u64, events: &[Event]) -> Result<(), Refusal> {
    let text = postcard::to_allocvec(&(known, events)).map_err(|error| {
        error!(%error, "bug: an event cannot be written down");
        Refusal::StorageFault
    })?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
    bytes.extend_from_slice(&text);
    if bytes.len() as u64 >= MAX_SMALL_FILE {
        error!("what cannot be written into mailboxes is too much to be set apart");
        return Err(Refusal::StorageFault);
    }
    journal
        .write_small(FILE, &bytes)
        .or_fault("set mailboxes apart")
}

/// What the file says, if the journal has forgotten no more than that.
///
/// # Errors
/// When it is damaged, or cannot be read.
pub(super) fn read(journal: &Dir, floor: u64) -> io::Result<Vec<Event>> {
    let Some(bytes) = journal.read_small(FILE)? else {
        return Ok(Vec::new());
    };
    let content = bytes
        .strip_prefix(&MAGIC)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .filter(|(checksum, text)| crc32fast::hash(text).to_le_bytes() == **checksum)
        .and_then(|(_, text)| postcard::from_bytes::<(u64, Vec<Event>)>(text).ok());
    let (known, events) = content.ok_or_else(|| {
        io::Error::other("its file apart is damaged, or was written by another version of rmail")
    })?;
    Ok(if known < floor { Vec::new() } else { events })
}

/// Removes the file, if it is there. It need not be durable: the file is out of date.
pub(super) fn remove(journal: &Dir) -> io::Result<()> {
    journal.remove_if_there(FILE).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::journal::Place;
    use super::*;

    #[test]
    fn it_is_believed_until_the_journal_forgets_more() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::root(temp.path()).unwrap();
        let place = Place {
            path: "a/b".into(),
            uid_validity: 7,
        };
        let uids = vec![(1, 3)];
        let events = [Event::Removed { place, uids }];
        assert_eq!(read(&dir, 0).unwrap(), []);
        write(&dir, 10, &events).unwrap();
        assert_eq!(read(&dir, 9).unwrap(), events);
        assert_eq!(read(&dir, 10).unwrap(), events);
        assert_eq!(read(&dir, 11).unwrap(), []);
        let path = temp.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[15] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        read(&dir, 10).unwrap_err();
        remove(&dir).unwrap();
        assert_eq!(read(&dir, 10).unwrap(), []);
    }
}
