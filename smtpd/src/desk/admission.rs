//! Who may bring mail, and how much: limits, lists in DNS, and clients that a proxy speaks for.

use std::net::IpAddr;
use std::sync::Arc;

use ipc::Context;
use mail::address::{Domain, ForwardPath};
use smtp::command::{Mail, Rcpt};
use smtp::reply::Reply;
use smtp::server::Answer;
use smtp::xclient::Xclient;
use tracing::info;

use super::Desk;
use crate::ask::Ask;
use crate::guard::Kind;
use crate::lists::{Lists, Opinion, Subject};
use crate::login::Proofs;
use crate::words;

/// What the lists say, asked once for each client and each sender.
#[derive(Debug)]
pub(super) struct Listing {
    lists: Arc<Lists>,
    of_client: Option<Opinion>,
    /// The domain of the transaction's sender.
    sender: Option<Domain>,
    of_sender: Option<Opinion>,
}

impl Desk {
    /// From now on recipients are refused whose mail comes from those that the lists speak against.
    pub fn consult(&mut self, lists: Arc<Lists>) {
        self.lists = (!lists.is_empty()).then_some(Listing {
            lists,
            of_client: None,
            sender: None,
            of_sender: None,
        });
    }

    // A proxy that may do so says for whom it speaks from now on.
    pub(super) async fn welcome(&mut self, said: Xclient) -> Answer {
        self.start_over(Proofs::default());
        let login = said.login.map(|login| login.to_lowercase());
        // The proxy has seen the password. To deliverd its own address belongs to each account that there is.
        if let Some(account) = &login
            && let Err(problem) = self
                .ask
                .check_sender(self.context(0), account, account)
                .await
        {
            return self.refuse(problem, |refusal| words::account_unknown(account, refusal));
        }
        if let Some(address) = said.address {
            match self.pass.change(address) {
                Ok(pass) => {
                    self.login.speak_for(pass.address());
                    self.pass = pass;
                    if let Some(listing) = &mut self.lists {
                        listing.of_client = None;
                    }
                }
                Err(exceeded) => {
                    exceeded.tell();
                    return Answer::Refused(words::too_much(Kind::Connection));
                }
            }
        }
        if let Some(account) = &login
            && let Err(exceeded) = self.pass.log_in(account)
        {
            exceeded.tell();
            return Answer::Refused(words::too_much(Kind::Connection));
        }
        let client = self.pass.address();
        info!(%client, port = said.port, login, "client of a proxy");
        self.login.admit(login);
        Answer::Granted
    }

    /// A transaction of this sender begins.
    pub(super) fn note_sender(&mut self, mail: &Mail) {
        let sender = mail.sender.address();
        self.sender = sender.map_or_else(String::new, ToString::to_string);
        if let Some(listing) = &mut self.lists {
            listing.sender = mail.sender.address().map(|sender| sender.domain().clone());
            listing.of_sender = None;
        }
    }

    // Who logged in is known by name, and their mail is counted by that.
    pub(super) async fn admit_recipient(&mut self, rcpt: Rcpt) -> Answer {
        let is_known = self.login.account().is_some();
        let kinds: &[Kind] = match is_known {
            true => &[Kind::RefusedRecipient],
            false => &[Kind::Recipient, Kind::RefusedRecipient],
        };
        for kind in kinds {
            self.note_counts(*kind);
            if let Err(reply) = self.check(*kind) {
                return Answer::Refused(reply);
            }
        }
        self.pass.count(Kind::Recipient, u32::from(!is_known));
        if let Err(reply) = self.check_lists(&rcpt.path).await {
            return Answer::Refused(reply);
        }
        let path = rcpt.path.clone();
        let answer = self.judge_recipient(rcpt).await;
        let answer = self.put_off_recipient(&path, answer).await;
        if let Answer::Refused(reply) = &answer
            && reply.code() >= 500
        {
            self.pass.count(Kind::RefusedRecipient, 1);
        }
        answer
    }

    // RFC 5321 §4.5.1: postmaster can be reached, by those who want to know why they are listed above all.
    async fn check_lists(&mut self, path: &ForwardPath) -> Result<(), Reply> {
        let (context, client) = (self.context(0), self.pass.address());
        let is_asked = !is_postmaster(path) && !self.pass.is_exempt();
        let Some(listing) = self.lists.as_mut().filter(|_| is_asked) else {
            return Ok(());
        };
        let opinion = listing.judge(&self.ask, context, client).await;
        self.ask.note("smtp.dns_lists.reject_score", || {
            let verdict = match listing.lists.reject(opinion.score) {
                true => "enough to refuse it",
                false => "not enough to refuse it",
            };
            format!("the lists' scores make {}, {verdict}", opinion.score)
        });
        if !listing.lists.reject(opinion.score) {
            return Ok(());
        }
        let (zone, reason) = opinion.reason(&self.ask, context).await;
        let key = "smtp.dns_lists.reject_score";
        info!(key, zone, score = opinion.score, recipient = %path, "refused because of lists");
        Err(words::listed(path, &zone, &reason))
    }

    /// Whether the client may make as much work as it likes.
    #[must_use]
    pub fn is_exempt(&self) -> bool {
        self.pass.is_exempt()
    }

    /// Notes how many commands the client gave.
    pub fn count_commands(&self, number: u32) {
        self.pass.count(Kind::Command, number);
    }

    /// Whether the client may give another command.
    ///
    /// # Errors
    /// What it is told if not.
    pub fn check_commands(&self) -> Result<(), Reply> {
        self.check(Kind::Command)
    }

    fn check(&self, kind: Kind) -> Result<(), Reply> {
        self.pass.check(kind).map_err(|exceeded| {
            exceeded.tell();
            self.ask.note(exceeded.key(), || exceeded.to_string());
            words::too_much(kind)
        })
    }
}

/// Whether mail for `path` is always to be taken (RFC 5321 §4.5.1).
pub(super) fn is_postmaster(path: &ForwardPath) -> bool {
    match path {
        ForwardPath::Postmaster => true,
        ForwardPath::Address(address) => address.local().eq_ignore_ascii_case("postmaster"),
    }
}

impl Listing {
    async fn judge(&mut self, ask: &Arc<Ask>, context: Context, client: IpAddr) -> Opinion {
        let of_client = match self.of_client.take() {
            Some(opinion) => opinion,
            None => {
                let subject = Subject::Address(client);
                self.lists.judge(ask, context, &subject).await
            }
        };
        let of_sender = match (self.of_sender.take(), &self.sender) {
            (Some(opinion), _) => opinion,
            (None, Some(domain)) => {
                let subject = Subject::Domain(domain.clone());
                self.lists.judge(ask, context, &subject).await
            }
            (None, None) => Opinion::default(),
        };
        let both = of_client.and(&of_sender);
        (self.of_client, self.of_sender) = (Some(of_client), Some(of_sender));
        both
    }
}
