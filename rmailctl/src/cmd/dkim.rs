//! `rmailctl dkim`

use std::path::Path;

use daemon::config::Config;
use ipc::keys::{KeyAnswer, KeyInfo, KeyRequest, KeyState};
use mail::date::format_rfc3339;
use serde_json::{Value, json};

use crate::Error;
use crate::cli::DkimCommand;
use crate::operator::{Keys, unexpected};

/// Octets of one string of a TXT record (RFC 1035 §3.3).
const MAX_STRING: usize = 255;
const DAY: i64 = 86_400;

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: DkimCommand) -> Result<(), Error> {
    let config = Config::read(config)?;
    let keys = Keys::of(&config);
    let overlap = i64::try_from(config.dkim.overlap_days.value()).unwrap_or(i64::MAX);
    match command {
        DkimCommand::List { domain, json } => {
            let all = list(&keys, domain).await?;
            match json {
                true => println!("{}", all.iter().map(object).collect::<Value>()),
                false => all
                    .iter()
                    .for_each(|key| println!("{}", line(key, overlap))),
            }
            Ok(())
        }
        DkimCommand::Create {
            domain,
            kind,
            selector,
            json,
        } => {
            let doing = format!("cannot make a key for {domain}");
            let request = KeyRequest::CreateKey {
                domain,
                selector,
                kind: kind.as_str().to_owned(),
            };
            let made = change(&keys, doing, request).await?;
            let [key] = made.as_slice() else {
                return Err(unexpected(&made));
            };
            match json {
                true => println!("{}", object(key)),
                false => publish(&made),
            }
            Ok(())
        }
        DkimCommand::Show {
            domain,
            selector,
            json,
        } => {
            let is_it = |key: &KeyInfo| selector.as_ref().is_none_or(|one| key.selector == *one);
            let mut all = list(&keys, Some(domain.clone())).await?;
            all.retain(|key| is_it(key) && !key.record.is_empty());
            if all.is_empty() {
                return Err(Error::Failed(format!(
                    "{domain} has no such key; make one with: rmailctl dkim create {domain}"
                )));
            }
            match json {
                true => println!("{}", all.iter().map(object).collect::<Value>()),
                false => all.iter().for_each(|key| println!("{}", zone_line(key))),
            }
            Ok(())
        }
        DkimCommand::Activate { domain, selector } => {
            let doing = format!("cannot sign with {selector} of {domain}");
            let request = KeyRequest::ActivateKey { domain, selector };
            let changed = change(&keys, doing, request).await?;
            changed
                .iter()
                .for_each(|key| println!("{}", line(key, overlap)));
            Ok(())
        }
        DkimCommand::Retire { domain, selector } => {
            let doing = format!("cannot retire {selector} of {domain}");
            let request = KeyRequest::RetireKey { domain, selector };
            let changed = change(&keys, doing, request).await?;
            changed
                .iter()
                .for_each(|key| println!("{}", line(key, overlap)));
            Ok(())
        }
        DkimCommand::Remove { domain, selector } => {
            let doing = format!("cannot remove {selector} of {domain}");
            let request = KeyRequest::RemoveKey { domain, selector };
            match keys.ask(doing, request).await? {
                KeyAnswer::KeyRemoved => Ok(()),
                answer @ KeyAnswer::Keys { .. } => Err(unexpected(&answer)),
            }
        }
        DkimCommand::Rotate { domain, json } => {
            let doing = format!("cannot rotate the keys of {domain}");
            let made = change(&keys, doing, KeyRequest::RotateKeys { domain }).await?;
            match json {
                true => println!("{}", made.iter().map(object).collect::<Value>()),
                false => publish(&made),
            }
            Ok(())
        }
    }
}

