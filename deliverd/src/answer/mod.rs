//! Who may ask deliverd what. Each asking role has a listening socket of its own, so the socket says who asks.
//!
//! | socket | asks | file |
//! |---|---|---|
//! | `smtpd` | deliveries, submission logins, senders | [`smtp`] |
//! | `relayd` | deliveries (reports), budgets | [`relay`] |
//! | `imapd` | logins that open a mail session | [`imap`] |
//! | `apid` | tokens, health | [`api`] |
//! | `ctl` | the operator's orders | [`control`], [`routing`], [`tools`] |
//! | a mail session descriptor | one account's mailboxes | [`session`], [`sharing`], [`reach`], [`cache`] |

mod annotations;
mod api;
mod append;
mod ban;
mod beside;
mod budget;
mod cache;
mod control;
mod delivery;
mod desk;
mod ear;
mod imap;
mod jobs;
mod lane;
mod quota;
mod reach;
mod relay;
mod room;
mod routing;
mod session;
mod sharing;
mod smtp;
mod tools;
mod transfer;
mod usage;
mod visits;
mod watch;

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::channel::{Service, serve, serve_promptly};
use daemon::config::Config;
use daemon::{Birth, StartError, Stop};
use ipc::smtp::Credentials;
use ipc::{Edge, Refusal};
use sys::packet::PacketListener;
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use self::jobs::{Jobs, Party};
use crate::accounts::{Accounts, Doorman, Patience, Policy};
use crate::store::{self, Owner, Retention, Store, Walker};

/// Caches filled at once, in memory of [`ipc::cache::MAX_FILL`] each.
const MAX_FILLS: usize = 16;

/// What all answering parts share, and for whom this one works.
pub(crate) struct House {
    shared: Arc<Shared>,
    party: Arc<Party>,
}

/// What all answering parts share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) doorman: Arc<Doorman>,
    /// Bytes of a message with what smtpd puts in front of it.
    pub(crate) max_kept_size: u64,
    pub(crate) default_quota: u64,
    pub(crate) started: Instant,
    /// Mail sessions open now.
    pub(crate) sessions: AtomicU64,
    counted: Mutex<usage::Counted>,
    pub(crate) stop: Stop,
    jobs: Arc<Jobs>,
    lane: lane::Lane,
    fills: Arc<Semaphore>,
    visits: visits::Visits,
    roster: Mutex<()>,
    /// Walks over the store take turns.
    walker: Mutex<Walker>,
}

impl Deref for House {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// Serves until told to stop.
///
/// # Errors
/// When the store or the database cannot be opened, or a socket was not handed over.
pub async fn run(mut birth: Birth) -> Result<(), StartError> {
    let house = Arc::new(House::open(&birth)?);
    let mut doors = tokio::task::JoinSet::new();
    doors.spawn(serve_promptly(
        birth.packet_listener("smtpd")?,
        Arc::new(smtp::Door(Arc::clone(&house))),
        birth.stop.clone(),
    ));
    doors.spawn(door(
        birth.packet_listener("relayd")?,
        relay::Door(Arc::clone(&house)),
        birth.stop.clone(),
    ));
    doors.spawn(door(
        birth.packet_listener("imapd")?,
        imap::Door(Arc::clone(&house)),
        birth.stop.clone(),
    ));
    doors.spawn(door(
        birth.packet_listener("apid")?,
        api::Door(Arc::clone(&house)),
        birth.stop.clone(),
    ));
    doors.spawn(door(
        birth.packet_listener("ctl")?,
        control::Door(Arc::clone(&house)),
        birth.stop.clone(),
    ));
    for name in birth.inherited.rest() {
        warn!(
            name,
            "a socket was handed over that deliverd does not serve"
        );
    }
    birth.ready();
    tokio::spawn(usage::keep(Arc::clone(&house)));
    tokio::spawn(visits::keep(Arc::clone(&house)));
    while let Some(ended) = doors.join_next().await {
        ended
            .map_err(StartError::fault)?
            .map_err(StartError::fault)?;
    }
    house.close().await;
    Ok(())
}

async fn door<E: Edge, S: Service<E>>(
    listener: PacketListener,
    service: S,
    stop: Stop,
) -> std::io::Result<()> {
    serve(listener, Arc::new(service), stop).await
}

impl House {
    /// Opens the store and the accounts, and makes the domains of the configuration.
    pub(crate) fn open(birth: &Birth) -> Result<Self, StartError> {
        let config = &birth.config;
        let directory = config.store_dir();
        // Rights do not come back by waiting; everything else may.
        if let Some(text) = store::unusable(&directory) {
            return Err(StartError::Config(text));
        }
        let retention = Retention {
            days: config.store.expunged_days.value(),
            bytes: config.store.expunged_bytes,
            min_free_percent: config.store.expunged_min_free_percent.value().into(),
        };
        let store = Store::open_with(&directory, retention).map_err(StartError::Fault)?;
        let policy = Policy::of(config).map_err(StartError::Config)?;
        let accounts = Accounts::open(&directory, policy).map_err(StartError::Fault)?;
        let accounts = Arc::new(accounts);
        let credentials = birth.credentials().ok();
        Self::furnish(config, birth.stop.clone(), store, accounts, credentials)
            .map_err(StartError::Fault)
    }

