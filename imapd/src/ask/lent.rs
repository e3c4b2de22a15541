//! What deliverd lends in descriptors, read back.

use std::fs::File;
use std::os::unix::fs::FileExt;

use daemon::channel::CallError;
use ipc::Refusal;
use ipc::cache::MESSAGES_PER_SHARD;
use ipc::snapshot::{LINE_LEN, RECORD_LEN, Record, ShardCount};
use tracing::error;

use super::Pages;

/// Bytes of the largest table of shards there can be.
const MAX_TABLE: u64 = (u32::MAX / MESSAGES_PER_SHARD + 1) as u64 * LINE_LEN as u64;

/// Whether a shard can have so many messages.
pub(super) fn is_line(line: &ShardCount) -> bool {
    line.shard <= u32::MAX / MESSAGES_PER_SHARD
        && (1..=MESSAGES_PER_SHARD).contains(&u32::from(line.messages))
}

// What deliverd lends is in memory, and small: reading it is no more than copying.
pub(super) fn read_table(file: &File) -> std::io::Result<Vec<ShardCount>> {
    let length = file.metadata()?.len().min(MAX_TABLE);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes
        .as_chunks()
        .0
        .iter()
        .map(ShardCount::from_bytes)
        .collect())
}

pub(super) fn read_records(file: &File, shards: &[ShardCount]) -> std::io::Result<Pages> {
    let count: usize = shards.iter().map(|line| usize::from(line.messages)).sum();
    let mut bytes = vec![0; count * RECORD_LEN];
    file.read_exact_at(&mut bytes, 0)?;
    let mut records = bytes.as_chunks().0.iter().map(Record::from_bytes);
    let page = |line: &ShardCount| {
        let page = records.by_ref().take(usize::from(line.messages));
        (line.shard, page.collect())
    };
    Ok(shards.iter().map(page).collect())
}

pub(super) fn unreadable(error: std::io::Error) -> CallError {
    error!(%error, "cannot read what deliverd lends");
    CallError::Refused(Refusal::StorageFault)
}
