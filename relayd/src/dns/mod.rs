//! Which hosts take mail for a domain, and their addresses (RFC 5321 §5.1), as far as can be checked by DNSSEC; for smtpd, whatever it asks.

mod answer;
mod sieve;
mod validator;
mod wildcard;

use std::net::{IpAddr, SocketAddr};

use daemon::config::{Dnssec, DnssecMode};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use ipc::dns::{Found, Kind, MAX_RECORDS_SIZE, Record};
use mail::address::Domain;
use tracing::{debug, warn};

use self::answer::{Answer, Found as Seen};
use self::validator::Validator;
use crate::dane::Tlsa;

/// Hosts tried for a domain; RFC 5321 §5.1 wants at least two.
const MAX_HOSTS: usize = 16;
/// Mail exchangers of a domain that are looked at.
const MAX_EXCHANGES: usize = 64;
/// Addresses tried for a host.
const MAX_ADDRESSES: usize = 4;

/// Asks DNS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dns {
    resolver: TokioResolver,
    /// Asks about what decides where mail goes.
    validator: Option<Validator>,
    /// Our own name: a host list is cut where it comes.
    hostname: String,
}

/// A host that takes mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in lower case without the final dot, or an address literal's address.
    pub name: String,
    /// Lower ones come first.
    pub preference: u16,
}

/// The hosts that take mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Best first.
    pub hosts: Vec<Host>,
    /// DNSSEC vouches for it that it is these.
    pub is_secure: bool,
    /// The domain, and the name it is an alias of, if it is. None for an address literal.
    pub names: Vec<String>,
}

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its addresses, IPv6 first; empty when it has none.
    pub addresses: Vec<IpAddr>,
    /// Names under which it may say how its certificate is known, the first one first (RFC 7672 §2.2.2); none where DNSSEC vouches for none.
    pub bases: Vec<String>,
}

/// Why there is no host to go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    /// NXDOMAIN.
    #[error("the domain {0} does not exist")]
    NoSuchDomain(String),
    /// RFC 7505.
    #[error("the domain {0} does not accept mail (null MX)")]
    NullMx(String),
    /// Neither MX nor addresses.
    #[error("the domain {0} has no mail server and no address")]
    NoRoute(String),
    /// We are its best host but do not know the domain.
    #[error("mail for {0} loops back to this host")]
    Loop(String),
    /// The answer may be another one later.
    #[error("DNS look-up of {0} failed: {1}")]
    Temporary(String, String),
}

impl NoHost {
    /// RFC 3463 status.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        match self {
            Self::NoSuchDomain(_) => "5.1.2",
            // RFC 7505 §4.2.
            Self::NullMx(_) => "5.1.10",
            Self::NoRoute(_) => "5.4.4",
            Self::Loop(_) => "5.4.6",
            Self::Temporary(..) => "4.4.3",
        }
    }

    /// Whether it is of no use to ask again.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        !matches!(self, Self::Temporary(..))
    }
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS resolver cannot be set up: {0}")]
pub struct SetUpError(String);

