//! What is kept for the readers of a mailbox: borrowed, and given.

use std::fs::File;
use std::time::Duration;

use daemon::channel::{Answered, CallError};
use ipc::cache::{CacheKind, NewEntry};
use ipc::session::{SessionAnswer, SessionRequest};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{MailSession, PATIENCE, nonsense, open_stream, single};

/// How long deliverd may take to read what is to be kept: a client may be waiting for us.
const FILL_PATIENCE: Duration = Duration::from_secs(5);

impl MailSession {
    /// Opens what is kept about messages of these shards; those of which nothing is kept are missing. False if nothing of this kind
    /// is ever kept.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open_cache(
        &self,
        kind: CacheKind,
        shards: Vec<u32>,
    ) -> Result<(Vec<(u32, File)>, bool), CallError> {
        let request = SessionRequest::OpenCache { kind, shards };
        let Answered { answer, fds } = self.call(PATIENCE, request).await?;
        match answer {
            SessionAnswer::CachesOpened { shards, is_kept } if shards.len() == fds.len() => {
                let files = fds.into_iter().map(File::from);
                Ok((shards.into_iter().zip(files).collect(), is_kept))
            }
            _ => Err(nonsense()),
        }
    }

    /// Gives entries about messages away, to be kept. Whether they are is not told.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn fill_cache(
        &self,
        kind: CacheKind,
        entries: &[(u32, Vec<u8>)],
    ) -> Result<(), CallError> {
        let announce = |(uid, bytes): &(u32, Vec<u8>)| NewEntry {
            uid: *uid,
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        };
        let request = SessionRequest::FillCache {
            kind,
            entries: entries.iter().map(announce).collect(),
        };
        let Answered { answer, fds } = self.call(PATIENCE, request).await?;
        let SessionAnswer::CacheAwaited = answer else {
            return Err(nonsense());
        };
        let mut stream = open_stream(single(fds)?)?;
        let write = async {
            for (_, bytes) in entries {
                stream.write_all(bytes).await?;
            }
            stream.shutdown().await
        };
        match timeout(FILL_PATIENCE, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(CallError::Unavailable),
        }
    }
}
