//! smtpd → relayd: what DMARC came to for a message, for the reports that its domain wants (RFC 9990). Part of [`crate::queue`],
//! because relayd keeps files and sends mail.

use std::net::IpAddr;

use crate::frame::{Decode, Encode};

/// Signatures told of one message, at most; no more are looked at.
pub const MAX_SIGNATURES: usize = 10;

/// Bytes of each text in an [`Observation`], at most; so that all of it fits into a frame.
pub const MAX_TEXT: usize = 320;

/// A message from another server whose author's domain publishes a policy and wants reports.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Observation {
    /// What was published.
    pub published: Published,
    /// Where the message came from.
    pub source: IpAddr,
    /// Domain of the author.
    pub header_from: String,
    /// Domain of MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// Domain of the recipients, if all are of one.
    pub envelope_to: Option<String>,
    /// What became of the message.
    pub disposition: Disposition,
    /// Why that is not what was published.
    pub reason: Option<Reason>,
    /// A good signature is aligned.
    pub dkim_aligned: bool,
    /// SPF passed for an aligned domain.
    pub spf_aligned: bool,
    /// The signatures, at most [`MAX_SIGNATURES`].
    pub signatures: Vec<SignatureResult>,
    /// The domain that SPF was asked about.
    pub spf_domain: String,
    /// What SPF said.
    pub spf: SpfResult,
}

/// A policy as its domain publishes it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Published {
    /// Where the record is.
    pub domain: String,
    /// For the domain itself.
    pub policy: Policy,
    /// For domains below.
    pub below: Option<Policy>,
    /// For domains below that do not exist.
    pub missing: Option<Policy>,
    /// Signatures must be of the author's very domain.
    pub strict_dkim: bool,
    /// MAIL FROM must be of the author's very domain.
    pub strict_spf: bool,
    /// It is only tried.
    pub is_test: bool,
}

/// What a domain wants done with mail that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Policy {
    /// Nothing.
    None,
    /// Put it aside.
    Quarantine,
    /// Refuse it.
    Reject,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Disposition {
    /// It was taken; the policy asked for nothing.
    None,
    /// It was taken, for it is the domain's own.
    Pass,
    /// It was put aside.
    Quarantine,
    /// It was refused.
    Reject,
}

/// Why a policy was not followed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reason {
    /// It is only tried (`t`).
    TestMode,
    /// The message is none of those it is for (`pct` of RFC 7489).
    SampledOut,
    /// The configuration wants something else; what more there is to say, at most [`MAX_TEXT`] bytes.
    LocalPolicy(Option<String>),
}

/// What came of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignatureResult {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// What the check said.
    pub result: DkimResult,
}

/// RFC 8601 §2.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DkimResult {
    /// There is none.
    None,
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It holds, but not for all of the message.
    Policy,
    /// It does not, but its domain is only trying.
    Neutral,
    /// DNS did not answer.
    TempError,
    /// It cannot be checked.
    PermError,
}

/// RFC 8601 §2.7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SpfResult {
    /// Nothing is published.
    None,
    /// Nothing is said about the host.
    Neutral,
    /// The host may.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// DNS did not answer.
    TempError,
    /// What is published cannot be read.
    PermError,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::QueueRequest;
    use crate::{Call, Context, frame};

    #[test]
    fn the_largest_observation_fits_into_a_frame() {
        let text = || "x".repeat(MAX_TEXT);
        let signature = SignatureResult {
            domain: text(),
            selector: text(),
            result: DkimResult::PermError,
        };
        let observation = Observation {
            published: Published {
                domain: text(),
                policy: Policy::Reject,
                below: Some(Policy::Reject),
                missing: Some(Policy::Reject),
                strict_dkim: true,
                strict_spf: true,
                is_test: true,
            },
            source: IpAddr::from([255; 16]),
            header_from: text(),
            envelope_from: text(),
            envelope_to: Some(text()),
            disposition: Disposition::Reject,
            reason: Some(Reason::LocalPolicy(Some("x".repeat(MAX_TEXT)))),
            dkim_aligned: true,
            spf_aligned: true,
            signatures: vec![signature; MAX_SIGNATURES],
            spf_domain: text(),
            spf: SpfResult::PermError,
        };
        let call = Call {
            id: u64::MAX,
            deadline_ms: u32::MAX,
            context: Context::default(),
            request: QueueRequest::Note(Box::new(observation)),
        };
        assert!(frame::encode(&call).is_ok());
    }
}
