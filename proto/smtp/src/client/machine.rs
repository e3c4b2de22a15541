//! The machine itself: which reply is awaited, and what each one leads to.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::time::Duration;

use super::transaction::{Step, Transaction};
use super::{Action, Config, Envelope, Extensions, Input, Order, Verdict};
use crate::auth::{Credentials, encode_plain};

use crate::line::{LineBuffer, MAX_REPLY};
use crate::reply::{Reply, ReplyError, ReplyParser};

/// What the client waits for.
#[derive(Debug)]
enum State {
    ExpectGreeting,
    ExpectEhlo,
    ExpectHelo,
    ExpectOrder,
    ExpectStartTls,
    ExpectSecured,
    ExpectAuth(Login),
    ExpectDelivery(Transaction),
    ExpectBye,
    Closed,
}

/// What is left to be sent of an authentication.
#[derive(Debug)]
enum Login {
    Nothing,
    Password(Credentials),
    UserAndPassword(Credentials),
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    config: Config,
    state: State,
    input: LineBuffer,
    parser: ReplyParser,
    actions: VecDeque<Action>,
    extensions: Extensions,
    /// The server remembers a transaction that ended without a message.
    unclean: bool,
    /// Commands were sent whose replies have not come, besides the one just heard.
    replies_due: bool,
}

impl Client {
    /// A client on a fresh connection, waiting for the greeting.
    #[must_use]
    pub fn connected(config: Config) -> Self {
        let greeting = config.timeouts.greeting;
        let mut client = Self::new(config, State::ExpectGreeting);
        client.actions.push_back(Action::Deadline(greeting));
        client
    }

    /// The client after a TLS handshake that [`Action::StartTls`] asked for. Nothing heard before
    /// survives (RFC 3207 §4.2): it says `EHLO` again.
    #[must_use]
    pub fn secured(self) -> Self {
        let mut client = Self::new(self.config, State::ExpectEhlo);
        client.say_ehlo();
        client
    }

    fn new(config: Config, state: State) -> Self {
        Self {
            config,
            state,
            input: LineBuffer::new(MAX_REPLY),
            parser: ReplyParser::default(),
            actions: VecDeque::new(),
            extensions: Extensions::default(),
            unclean: false,
            replies_due: false,
        }
    }

    /// Takes what happened.
    pub fn feed(&mut self, input: Input<'_>) {
        match input {
            Input::Bytes(bytes) => self.read(bytes),
            Input::Order(order) => self.obey(order),
            Input::Body(chunk) => self.send_body(chunk),
            Input::BodyEnd => self.end_body(),
            Input::Timeout => self.fail(Verdict::local_timeout()),
            Input::End => self.lose(),
        }
    }

