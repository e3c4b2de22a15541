//! `rmailctl user`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{StoreControlAnswer, StoreControlRequest, UserInfo};
use serde_json::json;

use crate::cli::UserCommand;
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
            quota,
        } => {
            let quota = quota
                .as_deref()
                .map_or(Ok(config.limits.default_quota), bytes)?;
            let password = password(password_stdin, &address)?;
            let what = format!("cannot add the user {address}");
            store
                .ask(
                    what,
                    StoreControlRequest::AddUser {
                        address,
                        password,
                        quota,
                    },
                )
                .await?;
        }
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
        UserCommand::List { domain, json } => list(&store, domain, json).await?,
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
    quota: u64,
) -> Result<(), Error> {
    let request = StoreControlRequest::AddUser {
        address: address.into(),
        password: password.clone(),
        quota,
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

async fn list(store: &Store, domain: Option<String>, json: bool) -> Result<(), Error> {
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
    if json {
        let rows: Vec<_> = users
            .iter()
            .map(|user| json!({"address": user.address, "quota": user.quota, "used": user.used, "messages": user.messages}))
            .collect();
        println!("{}", json!(rows));
    } else {
        for user in users {
            let quota = if user.quota == 0 {
                "no limit".into()
            } else {
                user.quota.to_string()
            };
            println!(
                "{}\t{} messages\t{} bytes of {quota}",
                user.address, user.messages, user.used
            );
        }
    }
    Ok(())
}

/// `500M` → 524288000.
fn bytes(text: &str) -> Result<u64, Error> {
    let wrong = || {
        Error::Usage(format!(
            "\"{text}\" is not a number of bytes, like 500M, 2G or 0"
        ))
    };
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_with_their_unit() {
        assert_eq!(bytes("0").unwrap(), 0);
        assert_eq!(bytes("2G").unwrap(), 2 << 30);
        assert!(bytes("G").is_err());
        assert!(bytes("-1").is_err());
        assert!(bytes("99999999999G").is_err());
    }
}
