//! `rmailctl alias`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{Alias, AliasKind, StoreControlAnswer, StoreControlRequest};

use crate::Error;
use crate::cli::{AliasCommand, AliasForm};
use crate::cmd::trace;
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: AliasCommand) -> Result<(), Error> {
    let store = Store::of(&Config::read(config)?);
    match command {
        AliasCommand::Add {
            domain,
            form,
            words,
        } => {
            let alias = alias(domain, form, words)?;
            let what = format!("cannot add the alias to {}", alias.domain);
            store
                .ask(what, StoreControlRequest::AddAlias(alias))
                .await?;
        }
        AliasCommand::Remove {
            domain,
            form,
            pattern,
        } => {
            let pattern = pattern.unwrap_or_default();
            let what = format!("cannot remove the alias {pattern} from {domain}");
            store
                .ask(
                    what,
                    StoreControlRequest::RemoveAlias {
                        domain,
                        kind: kind(form),
                        pattern,
                    },
                )
                .await?;
        }
        AliasCommand::List { domain } => list(&store, domain).await?,
        AliasCommand::Test { address, json } => trace::run(&store, &address, json).await?,
    }
    Ok(())
}

const fn kind(form: AliasForm) -> AliasKind {
    match form {
        AliasForm::Exact => AliasKind::Exact,
        AliasForm::Regex => AliasKind::Regex,
        AliasForm::CatchAll => AliasKind::CatchAll,
    }
}

fn alias(domain: String, form: AliasForm, mut words: Vec<String>) -> Result<Alias, Error> {
    let pattern = if form == AliasForm::CatchAll {
        String::new()
    } else {
        words.remove(0)
    };
    if words.is_empty() {
        return Err(Error::Usage(
            "an alias needs at least one target address behind its pattern".into(),
        ));
    }
    Ok(Alias {
        domain,
        kind: kind(form),
        pattern,
        targets: words,
    })
}

/// Has mail for the postmaster of `domain`, which every domain must take (RFC 5321 §4.5.1), go to `address`.
///
/// # Errors
/// [`Error`].
pub(crate) async fn add_postmaster(
    store: &Store,
    domain: &str,
    address: &str,
) -> Result<(), Error> {
    let alias = Alias {
        domain: domain.into(),
        kind: AliasKind::Exact,
        pattern: "postmaster".into(),
        targets: vec![address.into()],
    };
    let what = format!("cannot add the alias postmaster to {domain}");
    match store.ask(what, StoreControlRequest::AddAlias(alias)).await {
        // In a home that is kept it is there from the last time.
        Ok(_)
        | Err(Error::Refused {
            refusal: ipc::Refusal::Exists,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn list(store: &Store, domain: String) -> Result<(), Error> {
    let mut skip = 0;
    loop {
        let request = StoreControlRequest::ListAliases {
            domain: domain.clone(),
            skip,
        };
        match store
            .ask(format!("cannot list the aliases of {domain}"), request)
            .await?
        {
            StoreControlAnswer::Aliases { aliases, more } => {
                for alias in &aliases {
                    let form = match alias.kind {
                        AliasKind::Exact => "exact",
                        AliasKind::Regex => "regex",
                        AliasKind::CatchAll => "catch-all",
                    };
                    println!("{form}\t{}\t{}", alias.pattern, alias.targets.join(" "));
                }
                skip += u32::try_from(aliases.len()).unwrap_or(u32::MAX);
                if !more {
                    return Ok(());
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catch_all_takes_every_word_as_a_target() {
        let alias = alias("d".into(), AliasForm::CatchAll, vec!["a@b".into()]).unwrap();
        assert_eq!((alias.pattern.as_str(), alias.targets.len()), ("", 1));
    }

    #[test]
    fn an_alias_without_a_target_is_refused() {
        assert!(alias("d".into(), AliasForm::Exact, vec!["info".into()]).is_err());
    }
}
