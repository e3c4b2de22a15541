//! Messages that go through filters: opened only when all filters have judged them, with the recipients that are left.

use mail::address::{ForwardPath, ReversePath};
use milter::reply::Change;
use smtp::command::Mail;
use smtp::reply::Reply;
use smtp::server::Answer;
use tracing::{info, warn};

use super::ways::Ways;
use super::{Desk, OpenMessage, Targets, hex, reply};
use crate::ask::{Problem, Route};
use crate::filter::{Held, Outcome, Panel, Visitor};
use crate::passage::Passage;
use crate::words;

/// What waits for the verdict beside the text.
#[derive(Debug)]
pub(super) struct Waiting {
    held: Held,
    targets: Targets,
    mail: Mail,
}

impl Desk {
    /// The client is known by this name now, on a connection encrypted like this.
    pub fn introduce(&mut self, hello: String, tls: Option<String>) {
        self.hello = hello;
        self.tls = tls;
    }

    /// Tells the filters of a sender that was granted.
    pub(super) async fn filter_sender(&mut self, mail: &Mail, granted: Answer) -> Answer {
        self.panel = None;
        if granted != Answer::Granted {
            return granted;
        }
        if !self.ask.asks_filters() {
            for name in self.filters.names() {
                let text = || format!("the filter {name} would be asked, and is not now");
                self.ask.note("smtp.filters", text);
            }
            return granted;
        }
        let visitor = Visitor {
            address: self.pass.address(),
            hello: self.hello.clone(),
            tls: self.tls.clone(),
            account: self.login.account().cloned(),
        };
        let context = self.context(0);
        match Panel::begin(&self.filters, &self.ask, context, &visitor, mail).await {
            Ok(panel) => {
                self.panel = panel;
                self.note_filters("let the sender pass");
                granted
            }
            Err(reply) => Answer::Refused(self.note_refusal(reply)),
        }
    }

    /// Tells the filters of a recipient that was granted.
    pub(super) async fn filter_recipient(&mut self, path: &ForwardPath, granted: Answer) -> Answer {
        let (Some(panel), Answer::Granted) = (&mut self.panel, &granted) else {
            return granted;
        };
        match panel.recipient(&path.to_string()).await {
            Ok(()) => granted,
            Err(reply) => {
                let address = path.clone().at(&self.home).to_string();
                self.targets.take_back(&address);
                Answer::Refused(self.note_refusal(reply))
            }
        }
    }

    /// Has the message wait for the verdict of the filters; gives the targets back where there are none.
    pub(super) async fn wait_for_filters(
        &mut self,
        message: &mut OpenMessage,
        targets: Targets,
        mail: &Mail,
    ) -> Result<Option<Targets>, Reply> {
        let Some(panel) = &mut self.panel else {
            return Ok(Some(targets));
        };
        let Some(held) = panel.data(hex(message.id)).await? else {
            self.panel = None;
            return Ok(Some(targets));
        };
        message.waiting = Some(Waiting {
            held,
            targets,
            mail: mail.clone(),
        });
        Ok(None)
    }

    /// Keeps a piece of a message that waits; gives the message back if it does not.
    pub(super) async fn hold(&mut self, bytes: &[u8]) -> bool {
        let (Some(message), Some(panel)) = (&mut self.open, &self.panel) else {
            return false;
        };
        let Some(waiting) = &mut message.waiting else {
            return message.refusal.is_some();
        };
        if panel.discards() {
            return true;
        }
        let Err(full) = waiting.held.add(bytes) else {
            return true;
        };
        let refusal = panel.overflow(full);
        let Some(mut message) = self.open.take() else {
            return true;
        };
        self.panel = None;
        let is_taken = refusal.is_none();
        message.refusal = match (refusal, message.waiting.take()) {
            // Boxed: it is rare, and a session carries the room of its largest part all its life.
            (None, Some(waiting)) => Box::pin(self.let_pass(&mut message, waiting)).await.err(),
            (refusal, _) => refusal,
        };
        self.open = Some(message);
        !is_taken
    }

    async fn let_pass(&self, message: &mut OpenMessage, waiting: Waiting) -> Result<(), Reply> {
        let (text, _room) = waiting.held.into_parts();
        self.open_outlets(message, waiting.targets, &waiting.mail)
            .await
            .map_err(|problem| reply(&problem, words::refused))?;
        message.write(&text).await;
        Ok(())
    }

