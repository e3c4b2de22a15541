//! `rmailctl user`

use std::path::Path;

use daemon::config::Config;
use ipc::budget::Payer;
use ipc::control::{StoreControlAnswer, StoreControlRequest, UserInfo};
use ipc::quota::LimitChange;
use serde_json::json;

use crate::cli::UserCommand;
use crate::cmd::budget::{self, Figures};
use crate::cmd::{expunged, grant, imap, quota, share};
use crate::operator::{Store, unexpected};
use crate::{Error, secret};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: UserCommand) -> Result<(), Error> {
    let config = Config::read(config)?;
    let store = Store::of(&config);
    match command {
        UserCommand::Add {
            address,
            password_stdin,
            limits,
        } => {
            let limits = limits.change()?;
            let password = password(password_stdin, &address)?;
            let what = format!("cannot add the user {address}");
            store
                .ask(
                    what,
                    StoreControlRequest::AddUser {
                        address,
                        password,
                        limits,
                    },
                )
                .await?;
        }
        UserCommand::Quota { address, limits } => {
            let what = format!("cannot change the quota of {address}");
            let limits = limits.new_limits()?;
            store
                .ask(what, StoreControlRequest::LimitUser { address, limits })
                .await?;
        }
        UserCommand::Budget {
            address,
            budget,
            json,
        } => budget::run(&config, Payer::Account(address), budget, json).await?,
        UserCommand::Passwd {
            address,
            password_stdin,
        } => {
            let password = password(password_stdin, &address)?;
            let what = format!("cannot set the password of {address}");
            store
                .ask(what, StoreControlRequest::SetPassword { address, password })
                .await?;
        }
        UserCommand::Remove { address } => {
            store
                .ask(
                    format!("cannot remove the user {address}"),
                    StoreControlRequest::RemoveUser { address },
                )
                .await?;
        }
        UserCommand::Grant { account, sender } => grant::grant(&store, account, sender).await?,
        UserCommand::Revoke { account, sender } => grant::revoke(&store, account, sender).await?,
        UserCommand::Grants { account, json } => grant::list(&store, &account, json).await?,
        UserCommand::Imap(options) => imap::run(&store, options).await?,
        UserCommand::Share(options) => share::share(&store, options).await?,
        UserCommand::Unshare(options) => share::unshare(&store, options).await?,
        UserCommand::Shares(options) => share::shares(&store, options).await?,
        UserCommand::List { domain, json } => list(&config, &store, domain, json).await?,
        UserCommand::Expunged {
            address,
            options,
            json,
        } => expunged::list(&store, address, options, json).await?,
        UserCommand::Undelete {
            address, options, ..
        } => expunged::undelete(&store, address, options).await?,
    }
    Ok(())
}

/// Makes a user. In a store that is kept it is there from the last time; then the password of today is made to count.
///
/// # Errors
/// [`Error`].
pub(crate) async fn make(
    store: &Store,
    address: &str,
    password: &ipc::Secret,
) -> Result<(), Error> {
    let request = StoreControlRequest::AddUser {
        address: address.into(),
        password: password.clone(),
        limits: LimitChange::default(),
    };
    let what = format!("cannot make the user {address}");
    match store.ask(what, request).await {
        Err(Error::Refused {
            refusal: ipc::Refusal::Exists,
            ..
        }) => {
            let request = StoreControlRequest::SetPassword {
                address: address.into(),
                password: password.clone(),
            };
            store
                .ask(format!("cannot set the password of {address}"), request)
                .await
                .map(drop)
        }
        answer => answer.map(drop),
    }
}

fn password(from_stdin: bool, address: &str) -> Result<ipc::Secret, Error> {
    if from_stdin {
        secret::from_stdin()
    } else {
        secret::from_terminal(address)
    }
}

async fn list(
    config: &Config,
    store: &Store,
    domain: Option<String>,
    json: bool,
) -> Result<(), Error> {
    let mut users: Vec<UserInfo> = Vec::new();
    loop {
        let after = users.last().map(|user| user.address.clone());
        let request = StoreControlRequest::ListUsers {
            domain: domain.clone(),
            after,
        };
        match store.ask("cannot list the users", request).await? {
            StoreControlAnswer::Users { users: page, more } => {
                users.extend(page);
                if !more {
                    break;
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
    let payers = users
        .iter()
        .map(|user| Payer::Account(user.address.clone()));
    let spent = budget::spent(config, payers.collect()).await?;
    let figures = |(place, user): (usize, &UserInfo)| {
        let spent = spent.get(place).copied();
        Figures::of(user.budget, &config.relay.budgets.account, spent)
    };
    let budgets = users.iter().enumerate().map(figures);
    let rows = users.iter().zip(budgets);
    if json {
        let row = |(user, budget): (&UserInfo, Figures)| {
            let mut row = quota::row(user.usage, user.limits);
            row.insert("address".into(), json!(user.address));
            row.insert("budget".into(), budget.row());
            row
        };
        println!("{}", json!(rows.map(row).collect::<Vec<_>>()));
    } else {
        for (user, budget) in rows {
            let usage = quota::text(user.usage, user.limits);
            println!("{}\t{usage}\t{}", user.address, budget.text());
        }
    }
    Ok(())
}
