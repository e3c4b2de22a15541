//! relayd → rmailctl: how much TLS is asked of the servers of a domain, and why. Part of [`crate::control`].

use crate::frame::{Decode, Encode};

/// Servers told of at most.
pub const MAX_HOSTS: usize = 5;
/// Addresses told of a server, and records, and names in a policy.
pub const MAX_EACH: usize = 4;
/// Connections told of.
pub const MAX_SEEN: usize = 4;
/// Octets of a text, at most.
pub const MAX_TEXT: usize = 240;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Asked {
    /// No TLS, though it may be offered.
    Never,
    /// TLS if it is offered, with any certificate.
    IfOffered,
    /// TLS with any certificate.
    Encrypted,
    /// TLS, and a certificate that is good for its name.
    Verified,
    /// The same; where it is not so, that is only told.
    Tested,
    /// TLS, and the certificate that its TLSA records mean.
    Dane,
    /// It gets no mail.
    Refused,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AskedHost {
    /// Its name.
    pub name: String,
    /// Lower ones come first.
    pub preference: u16,
    /// Where it is; at most [`MAX_EACH`].
    pub addresses: Vec<String>,
    /// What is asked of it.
    pub asked: Asked,
    /// By which means (`tlsa`, `sts`, `no-policy-found`), or why it gets no mail; empty where what the domain says does not count.
    pub why: String,
    /// Its TLSA records, as far as they count; at most [`MAX_EACH`].
    pub records: Vec<String>,
}

/// A policy by MTA-STS.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StsPolicy {
    /// The name of its version.
    pub id: String,
    /// `enforce`, `testing` or `none`.
    pub mode: String,
    /// Unix seconds when it was fetched.
    pub fetched: i64,
    /// Seconds for which it holds from then on.
    pub max_age: u64,
    /// Servers that it names; at most [`MAX_EACH`].
    pub hosts: Vec<String>,
    /// How many it names.
    pub named: u32,
}

/// How TLS went on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SeenTls {
    /// Unix seconds.
    pub at: i64,
    /// The name of the server; empty if it was not about one, or nothing failed.
    pub host: String,
    /// By which means something was demanded.
    pub policy: String,
    /// How it failed; empty if it did not.
    pub result: String,
    /// In words.
    pub reason: String,
}

/// All that is known of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TlsDemands {
    /// All mail goes over a smarthost.
    pub has_smarthost: bool,
    /// What `relay.domains` says of the domain.
    pub rule: Option<String>,
    /// Why there is no server.
    pub no_route: Option<String>,
    /// DNSSEC vouches for it which servers it has.
    pub is_secure: bool,
    /// Best first; at most [`MAX_HOSTS`].
    pub hosts: Vec<AskedHost>,
    /// How many there are.
    pub all_hosts: u32,
    /// The policy that is kept.
    pub policy: Option<StsPolicy>,
    /// Why there is no newer one, though there should be.
    pub policy_fault: Option<String>,
    /// What came of connections since relayd started, the last one first; at most [`MAX_SEEN`].
    pub seen: Vec<SeenTls>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::QueueControlAnswer;
    use crate::{Refusal, Return, frame};

    #[test]
    fn all_that_may_be_known_fits_into_a_frame() {
        let text = || "x".repeat(MAX_TEXT);
        let host = AskedHost {
            name: text(),
            preference: u16::MAX,
            addresses: vec!["x".repeat(45); MAX_EACH],
            asked: Asked::Refused,
            why: text(),
            records: vec![text(); MAX_EACH],
        };
        let policy = StsPolicy {
            id: text(),
            mode: text(),
            fetched: i64::MIN,
            max_age: u64::MAX,
            hosts: vec![text(); MAX_EACH],
            named: u32::MAX,
        };
        let seen = SeenTls {
            at: i64::MIN,
            host: text(),
            policy: text(),
            result: text(),
            reason: text(),
        };
        let all = TlsDemands {
            has_smarthost: true,
            rule: Some(text()),
            no_route: Some(text()),
            is_secure: true,
            hosts: vec![host; MAX_HOSTS],
            all_hosts: u32::MAX,
            policy: Some(policy),
            policy_fault: Some(text()),
            seen: vec![seen; MAX_SEEN],
        };
        let result: Result<_, Refusal> = Ok(QueueControlAnswer::TlsDemands(Box::new(all)));
        let id = u64::MAX;
        let answer: Return<QueueControlAnswer, crate::edge::Silence> =
            Return::Answer { id, result };
        assert!(frame::encode(&answer).is_ok());
    }
}
