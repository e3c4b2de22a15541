//! What deliverd keeps for readers, in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use ipc::cache::{CacheKind, Header, NewEntry, Slot};

/// UIDVALIDITY of every mailbox here.
pub(crate) const UID_VALIDITY: u32 = 7;

/// Files, by mailbox, kind and shard.
#[derive(Default)]
pub(crate) struct Caches {
    files: BTreeMap<(String, bool, u32), Vec<u8>>,
    /// Nothing is lent nor taken.
    pub(crate) off: bool,
    /// The operator wants no text kept.
    pub(crate) without_text: bool,
    /// Descriptors that were lent.
    pub(crate) lent: usize,
    /// Entries that came.
    pub(crate) taken: usize,
}

impl Caches {
    /// How many files there are with text.
    pub(crate) fn text_files(&self) -> usize {
        let is_text = |key: &&(String, bool, u32)| key.1;
        self.files.keys().filter(is_text).count()
    }

    pub(crate) fn open(
        &mut self,
        mailbox: &str,
        kind: CacheKind,
        shards: &[u32],
    ) -> (Vec<u32>, Vec<OwnedFd>) {
        let (mut opened, mut fds) = (Vec::new(), Vec::new());
        for &shard in shards.iter().filter(|_| !self.off) {
            if let Some(bytes) = self.files.get(&key(mailbox, kind, shard)) {
                let mut file: File = tempfile::tempfile().unwrap();
                file.write_all(bytes).unwrap();
                opened.push(shard);
                fds.push(file.into());
            }
        }
        self.lent += fds.len();
        (opened, fds)
    }

    pub(crate) fn fill(
        &mut self,
        mailbox: &str,
        kind: CacheKind,
        entries: &[NewEntry],
        bytes: &[u8],
    ) {
        let mut rest = bytes;
        for NewEntry { uid, length } in entries {
            let entry = rest.split_off(..*length as usize).unwrap();
            let shard = uid / 1000;
            let header = Header {
                kind,
                uid_validity: UID_VALIDITY,
                shard,
            };
            let file = self.files.entry(key(mailbox, kind, shard));
            let file = file.or_insert_with(|| header.begin());
            let slot = Slot::new(*uid, u32::try_from(file.len()).unwrap(), entry).to_bytes();
            file.extend_from_slice(entry);
            file[Slot::place(*uid)..][..slot.len()].copy_from_slice(&slot);
            self.taken += 1;
        }
        assert!(rest.is_empty());
    }

    /// Does something to every file.
    pub(crate) fn spoil(&mut self, spoil: impl FnMut(&mut Vec<u8>)) {
        self.files.values_mut().for_each(spoil);
    }

    /// Nothing is kept any more.
    pub(crate) fn clear(&mut self) {
        self.files.clear();
    }
}

fn key(mailbox: &str, kind: CacheKind, shard: u32) -> (String, bool, u32) {
    (mailbox.to_owned(), kind == CacheKind::Text, shard)
}
