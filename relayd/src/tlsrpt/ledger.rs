//! Takes in what came of TLS with other servers. Nobody's mail waits for it: that is counted beside, and what is under way when relayd ends
//! is lost.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use mail::address::Domain;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::TlsRpt;
use super::recent::{Recent, Seen};
use super::record::is_published;
use super::row::{Flaw, Policy, Row};
use crate::aggregate::register::Register;
use crate::aggregate::target::NoAnswer;
use crate::clock;
use crate::dns::Dns;

/// Connections being counted at once. Each may wait for DNS.
const AT_ONCE: usize = 64;

/// Knows what is to be reported.
#[derive(Debug)]
pub struct Ledger {
    register: Arc<Register<TlsRpt>>,
    dns: Dns,
    room: Arc<Semaphore>,
    recent: Mutex<Recent>,
}

/// What came of a connection, or why there was none.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// What was demanded of it.
    pub policy: &'a Policy,
    /// The name of the server; empty if it is not about one.
    pub host: &'a str,
    /// Its address, if there was a connection.
    pub to: Option<IpAddr>,
    /// Ours.
    pub from: Option<IpAddr>,
    /// What was wrong with it, if anything was.
    pub flaw: Option<&'a Flaw>,
}

impl Outcome<'_> {
    fn row(&self) -> Row {
        let failure = self.flaw.map(|flaw| super::row::Failure {
            from: self.from,
            to: self.to,
            ..flaw.at(self.host)
        });
        Row {
            policy: self.policy.clone(),
            failure,
        }
    }
}

impl Ledger {
    /// Has it counted by `register`.
    #[must_use]
    pub fn new(register: Arc<Register<TlsRpt>>, dns: Dns) -> Self {
        Self {
            register,
            dns,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            recent: Mutex::default(),
        }
    }

    /// What came of the last connections to the servers of a domain, the last one first.
    #[must_use]
    pub fn recent(&self, domain: &str) -> Vec<Seen> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.of(domain)
    }

    /// Takes in what came of a connection to a server of a domain.
    pub fn note(&self, domain: &Domain, outcome: &Outcome<'_>) {
        let row = outcome.row();
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.note(domain.as_str(), &row, clock::now());
        }
        if !self.register.is_on() {
            return;
        }
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            warn!(%domain, "DNS is too slow to tell who wants TLS reports: a connection is in none");
            return;
        };
        let (register, dns) = (Arc::clone(&self.register), self.dns.clone());
        let domain = domain.as_str().to_owned();
        tokio::spawn(async move {
            match is_published(&dns, &domain).await {
                Ok(false) => debug!(domain, "no TLS reports are wanted"),
                // Whether it wants to know can be found out when the report is made.
                Ok(true) | Err(NoAnswer) => {
                    if let Err(refusal) = register.count(&domain, (), row).await {
                        debug!(domain, ?refusal, "what is to be reported is in memory only");
                    }
                }
            }
            drop(place);
        });
    }
}
