//! `rmailctl domain`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{StoreControlAnswer, StoreControlRequest};

use crate::Error;
use crate::cli::DomainCommand;
use crate::cmd::alias;
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: DomainCommand) -> Result<(), Error> {
    let store = Store::of(&Config::read(config)?);
    match command {
        DomainCommand::Add { domain, postmaster } => {
            let what = format!("cannot add the domain {domain}");
            store
                .ask(
                    what,
                    StoreControlRequest::AddDomain {
                        name: domain.clone(),
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
        DomainCommand::List => list(&store).await?,
    }
    Ok(())
}

async fn list(store: &Store) -> Result<(), Error> {
    let mut after = None;
    loop {
        let request = StoreControlRequest::ListDomains {
            after: after.clone(),
        };
        match store.ask("cannot list the domains", request).await? {
            StoreControlAnswer::Domains { names, more } => {
                names.iter().for_each(|name| println!("{name}"));
                after = names.last().cloned();
                if !more {
                    return Ok(());
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}
