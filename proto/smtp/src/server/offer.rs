//! The parameters that travel with an envelope: which of them are offered, and where they may stand.

use super::{Server, words};
use crate::command::Mail;
use crate::parameter::RcptParameters;
use crate::reply::Reply;

/// The parameters whoever carries the mail on can honour.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// RFC 3461: reports about the delivery.
    pub dsn: bool,
    /// RFC 8689: verified TLS all the way; taken behind TLS only.
    pub require_tls: bool,
    /// RFC 6710: which mail goes first.
    pub priority: bool,
}

impl Server {
    /// Adds a line for each of them to the reply to `EHLO`.
    pub(super) fn list_offer(&self, mut reply: Reply) -> Reply {
        if self.config.offer.dsn {
            reply = reply.line("DSN");
        }
        if self.offers_require_tls() {
            reply = reply.line("REQUIRETLS");
        }
        if self.config.offer.priority {
            reply = reply.line("MT-PRIORITY");
        }
        reply
    }

    pub(super) fn check_offer(&self, mail: &Mail) -> Result<(), Reply> {
        let parameters = &mail.parameters;
        let strange = parameters.wants_dsn() && !self.config.offer.dsn
            || parameters.require_tls && !self.offers_require_tls()
            || parameters.priority.is_some() && !self.config.offer.priority;
        match strange {
            true => Err(words::not_offered()),
            false => Ok(()),
        }
    }

    // RFC 8689 §2: what came in clear text cannot be kept secret any more.
    fn offers_require_tls(&self) -> bool {
        self.config.offer.require_tls && self.tls.is_some()
    }

    pub(super) fn check_rcpt_offer(&self, parameters: &RcptParameters) -> Result<(), Reply> {
        if !parameters.is_empty() && !self.config.offer.dsn {
            return Err(words::not_offered());
        }
        Ok(())
    }
}