    /// What is to be done next; `None` when it is time to feed again.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "a machine goes on after None, an iterator does not"
    )]
    pub fn next(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn read(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
        while !matches!(self.state, State::Closed) {
            let reply = match self.read_reply() {
                Ok(Some(reply)) => reply,
                Ok(None) => return,
                Err(error) => return self.fail(Verdict::local_protocol(&error)),
            };
            self.replies_due = false;
            self.hear(&reply);
            // A reply to nothing was put there by somebody who hopes that we take it for the reply
            // to the next command, behind TLS perhaps.
            if !self.replies_due && !self.input.pending().is_empty() {
                self.fail(Verdict::local_unsolicited());
            }
        }
    }

    fn read_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.input.take_line()? {
            if let Some(reply) = self.parser.feed(&line)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn hear(&mut self, reply: &Reply) {
        // RFC 5321 §3.8: 421 may answer any command; the server is about to close.
        if reply.code() == 421 {
            return self.fail(Verdict::of(reply));
        }
        match core::mem::replace(&mut self.state, State::Closed) {
            State::ExpectGreeting => self.hear_greeting(reply),
            State::ExpectEhlo => self.hear_ehlo(reply),
            State::ExpectHelo => self.hear_helo(reply),
            State::ExpectStartTls => self.hear_starttls(reply),
            State::ExpectAuth(login) => self.hear_auth(reply, login),
            State::ExpectDelivery(transaction) => self.hear_delivery(reply, transaction),
            State::ExpectBye => self.close(),
            state @ (State::ExpectOrder | State::ExpectSecured) => {
                self.state = state;
                self.fail(Verdict::local_unsolicited());
            }
            State::Closed => {}
        }
    }

    fn hear_greeting(&mut self, reply: &Reply) {
        if !reply.is_positive() {
            return self.give_up(Verdict::of(reply));
        }
        self.state = State::ExpectEhlo;
        self.say_ehlo();
    }

    fn hear_ehlo(&mut self, reply: &Reply) {
        if reply.is_positive() {
            return self.be_ready(Extensions::parse(reply));
        }
        // RFC 5321 §3.2: a server that does not know EHLO is greeted with HELO.
        if matches!(reply.code(), 500 | 501 | 502 | 504 | 550) {
            self.state = State::ExpectHelo;
            let hello = alloc::format!("HELO {}", self.config.hostname);
            return self.command(&hello);
        }
        self.give_up(Verdict::of(reply));
    }

    fn hear_helo(&mut self, reply: &Reply) {
        if reply.is_positive() {
            return self.be_ready(Extensions::default());
        }
        self.give_up(Verdict::of(reply));
    }

    fn hear_starttls(&mut self, reply: &Reply) {
        if reply.code() == 220 {
            self.state = State::ExpectSecured;
            return self.actions.push_back(Action::StartTls);
        }
        self.refuse(reply);
    }

    fn hear_auth(&mut self, reply: &Reply, login: Login) {
        if reply.is_positive() {
            return self.be_ready(self.extensions.clone());
        }
        if reply.code() != 334 {
            return self.refuse(reply);
        }
        match login {
            Login::UserAndPassword(credentials) => {
                self.command(&mail::encode::base64(credentials.user.as_bytes()));
                self.state = State::ExpectAuth(Login::Password(credentials));
            }
            Login::Password(credentials) => {
                self.command(&mail::encode::base64(
                    credentials.password.expose().as_bytes(),
                ));
                self.state = State::ExpectAuth(Login::Nothing);
            }
            // RFC 4954 §4: a client that cannot go on cancels with "*".
            Login::Nothing => {
                self.command("*");
                self.state = State::ExpectAuth(Login::Nothing);
            }
        }
    }

    fn hear_delivery(&mut self, reply: &Reply, mut transaction: Transaction) {
        let step = transaction.hear(reply, &self.extensions);
        self.state = State::ExpectDelivery(transaction);
        self.replies_due = step == Step::Wait;
        self.follow(step);
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Send(bytes) => {
                self.actions.push_back(Action::Send(bytes));
                self.wait(self.config.timeouts.command);
            }
            Step::SendData => {
                self.command("DATA");
                self.wait(self.config.timeouts.data);
            }
            Step::WantBody => {
                self.wait(self.config.timeouts.block);
                self.actions.push_back(Action::WantBody);
            }
            Step::Finish { unclean } => {
                self.unclean = unclean;
                self.finish();
                self.be_ready(self.extensions.clone());
            }
            Step::FinishAndClose => {
                self.finish();
                self.close();
            }
        }
    }

    fn obey(&mut self, order: Order) {
        if !matches!(self.state, State::ExpectOrder) {
            return;
        }
        match order {
            Order::StartTls => {
                self.state = State::ExpectStartTls;
                self.command("STARTTLS");
            }
            Order::Authenticate(credentials) => self.authenticate(credentials),
            Order::Deliver(envelope) => self.deliver(envelope),
            Order::Quit => {
                self.state = State::ExpectBye;
                self.command("QUIT");
            }
        }
    }

    fn authenticate(&mut self, credentials: Credentials) {
        if self.extensions.auth.plain {
            self.command(&alloc::format!("AUTH PLAIN {}", encode_plain(&credentials)));
            self.state = State::ExpectAuth(Login::Nothing);
        } else if self.extensions.auth.login {
            self.command("AUTH LOGIN");
            self.state = State::ExpectAuth(Login::UserAndPassword(credentials));
        } else {
            self.actions
                .push_back(Action::Refused(Verdict::local_no_mechanism()));
            self.be_ready(self.extensions.clone());
        }
    }

    fn deliver(&mut self, envelope: Envelope) {
        let reset = core::mem::take(&mut self.unclean);
        let (transaction, step) = Transaction::begin(envelope, &self.extensions, reset);
        self.state = State::ExpectDelivery(transaction);
        self.follow(step);
    }

    fn send_body(&mut self, chunk: &[u8]) {
        if let State::ExpectDelivery(transaction) = &mut self.state {
            let bytes = transaction.stuff(chunk);
            if !bytes.is_empty() {
                self.actions.push_back(Action::Send(bytes));
                self.wait(self.config.timeouts.block);
            }
        }
    }

    fn end_body(&mut self) {
        if let State::ExpectDelivery(transaction) = &mut self.state {
            let bytes = transaction.stuff_end();
            if !bytes.is_empty() {
                self.actions.push_back(Action::Send(bytes));
                self.wait(self.config.timeouts.end_of_data);
            }
        }
    }

    fn say_ehlo(&mut self) {
        let hello = alloc::format!("EHLO {}", self.config.hostname);
        self.command(&hello);
    }

    fn command(&mut self, line: &str) {
        let mut bytes = String::from(line).into_bytes();
        bytes.extend_from_slice(b"\r\n");
        self.actions.push_back(Action::Send(bytes));
        self.wait(self.config.timeouts.command);
    }

    fn wait(&mut self, duration: Duration) {
        self.actions.push_back(Action::Deadline(duration));
    }

    fn be_ready(&mut self, extensions: Extensions) {
        self.extensions = extensions.clone();
        self.state = State::ExpectOrder;
        self.actions.push_back(Action::Ready(extensions));
    }

    fn refuse(&mut self, reply: &Reply) {
        self.actions.push_back(Action::Refused(Verdict::of(reply)));
        self.be_ready(self.extensions.clone());
    }

    fn finish(&mut self) {
        if let State::ExpectDelivery(transaction) =
            core::mem::replace(&mut self.state, State::ExpectOrder)
        {
            self.actions
                .push_back(Action::Finished(transaction.results()));
        }
    }

    // The connection cannot be used any more; whoever has no verdict yet gets this one.
    fn fail(&mut self, verdict: Verdict) {
        match &mut self.state {
            State::Closed => {}
            State::ExpectBye => self.close(),
            State::ExpectDelivery(transaction) => {
                transaction.fail(&verdict);
                self.finish();
                self.close();
            }
            _ => {
                // What the driver has not seen yet would only mislead it.
                self.actions
                    .retain(|action| !matches!(action, Action::Ready(_) | Action::StartTls));
                self.actions.push_back(Action::Failed(verdict));
                self.close();
            }
        }
    }

    // The server said no before anything could be asked of it.
    fn give_up(&mut self, verdict: Verdict) {
        self.actions.push_back(Action::Failed(verdict));
        self.state = State::ExpectBye;
        self.command("QUIT");
    }

    fn lose(&mut self) {
        self.fail(Verdict::local_lost());
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.input.clear();
        self.actions.push_back(Action::Close);
    }
}
