//! What a mailbox keeps for its readers: lent as files, taken through a stream, never understood.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::cache::{CacheKind, ENTRIES_PER_FILL, MAX_FILL, NewEntry, SHARDS_PER_FRAME};
use ipc::session::SessionAnswer;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, error};

use super::House;
use super::reach::Reached;
use crate::store::Mailbox;

/// How long the entries may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Entries that are announced.
pub(super) struct Fill {
    /// The account's.
    pub(super) domain: String,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) kind: CacheKind,
    pub(super) entries: Vec<NewEntry>,
}

/// Lends files to read; none of a kind that is not kept for the account's domain. Visitors need give none: they would not be taken.
pub(super) async fn open(
    house: &Arc<House>,
    domain: String,
    reached: Reached,
    kind: CacheKind,
    shards: Vec<u32>,
) -> Result<Answered<SessionAnswer>, Refusal> {
    if shards.len() > SHARDS_PER_FRAME {
        return Err(Refusal::Invalid(format!(
            "at most {SHARDS_PER_FRAME} shards are opened at once"
        )));
    }
    let opened = house.work(move |house| {
        let is_kept = is_kept(house, &domain, kind)?;
        let opened = if is_kept {
            reached.mailbox.open_caches(kind, &shards)?
        } else {
            Vec::new()
        };
        Ok((opened, is_kept && reached.visit.is_none()))
    });
    let (opened, is_kept) = opened.await?;
    let (shards, files): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    Ok(Answered::with(
        SessionAnswer::CachesOpened { shards, is_kept },
        files.into_iter().map(OwnedFd::from).collect(),
    ))
}

/// Opens the stream through which entries come. `own` are the fills of this session: the one before is waited for, whereas
/// those of others are not, so that nobody can make others wait.
pub(super) async fn fill(
    house: &Arc<House>,
    own: &Arc<Semaphore>,
    fill: Fill,
) -> Result<Answered<SessionAnswer>, Refusal> {
    let size = total(fill.kind, &fill.entries)?;
    let (domain, kind) = (fill.domain.clone(), fill.kind);
    if !house
        .work(move |house| is_kept(house, &domain, kind))
        .await?
    {
        return Err(Refusal::NotPermitted);
    }
    let Ok(turn) = Arc::clone(own).acquire_owned().await else {
        return Err(Refusal::ShuttingDown);
    };
    let Ok(room) = Arc::clone(&house.fills).try_acquire_owned() else {
        return Err(Refusal::Busy);
    };
    let stream = || {
        let (theirs, ours) = sys::packet::stream_pair()?;
        Ok((OwnedFd::from(theirs), UnixStream::from_std(ours)?))
    };
    let (theirs, mut ours) = stream().map_err(|error: std::io::Error| {
        error!(%error, "cannot open a stream for a cache");
        Refusal::Busy
    })?;
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let _held = (turn, room);
        let mut bytes = vec![0; size];
        match timeout(PATIENCE, ours.read_exact(&mut bytes)).await {
            Ok(Ok(_)) => keep(&house, fill, bytes).await,
            Ok(Err(error)) => debug!(%error, "what was worked out did not arrive"),
            Err(_) => debug!("what was worked out did not arrive in time"),
        }
    });
    Ok(Answered::with(SessionAnswer::CacheAwaited, vec![theirs]))
}

/// Has what is kept about removed messages wiped out; nobody waits for it.
pub(super) fn forget(house: &Arc<House>, mailbox: Arc<Mailbox>) {
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let work = move |_: &House| {
            mailbox.forget_removed();
            Ok(())
        };
        if let Err(refusal) = house.work(work).await {
            debug!(%refusal, "what is kept about removed messages was not wiped out");
        }
    });
}

async fn keep(house: &Arc<House>, fill: Fill, bytes: Vec<u8>) {
    let work = move |house: &House| {
        let Fill {
            domain,
            mailbox,
            kind,
            entries,
        } = fill;
        let mut rest = bytes.as_slice();
        let cut = entries.iter().map_while(|entry| {
            let bytes = rest.split_off(..entry.length as usize)?;
            Some((entry.uid, bytes))
        });
        let entries: Vec<_> = cut.collect();
        // Asked again under the lock: what was switched off meanwhile may have been dropped already.
        mailbox.fill_cache(kind, &entries, || {
            is_kept(house, &domain, kind).unwrap_or(false)
        });
        Ok(())
    };
    if let Err(refusal) = house.work(work).await {
        debug!(%refusal, "what was worked out was not kept");
    }
}

/// Whether the operator wants this kind kept for a domain.
fn is_kept(house: &House, domain: &str, kind: CacheKind) -> Result<bool, Refusal> {
    match kind {
        CacheKind::Summary => Ok(true),
        CacheKind::Text => house.accounts.keeps_search_text(domain),
    }
}

/// How many bytes will come.
fn total(kind: CacheKind, entries: &[NewEntry]) -> Result<usize, Refusal> {
    let is_too_long = |entry: &NewEntry| entry.length as usize > kind.max_entry();
    let size: usize = entries.iter().map(|entry| entry.length as usize).sum();
    if entries.len() > ENTRIES_PER_FILL || entries.iter().any(is_too_long) || size > MAX_FILL {
        return Err(Refusal::Invalid("too much to be kept at once".into()));
    }
    Ok(size)
}
