//! Who takes reports about a domain: whom the domain names, if these agree (RFC 7489 §7.1).

use std::time::Duration;

use ipc::dns::{Found, Kind, Record};
use mail::address::{Address, Domain};
use sender::dmarc::{self, Kinship, ReportUri};
use sender::dns::{self, Answer};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::dns::Dns;

/// Addresses of a domain that get its reports, at most.
pub(crate) const MAX_TARGETS: usize = 5;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who takes reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: Address,
    /// Octets of a message that are taken there.
    pub limit: Option<u64>,
}

/// DNS does not answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("DNS gives no answer at the moment")]
pub struct NoAnswer;

/// Who takes reports about `domain`; nobody if it wants none, or not any more.
///
/// # Errors
/// [`NoAnswer`].
pub async fn targets(dns: &Dns, domain: &str) -> Result<Vec<Target>, NoAnswer> {
    let mut targets: Vec<Target> = Vec::new();
    let uris = dmarc::report_uris(&texts(dns, &format!("_dmarc.{domain}")).await?);
    for uri in uris.into_iter().take(MAX_TARGETS) {
        for target in agreed(dns, domain, uri).await? {
            if targets.iter().all(|known| known.address != target.address) {
                targets.push(target);
            }
        }
    }
    targets.truncate(MAX_TARGETS);
    Ok(targets)
}

async fn agreed(dns: &Dns, domain: &str, uri: ReportUri) -> Result<Vec<Target>, NoAnswer> {
    let Some(target) = parse(&uri) else {
        info!(domain, address = ?uri.address, "this is no address to which reports can be sent");
        return Ok(Vec::new());
    };
    let host = target.address.domain().as_str().to_owned();
    if is_kin(dns, domain, &host).await? {
        return Ok(vec![target]);
    }
    let name = format!("{domain}._report._dmarc.{host}");
    let given = match name.len() {
        0..=253 => dmarc::permission(&texts(dns, &name).await?),
        _ => None,
    };
    let Some(others) = given else {
        info!(domain, to = %target.address, name, "no report is sent, for whom it is to go to has not agreed");
        return Ok(Vec::new());
    };
    if others.is_empty() {
        return Ok(vec![target]);
    }
    let others: Vec<_> = others.iter().filter_map(parse).collect();
    // RFC 7489 §7.1: who agrees may name another address, but not somebody else's.
    let are_own = others
        .iter()
        .all(|one| is_same(one.address.domain(), &host));
    Ok(if are_own { others } else { Vec::new() })
}

fn is_same(domain: &Domain, host: &str) -> bool {
    domain.as_str().eq_ignore_ascii_case(host)
}

/// Whom a URI means, if mail can be sent there.
pub(crate) fn parse(uri: &ReportUri) -> Option<Target> {
    let address = Address::parse(&uri.address).ok()?;
    let is_plain = address.is_ascii() && !address.domain().is_literal();
    let limit = uri.limit;
    is_plain.then_some(Target { address, limit })
}

async fn is_kin(dns: &Dns, one: &str, other: &str) -> Result<bool, NoAnswer> {
    let mut kinship = Kinship::new(one, other);
    while let Some(question) = kinship.next() {
        kinship.answer(&answer(dns, &question.name).await);
    }
    kinship.is_one().ok_or(NoAnswer)
}

/// The TXT records of a name; none if there is no such name.
///
/// # Errors
/// [`NoAnswer`].
pub(crate) async fn texts(dns: &Dns, name: &str) -> Result<Vec<dns::Record>, NoAnswer> {
    match answer(dns, name).await {
        Answer::Records(records) => Ok(records),
        Answer::NoSuchName | Answer::Unusable => Ok(Vec::new()),
        Answer::Fault => Err(NoAnswer),
    }
}

async fn answer(dns: &Dns, name: &str) -> Answer {
    let text = |record| match record {
        Record::Txt(text) => Some(dns::Record::Text(text)),
        Record::A(_) | Record::Aaaa(_) | Record::Mx { .. } | Record::Ptr(_) => None,
    };
    match timeout(PATIENCE, dns.find(name, Kind::Txt)).await {
        Ok(Found::Records(records)) => {
            Answer::Records(records.into_iter().filter_map(text).collect())
        }
        Ok(Found::NoData) => Answer::Records(Vec::new()),
        Ok(Found::NoSuchName) => Answer::NoSuchName,
        Ok(Found::TooLarge) => Answer::Unusable,
        Ok(Found::Fault) | Err(_) => {
            debug!(name, "no answer from DNS");
            Answer::Fault
        }
    }
}
