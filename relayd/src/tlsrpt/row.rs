//! A row of a report: connections of which all that is told is the same. The words are those of RFC 8460 §4.

use std::net::IpAddr;

use ipc::reports::TlsReportRow;
use rustls::{CertificateError, Error, OtherError};
use serde::{Deserialize, Serialize};

use crate::dane::NoneFits;

/// Lines told of a policy, and names of servers in it.
const MAX_LINES: usize = 16;
/// Octets of a line.
const MAX_LINE: usize = 400;
/// Octets of a name.
const MAX_NAME: usize = 255;
/// Octets of a reason.
const MAX_REASON: usize = 200;

/// What is told of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What counted.
    pub policy: Policy,
    /// What failed, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What a domain demanded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    /// By which means.
    #[serde(rename = "type")]
    pub means: Means,
    /// Its text, line by line: TLSA records, or a policy of MTA-STS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// The servers that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// By which means something is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// By none.
    NoPolicyFound,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Of which kind.
    pub result: Fault,
    /// Our address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The name of the server; empty if it is not about one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Kinds of failures (RFC 8460 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The server does not offer STARTTLS, or refuses it.
    StarttlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// The certificate is not in time.
    CertificateExpired,
    /// Nobody who counts vouches for the certificate.
    CertificateNotTrusted,
    /// The certificate is none of those that TLSA records mean.
    TlsaInvalid,
    /// DNS gives no TLSA records that can be believed.
    DnssecInvalid,
    /// The configuration wants DANE, and there is none.
    DaneRequired,
    /// The policy of MTA-STS cannot be fetched.
    StsPolicyFetchError,
    /// It cannot be understood.
    StsPolicyInvalid,
    /// The certificate of the host that serves it is not good.
    StsWebpkiInvalid,
    /// Something else.
    ValidationFailure,
}

/// What is wrong with TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Flaw {
    /// For the report.
    pub fault: Fault,
    /// In words.
    pub reason: String,
}

impl Policy {
    /// DANE by these records.
    #[must_use]
    pub fn tlsa(records: impl IntoIterator<Item = String>) -> Self {
        Self {
            means: Means::Tlsa,
            lines: few(records, MAX_LINE),
            hosts: Vec::new(),
        }
    }

    /// MTA-STS by a policy of these lines that names these servers; nothing where it is not known.
    #[must_use]
    pub fn sts(lines: impl IntoIterator<Item = String>, hosts: &[String]) -> Self {
        Self {
            means: Means::Sts,
            lines: few(lines, MAX_LINE),
            hosts: few(hosts.iter().cloned(), MAX_NAME),
        }
    }

    /// Nothing is demanded.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            means: Means::NoPolicyFound,
            lines: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

impl Means {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

impl Fault {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
            Self::ValidationFailure => "validation-failure",
        }
    }
}

impl Flaw {
    /// Of this kind, in these words.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { fault, reason }
    }

    /// What a handshake failed by.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let fault = inner.map_or(Fault::ValidationFailure, fault_of);
        Self::new(fault, error.to_string())
    }

    /// At a server, as a part of a row.
    #[must_use]
    pub fn at(&self, host: &str) -> Failure {
        let reason: String = self.reason.chars().filter(|c| !c.is_control()).collect();
        Failure {
            result: self.fault,
            from: None,
            host: host.to_owned(),
            to: None,
            reason: cut(reason, MAX_REASON),
        }
    }
}

fn fault_of(error: &Error) -> Fault {
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => Fault::CertificateExpired,
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Fault::CertificateHostMismatch
        }
        Error::InvalidCertificate(_) => Fault::CertificateNotTrusted,
        Error::Other(OtherError(other)) if other.is::<NoneFits>() => Fault::TlsaInvalid,
        _ => Fault::ValidationFailure,
    }
}

impl Row {
    /// The same for the operator.
    #[must_use]
    pub fn told(self, count: u64) -> TlsReportRow {
        let address = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        let failure = self.failure;
        let result = failure.as_ref().map(|one| one.result.as_str());
        let (from, to) = failure
            .as_ref()
            .map_or((None, None), |one| (one.from, one.to));
        let (host, reason) = failure
            .map(|one| (one.host, one.reason))
            .unwrap_or_default();
        TlsReportRow {
            count,
            policy: self.policy.means.as_str().into(),
            lines: self.policy.lines,
            hosts: self.policy.hosts,
            result: result.unwrap_or_default().into(),
            from: address(from),
            host,
            to: address(to),
            reason,
        }
    }
}

fn few(lines: impl IntoIterator<Item = String>, longest: usize) -> Vec<String> {
    let lines = lines.into_iter().take(MAX_LINES);
    lines.map(|line| cut(line, longest)).collect()
}

fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_in_the_file_are_those_of_the_report() {
        for fault in [
            Fault::StarttlsNotSupported,
            Fault::CertificateHostMismatch,
            Fault::CertificateExpired,
            Fault::CertificateNotTrusted,
            Fault::TlsaInvalid,
            Fault::DnssecInvalid,
            Fault::DaneRequired,
            Fault::StsPolicyFetchError,
            Fault::StsPolicyInvalid,
            Fault::StsWebpkiInvalid,
            Fault::ValidationFailure,
        ] {
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.as_str());
        }
        for means in [Means::Tlsa, Means::Sts, Means::NoPolicyFound] {
            assert_eq!(serde_json::to_value(means).unwrap(), means.as_str());
        }
    }

    #[test]
    fn what_a_hostile_domain_publishes_makes_no_long_row() {
        let endless = || std::iter::repeat_with(|| "ä".repeat(10_000)).take(10_000);
        let hosts: Vec<_> = endless().take(100).collect();
        for policy in [Policy::tlsa(endless()), Policy::sts(endless(), &hosts)] {
            let lines = policy.lines.iter().chain(&policy.hosts);
            assert!(policy.lines.len() <= MAX_LINES && policy.hosts.len() <= MAX_LINES);
            assert!(lines.clone().all(|line| line.len() <= MAX_LINE));
        }
        let flaw = Flaw::new(Fault::ValidationFailure, "a\r\nb\0".repeat(1000));
        let reason = flaw.at("mx.test").reason;
        assert!(reason.len() <= MAX_REASON && reason.starts_with("abab"));
    }

    #[test]
    fn what_a_handshake_failed_by_is_told_in_the_words_of_the_report() {
        let fault = |error: Error| Flaw::of(&std::io::Error::other(error)).fault;
        use CertificateError as Bad;
        for (bad, wanted) in [
            (Bad::Expired, Fault::CertificateExpired),
            (Bad::NotValidYet, Fault::CertificateExpired),
            (Bad::NotValidForName, Fault::CertificateHostMismatch),
            (Bad::UnknownIssuer, Fault::CertificateNotTrusted),
            (Bad::Revoked, Fault::CertificateNotTrusted),
        ] {
            assert_eq!(fault(Error::InvalidCertificate(bad)), wanted);
        }
        assert_eq!(fault(Error::DecryptError), Fault::ValidationFailure);
        let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
        assert_eq!(Flaw::of(&timeout).fault, Fault::ValidationFailure);
    }
}
