//! What DNS says, asked of relayd: smtpd has no way there of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use daemon::channel::CallError;
use ipc::dns::{Found, Kind, Question, Record};
use ipc::queue::{QueueAnswer, QueueRequest};
use ipc::{Context, Refusal};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::ask::Ask;
use crate::explain::facts;

/// How long the answer to one question may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two tries while relayd has too much to look up.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// There is no answer now; later there may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("DNS gives no answer at the moment")]
pub struct NoAnswer;

impl Ask {
    /// What DNS says about a name; [`Found::Fault`] too when relayd cannot be asked or takes longer than [`PATIENCE`].
    pub async fn look_up(&self, context: Context, name: &str, kind: Kind) -> Found {
        let question = Question {
            name: name.to_owned(),
            kind,
        };
        let found = timeout(PATIENCE, self.find(context, &question)).await;
        let found = found.unwrap_or_else(|_| {
            debug!(name, ?kind, "no answer in time");
            Found::Fault
        });
        self.note("relay.dns", || facts::looked_up(name, kind, &found));
        found
    }

    async fn find(&self, context: Context, question: &Question) -> Found {
        loop {
            let request = QueueRequest::LookUp(question.clone());
            // Asked again while relayd restarts.
            match self.relayd.ask(context, PATIENCE, request).await {
                Ok(answered) => match answered.answer {
                    QueueAnswer::LookedUp(found) => return found,
                    QueueAnswer::MessageOpened(_)
                    | QueueAnswer::RecipientsAdded
                    | QueueAnswer::MessageQueued { .. }
                    | QueueAnswer::FilterConnected
                    | QueueAnswer::Foreseen { .. }
                    | QueueAnswer::Greeted(_)
                    | QueueAnswer::Noted
                    | QueueAnswer::MessageAborted => {
                        debug!(?question, "bug: an answer to another question");
                        return Found::Fault;
                    }
                },
                // Who asks much must not be able to make others unheard.
                Err(CallError::Refused(Refusal::Busy)) => sleep(BUSY_PAUSE).await,
                Err(error) => {
                    debug!(?question, %error, "relayd could not be asked");
                    return Found::Fault;
                }
            }
        }
    }

    /// The IPv4 addresses of a name, empty if it has none.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ipv4(&self, context: Context, name: &str) -> Result<Vec<Ipv4Addr>, NoAnswer> {
        let pick = |record| match record {
            Record::A(address) => Some(address),
            _ => None,
        };
        let found = self.look_up(context, name, Kind::A).await;
        Ok(records(found)?.into_iter().filter_map(pick).collect())
    }

    /// The IPv6 addresses of a name, empty if it has none.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ipv6(&self, context: Context, name: &str) -> Result<Vec<Ipv6Addr>, NoAnswer> {
        let pick = |record| match record {
            Record::Aaaa(address) => Some(address),
            _ => None,
        };
        let found = self.look_up(context, name, Kind::Aaaa).await;
        Ok(records(found)?.into_iter().filter_map(pick).collect())
    }

    /// The names that `address` says it has (RFC 1035 §3.5, RFC 3596 §2.5), empty if it has none. Whether they say so, too, is
    /// another question.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn names(&self, context: Context, address: IpAddr) -> Result<Vec<String>, NoAnswer> {
        let pick = |record| match record {
            Record::Ptr(name) => Some(name),
            _ => None,
        };
        let name = reverse_name(address);
        let found = self.look_up(context, &name, Kind::Ptr).await;
        Ok(records(found)?.into_iter().filter_map(pick).collect())
    }
}

/// `192.0.2.1` is `1.2.0.192.in-addr.arpa`; an IPv6 address has its 32 digits under `ip6.arpa`. An IPv4 address mapped into
/// IPv6 is that IPv4 address.
#[must_use]
pub fn reverse_name(address: IpAddr) -> String {
    let zone = match address.to_canonical() {
        IpAddr::V4(_) => "in-addr.arpa",
        IpAddr::V6(_) => "ip6.arpa",
    };
    reverse_under(address, zone)
}

/// The same under another zone than those of the addresses' owners, as a list of addresses in DNS has it (RFC 5782 §2.1, §2.4).
#[must_use]
pub fn reverse_under(address: IpAddr, zone: &str) -> String {
    let labels: Vec<String> = match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(v6) => {
            let digits = v6.octets().into_iter().rev();
            let digits = digits.flat_map(|octet| [octet & 15, octet >> 4]);
            digits.map(|digit| format!("{digit:x}")).collect()
        }
    };
    format!("{}.{zone}", labels.join("."))
}

fn records(found: Found) -> Result<Vec<Record>, NoAnswer> {
    match found {
        Found::Records(records) => Ok(records),
        Found::NoData | Found::NoSuchName | Found::TooLarge => Ok(Vec::new()),
        Found::Fault => Err(NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_name_backwards() {
        for (address, name) in [
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            ("::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"),
            (
                "2001:db8::cb01",
                "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            assert_eq!(reverse_name(address.parse().unwrap()), name);
        }
        let listed = reverse_under("192.0.2.99".parse().unwrap(), "bad.example.com");
        assert_eq!(listed, "99.2.0.192.bad.example.com");
    }
}