async fn list(keys: &Keys, domain: Option<String>) -> Result<Vec<KeyInfo>, Error> {
    let mut all: Vec<KeyInfo> = Vec::new();
    loop {
        let last = all.last();
        let request = KeyRequest::ListKeys {
            domain: domain.clone(),
            after: last.map(|key| (key.domain.clone(), key.selector.clone())),
        };
        match keys.ask("cannot list the keys", request).await? {
            KeyAnswer::Keys { keys, more } => {
                let is_end = !more || keys.is_empty();
                all.extend(keys);
                if is_end {
                    return Ok(all);
                }
            }
            answer @ KeyAnswer::KeyRemoved => return Err(unexpected(&answer)),
        }
    }
}

async fn change(keys: &Keys, doing: String, request: KeyRequest) -> Result<Vec<KeyInfo>, Error> {
    match keys.ask(doing, request).await? {
        KeyAnswer::Keys { keys, .. } => Ok(keys),
        answer @ KeyAnswer::KeyRemoved => Err(unexpected(&answer)),
    }
}

/// Says what to do with new keys.
fn publish(keys: &[KeyInfo]) {
    for key in keys {
        println!("{}", zone_line(key));
    }
    println!(
        "; publish this in DNS. Signing begins by itself once relayd has seen it there; rmailctl dkim list shows when."
    );
}

/// The name of a record, without the final dot.
fn name(key: &KeyInfo) -> String {
    format!("{}._domainkey.{}", key.selector, key.domain)
}

/// The record in the strings that a TXT record is made of.
fn strings(record: &str) -> Vec<String> {
    let octets = record.as_bytes().chunks(MAX_STRING);
    octets
        .map(|octets| String::from_utf8_lossy(octets).into_owned())
        .collect()
}

fn zone_line(key: &KeyInfo) -> String {
    let strings = strings(&key.record).into_iter();
    let strings: Vec<_> = strings.map(|text| format!("\"{text}\"")).collect();
    format!("{}. 3600 IN TXT ( {} )", name(key), strings.join(" "))
}

fn object(key: &KeyInfo) -> Value {
    json!({
        "domain": key.domain, "selector": key.selector, "kind": key.kind, "state": key.state.as_str(), "created": key.created,
        "since": key.since,
        "record": {"name": name(key), "type": "TXT", "value": key.record, "strings": strings(&key.record)},
    })
}

fn line(key: &KeyInfo, overlap: i64) -> String {
    let end = key.since.saturating_add(overlap.saturating_mul(DAY));
    let advice = match key.state {
        KeyState::Pending => "publish its record (rmailctl dkim show); it signs once that is seen in DNS".to_owned(),
        KeyState::Signing => "leave its record in DNS".to_owned(),
        KeyState::Retired => format!("leave its record in DNS until {}", format_rfc3339(end)),
        KeyState::Gone => "remove its record from DNS, then rmailctl dkim remove".to_owned(),
        KeyState::Damaged => {
            "its file cannot be read and mail of the domain waits: restore it and restart keyd, or rmailctl dkim remove".to_owned()
        }
    };
    let KeyInfo {
        domain,
        selector,
        kind,
        state,
        ..
    } = key;
    let (state, since) = (state.as_str(), format_rfc3339(key.since));
    format!("{domain}\t{selector}\t{kind}\t{state}\t{since}\t{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(record: &str) -> KeyInfo {
        KeyInfo {
            domain: "a.example".into(),
            selector: "r1".into(),
            kind: "rsa2048".into(),
            state: KeyState::Retired,
            created: 0,
            since: 0,
            record: record.into(),
        }
    }

    #[test]
    fn a_long_record_is_split_into_strings_that_fit() {
        let key = key(&"x".repeat(600));
        let parts = strings(&key.record);
        let lengths: Vec<_> = parts.iter().map(String::len).collect();
        assert_eq!(lengths, [255, 255, 90]);
        let line = zone_line(&key);
        assert!(line.starts_with("r1._domainkey.a.example. 3600 IN TXT ( \"xxx"));
        assert_eq!(line.matches("\" \"").count(), 2);
    }

    #[test]
    fn a_retired_key_says_until_when_its_record_stays() {
        let line = line(&key("v=DKIM1"), 14);
        assert!(
            line.ends_with("leave its record in DNS until 1970-01-15T00:00:00Z"),
            "{line}"
        );
    }
}
