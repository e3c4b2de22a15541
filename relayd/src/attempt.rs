//! One attempt: a message's recipients at one destination, host after host until one of them answers for good or ill.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use daemon::config::TlsDemand;
use mail::address::Address;
use smtp::auth::Credentials;
use smtp::client::{Envelope, Origin, Outcome, Verdict};
use tracing::{info, warn};

use crate::demand::{Asked, Told};
use crate::dial::{Begins, Glimpse, Heard, Phone, Target};
use crate::dns::{Dns, Host, NoHost, Route};
use crate::lanes::Destination;
use crate::letter::Letter;
use crate::sts::Sts;
use crate::tls::{Policy, Wish};
use crate::tlsrpt::ledger::{self, Ledger};

/// Connections tried in one attempt.
const MAX_CONNECTIONS: usize = 10;
/// RFC 8314 §3.3: submission over TLS from the start.
const SUBMISSIONS: u16 = 465;

/// Knows the way to every destination.
#[derive(Debug)]
pub struct Carrier {
    /// Asks DNS.
    pub dns: Dns,
    /// Knows what domains demand by MTA-STS, unless that is switched off.
    pub sts: Option<Sts>,
    /// What the configuration asks of the servers of some domains.
    pub rules: HashMap<String, TlsDemand>,
    /// Connects.
    pub phone: Arc<Phone>,
    /// Port of other domains' servers.
    pub port: u16,
    /// Where everything goes, if it does.
    pub smarthost: Option<Smarthost>,
    /// Who wants to know how TLS went, if anybody does.
    pub ledger: Option<Ledger>,
}

/// The way to a host.
struct Way {
    addresses: Vec<IpAddr>,
    /// How much TLS is asked of it.
    policy: Policy,
    /// What its domain is told of that, if it is the domain that asks.
    told: Option<Told>,
}

/// The one server that takes everything.
#[derive(Debug, Clone)]
pub struct Smarthost {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How to log in there.
    pub credentials: Option<Credentials>,
}

/// What became of the recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Done, later, never.
    pub outcome: Outcome,
    /// RFC 3463 status.
    pub status: String,
    /// The reply, or the fault, on one line.
    pub text: String,
    /// A remote server's words.
    pub remote: bool,
    /// Which host it was.
    pub host: Option<String>,
    /// The host reports to the sender by itself.
    pub reports: bool,
}

impl Smarthost {
    // A password, or mail, must not go to an impostor, so the certificate is verified when there is a password. On a loopback
    // address nobody can stand between, and no public certificate exists for it: TLS is still asked for, not its certificate.
    fn policy(&self) -> Policy {
        let loopback =
            self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        match (&self.credentials, loopback) {
            (None, _) => Policy::Opportunistic,
            (Some(_), true) => Policy::Required,
            (Some(_), false) => Policy::Verified,
        }
    }
}

