//! What the server does at each command, answer and piece of a body.

use alloc::string::String;
use alloc::vec::Vec;

use mail::address::ForwardPath;

use super::body::{Body, Progress};
use super::{Action, Answer, Envelope, Hello, Pending, Question, Role, Server, State, words};
use crate::command::{Command, CommandError, HelloName, Mail};
use crate::date::Timestamp;
use crate::received::{Protocol, Trace};
use crate::reply::Reply;

impl Server {
    pub(super) fn obey_line(&mut self, line: &[u8]) {
        match core::mem::replace(&mut self.state, State::ExpectCommand) {
            State::ExpectResponse(login) => self.obey_response_line(login, line),
            _ => match Command::parse(line) {
                Ok(command) => self.obey(command),
                Err(error) => self.obey_nonsense(&error),
            },
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Ehlo(name) => self.obey_ehlo(name),
            Command::Helo(name) => self.obey_helo(name),
            Command::Mail(mail) => self.obey_mail(mail),
            Command::Rcpt(path) => self.obey_rcpt(path),
            Command::Data => self.obey_data(),
            Command::Rset => {
                // RFC 5321 §4.1.1.5: RSET ends the transaction and nothing else.
                self.transaction = None;
                self.say_idle(&words::ok());
            }
            Command::Noop => self.say_idle(&words::ok()),
            Command::Vrfy => self.say_idle(&words::cannot_verify()),
            Command::Help => self.say_idle(&words::help()),
            Command::Quit => self.say_goodbye(&words::goodbye(&self.config.hostname)),
            Command::StartTls => self.obey_starttls(),
            Command::Auth { mechanism, initial } => self.obey_auth(mechanism, initial),
        }
    }

    fn obey_nonsense(&mut self, error: &CommandError) {
        let reply = words::bad_command(error);
        match error {
            // What follows is not meant as commands, so none of it may be read as such.
            CommandError::Http | CommandError::Bdat => self.say_goodbye(&reply),
            _ => self.say_bad(&reply),
        }
    }

    fn obey_ehlo(&mut self, name: HelloName) {
        let reply = self.greet_back(&name);
        self.meet(name, true);
        self.say_idle(&reply);
    }

    fn obey_helo(&mut self, name: HelloName) {
        let text = alloc::format!("{} greets {name}", self.config.hostname);
        self.meet(name, false);
        self.say_idle(&Reply::bare(250, &text));
    }

    fn meet(&mut self, name: HelloName, extended: bool) {
        // RFC 5321 §4.1.4: EHLO in the middle of a session acts as RSET too.
        self.transaction = None;
        self.hello = Some(Hello { name, extended });
    }

    // RFC 5321 §4.1.1.1: our name on the first line, one extension on each other.
    fn greet_back(&self, name: &HelloName) -> Reply {
        let mut reply = Reply::bare(
            250,
            &alloc::format!("{} greets {name}", self.config.hostname),
        )
        .line("PIPELINING")
        .line(&alloc::format!("SIZE {}", self.config.max_message_size))
        .line("8BITMIME")
        .line("SMTPUTF8")
        .line("ENHANCEDSTATUSCODES");
        // RFC 3207 §4.2: not offered again once TLS is there.
        if self.config.starttls && self.tls.is_none() {
            reply = reply.line("STARTTLS");
        }
        if self.offers_auth() && !self.authenticated {
            reply = reply.line("AUTH PLAIN LOGIN");
        }
        reply
    }

    fn obey_starttls(&mut self) {
        if self.tls.is_some() {
            return self.say_idle(&words::out_of_order("TLS is already active"));
        }
        if !self.config.starttls {
            let reply = Reply::new(502, (5, 5, 1), "STARTTLS is not offered, no certificate");
            return self.say_idle(&reply);
        }
        self.actions
            .push_back(Action::Send(words::ready_for_tls().to_bytes()));
        self.actions
            .push_back(Action::Deadline(self.config.command_timeout));
        self.actions.push_back(Action::StartTls);
        self.state = State::ExpectTls;
        // RFC 3207 §4.2: what was pipelined behind STARTTLS came in clear text and is not obeyed.
        self.input.clear();
        self.transaction = None;
    }

    fn obey_mail(&mut self, mail: Mail) {
        if self.accepted >= self.config.max_messages {
            return self.say_goodbye(&words::too_many_messages());
        }
        if let Err(refusal) = self.check_mail(&mail) {
            return self.say_idle(&refusal);
        }
        self.ask(Question::Sender(mail.clone()), Pending::Sender(mail));
    }

    fn check_mail(&self, mail: &Mail) -> Result<(), Reply> {
        if self.hello.is_none() {
            return Err(words::out_of_order("say EHLO first"));
        }
        if self.config.role == Role::Submission && !self.authenticated {
            return Err(match self.offers_auth() {
                true => words::authentication_required(),
                false => words::starttls_first(),
            });
        }
        if self.transaction.is_some() {
            return Err(words::out_of_order("a transaction is open, RSET ends it"));
        }
        if mail
            .size
            .is_some_and(|size| size > self.config.max_message_size)
        {
            return Err(words::too_large(self.config.max_message_size));
        }
        if !mail.smtputf8 && !mail.sender.is_ascii() {
            return Err(words::needs_smtputf8());
        }
        Ok(())
    }

    pub(super) fn hear_sender(&mut self, mail: Mail, answer: Answer) {
        if let Err(refusal) = granted(answer) {
            return self.say_idle(&refusal);
        }
        self.transaction = Some(Envelope {
            mail,
            recipients: Vec::new(),
        });
        self.say(&words::sender_ok());
    }

