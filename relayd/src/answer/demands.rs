//! What the operator may ask about TLS with the servers of a domain: what would be asked of them, why, and how it went.

use std::time::Duration;

use daemon::config::TlsDemand;
use ipc::demands::{
    Asked as Told, AskedHost, MAX_EACH, MAX_HOSTS, MAX_TEXT, SeenTls, StsPolicy, TlsDemands,
};
use ipc::{Refusal, control::QueueControlAnswer};
use mail::address::Domain;
use tokio::time::timeout;

use crate::attempt::Carrier;
use crate::demand::Asked;
use crate::dns::{Host, Route};
use crate::sts::policy::Mode;
use crate::tls::{Policy, Wish};
use crate::tlsrpt::recent::Seen;

/// How long a policy may take to be fetched. It is tried on with the next mail.
const FETCH: Duration = Duration::from_secs(5);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(12);

/// What would be asked of the servers of a domain now. DNS is asked, and a policy fetched if that is due.
pub(super) async fn answer(carrier: &Carrier, domain: &str) -> Result<QueueControlAnswer, Refusal> {
    let domain = Domain::parse(domain)
        .map_err(|error| Refusal::Invalid(format!("that is no domain: {error}")))?;
    // Whoever asks can ask again: DNS may answer then.
    let found = timeout(PATIENCE, foresee(carrier, &domain)).await;
    let found = found.map_err(|_| Refusal::Busy)?;
    Ok(QueueControlAnswer::TlsDemands(Box::new(found)))
}

async fn foresee(carrier: &Carrier, domain: &Domain) -> TlsDemands {
    let name = domain.as_str();
    let rule = carrier.rules.get(name).copied().map(word);
    let seen = carrier.ledger.as_ref().map(|ledger| ledger.recent(name));
    let mut found = TlsDemands {
        has_smarthost: carrier.smarthost.is_some(),
        rule: rule.map(str::to_owned),
        no_route: None,
        is_secure: false,
        hosts: Vec::new(),
        all_hosts: 0,
        policy: None,
        policy_fault: None,
        seen: seen.unwrap_or_default().into_iter().map(told).collect(),
    };
    if found.has_smarthost {
        return found;
    }
    let route = match carrier.dns.hosts(domain).await {
        Ok(route) => route,
        Err(no_host) => {
            found.no_route = Some(cut(no_host.to_string()));
            return found;
        }
    };
    let mut asked = Asked::new(Wish::Waived);
    if let Some(sts) = &carrier.sts
        && !domain.is_literal()
    {
        let known = timeout(FETCH, sts.policy(domain)).await;
        let kept = sts.kept(domain).await;
        found.policy_fault = match known {
            Ok(known) => known.flaw.map(|flaw| cut(flaw.reason)),
            Err(_) => Some("it takes long to fetch it; ask again".into()),
        };
        asked = Asked::known(kept.as_ref().map(|(_, _, policy)| policy.clone()));
        found.policy = kept.map(|(id, fetched, policy)| StsPolicy {
            id: cut(id),
            mode: mode(policy.mode).into(),
            fetched,
            max_age: policy.max_age,
            named: u32::try_from(policy.mx.len()).unwrap_or(u32::MAX),
            hosts: policy.mx.into_iter().take(MAX_EACH).map(cut).collect(),
        });
    }
    found.is_secure = route.is_secure;
    found.all_hosts = u32::try_from(route.hosts.len()).unwrap_or(u32::MAX);
    for host in route.hosts.iter().take(MAX_HOSTS) {
        let host = foresee_host(carrier, domain, &route, host, &asked);
        found.hosts.push(host.await);
    }
    found
}

async fn foresee_host(
    carrier: &Carrier,
    domain: &Domain,
    route: &Route,
    host: &Host,
    asked: &Asked,
) -> AskedHost {
    let mut found = AskedHost {
        name: cut(host.name.clone()),
        preference: host.preference,
        addresses: Vec::new(),
        asked: Told::Refused,
        why: String::new(),
        records: Vec::new(),
    };
    let place = match carrier.dns.locate(&host.name).await {
        Ok(place) => place,
        Err(no_host) => {
            found.why = cut(no_host.to_string());
            return found;
        }
    };
    let addresses = place.addresses.iter().take(MAX_EACH);
    found.addresses = addresses.map(ToString::to_string).collect();
    if found.addresses.is_empty() {
        found.why = "it has no address".into();
        return found;
    }
    if domain.is_literal() {
        found.asked = Told::IfOffered;
        return found;
    }
    let (wish, host) = (Wish::AsDemanded, (host.name.as_str(), &place));
    match carrier.asked_of(domain, route, host, wish, asked).await {
        Ok((policy, demand)) => {
            found.asked = kind(&policy);
            if let Some(demand) = demand {
                demand.policy.means.as_str().clone_into(&mut found.why);
                if found.asked == Told::Dane || found.asked == Told::Encrypted {
                    let records = demand.policy.lines.into_iter().take(MAX_EACH);
                    found.records = records.map(cut).collect();
                }
            }
        }
        Err(finding) => found.why = cut(finding.text),
    }
    found
}

const fn kind(policy: &Policy) -> Told {
    match policy {
        Policy::Never => Told::Never,
        Policy::Opportunistic => Told::IfOffered,
        Policy::Required => Told::Encrypted,
        Policy::Verified => Told::Verified,
        Policy::Tested => Told::Tested,
        Policy::Dane(_) => Told::Dane,
    }
}

fn told(seen: Seen) -> SeenTls {
    let failure = seen.failure;
    let result = failure.as_ref().map(|one| one.result.as_str());
    let (host, reason) = failure
        .map(|one| (one.host, one.reason))
        .unwrap_or_default();
    SeenTls {
        at: seen.at,
        host: cut(host),
        policy: seen.means.as_str().into(),
        result: result.unwrap_or_default().into(),
        reason: cut(reason),
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Testing => "testing",
        Mode::None => "none",
    }
}

const fn word(rule: TlsDemand) -> &'static str {
    match rule {
        TlsDemand::None => "none",
        TlsDemand::May => "may",
        TlsDemand::Encrypt => "encrypt",
        TlsDemand::Verify => "verify",
        TlsDemand::Sts => "sts",
        TlsDemand::Dane => "dane",
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