impl Carrier {
    /// Takes a message to a destination. The findings come in the order of the envelope's recipients.
    pub async fn attempt<B: Into<Letter>>(
        &self,
        destination: &Destination,
        envelope: &Envelope,
        wish: Wish,
        body: impl Fn() -> io::Result<B>,
    ) -> Vec<Finding> {
        let mut route = match self.route(destination).await {
            Ok(route) => route,
            Err(no_host) => return vec![no_host.into(); envelope.recipients.len()],
        };
        // Of servers that are as good as one another, one that is connected goes first.
        let pool = &self.phone.pool;
        route
            .hosts
            .sort_by_key(|host| (host.preference, !pool.has_host(&host.name)));
        let asked = Asked::new(wish);
        let mut failures = Vec::new();
        let mut connections = 0;
        'hosts: for host in &route.hosts {
            let way = self.way(destination, &route, &host.name, wish, &asked);
            let Way {
                addresses,
                policy,
                told,
            } = match way.await {
                Ok(way) => way,
                Err(finding) => {
                    info!(
                        host = host.name,
                        reason = finding.text,
                        "this host gets no mail now"
                    );
                    failures.push(finding);
                    continue;
                }
            };
            if addresses.is_empty() {
                failures.push(Finding::ours(
                    "4.4.4",
                    format!("the mail server {} has no address", host.name),
                ));
            }
            for address in addresses {
                connections += 1;
                if connections > MAX_CONNECTIONS {
                    break 'hosts;
                }
                let target = self.target(destination, &host.name, address, policy.clone());
                let told = told.as_ref().filter(|_| asked.is_told());
                match self.visit(&target, envelope, &body, told).await {
                    Ok(findings) => return findings,
                    Err((finding, next)) => {
                        info!(host = target.host, address = %target.address, reason = finding.text, "this host takes no mail now");
                        failures.push(finding);
                        if next == Next::Host {
                            continue 'hosts;
                        }
                    }
                }
            }
        }
        vec![worst(failures); envelope.recipients.len()]
    }

    async fn route(&self, destination: &Destination) -> Result<Route, NoHost> {
        match (destination, &self.smarthost) {
            (Destination::Domain(domain), _) => self.dns.hosts(domain).await,
            (Destination::Smarthost, Some(smarthost)) => Ok(Route {
                hosts: vec![Host {
                    name: smarthost.host.clone(),
                    preference: 0,
                }],
                is_secure: false,
                names: Vec::new(),
            }),
            (Destination::Chosen(detour), _) => Ok(Route {
                hosts: vec![Host {
                    name: detour.host.clone(),
                    preference: 0,
                }],
                is_secure: false,
                names: Vec::new(),
            }),
            (Destination::Here, _) => Err(NoHost::Temporary(
                "users here".into(),
                "bug: they have no server".into(),
            )),
            // The configuration changed since; the message is sorted anew at its next turn.
            (Destination::Smarthost, None) => Err(NoHost::Temporary(
                "smarthost".into(),
                "there is none".into(),
            )),
        }
    }

    /// Where a host is, and how much TLS is asked of it.
    async fn way(
        &self,
        destination: &Destination,
        route: &Route,
        host: &str,
        wish: Wish,
        asked: &Asked,
    ) -> Result<Way, Finding> {
        let untold = |addresses, policy| Way {
            addresses,
            policy,
            told: None,
        };
        let domain = match (destination, &self.smarthost) {
            (Destination::Smarthost, Some(smarthost)) => {
                let addresses = self.dns.addresses(host).await?;
                return Ok(untold(addresses, wish.of_smarthost(smarthost.policy())));
            }
            (Destination::Chosen(detour), _) => {
                let addresses = self.dns.addresses(&detour.host).await?;
                return Ok(untold(addresses, wish.of_smarthost(Policy::Opportunistic)));
            }
            (Destination::Domain(domain), _) => domain,
            (Destination::Smarthost | Destination::Here, _) => {
                let text = "bug: this destination has no server".into();
                return Err(Finding::ours("4.3.0", text));
            }
        };
        let place = self.dns.locate(host).await?;
        // An address literal has nobody who could demand anything.
        if domain.is_literal() {
            let policy = wish.of_recipient(Policy::Opportunistic);
            return Ok(untold(place.addresses, policy));
        }
        let policy = self.asked_of(domain, route, (host, &place), wish, asked);
        let (policy, told) = policy.await?;
        Ok(Way {
            addresses: place.addresses,
            policy,
            told,
        })
    }

    fn target(
        &self,
        destination: &Destination,
        host: &str,
        address: IpAddr,
        policy: Policy,
    ) -> Target {
        let smarthost = self
            .smarthost
            .as_ref()
            .filter(|_| *destination == Destination::Smarthost);
        let port = match destination {
            Destination::Chosen(detour) => detour.port.unwrap_or(self.port),
            Destination::Smarthost | Destination::Domain(_) | Destination::Here => {
                smarthost.map_or(self.port, |smarthost| smarthost.port)
            }
        };
        let implicit = smarthost.is_some() && port == SUBMISSIONS;
        Target {
            host: host.to_owned(),
            address: SocketAddr::new(address, port),
            begins: match (implicit, &policy) {
                (true, _) => Begins::Tls,
                (false, Policy::Never) => Begins::ClearOnly,
                (false, _) => Begins::Clear,
            },
            policy,
            credentials: smarthost.and_then(|smarthost| smarthost.credentials.clone()),
        }
    }

    async fn visit<B: Into<Letter>>(
        &self,
        target: &Target,
        envelope: &Envelope,
        body: &impl Fn() -> io::Result<B>,
        mut told: Option<&Told>,
    ) -> Result<Vec<Finding>, (Finding, Next)> {
        let mut target = target.clone();
        loop {
            let mut letter: Letter = match body() {
                Ok(body) => body.into(),
                Err(error) => {
                    tracing::error!(%error, "a queued body cannot be read");
                    return Err((
                        Finding::ours("4.3.0", "the queued message cannot be read".into()),
                        Next::Address,
                    ));
                }
            };
            let host = Some(target.host.clone());
            let mut glimpse = Glimpse::default();
            let dial = self
                .phone
                .dial(&target, envelope.clone(), &mut letter, &mut glimpse);
            let heard = dial.await;
            // Whatever is tried instead of what failed is no news.
            if let Some(told) = told.take() {
                self.tell(told, &target, &glimpse);
            }
            match heard {
                Heard::Results { results, reports } => {
                    let findings = in_order(envelope, &results, &target.host).into_iter();
                    let findings = findings.map(|finding| Finding { reports, ..finding });
                    return Ok(findings.collect());
                }
                Heard::Refused(verdict) => {
                    return Err((Finding::of(&verdict, target.host), Next::Host));
                }
                Heard::Unreachable(text) => {
                    let text = format!("{}: {text}", target.address);
                    return Err((
                        Finding {
                            host,
                            ..Finding::ours("4.4.1", text)
                        },
                        Next::Address,
                    ));
                }
                // RFC 7435: when encryption cannot be had, clear text is what there would have been without it.
                Heard::TlsBroken(error)
                    if target.policy == Policy::Opportunistic && target.begins == Begins::Clear =>
                {
                    warn!(
                        host = target.host,
                        %error, "TLS failed; trying this host again in clear text"
                    );
                    target.begins = Begins::ClearOnly;
                }
                Heard::TlsBroken(error) if target.policy == Policy::Tested => {
                    warn!(
                        host = target.host,
                        %error,
                        "the MTA-STS policy of the domain is in testing, and would keep mail from this host"
                    );
                    target.policy = Policy::Opportunistic;
                }
                Heard::TlsBroken(error) => {
                    warn!(
                        host = target.host,
                        %error, "TLS is required and cannot be had"
                    );
                    let text = format!("TLS with {} failed: {error}", target.host);
                    // RFC 8689 §4.2.1: what no server takes so is returned.
                    let status = match envelope.parameters.require_tls {
                        true => "5.7.30",
                        false => "4.7.5",
                    };
                    return Err((
                        Finding {
                            host,
                            ..Finding::ours(status, text)
                        },
                        Next::Address,
                    ));
                }
            }
        }
    }
}

