//! How much TLS is asked of the host that takes a recipient's mail: what its domain demands by DANE, or else by MTA-STS, what the
//! configuration says about the domain, and what the sender wants.

use std::sync::Arc;

use daemon::config::TlsDemand;
use mail::address::Domain;
use tokio::sync::OnceCell;
use tracing::warn;

use crate::attempt::{Carrier, Finding};
use crate::dane::Dane;
use crate::dns::{NoHost, Place, Route};
use crate::sts::policy::{Mode, Policy as Published};
use crate::tls::{Policy, Wish};

/// What is demanded of a host.
#[derive(Debug)]
struct Demand {
    policy: Policy,
    /// DNSSEC or MTA-STS vouches for it that the host is one of the domain's (RFC 8689 §4.2.1).
    is_vouched: bool,
}

/// The MTA-STS policy of a domain, once somebody has asked for it.
pub(crate) type Asked = OnceCell<Option<Published>>;

impl Carrier {
    /// How much TLS is asked of one of the hosts of a domain's route.
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
    ) -> Result<Policy, Finding> {
        let rule = self.rules.get(domain.as_str()).copied();
        let demand = match (rule, wish) {
            (Some(TlsDemand::None), _) => Demand {
                policy: Policy::Never,
                is_vouched: false,
            },
            (Some(TlsDemand::May), _) => Demand {
                policy: Policy::Opportunistic,
                is_vouched: route.is_secure,
            },
            // RFC 8689 §5: what a domain demands does not count then.
            (None, Wish::Waived) => return Ok(Policy::Opportunistic),
            _ => self.demanded(domain, route, host, asked).await?,
        };
        if wish == Wish::Required && !demand.is_vouched {
            return Err(Finding::ours("5.7.30", unvouched(domain)));
        }
        let policy = match rule {
            None | Some(TlsDemand::None | TlsDemand::May) => demand.policy,
            Some(rule) => {
                let why = || Finding::ours("4.7.5", unmet(domain, rule));
                at_least(rule, demand).ok_or_else(why)?
            }
        };
        Ok(match wish {
            Wish::Required => wish.of_recipient(policy),
            // Nor are the demands of the configuration the sender's to change.
            Wish::AsDemanded | Wish::Waived => policy,
        })
    }

    /// What a domain demands of one of the hosts of its route.
    async fn demanded(
        &self,
        domain: &Domain,
        route: &Route,
        (host, place): (&str, &Place),
        asked: &Asked,
    ) -> Result<Demand, Finding> {
        let by_dane = self.by_dane(route, place).await?;
        let demand = |policy, is_vouched| Ok(Demand { policy, is_vouched });
        // RFC 8461 §2: nothing that MTA-STS says may override DANE.
        if matches!(by_dane, Policy::Dane(_)) {
            return demand(by_dane, true);
        }
        let published = asked.get_or_init(|| self.published(domain)).await;
        let Some(published) = published else {
            return demand(by_dane, route.is_secure);
        };
        match (published.mode, published.names(host)) {
            (Mode::None, _) => demand(by_dane, route.is_secure),
            (Mode::Enforce, true) => demand(Policy::Verified, true),
            (Mode::Enforce, false) => Err(Finding::ours("4.7.5", unnamed(domain, host))),
            (Mode::Testing, true) if by_dane == Policy::Opportunistic => {
                demand(Policy::Tested, route.is_secure)
            }
            (Mode::Testing, true) => demand(by_dane, route.is_secure),
            (Mode::Testing, false) => {
                warn!(%domain, host, "the MTA-STS policy is in testing; it does not name this host, and would keep mail from it");
                demand(by_dane, route.is_secure)
            }
        }
    }

    async fn by_dane(&self, route: &Route, place: &Place) -> Result<Policy, NoHost> {
        // RFC 7672 §2.2.1: records about a host are worth nothing where anybody may say that it is this one.
        if !route.is_secure {
            return Ok(Policy::Opportunistic);
        }
        for base in &place.bases {
            let records = self.dns.tlsa(base, self.port).await?;
            if !records.is_empty() {
                // RFC 7672 §2.2: who has only records of no use has TLS all the same.
                let dane = Dane::new(base, &route.names, records);
                return Ok(dane.map_or(Policy::Required, |dane| Policy::Dane(Arc::new(dane))));
            }
        }
        Ok(Policy::Opportunistic)
    }

    async fn published(&self, domain: &Domain) -> Option<Published> {
        self.sts.as_ref()?.policy(domain).await
    }
}

/// What a domain demands, made as strict as a rule of the configuration wants it; `None` if it cannot be that.
fn at_least(rule: TlsDemand, Demand { policy, is_vouched }: Demand) -> Option<Policy> {
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
