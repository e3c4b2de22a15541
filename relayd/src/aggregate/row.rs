//! A row of a report: messages of which all that is told is the same.

use ipc::Refusal;
use ipc::observation::{
    Disposition, DkimResult, MAX_SIGNATURES, MAX_TEXT, Observation, Policy, Reason, SpfResult,
};
use ipc::reports::ReportRow;
use serde::{Deserialize, Serialize};

/// What is told of a message, in the words of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The client's address.
    pub source: String,
    /// Domain of the author.
    pub header_from: String,
    /// Domain of MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// Domain of the recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope_to: Option<String>,
    /// What became of it.
    pub disposition: String,
    /// Whether a good signature is aligned: `pass` or `fail`.
    pub dkim_aligned: String,
    /// The same of SPF.
    pub spf_aligned: String,
    /// Why the policy was not followed: the type, and a comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<(String, Option<String>)>,
    /// Domain, selector and result of each signature.
    pub dkim: Vec<(String, String, String)>,
    /// Domain and result.
    pub spf: (String, String),
}

impl Row {
    /// The same for the operator.
    pub(crate) fn told(self, count: u64) -> ReportRow {
        let reason = self.reason.map(|(kind, comment)| match comment {
            Some(comment) => format!("{kind}: {comment}"),
            None => kind,
        });
        ReportRow {
            count,
            source: self.source,
            header_from: self.header_from,
            envelope_from: self.envelope_from,
            envelope_to: self.envelope_to.unwrap_or_default(),
            disposition: self.disposition,
            reason: reason.unwrap_or_default(),
            dkim_aligned: self.dkim_aligned,
            spf_aligned: self.spf_aligned,
            dkim: self.dkim,
            spf: self.spf,
        }
    }

    fn longest(&self) -> usize {
        let names = self.dkim.iter().flat_map(|(d, s, _)| [d, s]);
        let texts = [&self.header_from, &self.envelope_from, &self.spf.0];
        let all = names.chain(texts).chain(&self.envelope_to);
        all.map(String::len).max().unwrap_or(0)
    }
}

/// A policy, in the words of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// `p`.
    pub policy: String,
    /// `sp`.
    pub below: String,
    /// `np`.
    pub missing: String,
    /// `adkim`: `r` or `s`.
    pub dkim: String,
    /// `aspf`: `r` or `s`.
    pub spf: String,
    /// `t`: `y` or `n`.
    pub test: String,
}

/// Domain, policy and row of what smtpd says.
///
/// # Errors
/// [`Refusal::Invalid`] for what it cannot have found.
pub fn read(observation: Observation) -> Result<(String, Published, Row), Refusal> {
    let invalid = |what: &str| Refusal::Invalid(format!("an observation with {what}"));
    let Observation {
        published,
        signatures,
        ..
    } = observation;
    let domain = published.domain.to_ascii_lowercase();
    if !is_domain(&domain) {
        return Err(invalid("a policy of no domain"));
    }
    if signatures.len() > MAX_SIGNATURES {
        return Err(invalid("too many signatures"));
    }
    let dkim: Vec<_> = signatures
        .into_iter()
        .map(|one| (one.domain, one.selector, dkim(one.result).to_owned()))
        .collect();
    let row = Row {
        source: observation.source.to_canonical().to_string(),
        header_from: observation.header_from,
        envelope_from: observation.envelope_from,
        envelope_to: observation.envelope_to,
        disposition: disposition(observation.disposition).to_owned(),
        dkim_aligned: aligned(observation.dkim_aligned).to_owned(),
        spf_aligned: aligned(observation.spf_aligned).to_owned(),
        reason: observation.reason.map(reason),
        dkim,
        spf: (observation.spf_domain, spf(observation.spf).to_owned()),
    };
    if row.longest() > MAX_TEXT {
        return Err(invalid("a text that is too long"));
    }
    // RFC 9989 §4.7: what is not said of domains below is as of the domain itself, and of missing ones as of those below.
    let below = published.below.unwrap_or(published.policy);
    let mode = |is_strict| if is_strict { "s" } else { "r" }.to_owned();
    let published = Published {
        policy: policy(published.policy).to_owned(),
        below: policy(below).to_owned(),
        missing: policy(published.missing.unwrap_or(below)).to_owned(),
        dkim: mode(published.strict_dkim),
        spf: mode(published.strict_spf),
        test: if published.is_test { "y" } else { "n" }.to_owned(),
    };
    Ok((domain, published, row))
}

