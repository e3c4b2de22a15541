//! How much TLS is asked of the host that takes a recipient's mail: what its domain demands by DANE, or else by MTA-STS, what the
//! configuration says about the domain, and what the sender wants.

use std::sync::Arc;

use daemon::config::TlsDemand;
use mail::address::Domain;
use tokio::sync::OnceCell;
use tracing::warn;

use crate::attempt::{Carrier, Finding};
use crate::dane::{Dane, Tlsa};
use crate::dns::{NoHost, Place, Route};
use crate::sts::policy::{Mode, Policy as Published};
use crate::tls::{Policy, Wish};
use crate::tlsrpt::ledger::Outcome;
use crate::tlsrpt::row::{self, Fault, Flaw};

/// What is demanded of a host.
#[derive(Debug)]
struct Demand {
    policy: Policy,
    /// DNSSEC or MTA-STS vouches for it that the host is one of the domain's (RFC 8689 §4.2.1).
    is_vouched: bool,
    /// What the domain said, for its report; nothing where what it says does not count.
    told: Option<Told>,
}

/// What a domain is told of the demands on one of its hosts.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The domain.
    pub(crate) domain: Domain,
    /// What it demands.
    pub(crate) policy: row::Policy,
    /// What is wrong before anybody calls there.
    pub(crate) flaw: Option<Flaw>,
}

/// What was asked in the course of an attempt.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The MTA-STS policy of the domain, once somebody has asked for it.
    published: OnceCell<Option<Published>>,
    /// The domain is told how it went.
    is_told: bool,
}

impl Asked {
    /// Nothing yet. Of mail that waives what domains demand they are told nothing; nor would reports about reports have an end
    /// (RFC 8460 §3).
    pub(crate) fn new(wish: Wish) -> Self {
        Self {
            published: OnceCell::new(),
            is_told: wish != Wish::Waived,
        }
    }

    /// Whether the domain is told how it went.
    pub(crate) const fn is_told(&self) -> bool {
        self.is_told
    }

    /// Of a domain whose policy is known. It is told nothing.
    pub(crate) fn known(policy: Option<Published>) -> Self {
        Self {
            published: OnceCell::new_with(Some(policy)),
            is_told: false,
        }
    }
}

impl Carrier {
    /// How much TLS is asked of one of the hosts of a domain's route, and what the domain is told of it.
    ///
    /// # Errors
    /// Why the host must not get the mail: what is demanded cannot be known (RFC 7672 §2.1.3), it is none of the domain's (RFC 8461 §5), or
    /// what is wanted cannot be had.
    pub(crate) async fn asked_of(
        &self,
        domain: &Domain,
        route: &Route,
        host: (&str, &Place),
        wish: Wish,
        asked: &Asked,
    ) -> Result<(Policy, Option<Told>), Finding> {
        let rule = self.rules.get(domain.as_str()).copied();
        let demand = match (rule, wish) {
            (Some(TlsDemand::None), _) => Demand {
                policy: Policy::Never,
                is_vouched: false,
                told: None,
            },
            (Some(TlsDemand::May), _) => Demand {
                policy: Policy::Opportunistic,
                is_vouched: route.is_secure,
                told: None,
            },
            // RFC 8689 §5: what a domain demands does not count then.
            (None, Wish::Waived) => return Ok((Policy::Opportunistic, None)),
            _ => self.demanded(domain, route, host, asked).await?,
        };
        if wish == Wish::Required && !demand.is_vouched {
            return Err(Finding::ours("5.7.30", unvouched(domain)));
        }
        let told = demand.told.clone();
        let policy = match rule {
            None | Some(TlsDemand::None | TlsDemand::May) => demand.policy,
            Some(rule) => at_least(rule, demand).ok_or_else(|| {
                let why = unmet(domain, rule);
                if let (TlsDemand::Dane, Some(told)) = (rule, &told) {
                    let flaw = Flaw::new(Fault::DaneRequired, "no TLSA records");
                    self.tell_of(asked, domain, host.0, &told.policy, &flaw);
                }
                Finding::ours("4.7.5", why)
            })?,
        };
        let policy = match wish {
            Wish::Required => wish.of_recipient(policy),
            // Nor are the demands of the configuration the sender's to change.
            Wish::AsDemanded | Wish::Waived => policy,
        };
        Ok((policy, told))
    }

