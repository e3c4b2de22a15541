//! What the server does at each command, answer and piece of a body.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use mail::address::ForwardPath;

use super::body::{Body, Progress, Transfer};
use super::{Action, Answer, Envelope, Hello, Pending, Question, Role, Server, State, words};
use crate::command::{BodyType, Command, CommandError, HelloName, Mail, Rcpt};
use crate::date::Timestamp;
use crate::received::{Protocol, Trace};
use crate::reply::Reply;
use crate::xclient;

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
            Command::Lhlo(name) => self.obey_lhlo(name),
            Command::Mail(mail) => self.obey_mail(mail),
            Command::Rcpt(rcpt) => self.obey_rcpt(rcpt),
            Command::Data => self.obey_data(),
            Command::Bdat { size, last } => self.obey_bdat(size, last),
            Command::Rset => {
                // RFC 5321 §4.1.1.5: RSET ends the transaction and nothing else.
                self.end_transaction();
                self.say_idle(&words::ok());
            }
            Command::Noop => self.say_idle(&words::ok()),
            Command::Vrfy => self.say_idle(&words::cannot_verify()),
            Command::Help => self.say_idle(&words::help()),
            Command::Quit => self.say_goodbye(&words::goodbye(&self.config.hostname)),
            Command::StartTls => self.obey_starttls(),
            Command::Auth { mechanism, initial } => self.obey_auth(mechanism, initial),
            Command::Xclient(said) => self.obey_xclient(said),
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
        if self.config.role == Role::Delivery {
            return self.say_bad(&words::wrong_hello("LHLO"));
        }
        self.obey_extended_hello(name);
    }

    fn obey_lhlo(&mut self, name: HelloName) {
        if self.config.role != Role::Delivery {
            return self.say_bad(&words::wrong_hello("EHLO"));
        }
        self.obey_extended_hello(name);
    }

    fn obey_extended_hello(&mut self, name: HelloName) {
        let reply = self.greet_back(&name);
        self.meet(name, true);
        self.say_idle(&reply);
    }

    fn obey_helo(&mut self, name: HelloName) {
        if self.config.role == Role::Delivery {
            return self.say_bad(&words::wrong_hello("LHLO"));
        }
        let text = alloc::format!("{} greets {name}", self.config.hostname);
        self.meet(name, false);
        self.say_idle(&Reply::bare(250, &text));
    }

    fn meet(&mut self, name: HelloName, extended: bool) {
        // RFC 5321 §4.1.4: EHLO in the middle of a session acts as RSET too.
        self.end_transaction();
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
        .line("ENHANCEDSTATUSCODES")
        .line("CHUNKING")
        // RFC 9422 §4.3: RCPTDOMAINMAX is for servers that bind to one way of delivery with the first recipient. None is told.
        .line(&alloc::format!(
            "LIMITS MAILMAX={} RCPTMAX={}",
            self.config.max_messages,
            self.config.max_recipients
        ));
        // RFC 3030 §3: of use only with CHUNKING.
        if self.config.binary_mime {
            reply = reply.line("BINARYMIME");
        }
        // RFC 3207 §4.2: not offered again once TLS is there.
        if self.config.starttls && self.tls.is_none() {
            reply = reply.line("STARTTLS");
        }
        if self.offers_auth()
            && !self.authenticated
            && let Some(line) = self.mechanisms()
        {
            reply = reply.line(&line);
        }
        if let Some(more) = self.offered_attributes() {
            reply = reply.line(&alloc::format!("XCLIENT {}{more}", xclient::ATTRIBUTES));
        }
        self.list_offer(reply)
    }

    fn obey_starttls(&mut self) {
        if self.tls.is_some() {
            return self.say_idle(&words::out_of_order("TLS is already active"));
        }
        if !self.config.starttls {
            let reply = Reply::new(502, (5, 5, 1), "STARTTLS is not offered, no certificate");
            return self.say_idle(&reply);
        }
        self.end_transaction();
        self.actions
            .push_back(Action::Send(words::ready_for_tls().to_bytes()));
        self.actions
            .push_back(Action::Deadline(self.config.command_timeout));
        self.actions.push_back(Action::StartTls);
        self.state = State::ExpectTls;
        // RFC 3207 §4.2: what was pipelined behind STARTTLS came in clear text and is not obeyed.
        self.input.clear();
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
            return Err(words::out_of_order(match self.config.role {
                Role::Exchange | Role::Submission => "say EHLO first",
                Role::Delivery => "say LHLO first",
            }));
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
        if mail.body == BodyType::Binary && !self.config.binary_mime {
            return Err(words::no_binary());
        }
        self.check_offer(mail)
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

    fn obey_rcpt(&mut self, rcpt: Rcpt) {
        if let Err(refusal) = self.check_rcpt(&rcpt) {
            return self.say_unserved(&refusal);
        }
        let pending = Pending::Recipient(rcpt.path.clone());
        self.ask(Question::Recipient(rcpt), pending);
    }

    fn check_rcpt(&self, Rcpt { path, parameters }: &Rcpt) -> Result<(), Reply> {
        let Some(transaction) = &self.transaction else {
            return Err(words::out_of_order("say MAIL first"));
        };
        if self.between_chunks.is_some() {
            return Err(words::out_of_order("the message has begun"));
        }
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
        self.check_rcpt_offer(parameters)
    }

    pub(super) fn hear_recipient(&mut self, path: ForwardPath, answer: Answer) {
        if let Err(refusal) = granted(answer) {
            return self.say_unserved(&refusal);
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
            // RFC 3030 §2: DATA and BDAT cannot be mixed.
            Some(_) if self.between_chunks.is_some() => "the message has begun with BDAT",
            // RFC 3030 §3: a binary message has no line that could end it.
            Some(t) if t.mail.body == BodyType::Binary => "binary messages come with BDAT",
            Some(envelope) => {
                let question = Question::Open(envelope.clone());
                return self.ask(question, Pending::Open);
            }
        };
        self.say_idle(&words::out_of_order(refusal));
    }

    pub(super) fn hear_opening(&mut self, answer: Answer) {
        match opened(answer) {
            Ok((id, now)) => {
                let start = Action::Send(words::start_data().to_bytes());
                self.actions.push_back(start);
                self.allow_window();
                let body = self.begin_body(Transfer::Data, id, now);
                self.state = State::ExpectBody(Box::new(body));
            }
            Err(reply) => {
                self.transaction = None;
                self.say_idle(&reply);
            }
        }
    }

    pub(super) fn begin_body(&mut self, transfer: Transfer, id: String, now: Timestamp) -> Body {
        let received = self.received(&id, now);
        let body = Body::new(&self.config, transfer, &id, now);
        self.message_id = id;
        self.actions
            .extend(received.map(|field| Action::Body(field.into_bytes())));
        body
    }

    /// Gives the client the time for as much of a message as it has to send in it.
    pub(super) fn allow_window(&mut self) {
        self.actions
            .push_back(Action::Deadline(self.config.data_window));
    }

    // RFC 5321 §4.4: every server that takes a message puts a trace field on top of it.
    fn received(&self, id: &str, now: Timestamp) -> Option<String> {
        let hello = self.hello.as_ref()?;
        let transaction = self.transaction.as_ref()?;
        let trace = Trace {
            hello: &hello.name,
            peer: self.peer,
            is_redacted: self.config.redact_received && self.config.role == Role::Submission,
            by: &self.config.hostname,
            protocol: Protocol {
                local: self.config.role == Role::Delivery,
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
        match &self.state {
            State::ExpectBody(_) => self.receive_text(bytes),
            State::ExpectChunk(_) => self.receive_chunk(bytes),
            _ => 0,
        }
    }

    fn receive_text(&mut self, bytes: &[u8]) -> usize {
        let State::ExpectBody(mut body) = core::mem::replace(&mut self.state, State::ExpectCommand)
        else {
            return 0;
        };
        let (used, progress) = self.take_piece(&mut body, bytes, false);
        match progress {
            Progress::More => self.state = State::ExpectBody(body),
            Progress::Ended => self.end_body(*body, CloseAfter::No),
            Progress::Overrun => self.end_body(*body, CloseAfter::Yes),
        }
        used
    }

    /// Feeds the body and does what comes of it at once.
    pub(super) fn take_piece(
        &mut self,
        body: &mut Body,
        bytes: &[u8],
        is_last: bool,
    ) -> (usize, Progress) {
        let was_refused = body.is_refused();
        let fed = body.feed(bytes, is_last);
        if body.is_refused() && !was_refused {
            self.actions.push_back(Action::Abort);
        }
        if !fed.out.is_empty() {
            self.actions.push_back(Action::Body(fed.out));
        }
        if fed.progress == Progress::More && fed.renew {
            self.allow_window();
        }
        (fed.used, fed.progress)
    }

    pub(super) fn end_body(&mut self, body: Body, close: CloseAfter) {
        let envelope = self.transaction.take();
        let recipients = match (self.config.role, envelope) {
            (Role::Delivery, Some(envelope)) => Some(envelope.recipients),
            _ => None,
        };
        match (body.finish(), recipients) {
            (Ok(summary), None) => self.ask(Question::Commit(summary), Pending::Commit),
            (Ok(summary), Some(recipients)) => {
                let question = Question::CommitEach(summary);
                self.ask(question, Pending::CommitEach(recipients));
            }
            (Err(refusal), None) => self.say_last(&refusal, close),
            (Err(refusal), Some(recipients)) => self.refuse_each(&refusal, recipients.len(), close),
        }
    }

    pub(super) fn say_last(&mut self, reply: &Reply, close: CloseAfter) {
        match close {
            CloseAfter::No => self.say_idle(reply),
            CloseAfter::Yes => self.say_goodbye(reply),
        }
    }

    pub(super) fn hear_commit(&mut self, answer: Answer) {
        match granted(answer) {
            Ok(()) => {
                let id = self.count_accepted();
                self.say(&words::accepted(&id));
            }
            Err(refusal) => self.say_idle(&refusal),
        }
    }

    /// Counts a message that was taken; returns its id.
    pub(super) fn count_accepted(&mut self) -> String {
        self.patience.renew();
        self.accepted += 1;
        core::mem::take(&mut self.message_id)
    }

    /// Replies to a recipient that is not served.
    fn say_unserved(&mut self, reply: &Reply) {
        if self.patience.unserved_recipient() {
            return self.say_goodbye(&words::too_many_idle());
        }
        self.say_held_back(reply);
    }

    /// Replies to a command that was no command.
    pub(super) fn say_bad(&mut self, reply: &Reply) {
        if self.patience.bad_command() {
            return self.say_goodbye(&words::too_many_errors());
        }
        self.say_held_back(reply);
    }

    /// Replies to a command that brings no message nearer.
    pub(super) fn say_idle(&mut self, reply: &Reply) {
        if self.patience.idle_command() {
            return self.say_goodbye(&words::too_many_idle());
        }
        self.say_held_back(reply);
    }

    fn say_held_back(&mut self, reply: &Reply) {
        let delay = self.patience.delay();
        self.actions.extend(delay.map(Action::Pause));
        self.say(reply);
    }
}

/// Whether the connection can be used after a refused body.
#[derive(Debug, Clone, Copy)]
pub(super) enum CloseAfter {
    Yes,
    No,
}

// Reads an answer that can only be yes or no.
pub(super) fn granted(answer: Answer) -> Result<(), Reply> {
    match answer {
        Answer::Granted => Ok(()),
        Answer::Refused(reply) => Err(reply),
        Answer::Denied | Answer::Challenged(_) | Answer::Judged(_) | Answer::Opened { .. } => {
            Err(words::local_fault())
        }
    }
}

// Reads the answer to an opening.
pub(super) fn opened(answer: Answer) -> Result<(String, Timestamp), Reply> {
    match answer {
        Answer::Opened { id, now } => Ok((id, now)),
        Answer::Refused(reply) => Err(reply),
        Answer::Granted | Answer::Denied | Answer::Challenged(_) | Answer::Judged(_) => {
            Err(words::local_fault())
        }
    }
}
