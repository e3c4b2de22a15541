//! The `authentication.aggregate_reports` section: what domains are told about mail in their name (RFC 9990), and about TLS with their servers
//! (RFC 8460).

use serde::{Deserialize, Serialize};

use super::MailAddress;
use super::value::{AtLeast, AtMost};

/// The `authentication.aggregate_reports` section. A DMARC report tells a domain, per sending address, how many messages had its name in
/// From, and what SPF, DKIM and DMARC came to. A TLS report tells how many connections to its servers were secure, and what the others failed
/// by. Neither names a person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AggregateReports {
    /// Whether there are DMARC reports. They send mail to strangers in our name, from an address that must exist and pass SPF, so nobody is made to
    /// do it unasked.
    pub enabled: bool,
    /// Whether there are TLS reports: domains with a record at `_smtp._tls.` are told. The same holds for them.
    pub tls: bool,
    /// Whose reports they are; the domain of `sender` if not set.
    pub organization: Option<String>,
    /// Who sends them, also MAIL FROM. Its domain must let this host send (SPF), for domains take reports only where DMARC passes.
    pub sender: Option<MailAddress>,
    /// Where there is more to be had: a page, a telephone number.
    pub contact: Option<String>,
    /// Addresses here to which others send their reports. Messages that go to these or to `sender` alone are not reported: two servers
    /// would go on reporting about each other's reports.
    pub unreported_recipients: Vec<MailAddress>,
    /// Hours after midnight, UTC, over which the reports of a day are spread.
    pub spread_hours: AtMost<20>,
    /// Domains of which is kept in a day what is to be reported. This and the next two: what is beyond is counted, and the count reported.
    pub max_domains: AtLeast<1>,
    /// Rows of a report: what differs in anything but its number.
    pub max_rows: AtLeast<1>,
    /// Octets of all rows of a day.
    pub max_octets: AtLeast<65536>,
}

impl Default for AggregateReports {
    fn default() -> Self {
        Self {
            enabled: false,
            tls: false,
            organization: None,
            sender: None,
            contact: None,
            unreported_recipients: Vec::new(),
            spread_hours: AtMost::known(4),
            max_domains: AtLeast::known(10_000),
            max_rows: AtLeast::known(5_000),
            max_octets: AtLeast::known(64 << 20),
        }
    }
}

impl AggregateReports {
    /// Whether there are reports of any kind.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.enabled || self.tls
    }

    /// Whether `address` takes reports, ours or those of others.
    #[must_use]
    pub fn is_for_reports(&self, address: &str) -> bool {
        let mut all = self.sender.iter().chain(&self.unreported_recipients);
        all.any(|one| one.as_str().eq_ignore_ascii_case(address))
    }
}

/// What is wrong with the section, and its key.
pub(super) fn flaw(
    reports: &AggregateReports,
    relays: bool,
) -> Option<(&'static str, &'static str)> {
    let texts = [
        (
            "authentication.aggregate_reports.organization",
            &reports.organization,
        ),
        ("authentication.aggregate_reports.contact", &reports.contact),
    ];
    let is_bad = |text: &str| {
        text.trim().is_empty() || text.len() > 200 || text.chars().any(char::is_control)
    };
    for (key, text) in texts {
        if text.as_deref().is_some_and(is_bad) {
            return Some((key, "must be 1 to 200 octets without control characters"));
        }
    }
    let key = match reports.enabled {
        true => "authentication.aggregate_reports.enabled",
        false => "authentication.aggregate_reports.tls",
    };
    match (&reports.sender, reports.is_any()) {
        (_, true) if !relays => {
            Some((key, "needs relay.enabled, for the reports are sent by mail"))
        }
        (None, true) => Some((
            key,
            "needs authentication.aggregate_reports.sender, an address of yours whose domain lets this host send mail (SPF)",
        )),
        (Some(sender), _) if !sender.as_str().is_ascii() => Some((
            "authentication.aggregate_reports.sender",
            "must be ASCII, for the reports go to servers that know no other",
        )),
        _ => None,
    }
}