impl Dns {
    /// Asks `servers`, or those of `/etc/resolv.conf` if the list is empty, and checks nothing.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn new(servers: &[SocketAddr], hostname: &str) -> Result<Self, SetUpError> {
        let mode = DnssecMode::Off;
        let rules = Dnssec {
            mode,
            ..Dnssec::default()
        };
        Self::checking(servers, hostname, &rules)
    }

    /// The same, but what decides where mail goes is checked as `rules` say.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn checking(
        servers: &[SocketAddr],
        hostname: &str,
        rules: &Dnssec,
    ) -> Result<Self, SetUpError> {
        let (config, mut options) = match servers.is_empty() {
            true => system(),
            false => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                (config, ResolverOpts::default())
            }
        };
        options.use_hosts_file = match servers.is_empty() {
            true => ResolveHosts::Auto,
            false => ResolveHosts::Never,
        };
        let validator = Validator::new(config.name_servers(), options.clone(), rules)?;
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config, provider)
            .with_options(options)
            .build()
            .map_err(|error| SetUpError(error.to_string()))?;
        Ok(Self {
            resolver,
            validator,
            hostname: hostname.to_ascii_lowercase(),
        })
    }

    /// The hosts that take mail for `domain`, best first.
    ///
    /// # Errors
    /// [`NoHost`].
    pub async fn hosts(&self, domain: &Domain) -> Result<Route, NoHost> {
        // RFC 5321 §4.1.3: an address literal needs no look-up.
        if let Some(ip) = domain.ip() {
            let host = Host {
                name: ip.to_string(),
                preference: 0,
            };
            return Ok(Route {
                hosts: vec![host],
                is_secure: false,
                names: Vec::new(),
            });
        }
        let name = domain.as_str();
        let answer = self.check(name, RecordType::MX).await?;
        let mut hosts = match answer.found {
            Seen::Records(records) => exchanges(&records),
            Seen::NoSuchName => return Err(NoHost::NoSuchDomain(name.into())),
            // RFC 5321 §5.1: without MX the domain itself is its only host, with preference 0.
            Seen::Empty if self.locate(name).await?.addresses.is_empty() => {
                return Err(NoHost::NoRoute(name.into()));
            }
            Seen::Empty => vec![Host {
                name: name.into(),
                preference: 0,
            }],
        };
        // RFC 7505 §3: a single MX "." says that the domain takes no mail.
        if !hosts.is_empty() && hosts.iter().all(|host| host.name.is_empty()) {
            return Err(NoHost::NullMx(name.into()));
        }
        hosts.retain(|host| !host.name.is_empty());
        if hosts.is_empty() {
            return Err(NoHost::NoRoute(name.into()));
        }
        sort(&mut hosts);
        let canonical = answer.canonical.as_ref().and_then(host_name);
        Ok(Route {
            hosts: self.cut_at_ourselves(hosts, name)?,
            is_secure: answer.is_secure,
            names: [name.to_owned()].into_iter().chain(canonical).collect(),
        })
    }

    // RFC 5321 §5.1: hosts that are no better than ourselves are not tried, or mail would run in circles.
    fn cut_at_ourselves(&self, mut hosts: Vec<Host>, domain: &str) -> Result<Vec<Host>, NoHost> {
        if let Some(own) = hosts
            .iter()
            .find(|host| host.name == self.hostname)
            .map(|host| host.preference)
        {
            hosts.retain(|host| host.preference < own);
        }
        hosts.truncate(MAX_HOSTS);
        if hosts.is_empty() {
            Err(NoHost::Loop(domain.into()))
        } else {
            Ok(hosts)
        }
    }

    /// The addresses of a host that is not named by DNS, IPv6 first; empty when it has none.
    ///
    /// # Errors
    /// [`NoHost::Temporary`].
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoHost> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let answers = tokio::join!(
            self.look_up(host, RecordType::AAAA),
            self.look_up(host, RecordType::A)
        );
        Ok(place(host, answers.into())?.addresses)
    }

    /// Where a host is that DNS names.
    ///
    /// # Errors
    /// [`NoHost::Temporary`].
    pub async fn locate(&self, host: &str) -> Result<Place, NoHost> {
        if let Ok(ip) = host.parse() {
            return Ok(Place {
                addresses: vec![ip],
                bases: Vec::new(),
            });
        }
        let answers = tokio::join!(
            self.check(host, RecordType::AAAA),
            self.check(host, RecordType::A)
        );
        place(host, answers.into())
    }

    /// What a host says of its certificate under this name, as far as DNSSEC vouches for it (RFC 7672 §2.1.2); nothing, if there is nothing.
    ///
    /// # Errors
    /// [`NoHost::Temporary`].
    pub async fn tlsa(&self, base: &str, port: u16) -> Result<Vec<Tlsa>, NoHost> {
        let name = format!("_{port}._tcp.{base}");
        let answer = self.check(&name, RecordType::TLSA).await?;
        match answer.found {
            Seen::Records(records) if answer.is_secure => {
                Ok(records.iter().filter_map(tlsa).collect())
            }
            Seen::Records(_) | Seen::Empty | Seen::NoSuchName => Ok(Vec::new()),
        }
    }

    /// The records of a name, for smtpd.
    pub async fn find(&self, name: &str, kind: Kind) -> Found {
        // RFC 7208 §7 makes names of parts of addresses, which may have any byte in them.
        let labels = name.strip_suffix('.').unwrap_or(name).split('.');
        let Ok(query) = Name::from_labels(labels.map(str::as_bytes)) else {
            return Found::NoSuchName;
        };
        let kind = match kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Mx => RecordType::MX,
            Kind::Txt => RecordType::TXT,
            Kind::Ptr => RecordType::PTR,
        };
        let found = self.query(query, kind).await.map(|answer| answer.found);
        let records: Vec<Record> = match found {
            Ok(Seen::Records(records)) => records.iter().filter_map(record).collect(),
            Ok(Seen::Empty) => return Found::NoData,
            Ok(Seen::NoSuchName) => return Found::NoSuchName,
            Err(reason) => {
                debug!(%name, %kind, reason, "no answer from DNS");
                return Found::Fault;
            }
        };
        match records.iter().map(Record::size).sum::<usize>() {
            // What is no host name was passed over.
            0 => Found::NoData,
            size if size > MAX_RECORDS_SIZE => Found::TooLarge,
            _ => Found::Records(records),
        }
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Answer, NoHost> {
        match qualified(name) {
            Some(query) => self.query(query, kind).await,
            None => Ok(Answer::no_such_name()),
        }
        .map_err(|reason| NoHost::Temporary(name.into(), reason))
    }

    /// The same, with what DNSSEC says of it.
    async fn check(&self, name: &str, kind: RecordType) -> Result<Answer, NoHost> {
        let (Some(validator), Some(query)) = (&self.validator, qualified(name)) else {
            return self.look_up(name, kind).await;
        };
        match validator.is_on().await {
            true => validator.look_up(&query, kind).await,
            false => self.query(query, kind).await,
        }
        .map_err(|reason| NoHost::Temporary(name.into(), reason))
    }

    // The error is a reason that may be gone the next time.
    async fn query(&self, query: Name, kind: RecordType) -> Result<Answer, String> {
        let result = self.resolver.lookup(query.clone(), kind).await;
        Answer::read(&query, kind, result)
    }
}

