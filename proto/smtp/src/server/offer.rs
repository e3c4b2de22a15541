//! The parameters that travel with an envelope: which of them are offered, and where they may stand.

use super::{Server, words};
use crate::command::Mail;
use crate::hold::HoldLimit;
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
    /// RFC 4865: mail may wait before it is released, but no longer.
    pub hold: Option<HoldLimit>,
    /// RFC 2852: mail may be of use until a certain time only.
    pub deliver_by: bool,
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
        if self.config.offer.deliver_by {
            reply = reply.line("DELIVERBY");
        }
        if let Some(limit) = self.config.offer.hold {
            reply = reply.line(&alloc::format!("FUTURERELEASE {limit}"));
        }
        reply
    }

    pub(super) fn check_offer(&self, mail: &Mail) -> Result<(), Reply> {
        let parameters = &mail.parameters;
        let strange = parameters.wants_dsn() && !self.config.offer.dsn
            || parameters.require_tls && !self.offers_require_tls()
            || parameters.priority.is_some() && !self.config.offer.priority
            || parameters.by.is_some() && !self.config.offer.deliver_by
            || parameters.hold.is_some() && self.config.offer.hold.is_none();
        match strange {
            true => Err(words::not_offered()),
            false => self.check_hold(mail),
        }
    }

    fn check_hold(&self, mail: &Mail) -> Result<(), Reply> {
        match (mail.parameters.hold, self.config.offer.hold) {
            (Some(hold), Some(limit)) if !hold.is_within(limit) => Err(words::held_too_long(limit)),
            _ => Ok(()),
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
