//! What is known about messages from an earlier reading: deliverd lends it as files and takes more of it, understanding none.
//!
//! Each entry is about one message and is found by its UID ([`shard`]). There are two kinds: what FETCH shows of a message without
//! its body ([`summary`]) and what SEARCH looks at ([`text`]). An entry that is missing, damaged or of another version is worked
//! out from the message, and given back afterwards ([`notes`]). So nothing depends on it but time.
//!
//! Invariant: what is answered is the same with and without it.

pub mod notes;
mod number;
pub mod shard;
pub mod summary;
pub mod text;
mod trigrams;

use ipc::cache::{CacheKind, Header, MESSAGES_PER_SHARD, SHARDS_PER_FRAME};
use tracing::debug;

use crate::ask::MailSession;
use shard::Shard;

/// Messages up to this size are read whole, also where their header would do, so that all is known about them from then on.
pub const READ_WHOLE: u64 = 64 * 1024;

/// What was borrowed.
pub struct Borrowed {
    /// By shard.
    pub shards: Vec<Shard>,
    /// Whether entries of this kind are kept; where the operator does not want that, none need be made.
    pub is_kept: bool,
}

/// Borrows what is kept about the messages `uids`, ascending, of the selected mailbox. What cannot be had is left out.
pub async fn borrow(
    mail: &MailSession,
    kind: CacheKind,
    uid_validity: u32,
    uids: impl Iterator<Item = u32>,
) -> Borrowed {
    let mut shards: Vec<u32> = uids.map(|uid| uid / MESSAGES_PER_SHARD).collect();
    shards.dedup();
    let mut borrowed = Borrowed {
        shards: Vec::new(),
        is_kept: true,
    };
    for shards in shards.chunks(SHARDS_PER_FRAME) {
        let (opened, is_kept) = match mail.open_cache(kind, shards.to_vec()).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, "reading without a cache");
                return borrowed;
            }
        };
        borrowed.is_kept &= is_kept;
        borrowed
            .shards
            .extend(opened.into_iter().map(|(shard, file)| {
                let header = Header {
                    kind,
                    uid_validity,
                    shard,
                };
                Shard::new(header, file)
            }));
    }
    borrowed
}