/// What may stand in DNS, in a file name and in a header field as it is.
fn is_domain(name: &str) -> bool {
    let good = |label: &str| {
        let mut bytes = label.bytes();
        (1..=63).contains(&label.len())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(good)
}

const fn aligned(is_aligned: bool) -> &'static str {
    if is_aligned { "pass" } else { "fail" }
}

const fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::None => "none",
        Policy::Quarantine => "quarantine",
        Policy::Reject => "reject",
    }
}

const fn disposition(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::None => "none",
        Disposition::Pass => "pass",
        Disposition::Quarantine => "quarantine",
        Disposition::Reject => "reject",
    }
}

fn reason(reason: Reason) -> (String, Option<String>) {
    match reason {
        Reason::TestMode => ("policy_test_mode".into(), None),
        // RFC 9990 has no word for what RFC 7489 calls sampled_out.
        Reason::SampledOut => ("other".into(), Some("not among the pct of messages".into())),
        Reason::LocalPolicy(comment) => ("local_policy".into(), comment),
    }
}

const fn dkim(result: DkimResult) -> &'static str {
    match result {
        DkimResult::None => "none",
        DkimResult::Pass => "pass",
        DkimResult::Fail => "fail",
        DkimResult::Policy => "policy",
        DkimResult::Neutral => "neutral",
        DkimResult::TempError => "temperror",
        DkimResult::PermError => "permerror",
    }
}

const fn spf(result: SpfResult) -> &'static str {
    match result {
        SpfResult::None => "none",
        SpfResult::Neutral => "neutral",
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::TempError => "temperror",
        SpfResult::PermError => "permerror",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ipc::observation::{self, SignatureResult};

    pub(crate) fn observation(domain: &str, source: [u8; 4]) -> Observation {
        Observation {
            published: observation::Published {
                domain: domain.into(),
                policy: Policy::Reject,
                below: None,
                missing: Some(Policy::Quarantine),
                strict_dkim: true,
                strict_spf: false,
                is_test: false,
            },
            source: source.into(),
            header_from: domain.into(),
            envelope_from: "bounce.example".into(),
            envelope_to: Some("example.test".into()),
            disposition: Disposition::Reject,
            reason: None,
            dkim_aligned: false,
            spf_aligned: true,
            signatures: vec![SignatureResult {
                domain: "d.example".into(),
                selector: "s1".into(),
                result: DkimResult::Fail,
            }],
            spf_domain: "bounce.example".into(),
            spf: SpfResult::SoftFail,
        }
    }

    #[test]
    fn what_is_not_said_of_domains_below_follows_from_what_is() {
        let (domain, published, row) = read(observation("Example.COM", [192, 0, 2, 1])).unwrap();
        assert_eq!(domain, "example.com");
        let policies = [&published.policy, &published.below, &published.missing];
        assert_eq!(policies, ["reject", "reject", "quarantine"]);
        assert_eq!((&*published.dkim, &*published.spf), ("s", "r"));
        assert_eq!((&*row.source, &*row.spf.1), ("192.0.2.1", "softfail"));
    }

    #[test]
    fn what_smtpd_cannot_have_found_is_refused() {
        let refused = |change: fn(&mut Observation)| {
            let mut observation = observation("example.com", [192, 0, 2, 1]);
            change(&mut observation);
            matches!(read(observation), Err(Refusal::Invalid(_)))
        };
        assert!(!refused(|_| {}));
        assert!(refused(|one| one.published.domain = "../x".into()));
        assert!(refused(|one| one.published.domain = "a\r\nb.example".into()));
        assert!(refused(|one| one.published.domain = String::new()));
        assert!(refused(|one| one.published.domain = "a.".repeat(127)));
        assert!(refused(|one| one.header_from = "x".repeat(MAX_TEXT + 1)));
        assert!(refused(
            |one| one.signatures[0].selector = "x".repeat(MAX_TEXT + 1)
        ));
        assert!(refused(
            |one| one.signatures = vec![one.signatures[0].clone(); MAX_SIGNATURES + 1]
        ));
    }
}
