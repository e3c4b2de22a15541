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
}

impl Server {
    /// Adds a line for each of them to the reply to `EHLO`.
    pub(super) fn list_offer(&self, mut reply: Reply) -> Reply {
        if self.config.offer.dsn {
            reply = reply.line("DSN");
        }
        reply
    }

    pub(super) fn check_offer(&self, mail: &Mail) -> Result<(), Reply> {
        if mail.parameters.wants_dsn() && !self.config.offer.dsn {
            return Err(words::not_offered());
        }
        Ok(())
    }

    pub(super) fn check_rcpt_offer(&self, parameters: &RcptParameters) -> Result<(), Reply> {
        if !parameters.is_empty() && !self.config.offer.dsn {
            return Err(words::not_offered());
        }
        Ok(())
    }
}