    /// What a domain demands of one of the hosts of its route.
    async fn demanded(
        &self,
        domain: &Domain,
        route: &Route,
        (host, place): (&str, &Place),
        asked: &Asked,
    ) -> Result<Demand, Finding> {
        let by_dane = self.by_dane(route, place).await;
        let (by_dane, records) = by_dane.inspect_err(|no_host| {
            let flaw = Flaw::new(Fault::DnssecInvalid, no_host.to_string());
            self.tell_of(asked, domain, host, &row::Policy::tlsa([]), &flaw);
        })?;
        let own = match records.is_empty() {
            true => row::Policy::none(),
            false => row::Policy::tlsa(records),
        };
        let demand = |policy, is_vouched, told, flaw| {
            Ok(Demand {
                policy,
                is_vouched,
                told: Some(Told {
                    domain: domain.clone(),
                    policy: told,
                    flaw,
                }),
            })
        };
        // RFC 8461 §2: nothing that MTA-STS says may override DANE.
        if matches!(by_dane, Policy::Dane(_)) {
            return demand(by_dane, true, own, None);
        }
        let published = || self.published(domain, asked);
        let Some(published) = asked.published.get_or_init(published).await else {
            return demand(by_dane, route.is_secure, own, None);
        };
        let sts = || row::Policy::sts(published.lines(), &published.mx);
        let stranger = || {
            Flaw::new(
                Fault::ValidationFailure,
                "the policy does not name this host",
            )
        };
        match (published.mode, published.names(host)) {
            (Mode::None, _) => demand(by_dane, route.is_secure, own, None),
            (Mode::Enforce, true) => demand(Policy::Verified, true, sts(), None),
            (Mode::Enforce, false) => {
                self.tell_of(asked, domain, host, &sts(), &stranger());
                Err(Finding::ours("4.7.5", unnamed(domain, host)))
            }
            (Mode::Testing, true) if by_dane == Policy::Opportunistic => {
                demand(Policy::Tested, route.is_secure, sts(), None)
            }
            (Mode::Testing, true) => demand(by_dane, route.is_secure, own, None),
            (Mode::Testing, false) => {
                warn!(%domain, host, "the MTA-STS policy is in testing; it does not name this host, and would keep mail from it");
                demand(by_dane, route.is_secure, sts(), Some(stranger()))
            }
        }
    }

    /// What is demanded by DANE, and the records that say so.
    async fn by_dane(&self, route: &Route, place: &Place) -> Result<(Policy, Vec<String>), NoHost> {
        // RFC 7672 §2.2.1: records about a host are worth nothing where anybody may say that it is this one.
        if !route.is_secure {
            return Ok((Policy::Opportunistic, Vec::new()));
        }
        for base in &place.bases {
            let records = self.dns.tlsa(base, self.port).await?;
            if !records.is_empty() {
                let told = records.iter().map(Tlsa::text).collect();
                // RFC 7672 §2.2: who has only records of no use has TLS all the same.
                let dane = Dane::new(base, &route.names, records);
                let policy = dane.map_or(Policy::Required, |dane| Policy::Dane(Arc::new(dane)));
                return Ok((policy, told));
            }
        }
        Ok((Policy::Opportunistic, Vec::new()))
    }

    /// Has it counted that there was no connection, and why.
    fn tell_of(
        &self,
        asked: &Asked,
        domain: &Domain,
        host: &str,
        policy: &row::Policy,
        flaw: &Flaw,
    ) {
        let outcome = Outcome {
            policy,
            host,
            to: None,
            from: None,
            flaw: Some(flaw),
        };
        if let Some(ledger) = self.ledger.as_ref().filter(|_| asked.is_told) {
            ledger.note(domain, &outcome);
        }
    }

    async fn published(&self, domain: &Domain, asked: &Asked) -> Option<Published> {
        let known = self.sts.as_ref()?.policy(domain).await;
        if let Some(flaw) = &known.flaw {
            self.tell_of(asked, domain, "", &row::Policy::sts([], &[]), flaw);
        }
        known.policy
    }
}

/// What a domain demands, made as strict as a rule of the configuration wants it; `None` if it cannot be that.
fn at_least(rule: TlsDemand, demand: Demand) -> Option<Policy> {
    let Demand {
        policy, is_vouched, ..
    } = demand;
    let is_enforced = policy == Policy::Verified && is_vouched;
    match (rule, policy) {
        (_, policy @ Policy::Dane(_)) => Some(policy),
        (TlsDemand::Dane, _) => None,
        (TlsDemand::Sts, policy) => is_enforced.then_some(policy),
        (TlsDemand::Verify, _) => Some(Policy::Verified),
        (TlsDemand::Encrypt, Policy::Opportunistic | Policy::Tested) => Some(Policy::Required),
        (TlsDemand::Encrypt | TlsDemand::May | TlsDemand::None, policy) => Some(policy),
    }
}

fn unmet(domain: &Domain, rule: TlsDemand) -> String {
    let missing = match rule {
        TlsDemand::Dane => "TLSA records that DNSSEC vouches for",
        _ => "an enforced MTA-STS policy",
    };
    format!(
        "relay.domains of the configuration wants {missing} for mail to {domain}, and there are none: it waits"
    )
}

/// Whoever forges an answer of DNS would get it, with a good certificate. A smarthost and an address literal are named by those who want
/// the mail to go there.
fn unvouched(domain: &Domain) -> String {
    format!(
        "REQUIRETLS cannot be kept on the way to {domain}: neither DNSSEC nor MTA-STS says for certain which servers its mail is for; \
         send it without REQUIRETLS, or over a smarthost that offers it"
    )
}

fn unnamed(domain: &Domain, host: &str) -> String {
    format!(
        "{host} is none of the mail servers that the MTA-STS policy of {domain} names: it gets no mail"
    )
}
