//! XCLIENT: the session of a proxy's client begins.

use super::{Answer, Hello, Pending, Question, Role, Server, words};
use crate::reply::Reply;
use crate::xclient::Xclient;

/// What a peer may say about a client of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proxying {
    /// Nothing.
    Nothing,
    /// Who it is.
    Client,
    /// Who it is and as whom it has logged in.
    Login,
}

impl Server {
    pub(super) fn obey_xclient(&mut self, said: Xclient) {
        if let Err(refusal) = self.check_xclient(&said) {
            return self.say_bad(&refusal);
        }
        self.ask(Question::Client(said.clone()), Pending::Client(said));
    }

    fn check_xclient(&self, said: &Xclient) -> Result<(), Reply> {
        if self.config.proxying == Proxying::Nothing {
            return Err(words::no_proxy());
        }
        if self.transaction.is_some() {
            return Err(words::out_of_order("a transaction is open, RSET ends it"));
        }
        let may_log_in =
            self.config.proxying == Proxying::Login && self.config.role == Role::Submission;
        if said.login.is_some() && !may_log_in {
            return Err(words::no_logins_by_proxy());
        }
        Ok(())
    }

    pub(super) fn hear_client(&mut self, said: Xclient, answer: Answer) {
        self.authenticated = false;
        match super::dialog::granted(answer) {
            // XCLIENT_README: the session begins again, with another greeting.
            Ok(()) => self.begin_again(said),
            Err(reply) if reply.code() == 421 => self.say_goodbye(&reply),
            Err(reply) => self.say_bad(&reply),
        }
    }

    fn begin_again(&mut self, said: Xclient) {
        if let Some(address) = said.address {
            self.peer = address;
            self.is_proxied = true;
        }
        // What the TLS of the proxy proves is not its client's.
        self.proofs = sasl::Proofs::default();
        let extended = said.is_extended;
        self.hello = said.hello.map(|name| Hello { name, extended });
        self.authenticated = said.login.is_some();
        self.patience = super::Patience::new(&self.config);
        self.say(&self.greeting());
    }

    /// The attributes that the peer is offered, if any.
    pub(super) fn offered_attributes(&self) -> Option<&'static str> {
        match (self.config.proxying, self.config.role) {
            (Proxying::Nothing, _) => None,
            (Proxying::Login, Role::Submission) => Some(" LOGIN"),
            (Proxying::Login | Proxying::Client, _) => Some(""),
        }
    }
}
