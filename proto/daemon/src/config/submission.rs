//! The `submission` section: what becomes of mail that our own users send.

use serde::{Deserialize, Serialize};

use super::mechanisms::Mechanisms;

/// The `submission` section.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submission {
    /// Leave out of the `Received` field which address the author's client has and what it calls itself. RFC 5321 §4.4 wants it
    /// told; the log has it in any case.
    pub redact_received: bool,
    /// How users may log in on the submission ports. Whatever is here, a mechanism is offered only where it can work: all of them behind
    /// TLS, SCRAM-SHA-256-PLUS where TLS can be bound to, EXTERNAL for whom has shown a certificate. Clients that choose
    /// SCRAM-SHA-256-PLUS and cannot do it (mutt and neomutt of Debian) can log in with the others if it is left out; what is lost is
    /// that a login is bound to its TLS session.
    pub mechanisms: Mechanisms,
}
