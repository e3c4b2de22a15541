//! What became of a recipient, or of a connection, and who said so.

use crate::reply::{Reply, ReplyError};

/// Whether to rejoice, to wait or to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken responsibility.
    Delivered,
    /// It may work later.
    Temporary,
    /// It will never work.
    Permanent,
}

/// Who came to the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The server; the reply holds its own code and text.
    Remote,
    /// We; the reply is of our making.
    Local,
}

/// An outcome with the reply it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it means.
    pub outcome: Outcome,
    /// Who said so.
    pub origin: Origin,
    /// Code, enhanced status code and text, free of control characters.
    pub reply: Reply,
}

impl Verdict {
    /// The meaning of a server's reply where a 2xx would have been success.
    pub(crate) fn of(reply: &Reply) -> Self {
        let outcome = match reply.code() / 100 {
            2 => Outcome::Delivered,
            5 => Outcome::Permanent,
            // 4xx, and a 3xx that nobody asked for.
            _ => Outcome::Temporary,
        };
        Self {
            outcome,
            origin: Origin::Remote,
            reply: reply.clone(),
        }
    }

    /// The meaning of a server's reply to `RCPT`.
    pub(crate) fn of_recipient(reply: &Reply) -> Self {
        let mut verdict = Self::of(reply);
        // RFC 5321 §4.5.3.1.10: 552 for too many recipients is to be read as 452.
        if reply.code() == 552 {
            verdict.outcome = Outcome::Temporary;
        }
        verdict
    }

    fn local(outcome: Outcome, reply: Reply) -> Self {
        Self {
            outcome,
            origin: Origin::Local,
            reply,
        }
    }

    pub(crate) fn local_timeout() -> Self {
        let reply = Reply::new(451, (4, 4, 2), "the server did not answer in time");
        Self::local(Outcome::Temporary, reply)
    }

    pub(crate) fn local_lost() -> Self {
        let reply = Reply::new(451, (4, 4, 2), "the connection was lost");
        Self::local(Outcome::Temporary, reply)
    }

    pub(crate) fn local_protocol(error: &ReplyError) -> Self {
        let text = alloc::format!("the server does not speak SMTP: {error}");
        Self::local(Outcome::Temporary, Reply::new(451, (4, 5, 0), &text))
    }

    pub(crate) fn local_unsolicited() -> Self {
        let reply = Reply::new(451, (4, 5, 0), "the server sent a reply nobody asked for");
        Self::local(Outcome::Temporary, reply)
    }

    pub(crate) fn local_no_mechanism() -> Self {
        let text = "the server offers neither AUTH PLAIN nor AUTH LOGIN";
        Self::local(Outcome::Temporary, Reply::new(454, (4, 7, 0), text))
    }

    // RFC 1870 §6.1 asks not to send what will not be taken.
    pub(crate) fn local_too_large(limit: u64) -> Self {
        let text = alloc::format!("the server takes messages of at most {limit} octets");
        Self::local(Outcome::Permanent, Reply::new(552, (5, 3, 4), &text))
    }

    // RFC 8689 §5: X.7.30 REQUIRETLS support required.
    pub(crate) fn local_no_require_tls() -> Self {
        let text = "the sender asks for REQUIRETLS, which the server does not offer";
        Self::local(Outcome::Permanent, Reply::new(550, (5, 7, 30), text))
    }

    // RFC 3463 §3.4: X.3.3 system not capable of selected features.
    pub(crate) fn local_no_deliver_by() -> Self {
        let text = "the sender wants late mail back (DELIVERBY), which the server does not offer";
        Self::local(Outcome::Permanent, Reply::new(550, (5, 3, 3), text))
    }

    // RFC 3463 §3.5: X.4.7 delivery time expired.
    pub(crate) fn local_too_late() -> Self {
        let text = "the server needs more time than the sender gives it (DELIVERBY)";
        Self::local(Outcome::Permanent, Reply::new(550, (5, 4, 7), text))
    }

    // RFC 6531 §3.5, RFC 5248: X.6.7 non-ASCII addresses not permitted.
    pub(crate) fn local_no_smtputf8() -> Self {
        let text = "the message needs SMTPUTF8, which the server does not offer";
        Self::local(Outcome::Permanent, Reply::new(553, (5, 6, 7), text))
    }
}
