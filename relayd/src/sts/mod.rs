//! MTA-STS (RFC 8461): what domains demand of TLS by a policy that they publish over HTTPS. It is kept as long as it says, so that who
//! forges answers of DNS later cannot make it go away.

mod fetch;
pub mod policy;
mod shelf;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::config::MtaSts;
use ipc::dns::{Found, Kind, Record};
use mail::address::Domain;
use tracing::{info, warn};

use self::policy::{Policy, version};
use self::shelf::{Kept, Shelf};
use crate::clock;
use crate::desk::Desk;
use crate::dns::Dns;
use crate::tls::Tls;
use crate::tlsrpt::row::Flaw;

/// Seconds after which a policy is fetched again though it has not changed (RFC 8461 §3.3), so that it does not run out unnoticed.
const REFRESH: i64 = 86_400;
/// Seconds after which it is tried again to fetch what could not be fetched (RFC 8461 §3.3 wants at least five minutes).
const AGAIN: i64 = 300;

/// Knows the policies of domains.
#[derive(Debug)]
pub struct Sts {
    dns: Dns,
    tls: Tls,
    /// Where policies are served.
    port: u16,
    shelf: Shelf,
    /// Domains whose policy is being looked for, each by one at a time.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When which version of a domain's policy could not be fetched, and why.
    failed: Mutex<HashMap<String, (String, i64, Flaw)>>,
}

/// What is known of a domain.
#[derive(Debug)]
pub struct Known {
    /// Its policy.
    pub policy: Option<Policy>,
    /// Why there is no newer one, though there should be.
    pub flaw: Option<Flaw>,
}

impl Sts {
    /// With what was fetched before; `None` where that is not wanted.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub async fn open(
        desk: Arc<Desk>,
        dns: Dns,
        tls: Tls,
        rules: &MtaSts,
    ) -> io::Result<Option<Self>> {
        if !rules.enabled {
            return Ok(None);
        }
        Ok(Some(Self {
            dns,
            tls,
            port: rules.port,
            shelf: Shelf::open(desk).await?,
            turns: Mutex::default(),
            failed: Mutex::default(),
        }))
    }

    /// The policy of a domain, fetched if that is needed (RFC 8461 §5.1).
    pub async fn policy(&self, domain: &Domain) -> Known {
        let name = domain.as_str();
        let turn = self.turn(name);
        let _mine = turn.lock().await;
        let now = clock::now();
        let kept = self.shelf.find(name, now).await;
        // Without a record there is no new policy, but the old one holds on.
        let held = |kept: Option<Kept>, flaw| Known {
            policy: kept.map(|kept| kept.policy),
            flaw,
        };
        let Some(id) = self.version(name).await else {
            return held(kept, None);
        };
        let is_fresh = |kept: &Kept| kept.id == id && now < kept.fetched.saturating_add(REFRESH);
        if kept.as_ref().is_some_and(is_fresh) {
            return held(kept, None);
        }
        if let Some(flaw) = self.failed(name, &id, now) {
            return held(kept, Some(flaw));
        }
        match self.fetch(domain).await {
            Ok(policy) => {
                info!(domain = name, id, mode = ?policy.mode, "MTA-STS policy fetched");
                let kept = Kept {
                    domain: name.to_owned(),
                    id,
                    fetched: now,
                    policy: policy.clone(),
                };
                self.shelf.keep(kept, now).await;
                Known {
                    policy: Some(policy),
                    flaw: None,
                }
            }
            Err(reason) => {
                let is_known = kept.is_some();
                warn!(domain = name, id, %reason, is_known, "an MTA-STS policy cannot be fetched");
                let flaw = reason.flaw();
                self.note_failed(name, id, now, flaw.clone());
                held(kept, Some(flaw))
            }
        }
    }

    /// Name of the version, Unix seconds of fetching, and text of the policy of a domain, as long as it holds.
    pub(crate) async fn kept(&self, domain: &Domain) -> Option<(String, i64, Policy)> {
        let kept = self.shelf.find(domain.as_str(), clock::now()).await?;
        Some((kept.id, kept.fetched, kept.policy))
    }

    async fn version(&self, domain: &str) -> Option<String> {
        let found = self
            .dns
            .find(&format!("_mta-sts.{domain}"), Kind::Txt)
            .await;
        let Found::Records(records) = found else {
            return None;
        };
        version(records.iter().filter_map(|record| match record {
            Record::Txt(text) => Some(text.as_slice()),
            _ => None,
        }))
    }

    fn turn(&self, domain: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(domain.to_owned()).or_default())
    }

    fn failed(&self, domain: &str, id: &str, now: i64) -> Option<Flaw> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, (_, at, _)| now.abs_diff(*at) < AGAIN.unsigned_abs());
        let (last, _, flaw) = failed.get(domain)?;
        (last == id).then(|| flaw.clone())
    }

    fn note_failed(&self, domain: &str, id: String, now: i64, flaw: Flaw) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(domain.to_owned(), (id, now, flaw));
    }
}