    fn obey_rcpt(&mut self, path: ForwardPath) {
        if let Err(refusal) = self.check_rcpt(&path) {
            return self.say_idle(&refusal);
        }
        self.ask(Question::Recipient(path.clone()), Pending::Recipient(path));
    }

    fn check_rcpt(&self, path: &ForwardPath) -> Result<(), Reply> {
        let Some(transaction) = &self.transaction else {
            return Err(words::out_of_order("say MAIL first"));
        };
        if transaction.recipients.len() >= self.config.max_recipients {
            return Err(words::too_many_recipients(self.config.max_recipients));
        }
        let ascii = match path {
            ForwardPath::Postmaster => true,
            ForwardPath::Address(address) => address.is_ascii(),
        };
        if !ascii && !transaction.mail.smtputf8 {
            return Err(words::needs_smtputf8());
        }
        Ok(())
    }

    pub(super) fn hear_recipient(&mut self, path: ForwardPath, answer: Answer) {
        if let Err(refusal) = granted(answer) {
            return self.say_idle(&refusal);
        }
        self.say(&words::recipient_ok(&path));
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(path);
        }
    }

    fn obey_data(&mut self) {
        let refusal = match &self.transaction {
            None => "say MAIL first",
            Some(t) if t.recipients.is_empty() => "no valid recipients",
            Some(envelope) => {
                let question = Question::Open(envelope.clone());
                return self.ask(question, Pending::Open);
            }
        };
        self.say_idle(&words::out_of_order(refusal));
    }

    pub(super) fn hear_opening(&mut self, answer: Answer) {
        match answer {
            Answer::Opened { id, now } => self.start_body(id, now),
            Answer::Refused(reply) => {
                self.transaction = None;
                self.say_idle(&reply);
            }
            Answer::Granted | Answer::Denied => {
                self.transaction = None;
                self.say(&words::local_fault());
            }
        }
    }

    fn start_body(&mut self, id: String, now: Timestamp) {
        let received = self.received(&id, now);
        let body = Body::new(&self.config, &id, now);
        self.message_id = id;
        self.actions
            .push_back(Action::Send(words::start_data().to_bytes()));
        self.actions
            .push_back(Action::Deadline(self.config.data_timeout));
        self.actions
            .extend(received.map(|field| Action::Body(field.into_bytes())));
        self.state = State::ExpectBody(body);
    }

    // RFC 5321 §4.4: every server that takes a message puts a trace field on top of it.
    fn received(&self, id: &str, now: Timestamp) -> Option<String> {
        let hello = self.hello.as_ref()?;
        let transaction = self.transaction.as_ref()?;
        let trace = Trace {
            hello: &hello.name,
            peer: self.peer,
            by: &self.config.hostname,
            protocol: Protocol {
                extended: hello.extended,
                tls: self.tls.is_some(),
                authenticated: self.authenticated,
                utf8: transaction.mail.smtputf8,
            },
            tls: self.tls.as_deref(),
            id,
            recipient: match transaction.recipients.as_slice() {
                [only] => Some(only),
                _ => None,
            },
            now,
        };
        Some(trace.field())
    }

    /// Takes a piece of the body; returns how much of it belonged to the body.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        let State::ExpectBody(body) = &mut self.state else {
            return 0;
        };
        let was_refused = body.is_refused();
        let fed = body.feed(bytes);
        if body.is_refused() && !was_refused {
            self.actions.push_back(Action::Abort);
        }
        if !fed.out.is_empty() {
            self.actions.push_back(Action::Body(fed.out));
        }
        match fed.progress {
            Progress::More if fed.renew => {
                let deadline = Action::Deadline(self.config.data_timeout);
                self.actions.push_back(deadline);
            }
            Progress::More => {}
            Progress::Ended => self.end_body(CloseAfter::No),
            Progress::Overrun => self.end_body(CloseAfter::Yes),
        }
        fed.used
    }

    fn end_body(&mut self, close: CloseAfter) {
        let State::ExpectBody(body) = core::mem::replace(&mut self.state, State::ExpectCommand)
        else {
            return;
        };
        self.transaction = None;
        match (body.finish(), close) {
            (Ok(summary), _) => self.ask(Question::Commit(summary), Pending::Commit),
            (Err(refusal), CloseAfter::No) => self.say_idle(&refusal),
            (Err(refusal), CloseAfter::Yes) => self.say_goodbye(&refusal),
        }
    }

    pub(super) fn hear_commit(&mut self, answer: Answer) {
        match granted(answer) {
            Ok(()) => {
                self.patience.renew();
                self.accepted += 1;
                let id = core::mem::take(&mut self.message_id);
                self.say(&words::accepted(&id));
            }
            Err(refusal) => self.say_idle(&refusal),
        }
    }

    /// Replies to a command that was no command.
    pub(super) fn say_bad(&mut self, reply: &Reply) {
        if self.patience.bad_command() {
            return self.say_goodbye(&words::too_many_errors());
        }
        self.say(reply);
    }

    /// Replies to a command that brings no message nearer.
    pub(super) fn say_idle(&mut self, reply: &Reply) {
        if self.patience.idle_command() {
            return self.say_goodbye(&words::too_many_idle());
        }
        self.say(reply);
    }
}

/// Whether the connection can be used after a refused body.
#[derive(Debug, Clone, Copy)]
enum CloseAfter {
    Yes,
    No,
}

// Reads an answer that can only be yes or no.
fn granted(answer: Answer) -> Result<(), Reply> {
    match answer {
        Answer::Granted => Ok(()),
        Answer::Refused(reply) => Err(reply),
        Answer::Denied | Answer::Opened { .. } => Err(words::local_fault()),
    }
}