impl Carrier {
    /// Has it counted how TLS went on a connection.
    fn tell(&self, told: &Told, target: &Target, glimpse: &Glimpse) {
        let (Some(ledger), Some(tls)) = (&self.ledger, &glimpse.tls) else {
            return;
        };
        let flaw = told.flaw.as_ref().or(tls.as_ref().err());
        let outcome = ledger::Outcome {
            policy: &told.policy,
            host: &target.host,
            to: Some(target.address.ip()),
            from: glimpse.from,
            flaw,
        };
        ledger.note(&told.domain, &outcome);
    }
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Address,
    Host,
}

impl Finding {
    /// A finding of our own.
    pub(crate) fn ours(status: &str, text: String) -> Self {
        let outcome = if status.starts_with('5') {
            Outcome::Permanent
        } else {
            Outcome::Temporary
        };
        Self {
            outcome,
            status: status.into(),
            text,
            remote: false,
            host: None,
            reports: false,
        }
    }

    fn of(verdict: &Verdict, host: String) -> Self {
        // The class of the status must fit what we make of it: RFC 3463 §2.
        let class = match verdict.outcome {
            Outcome::Delivered => 2,
            Outcome::Temporary => 4,
            Outcome::Permanent => 5,
        };
        let enhanced = verdict
            .reply
            .enhanced()
            .map_or((0, 0), |enhanced| (enhanced.subject, enhanced.detail));
        Self {
            outcome: verdict.outcome,
            status: format!("{class}.{}.{}", enhanced.0, enhanced.1),
            text: bounded(&verdict.reply.to_string()),
            remote: verdict.origin == Origin::Remote,
            host: Some(host),
            reports: false,
        }
    }
}

impl From<NoHost> for Finding {
    fn from(no_host: NoHost) -> Self {
        Self::ours(no_host.status(), no_host.to_string())
    }
}

/// Longest reply that is kept; a hostile server may send a hundred lines.
const MAX_TEXT: usize = 500;

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// The machine keeps the order of the recipients.
fn in_order(envelope: &Envelope, results: &[(Address, Verdict)], host: &str) -> Vec<Finding> {
    let finding = |index: usize| match results.get(index) {
        Some((_, verdict)) => Finding::of(verdict, host.to_owned()),
        None => Finding::ours("4.3.0", "bug: a recipient without a result".into()),
    };
    (0..envelope.recipients.len()).map(finding).collect()
}

/// As long as one host may still take it, it is tried again.
fn worst(failures: Vec<Finding>) -> Finding {
    let temporary = failures
        .iter()
        .rposition(|finding| finding.outcome != Outcome::Permanent);
    let place = temporary.or(failures.len().checked_sub(1));
    place
        .and_then(|place| failures.into_iter().nth(place))
        .unwrap_or_else(|| Finding::ours("4.4.4", "no host to try".into()))
}
