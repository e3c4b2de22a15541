//! `rmailctl domain`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{DomainInfo, StoreControlAnswer, StoreControlRequest};
use serde_json::json;

use crate::Error;
use crate::cli::DomainCommand;
use crate::cmd::{alias, quota};
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: DomainCommand) -> Result<(), Error> {
    let store = Store::of(&Config::read(config)?);
    match command {
        DomainCommand::Add {
            domain,
            postmaster,
            tenant,
        } => {
            let what = format!("cannot add the domain {domain}");
            store
                .ask(
                    what,
                    StoreControlRequest::AddDomain {
                        name: domain.clone(),
                        tenant,
                    },
                )
                .await?;
            match postmaster {
                Some(address) => alias::add_postmaster(&store, &domain, &address).await?,
                None => println!(
                    "nobody gets mail for postmaster@{domain} yet, which every domain must take (RFC 5321 §4.5.1): \
                     make that user, or: rmailctl alias add {domain} exact postmaster ADDRESS"
                ),
            }
        }
        DomainCommand::Remove { domain } => {
            store
                .ask(
                    format!("cannot remove the domain {domain}"),
                    StoreControlRequest::RemoveDomain { name: domain },
                )
                .await?;
        }
        DomainCommand::Quota { domain, limits } => {
            let request = StoreControlRequest::LimitDomain {
                name: domain.clone(),
                limits: limits.new_limits()?,
            };
            store
                .ask(
                    format!("cannot change the quota of the domain {domain}"),
                    request,
                )
                .await?;
        }
        DomainCommand::Assign { domain, tenant } => {
            let what = match &tenant {
                Some(tenant) => format!("cannot give the domain {domain} to {tenant}"),
                None => format!("cannot take the domain {domain} from its tenant"),
            };
            let request = StoreControlRequest::AssignDomain {
                name: domain,
                tenant,
            };
            store.ask(what, request).await?;
        }
        DomainCommand::List { json } => list(&store, json).await?,
    }
    Ok(())
}

/// All domains.
pub(super) async fn all(store: &Store) -> Result<Vec<DomainInfo>, Error> {
    let mut domains: Vec<DomainInfo> = Vec::new();
    loop {
        let request = StoreControlRequest::ListDomains {
            after: domains.last().map(|domain| domain.name.clone()),
        };
        match store.ask("cannot list the domains", request).await? {
            StoreControlAnswer::Domains {
                domains: page,
                more,
            } => {
                domains.extend(page);
                if !more {
                    return Ok(domains);
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}

async fn list(store: &Store, json: bool) -> Result<(), Error> {
    let domains = all(store).await?;
    if json {
        let row = |domain: &DomainInfo| {
            let mut row = quota::row(domain.usage, domain.limits);
            row.insert("domain".into(), json!(domain.name));
            row.insert("tenant".into(), json!(domain.tenant));
            row
        };
        println!("{}", json!(domains.iter().map(row).collect::<Vec<_>>()));
    } else {
        for domain in domains {
            let usage = quota::text(domain.usage, domain.limits);
            let tenant = domain.tenant.unwrap_or_default();
            println!("{}\t{usage}\t{tenant}", domain.name);
        }
    }
    Ok(())
}
