//! The `authentication` section: whether mail from other servers is from whom it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::AggregateReports;
use super::measures::DomainMeasures;
use super::quarantine::Quarantine;
use super::value::{AtMost, HostName, Network};

/// The `authentication` section. Mail of users who log in, and LMTP, is not its concern.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    /// Check SPF, DKIM, ARC, DMARC and iprev, and write what was found into `Authentication-Results` (RFC 8601).
    pub enabled: bool,
    /// Clients whose mail is not checked: our own machines, and backup servers that have checked it.
    pub trusted_clients: Vec<Network>,
    /// Seconds from the end of a message that the checks may take; what is not known by then counts as `temperror`.
    pub patience_seconds: AtMost<120>,
    /// A host that the sender's domain says may not send its mail (RFC 7208).
    pub spf_fail: Measure,
    /// No signature is good, and at least one is bad (RFC 6376 §6.1 advises to treat that as no signature).
    pub dkim_fail: Measure,
    /// The author's domain wants such mail refused (RFC 9989, p=reject).
    pub dmarc_reject: Measure,
    /// The author's domain wants such mail put aside (RFC 9989, p=quarantine).
    pub dmarc_quarantine: Measure,
    /// There are several authors, or none that can be read, so that DMARC has nothing to check.
    pub unclear_author: Measure,
    /// DNS does not say what SPF or DMARC would have to know.
    pub unanswered: Unanswered,
    /// Domains for whose users something else is done about some of that.
    pub domains: Vec<DomainMeasures>,
    /// Who is believed that a message which it passed on and changed, such as a mailing list, was from whom it says: its chain must hold
    /// (ARC, RFC 8617) and the newest seals of it be by these domains. Then nothing is done because of DMARC.
    pub trusted_arc_sealers: Vec<HostName>,
    /// Bounds of what is kept for the operator alone.
    pub quarantine: Quarantine,
    /// What domains are told about mail in their name.
    pub aggregate_reports: AggregateReports,
}

/// What becomes of a message, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// It is taken, and what was found is written on it.
    Accept,
    /// The same, and users here find it in their junk mailbox.
    Junk,
    /// The same, and nobody finds it: it stays in relayd's queue until the operator releases it, or it is too old.
    Quarantine,
    /// It is refused.
    Reject,
}

/// What becomes of a message as long as DNS does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unanswered {
    /// It is taken, and what was found is written on it.
    Accept,
    /// Its sender is told to try again later.
    Defer,
}

impl Default for Authentication {
    fn default() -> Self {
        let v4_loopback = Network::known(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        let v6_loopback = Network::known(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
        Self {
            enabled: true,
            trusted_clients: vec![v4_loopback, v6_loopback],
            patience_seconds: AtMost::known(20),
            spf_fail: Measure::Accept,
            dkim_fail: Measure::Accept,
            dmarc_reject: Measure::Reject,
            dmarc_quarantine: Measure::Junk,
            unclear_author: Measure::Reject,
            unanswered: Unanswered::Accept,
            domains: Vec::new(),
            trusted_arc_sealers: Vec::new(),
            quarantine: Quarantine::default(),
            aggregate_reports: AggregateReports::default(),
        }
    }
}
