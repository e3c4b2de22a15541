//! What is said about a signature, and about a message.

use std::fmt;

use mail::address::Domain;

use crate::arc::Chain;

/// How a signature was made. rsa-sha1 is none of them: RFC 8301 §3.1 forbids to verify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// rsa-sha256.
    RsaSha256,
    /// ed25519-sha256 (RFC 8463).
    Ed25519Sha256,
}

impl Algorithm {
    /// The name, as in `a=` and in `header.a` of an Authentication-Results field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }
}

/// The result of a signature, in the words of RFC 8601 §2.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no signature.
    None,
    /// The signature holds, and nothing of the body is outside of it.
    Pass,
    /// The message or its header is not what was signed, or the key is too weak to show that it is.
    Fail,
    /// The signature holds, but not for all of the body.
    Policy,
    /// It does not hold, and its domain says that it is only trying (`t=y`).
    Neutral,
    /// The key could not be looked up now.
    TempError,
    /// It cannot be verified, now or later: it or its key is malformed, expired, revoked or of a kind that is not taken.
    PermError,
}

impl Verdict {
    /// The word in an Authentication-Results field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// What is wrong with a signature. `Display` gives a short reason in US-ASCII without quotes or line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The field is not a list of tags, or has one twice.
    Malformed,
    /// This tag is missing.
    Missing(&'static str),
    /// This tag has a value that it cannot have.
    Bad(&'static str),
    /// rsa-sha1.
    Sha1,
    /// An algorithm that nobody has defined.
    UnknownAlgorithm,
    /// `h=` does not name From.
    FromNotSigned,
    /// The domain of `i=` is not within that of `d=`.
    ForeignIdentity,
    /// `x=` is past.
    Expired,
    /// `t=` is in the future.
    InFuture,
    /// `l=` is more than there is of the body.
    TooLittleBody,
    /// The DNS did not answer.
    NoAnswer,
    /// There is no key.
    NoKey,
    /// What stands there is no key record.
    BadKeyRecord,
    /// There are several key records under one name.
    SeveralKeys,
    /// The key has been revoked.
    Revoked,
    /// The key is for another algorithm, another hash or another service, or of no use.
    WrongKey,
    /// The key is for its domain only, and `i=` names one below it.
    StrictKey,
    /// An RSA key of so many bits, less than 1024.
    ShortKey(usize),
    /// An RSA key of so many bits, more than 8192.
    LongKey(usize),
    /// The body is not what was signed.
    BodyChanged,
    /// The header is not what was signed.
    HeaderChanged,
    /// `l=` leaves out so many octets at the end of the body.
    Uncovered(u64),
}

impl Flaw {
    /// The verdict on a signature with this flaw.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::ShortKey(_) | Self::BodyChanged | Self::HeaderChanged => Verdict::Fail,
            Self::Uncovered(_) => Verdict::Policy,
            Self::NoAnswer => Verdict::TempError,
            Self::Malformed
            | Self::Missing(_)
            | Self::Bad(_)
            | Self::Sha1
            | Self::UnknownAlgorithm
            | Self::FromNotSigned
            | Self::ForeignIdentity
            | Self::Expired
            | Self::InFuture
            | Self::TooLittleBody
            | Self::NoKey
            | Self::BadKeyRecord
            | Self::SeveralKeys
            | Self::Revoked
            | Self::WrongKey
            | Self::StrictKey
            | Self::LongKey(_) => Verdict::PermError,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the signature is malformed",
            Self::Missing(tag) => return write!(f, "the signature has no {tag}="),
            Self::Bad(tag) => return write!(f, "the signature has a bad {tag}="),
            Self::Sha1 => "rsa-sha1 is not taken any more",
            Self::UnknownAlgorithm => "unknown algorithm",
            Self::FromNotSigned => "From is not signed",
            Self::ForeignIdentity => "the domain of i= is not within d=",
            Self::Expired => "the signature has expired",
            Self::InFuture => "the signature was made in the future",
            Self::TooLittleBody => "the body is shorter than l=",
            Self::NoAnswer => "the DNS did not answer for the key",
            Self::NoKey => "there is no key",
            Self::BadKeyRecord => "the key record is malformed",
            Self::SeveralKeys => "there are several key records",
            Self::Revoked => "the key has been revoked",
            Self::WrongKey => "the key is not for such signatures",
            Self::StrictKey => "the key is not for subdomains",
            Self::ShortKey(bits) => return write!(f, "the key has only {bits} bits"),
            Self::LongKey(bits) => return write!(f, "the key has {bits} bits, more than 8192"),
            Self::BodyChanged => "the body is not what was signed",
            Self::HeaderChanged => "the header is not what was signed",
            Self::Uncovered(octets) => {
                return write!(f, "{octets} octets of the body are not signed");
            }
        })
    }
}

/// One DKIM-Signature field and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whether it holds.
    pub verdict: Verdict,
    /// Why it does not.
    pub flaw: Option<Flaw>,
    /// `d=`: who answers for the message. Only to be believed with [`Verdict::Pass`].
    pub domain: Option<Domain>,
    /// `i=` as written, at most 320 octets of UTF-8 without control characters; `@` and the domain if the tag is missing.
    pub identity: Option<String>,
    /// `s=` in lower-case A-labels.
    pub selector: Option<String>,
    /// `a=`, if it is one that is taken.
    pub algorithm: Option<Algorithm>,
    /// The first eight characters of `b=`, fewer if there are fewer, for `header.b` (RFC 6008 §4).
    pub signature: String,
    /// The key is marked `t=y`: its domain is only trying (RFC 6376 §3.6.1).
    pub testing: bool,
    /// `l=` was given, whether or not it covers the whole body.
    pub limited: bool,
}

impl Signature {
    /// Whether the signature speaks for the message as it is (DMARC): it holds, and covers all of the body.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// Settles the verdict.
    pub(crate) fn settle(&mut self, result: Result<(), Flaw>) {
        self.flaw = result.err();
        self.verdict = match self.flaw.map_or(Verdict::Pass, Flaw::verdict) {
            // RFC 6376 §3.6.1: a message of a domain that is only trying is not worse than an unsigned one.
            Verdict::Fail if self.testing => Verdict::Neutral,
            verdict => verdict,
        };
    }
}

/// All that is to be said about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The signatures that were looked at, in the order of their fields, the topmost first.
    pub signatures: Vec<Signature>,
    /// How many more there are, at which nobody looked.
    pub passed_over: usize,
    /// The header is too large, so nothing was looked at.
    pub header_too_large: bool,
    /// The chain of those who passed the message on.
    pub chain: Chain,
}

impl Outcome {
    /// The verdict on the message: pass if one signature passes, then whether a later look might find one that does, then
    /// what is to be said about the topmost.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| {
            self.signatures
                .iter()
                .any(|signature| signature.verdict == verdict)
        };
        let strongest = [Verdict::Pass, Verdict::TempError]
            .into_iter()
            .find(|verdict| has(*verdict));
        let topmost = self.signatures.first().map(|signature| signature.verdict);
        strongest.or(topmost).unwrap_or(Verdict::None)
    }
}
