//! Connections to filters. smtpd can make none itself, and says only which filter it wants; where that is, the
//! configuration says.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use daemon::config::{Filter, FilterAddress};
use ipc::Refusal;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::dns::Dns;

/// The filters there are.
#[derive(Debug)]
pub struct Filters {
    list: Vec<Filter>,
    dns: Dns,
}

impl Filters {
    /// Those of the configuration; `dns` finds their hosts.
    #[must_use]
    pub fn new(list: Vec<Filter>, dns: Dns) -> Self {
        Self { list, dns }
    }

    /// Connects to the filter of that name.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is none, [`Refusal::Invalid`] with the reason when it cannot be reached.
    pub async fn connect(&self, name: &str) -> Result<OwnedFd, Refusal> {
        let known = self.list.iter().find(|filter| filter.name == name);
        let filter = known.ok_or(Refusal::NotFound)?;
        let limit = Duration::from_secs(filter.connect_timeout_seconds.value());
        let made = match timeout(limit, self.reach(&filter.address)).await {
            Ok(made) => made,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        made.map_err(|error| {
            let place = String::from(filter.address.clone());
            let advice = advice(&filter.address, &error);
            warn!(filter = name, place, %error, "a filter cannot be reached{advice}");
            Refusal::Invalid(format!("it cannot be reached at {place}: {error}{advice}"))
        })
    }

    async fn reach(&self, address: &FilterAddress) -> io::Result<OwnedFd> {
        match address {
            FilterAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await?.into_std()?;
                Ok(stream.into())
            }
            FilterAddress::Inet(host, port) => self.reach_host(host.as_str(), *port).await,
        }
    }

    async fn reach_host(&self, host: &str, port: u16) -> io::Result<OwnedFd> {
        let addresses = self.dns.addresses(host).await;
        let addresses = addresses.map_err(|error| io::Error::other(error.to_string()))?;
        let mut failure = io::Error::other("its host has no address");
        for address in addresses {
            match TcpStream::connect((address, port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream.into_std()?.into());
                }
                Err(error) => {
                    debug!(%address, port, %error, "no filter at this address");
                    failure = error;
                }
            }
        }
        Err(failure)
    }
}

/// What can be done about it.
fn advice(address: &FilterAddress, error: &io::Error) -> &'static str {
    match (address, error.kind()) {
        (FilterAddress::Unix(_), io::ErrorKind::NotFound) => {
            "; start the filter, and restart relayd if the directory of the socket was made after relayd started"
        }
        (FilterAddress::Unix(_), io::ErrorKind::PermissionDenied) => {
            "; let relayd's user or group write to the socket"
        }
        (_, io::ErrorKind::ConnectionRefused) => "; start the filter",
        _ => "",
    }
}
