//! What was worked out about messages and is to be given to deliverd, after the client has its answer.

use ipc::cache::{CacheKind, ENTRIES_PER_FILL, MAX_FILL};
use tracing::debug;

use crate::ask::MailSession;

/// So many bytes are given away before more are gathered.
const MUCH: usize = 256 << 10;

/// A UID, and the entry about it.
pub type Entry = (u32, Vec<u8>);

/// Entries about messages of the selected mailbox.
#[derive(Debug, Default)]
pub struct Notes {
    summaries: Bundle,
    texts: Bundle,
}

/// Entries of one kind, never more than deliverd takes at once.
#[derive(Debug, Default)]
struct Bundle {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Notes {
    /// Notes entries; what is too much is forgotten, and worked out again another time.
    pub fn add(&mut self, kind: CacheKind, entries: impl IntoIterator<Item = Entry>) {
        let bundle = match kind {
            CacheKind::Summary => &mut self.summaries,
            CacheKind::Text => &mut self.texts,
        };
        for entry in entries {
            let bytes = bundle.bytes + entry.1.len();
            if bytes > MAX_FILL || bundle.entries.len() >= ENTRIES_PER_FILL {
                return;
            }
            bundle.bytes = bytes;
            bundle.entries.push(entry);
        }
    }

    /// Whether it is time to give them away, though the command goes on.
    #[must_use]
    pub const fn are_many(&self) -> bool {
        self.summaries.is_much() || self.texts.is_much()
    }

    /// Gives them away. Whatever becomes of them is nobody's concern.
    pub async fn give(&mut self, mail: &MailSession) {
        for (kind, bundle) in [
            (CacheKind::Summary, &mut self.summaries),
            (CacheKind::Text, &mut self.texts),
        ] {
            let Bundle { entries, .. } = std::mem::take(bundle);
            if entries.is_empty() {
                continue;
            }
            // Boxed: a session that idles waits for commands in the same place.
            if let Err(error) = Box::pin(mail.fill_cache(kind, &entries)).await {
                debug!(%error, entries = entries.len(), "what was worked out is not kept");
            }
        }
    }
}

impl Bundle {
    const fn is_much(&self) -> bool {
        self.bytes >= MUCH || self.entries.len() >= ENTRIES_PER_FILL / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_noted_than_is_taken_at_once() {
        let mut notes = Notes::default();
        let entry = |uid| (uid, vec![0; 100 << 10]);
        notes.add(CacheKind::Text, (1..=2).map(entry));
        assert!(!notes.are_many());
        notes.add(CacheKind::Text, (3..=100).map(entry));
        assert!(notes.are_many());
        assert_eq!(notes.texts.entries.len(), MAX_FILL / (100 << 10));
        notes.add(CacheKind::Summary, (1..=5000).map(|uid| (uid, vec![0])));
        assert_eq!(notes.summaries.entries.len(), ENTRIES_PER_FILL);
    }
}
