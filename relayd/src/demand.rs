//! How much TLS the domain of a recipient demands of the host that takes its mail: by DANE, or else by MTA-STS.

use std::sync::Arc;

use mail::address::Domain;
use tokio::sync::OnceCell;
use tracing::warn;

use crate::attempt::{Carrier, Finding};
use crate::dane::Dane;
use crate::dns::{NoHost, Place, Route};
use crate::sts::policy::{Mode, Policy as Published};
use crate::tls::Policy;

/// What is demanded of a host.
#[derive(Debug)]
pub(crate) struct Demand {
    pub(crate) policy: Policy,
    /// DNSSEC or MTA-STS vouches for it that the host is one of the domain's (RFC 8689 §4.2.1).
    pub(crate) is_vouched: bool,
}

/// The MTA-STS policy of a domain, once somebody has asked for it.
pub(crate) type Asked = OnceCell<Option<Published>>;

impl Carrier {
    /// What a domain demands of one of the hosts of its route.
    ///
    /// # Errors
    /// Why the host must not get the mail now: what is demanded cannot be known (RFC 7672 §2.1.3), or it is none of the domain's (RFC 8461 §5).
    pub(crate) async fn demanded(
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

fn unnamed(domain: &Domain, host: &str) -> String {
    format!(
        "{host} is none of the mail servers that the MTA-STS policy of {domain} names: it gets no mail"
    )
}
