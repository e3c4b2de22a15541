//! Which hosts take mail for a domain, and their addresses (RFC 5321 §5.1); for smtpd, whatever it asks.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use ipc::dns::{Found, Kind, MAX_RECORDS_SIZE, Record};
use mail::address::Domain;
use tracing::{debug, warn};

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

enum Answer {
    Records(Vec<RData>),
    /// The name exists, such a record does not.
    Empty,
    NoSuchName,
}

impl Dns {
    /// Asks `servers`, or those of `/etc/resolv.conf` if the list is empty.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn new(servers: &[SocketAddr], hostname: &str) -> Result<Self, SetUpError> {
        let mut builder = if servers.is_empty() {
            system()
        } else {
            let config = ResolverConfig::from_parts(
                None,
                Vec::new(),
                servers.iter().map(name_server).collect(),
            );
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.use_hosts_file = if servers.is_empty() {
            ResolveHosts::Auto
        } else {
            ResolveHosts::Never
        };
        let resolver = builder
            .build()
            .map_err(|error| SetUpError(error.to_string()))?;
        Ok(Self {
            resolver,
            hostname: hostname.to_ascii_lowercase(),
        })
    }

    /// The hosts that take mail for `domain`, best first.
    ///
    /// # Errors
    /// [`NoHost`].
    pub async fn hosts(&self, domain: &Domain) -> Result<Vec<Host>, NoHost> {
        // RFC 5321 §4.1.3: an address literal needs no look-up.
        if let Some(ip) = domain.ip() {
            return Ok(vec![Host {
                name: ip.to_string(),
                preference: 0,
            }]);
        }
        let name = domain.as_str();
        let mut hosts = match self.look_up(name, RecordType::MX).await? {
            Answer::Records(records) => exchanges(&records),
            Answer::NoSuchName => return Err(NoHost::NoSuchDomain(name.into())),
            // RFC 5321 §5.1: without MX the domain itself is its only host, with preference 0.
            Answer::Empty if self.addresses(name).await?.is_empty() => {
                return Err(NoHost::NoRoute(name.into()));
            }
            Answer::Empty => vec![Host {
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
        self.cut_at_ourselves(hosts, name)
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

    /// The addresses of a host, IPv6 first; empty when it has none.
    ///
    /// # Errors
    /// [`NoHost::Temporary`].
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoHost> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let (v6, v4) = tokio::join!(
            self.look_up(host, RecordType::AAAA),
            self.look_up(host, RecordType::A)
        );
        if let (Err(error), _) | (_, Err(error)) = (&v6, &v4) {
            debug!(host, %error, "one address family is unknown");
        }
        let mut addresses = Vec::new();
        let mut fault = None;
        for answer in [v6, v4] {
            match answer {
                Ok(Answer::Records(records)) => {
                    addresses.extend(records.iter().filter_map(ip).take(MAX_ADDRESSES / 2))
                }
                Ok(Answer::Empty | Answer::NoSuchName) => {}
                Err(error) => fault = Some(error),
            }
        }
        match fault {
            Some(fault) if addresses.is_empty() => Err(fault),
            _ => Ok(addresses),
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
        let records: Vec<Record> = match self.query(query, kind).await {
            Ok(Answer::Records(records)) => records.iter().filter_map(record).collect(),
            Ok(Answer::Empty) => return Found::NoData,
            Ok(Answer::NoSuchName) => return Found::NoSuchName,
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
        let temporary = |reason: String| NoHost::Temporary(name.into(), reason);
        // Fully qualified: the search list of resolv.conf is for people who type.
        let mut query = match Name::from_ascii(name) {
            Ok(query) => query,
            Err(_) => return Ok(Answer::NoSuchName),
        };
        query.set_fqdn(true);
        self.query(query, kind).await.map_err(temporary)
    }

    // The error is a reason that may be gone the next time.
    async fn query(&self, query: Name, kind: RecordType) -> Result<Answer, String> {
        match self.resolver.lookup(query, kind).await {
            Ok(lookup) => {
                let records = lookup.answers().iter().map(|record| record.data.clone());
                let records: Vec<_> = records.filter(|data| data.record_type() == kind).collect();
                Ok(if records.is_empty() {
                    Answer::Empty
                } else {
                    Answer::Records(records)
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. }))) => {
                match response_code {
                    ResponseCode::NXDomain => Ok(Answer::NoSuchName),
                    ResponseCode::NoError => Ok(Answer::Empty),
                    other => Err(other.to_string()),
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn system() -> hickory_resolver::ResolverBuilder<TokioRuntimeProvider> {
    TokioResolver::builder_tokio().unwrap_or_else(|error| {
        // resolv.conf(5): without the file the name server on the local machine is asked.
        warn!(%error, "/etc/resolv.conf cannot be used; asking the DNS server at 127.0.0.1 (relay.dns sets others)");
        let local = name_server(&SocketAddr::from(([127, 0, 0, 1], 53)));
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
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
