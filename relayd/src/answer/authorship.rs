//! For which domains a message is signed: those of its authors, if all of them are its sender's own.

use ipc::Refusal;
use mail::address::{Address, Domain};
use tracing::{info, warn};

use crate::ask::Ask;
use crate::turns::Party;

/// Domains a message is signed for, at most.
const MAX_DOMAINS: usize = 4;

/// The domains for which a message that `account` has submitted is signed, whose authors these are. smtpd has found that the account may
/// send as each; that does not make their domains its tenant's, for which it takes a domain that deliverd knows as such.
///
/// # Errors
/// [`Refusal::Busy`] when that cannot be found out now.
pub(super) async fn domains(
    ask: &Ask,
    account: &str,
    party: &Party,
    authors: &[Address],
) -> Result<Vec<String>, Refusal> {
    let home = account.rsplit_once('@').map_or("", |(_, domain)| domain);
    let mut domains: Vec<&Domain> = Vec::new();
    for author in authors {
        if !domains.contains(&author.domain()) {
            domains.push(author.domain());
        }
    }
    for domain in &domains {
        let is_own = domain.as_str().eq_ignore_ascii_case(home)
            || match party {
                Party::Tenant(tenant) => owner(ask, domain).await?.as_ref() == Some(tenant),
                // A domain without a tenant is its own.
                Party::Domain(_) | Party::Nobody => false,
            };
        if !is_own || domain.is_literal() {
            info!(account, %domain, "not signed: an author's domain is not the sender's own");
            return Ok(Vec::new());
        }
    }
    let names = domains.iter().take(MAX_DOMAINS);
    Ok(names.map(|domain| domain.as_str().to_owned()).collect())
}

async fn owner(ask: &Ask, domain: &Domain) -> Result<Option<String>, Refusal> {
    ask.tenant(domain.as_str()).await.map_err(|error| {
        warn!(%domain, %error, "deliverd does not say whose the domain is, so a message that may have to be signed is put off");
        Refusal::Busy
    })
}