// Fully qualified: the search list of resolv.conf is for people who type.
fn qualified(name: &str) -> Option<Name> {
    let mut query = Name::from_ascii(name).ok()?;
    query.set_fqdn(true);
    Some(query)
}

/// Of both address families; one of them is enough.
fn place(host: &str, answers: [Result<Answer, NoHost>; 2]) -> Result<Place, NoHost> {
    let mut addresses = Vec::new();
    let (mut secure, mut canonical, mut is_alias_secure) = (Vec::new(), None, false);
    let mut fault = None;
    for answer in answers {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                debug!(host, %error, "one address family is unknown");
                fault = Some(error);
                continue;
            }
        };
        is_alias_secure |= answer.is_alias_secure;
        if let Seen::Records(records) = answer.found {
            addresses.extend(records.iter().filter_map(ip).take(MAX_ADDRESSES / 2));
            secure.push(answer.is_secure);
            canonical = answer.canonical;
        }
    }
    let is_secure = !secure.is_empty() && secure.iter().all(|one| *one);
    let canonical = canonical
        .filter(|_| is_secure)
        .and_then(|name| host_name(&name));
    let own = (is_secure || is_alias_secure).then(|| host.to_owned());
    match fault {
        Some(fault) if addresses.is_empty() => Err(fault),
        _ => Ok(Place {
            addresses,
            bases: canonical.into_iter().chain(own).collect(),
        }),
    }
}

fn system() -> (ResolverConfig, ResolverOpts) {
    hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
        // resolv.conf(5): without the file the name server on the local machine is asked.
        warn!(%error, "/etc/resolv.conf cannot be used; asking the DNS server at 127.0.0.1 (relay.dns sets others)");
        let local = name_server(&SocketAddr::from(([127, 0, 0, 1], 53)));
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
        (config, ResolverOpts::default())
    })
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server
        .connections
        .iter_mut()
        .for_each(|connection| connection.port = address.port());
    server
}

fn record(data: &RData) -> Option<Record> {
    match data {
        RData::A(a) => Some(Record::A(a.0)),
        RData::AAAA(aaaa) => Some(Record::Aaaa(aaaa.0)),
        RData::MX(mx) => host_name(&mx.exchange).map(|exchange| Record::Mx {
            preference: mx.preference,
            exchange,
        }),
        RData::TXT(txt) => Some(Record::Txt(txt.txt_data.concat())),
        RData::PTR(name) => host_name(&name.0).map(Record::Ptr),
        _ => None,
    }
}

fn tlsa(data: &RData) -> Option<Tlsa> {
    match data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => None,
    }
}

fn exchanges(records: &[RData]) -> Vec<Host> {
    let host = |record: &RData| match record {
        RData::MX(mx) => host_name(&mx.exchange).map(|name| Host {
            name,
            preference: mx.preference,
        }),
        _ => None,
    };
    records
        .iter()
        .take(MAX_EXCHANGES)
        .filter_map(host)
        .collect()
}

/// A name from DNS as text: host names only, so that nothing from there can surprise a log or a report.
fn host_name(name: &Name) -> Option<String> {
    let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let good = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if !good {
        debug!(name = %text.escape_debug(), "what is no host name is passed over");
    }
    good.then_some(text)
}

// RFC 5321 §5.1: by preference, and in random order within one.
fn sort(hosts: &mut [Host]) {
    let random = |host: Host| (host.preference, getrandom::u32().unwrap_or(0), host);
    let mut keyed: Vec<_> = hosts.iter().cloned().map(random).collect();
    keyed.sort_by_key(|(preference, random, _)| (*preference, *random));
    for (place, (.., host)) in hosts.iter_mut().zip(keyed) {
        *place = host;
    }
}

fn ip(record: &RData) -> Option<IpAddr> {
    match record {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}
