//! `rmailctl relay`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::demands::{Asked, AskedHost, SeenTls, StsPolicy, TlsDemands};
use mail::date::format_rfc3339;
use serde_json::{Value, json};

use crate::Error;
use crate::cli::RelayCommand;
use crate::operator::{Queue, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: RelayCommand) -> Result<(), Error> {
    let config = Config::read(config)?;
    let queue = Queue::of(&config);
    match command {
        RelayCommand::Tls { domain, json } => tls(&queue, domain.to_lowercase(), json).await,
    }
}

async fn tls(queue: &Queue, domain: String, json: bool) -> Result<(), Error> {
    let request = QueueControlRequest::ShowTls {
        domain: domain.clone(),
    };
    let found = match queue
        .ask("cannot find out what is demanded", request)
        .await?
    {
        QueueControlAnswer::TlsDemands(found) => found,
        answer => return Err(unexpected(&answer)),
    };
    match json {
        true => println!("{}", object(&domain, &found)),
        false => tell(&domain, &found),
    }
    Ok(())
}

fn tell(domain: &str, found: &TlsDemands) {
    println!("mail to {domain}");
    if let Some(rule) = &found.rule {
        println!("relay.domains: {rule}");
    }
    match (&found.no_route, found.has_smarthost) {
        (_, true) => println!("goes over the smarthost: what the domain demands does not count"),
        (Some(why), _) => println!("goes nowhere: {why}"),
        (None, false) => {
            println!("{}", vouched(found.is_secure));
            println!("MTA-STS: {}", sts(found));
            found.hosts.iter().for_each(host);
            let more = found
                .all_hosts
                .saturating_sub(u32::try_from(found.hosts.len()).unwrap_or(0));
            if more > 0 {
                println!("and {more} more servers");
            }
        }
    }
    for seen in &found.seen {
        println!("{}", line(seen));
    }
}

const fn vouched(is_secure: bool) -> &'static str {
    match is_secure {
        true => "DNSSEC: vouches for its servers",
        false => "DNSSEC: does not vouch for its servers, so that TLSA records do not count",
    }
}

fn sts(found: &TlsDemands) -> String {
    let kept = match &found.policy {
        None => "no policy".to_owned(),
        Some(policy) => {
            let StsPolicy {
                id,
                mode,
                fetched,
                hosts,
                named,
                ..
            } = policy;
            let more = u32::try_from(hosts.len()).is_ok_and(|told| told < *named);
            let more = if more { ", …" } else { "" };
            format!(
                "{mode}, version {id}, fetched {}, holds until {}, names {}{more}",
                format_rfc3339(*fetched),
                format_rfc3339(end(policy)),
                hosts.join(", ")
            )
        }
    };
    match &found.policy_fault {
        None => kept,
        Some(fault) => format!("{kept}; it cannot be fetched: {fault}"),
    }
}

fn end(policy: &StsPolicy) -> i64 {
    let age = i64::try_from(policy.max_age).unwrap_or(i64::MAX);
    policy.fetched.saturating_add(age)
}

fn host(host: &AskedHost) {
    let AskedHost {
        name,
        preference,
        addresses,
        why,
        records,
        ..
    } = host;
    let why = match why.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    println!(
        "{preference} {name} [{}]: {}{why}",
        addresses.join(", "),
        words(host.asked)
    );
    for record in records {
        println!("    TLSA {record}");
    }
}

const fn words(asked: Asked) -> &'static str {
    match asked {
        Asked::Never => "no TLS",
        Asked::IfOffered => "TLS if it is offered, with any certificate",
        Asked::Encrypted => "TLS with any certificate",
        Asked::Verified => "TLS and a certificate that is good for its name",
        Asked::Tested => {
            "TLS and a certificate that is good for its name, but where it is not so, that is only reported"
        }
        Asked::Dane => "TLS and the certificate that its TLSA records mean",
        Asked::Refused => "gets no mail",
    }
}

fn line(seen: &SeenTls) -> String {
    let SeenTls {
        host,
        policy,
        result,
        reason,
        ..
    } = seen;
    let at = format_rfc3339(seen.at);
    match (result.as_str(), host.as_str()) {
        ("", _) => format!("{at} secure ({policy})"),
        (result, "") => format!("{at} {result} ({policy}): {reason}"),
        (result, host) => format!("{at} {result} at {host} ({policy}): {reason}"),
    }
}

const fn name(asked: Asked) -> &'static str {
    match asked {
        Asked::Never => "never",
        Asked::IfOffered => "if_offered",
        Asked::Encrypted => "encrypted",
        Asked::Verified => "verified",
        Asked::Tested => "tested",
        Asked::Dane => "dane",
        Asked::Refused => "refused",
    }
}

fn object(domain: &str, found: &TlsDemands) -> Value {
    let policy = found.policy.as_ref().map(|policy| {
        json!({
            "id": policy.id, "mode": policy.mode, "fetched": policy.fetched, "holds_until": end(policy), "hosts": policy.hosts,
            "named": policy.named,
        })
    });
    let hosts = found.hosts.iter().map(|host| {
        json!({
            "name": host.name, "preference": host.preference, "addresses": host.addresses, "asked": name(host.asked), "why": host.why,
            "tlsa": host.records,
        })
    });
    let seen = found.seen.iter().map(|seen| {
        json!({"at": seen.at, "host": seen.host, "policy": seen.policy, "result": seen.result, "reason": seen.reason})
    });
    json!({
        "domain": domain, "smarthost": found.has_smarthost, "rule": found.rule, "no_route": found.no_route, "secure": found.is_secure,
        "hosts": hosts.collect::<Value>(), "all_hosts": found.all_hosts, "mta_sts": policy, "mta_sts_fault": found.policy_fault,
        "seen": seen.collect::<Value>(),
    })
}
