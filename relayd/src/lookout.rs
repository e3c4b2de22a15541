//! Looks in DNS for the records of keys that wait, so that a key signs as soon as others can verify it, and never before.

use std::sync::Arc;
use std::time::Duration;

use daemon::Stop;
use ipc::dns::{Found, Kind, Record};
use ipc::signing::Waiting;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::dns::Dns;
use crate::signer::Signer;

/// How often is looked. Whoever publishes a record waits for it.
const BEAT: Duration = Duration::from_secs(15);

/// Looks for them.
#[derive(Debug)]
pub struct Lookout {
    /// Knows which, and is told.
    pub signer: Arc<Signer>,
    /// Asks DNS.
    pub dns: Dns,
}

impl Lookout {
    /// Works until it is told to stop.
    pub async fn run(self, stop: Stop) {
        loop {
            tokio::select! {
                () = self.look() => {}
                () = stop.requested() => return,
            }
            tokio::select! {
                () = sleep(BEAT) => {}
                () = stop.requested() => return,
            }
        }
    }

    async fn look(&self) {
        let waiting = match self.signer.waiting().await {
            Ok(waiting) => waiting,
            Err(error) => return debug!(%error, "keyd does not say which keys wait"),
        };
        for Waiting { name, record } in waiting {
            let found = match self.dns.find(&name, Kind::Txt).await {
                Found::Records(found) => found,
                Found::NoData | Found::NoSuchName | Found::TooLarge | Found::Fault => Vec::new(),
            };
            let texts: Vec<_> = found.into_iter().filter_map(text).collect();
            if !dkim::is_published(&texts, &record) {
                continue;
            }
            match self.signer.note_seen(name.clone()).await {
                Ok(()) => info!(
                    name,
                    "the record of a key is in DNS: mail is signed with it"
                ),
                Err(error) => {
                    warn!(name, %error, "keyd does not hear that the record of a key is in DNS; it is told again")
                }
            }
        }
    }
}

fn text(record: Record) -> Option<Vec<u8>> {
    match record {
        Record::Txt(text) => Some(text),
        Record::A(_) | Record::Aaaa(_) | Record::Mx { .. } | Record::Ptr(_) => None,
    }
}
