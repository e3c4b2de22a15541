//! `rmailctl ban`

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::config::Config;
use ipc::control::{Ban, StoreControlAnswer, StoreControlRequest};
use serde_json::json;

use crate::Error;
use crate::cli::BanCommand;
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: BanCommand) -> Result<(), Error> {
    let store = Store::of(&Config::read(config)?);
    match command {
        BanCommand::List { json } => list(&store, json).await,
        BanCommand::Lift { what } => {
            let doing = format!("cannot lift a ban of {what}");
            let order = StoreControlRequest::LiftBan { what };
            store.ask(doing, order).await.map(drop)
        }
    }
}

async fn list(store: &Store, json: bool) -> Result<(), Error> {
    let mut all: Vec<Ban> = Vec::new();
    loop {
        let skip = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let request = StoreControlRequest::ListBans { skip };
        match store.ask("cannot list the bans", request).await? {
            StoreControlAnswer::Bans { bans, more } => {
                let is_end = !more || bans.is_empty();
                all.extend(bans);
                if is_end {
                    break;
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    if json {
        println!("{}", json!(all.iter().map(row).collect::<Vec<_>>()));
        return Ok(());
    }
    for ban in &all {
        let account = ban.account.as_deref().unwrap_or("*");
        let (reason, left) = (reason(ban), (ban.until - now).max(0));
        println!("{}\t{account}\t{reason}\tends in {left} s", ban.network);
    }
    Ok(())
}

fn row(ban: &Ban) -> serde_json::Value {
    json!({
        "network": ban.network, "account": ban.account, "reason": reason(ban), "failures": ban.failures, "times": ban.times,
        "since": ban.since, "until": ban.until,
    })
}

fn reason(ban: &Ban) -> String {
    let as_whom = match ban.account {
        Some(_) => "as this account",
        None => "as any account",
    };
    let again = match ban.times {
        0 | 1 => String::new(),
        times => format!(", {times} times within a day"),
    };
    format!("{} failed logins {as_whom}{again}", ban.failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_says_what_was_counted() {
        let ban = |account: Option<&str>, times| Ban {
            network: "192.0.2.0/24".into(),
            account: account.map(str::to_owned),
            failures: 10,
            times,
            since: 0,
            until: 900,
        };
        assert_eq!(
            reason(&ban(Some("a@b"), 1)),
            "10 failed logins as this account"
        );
        assert_eq!(
            reason(&ban(None, 3)),
            "10 failed logins as any account, 3 times within a day"
        );
    }
}