    fn furnish(
        config: &Config,
        stop: Stop,
        store: Store,
        accounts: Arc<Accounts>,
        credentials: Option<&Path>,
    ) -> Result<Self, String> {
        for domain in config.domains.iter().map(daemon::config::HostName::as_str) {
            match accounts.add_domain(domain, None) {
                Ok(()) => info!(domain, "domain added from the configuration"),
                Err(Refusal::Exists) => {}
                Err(refusal) => {
                    return Err(format!(
                        "cannot add the domain {domain} of the configuration: {refusal}"
                    ));
                }
            }
        }
        let is_exact = accounts
            .open_ledger(store.ledger())
            .map_err(|refusal| format!("cannot read what users may store: {refusal}"))?;
        let limits = &config.limits;
        let patience = Patience {
            account: limits.auth_failures,
            network: limits.auth_failures_per_network,
            window: limits.auth_window_seconds,
            lockout: limits.auth_lockout_seconds,
        };
        let doorman = Doorman::new(Arc::clone(&accounts), patience)
            .map_err(|refusal| format!("cannot prepare logins: {refusal}"))?
            .trusting(credentials);
        let shared = Shared {
            store,
            accounts,
            doorman: Arc::new(doorman),
            max_kept_size: config.smtp.max_kept_size(),
            default_quota: limits.default_quota,
            started: Instant::now(),
            sessions: AtomicU64::new(0),
            counted: Mutex::default(),
            stop,
            jobs: Jobs::new(),
            lane: lane::Lane::default(),
            fills: Arc::new(Semaphore::new(MAX_FILLS)),
            visits: visits::Visits::default(),
            roster: Mutex::new(()),
            walker: Mutex::default(),
        };
        let house = Self {
            shared: Arc::new(shared),
            party: Arc::new(Party::House),
        };
        if is_exact {
            house.trust_usage();
        }
        Ok(house)
    }

    /// The same for work of a party of its own.
    pub(crate) fn for_party(&self, party: Party) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(&self.shared),
            party: Arc::new(party),
        })
    }

    /// Does blocking work on a thread for it, when it is the party's turn. Work that began ends, even if nobody waits for it any more.
    pub(crate) async fn work<T, F>(self: &Arc<Self>, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    {
        let Ok(place) = self.jobs.take(&self.party).await else {
            return Err(Refusal::ShuttingDown);
        };
        let house = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&house)
        });
        done.await.unwrap_or_else(|panic| {
            error!(%panic, "bug: a piece of work panicked");
            Err(Refusal::StorageFault)
        })
    }

    /// Waits for the work under way – commits are finished and answered –, refuses more, and writes what memory knows better.
    async fn close(self: &Arc<Self>) {
        let closing = tokio::time::timeout(Duration::from_secs(20), self.jobs.close());
        let is_idle = closing.await.is_ok();
        if !is_idle {
            warn!("work was still under way at the end; none of it was acknowledged");
        }
        let house = Arc::clone(self);
        let save = move || {
            house.store.save();
            if is_idle {
                // The fault is logged; the next start counts.
                let _ = house.close_ledger();
            }
        };
        if let Err(panic) = tokio::task::spawn_blocking(save).await {
            error!(%panic, "bug: saving the store panicked");
        }
        // Answers of the work just done get on their way.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Whose password this is.
    pub(crate) async fn admit(&self, credentials: Credentials) -> Result<Owner, Refusal> {
        self.doorman.admit(credentials).await
    }

    /// Users are added and removed one at a time, so that database and directories change together.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a mail session began or ended.
    pub(crate) fn count_session(&self, begins: bool) {
        if begins {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        } else {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How ids are written in the logs of every process.
fn hex(id: u64) -> String {
    format!("{id:016x}")
}