    /// Lets the filters judge a message that is whole. `Some` when nothing more is to be done with it.
    pub(super) async fn filter_text(&mut self, message: &mut OpenMessage) -> Option<Answer> {
        if let Some(reply) = message.refusal.take() {
            return Some(Answer::Refused(reply));
        }
        let (panel, waiting) = (self.panel.take()?, message.waiting.take()?);
        let (text, room) = waiting.held.into_parts();
        let judged = panel.judge(text).await;
        let done = match judged {
            Err(reply) => Some(Answer::Refused(self.note_refusal(reply))),
            Ok(Outcome::Discarded) => {
                self.note_filters("want the message taken and thrown away");
                Some(Answer::Granted)
            }
            Ok(Outcome::Taken {
                header,
                body,
                envelope,
            }) => {
                self.note_filters("let the message pass, and may have changed it");
                let (mut targets, mut mail) = (waiting.targets, waiting.mail);
                let changed = self
                    .readdress(message, &mut targets, &mut mail, envelope)
                    .await;
                match changed {
                    Err(problem) => Some(self.refuse(problem, words::refused)),
                    Ok(()) if targets.local.is_empty() && targets.remote.is_empty() => {
                        Some(Answer::Granted)
                    }
                    Ok(()) => match self.open_outlets(message, targets, &mail).await {
                        Err(problem) => Some(self.refuse(problem, words::refused)),
                        Ok(()) => {
                            message.write(&header).await;
                            message.write(&body).await;
                            None
                        }
                    },
                }
            }
        };
        drop(room);
        if done == Some(Answer::Granted) {
            info!(message = hex(message.id), "thrown away, as filters want it");
        }
        done
    }

    // What filters want changed of the envelope, in their order.
    async fn readdress(
        &self,
        message: &mut OpenMessage,
        targets: &mut Targets,
        mail: &mut Mail,
        changes: Vec<Change>,
    ) -> Result<(), Problem> {
        let mut left: Vec<String> = Vec::new();
        for (path, _) in &message.recipients {
            left.push(path.to_string());
        }
        let (mut added, mut is_less) = (Vec::new(), false);
        for change in changes {
            match change {
                Change::Sender(address) => match ReversePath::parse(&address) {
                    Ok(sender) => {
                        message.sender = sender.to_string();
                        mail.sender = sender;
                        targets.change_passage(mail, self.login.account());
                    }
                    Err(error) => warn!(address, %error, "a filter wants a sender that is none"),
                },
                Change::AddRecipient(address) => added.push(address),
                Change::DeleteRecipient(address) => {
                    let before = left.len() + added.len();
                    left.retain(|one| !one.eq_ignore_ascii_case(&address));
                    added.retain(|one| !one.eq_ignore_ascii_case(&address));
                    is_less |= left.len() + added.len() < before;
                }
                Change::AddHeader(_)
                | Change::InsertHeader(..)
                | Change::ChangeHeader(..)
                | Change::Body(_) => {}
            }
        }
        if is_less {
            // Several recipients may lead to the same user, so what is left is found anew.
            targets.local.clear();
            targets.remote.clear();
            targets.ways = Ways::default();
            for path in left {
                self.add_target(targets, &path).await?;
            }
        }
        for address in added {
            self.add_target(targets, &address).await?;
        }
        Ok(())
    }

    async fn add_target(&self, targets: &mut Targets, address: &str) -> Result<(), Problem> {
        let path = match ForwardPath::parse(address) {
            Ok(path) => path.at(&self.home),
            Err(error) => {
                warn!(address, %error, "a filter wants a recipient that is none");
                return Ok(());
            }
        };
        let (rule, path) = (self.rule(path.domain()), path.to_string());
        match self.ask.resolve(self.context(0), &path, 0, 0).await {
            Ok(Route::Ours { local, remote }) => {
                targets.ways.note(rule, local.iter().chain(&remote));
                targets.local.extend(local);
                targets.send_on(remote);
                Ok(())
            }
            Ok(Route::Foreign | Route::Relayed) => {
                targets.ways.note(rule, [&path]);
                targets.send_on(vec![path]);
                Ok(())
            }
            Err(Problem::Refused(refusal)) => {
                warn!(address, %refusal, "a recipient that a filter wants is passed over");
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }
}

impl Targets {
    /// Forgets what the last recipient added.
    pub(super) fn take_back(&mut self, address: &str) {
        let (local, remote) = std::mem::take(&mut self.last);
        self.wishes.take_back(address, local.iter().chain(&remote));
        self.ways.take_back();
        self.local.retain(|one| !local.contains(one));
        self.remote.retain(|one| !remote.contains(one));
        if self.remote.is_empty() {
            self.passage = None;
        }
        self.reach.pop();
    }

    /// Has it go elsewhere, too: as an alias would pass it on, unless it goes out in another way already.
    fn send_on(&mut self, remote: Vec<String>) {
        if !remote.is_empty() && self.passage.is_none() {
            self.passage = self.by_alias;
        }
        self.remote.extend(remote);
    }

    /// The message has another sender now.
    fn change_passage(&mut self, mail: &Mail, account: Option<&String>) {
        let by_alias = Some(Passage::of_alias(mail, account.map(String::as_str)));
        if self.passage == self.by_alias {
            self.passage = self.passage.and(by_alias);
        }
        self.by_alias = by_alias;
    }
}
