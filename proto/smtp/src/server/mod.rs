//! The server machine: one connection of a client that brings mail.
//!
//! How a driver uses it:
//!
//! ```text
//! let mut server = Server::greet(config, peer, tls);
//! loop {
//!     while let Some(action) = server.next() {
//!         Send(bytes)        => write them
//!         Pause(duration)    => write what is to be sent, and wait so long
//!         Deadline(duration) => restart the one timer; when it runs out feed Input::Timeout
//!         Ask(question)      => find the answer, feed Input::Answer; feed no bytes meanwhile
//!         Body(bytes)        => write them to whoever the Open question found
//!         Abort              => forget the message that was opened
//!         StartTls           => write what is to be sent, run the handshake,
//!                               then server = server.secured(tls)
//!         Close              => write what is to be sent, close; nothing follows
//!     }
//!     feed Input::Bytes(read) or Input::End
//! }
//! ```
//!
//! The machine decides on order, syntax, limits and line ends. Whom to believe and where mail goes
//! are questions; a refusal comes back as the [`Reply`] the client is to see.

mod blind;
mod body;
mod chunk;
mod config;
mod dialog;
mod each;
mod header;
mod login;
mod offer;
mod patience;
mod proxied;
mod words;
mod writers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use mail::address::{Address, ForwardPath};
use sasl::Message;

use self::body::Body;
use self::chunk::{Announced, Chunk};
pub use self::config::{Config, Role};
pub use self::header::HeaderLimits;
use self::login::Login;
pub use self::offer::Offer;
use self::patience::Patience;
pub use self::proxied::Proxying;
use crate::auth::{Credentials, Mechanism};
use crate::command::{HelloName, Mail, Rcpt};
use crate::date::Timestamp;
use crate::line::{LineBuffer, MAX_AUTH};
use crate::reply::Reply;
use crate::xclient::Xclient;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes came from the client.
    Bytes(&'a [u8]),
    /// The answer to the last [`Action::Ask`].
    Answer(Answer),
    /// The time of the last [`Action::Deadline`] has passed.
    Timeout,
    /// The daemon is about to stop: finish the transaction, begin no other.
    Shutdown,
    /// The client is to be sent away with this reply, which has the code 421.
    Dismissal(Reply),
    /// The client closed the connection.
    End,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these bytes.
    Send(Vec<u8>),
    /// Let this time pass: what follows is said to a client that only makes work.
    Pause(Duration),
    /// Restart the timer.
    Deadline(Duration),
    /// Find the answer.
    Ask(Question),
    /// The next piece of the opened message: canonical line ends, dots unstuffed.
    Body(Vec<u8>),
    /// The opened message will not be completed.
    Abort,
    /// Start TLS now, after all is written.
    StartTls,
    /// Close the connection, after all is written.
    Close,
}

/// What the machine cannot know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Is this the user's password? `Granted`, `Denied` or `Refused`.
    Authenticate(Credentials),
    /// May the client that the peer speaks for come in, and be logged in as the peer says? `Granted` or `Refused`; whoever was
    /// logged in before is not any more.
    Client(Xclient),
    /// What is answered to the first message of a login? `Challenged`, `Granted`, `Denied` or `Refused`. An earlier login that
    /// was not granted is over.
    BeginLogin {
        /// How the client logs in; it was offered.
        mechanism: sasl::Mechanism,
        /// The message.
        response: Message,
    },
    /// What is answered to the next message? As before.
    ContinueLogin(Message),
    /// May this client begin a transaction with this sender? `Granted` or `Refused`.
    /// An earlier transaction that was not opened is over.
    Sender(Mail),
    /// Will this recipient be served? `Granted` or `Refused`.
    Recipient(Rcpt),
    /// Open a message for these recipients, all of them granted. `Opened` or `Refused`.
    Open(Envelope),
    /// The body is complete: make it durable. `Granted` or `Refused`.
    Commit(Summary),
    /// The same where each recipient has a reply: `Judged`, or one of the others for all of them.
    CommitEach(Summary),
}

/// What a transaction said before its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What `MAIL` said.
    pub mail: Mail,
    /// Whom `RCPT` named and the answers granted, in order.
    pub recipients: Vec<ForwardPath>,
}

/// Whom a message's header names as its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// There is no From field.
    Absent,
    /// There is one From field with one address.
    One(Address),
    /// There is one From field with these addresses.
    Several(Vec<Address>),
    /// There are several fields, or there is something else than addresses in it; clients may show any of them.
    Unclear,
}

/// Whom a message's header names as having sent it for its authors, or again: `Sender`, `Resent-From` and `Resent-Sender`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agents {
    /// These, nobody perhaps.
    Named {
        /// Of all fields together.
        addresses: Vec<Address>,
        /// There is a Sender field.
        has_sender: bool,
    },
    /// A field has something else than its addresses in it, or comes too often.
    Unclear,
}

/// What the body turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The author.
    pub author: Author,
    /// Who sent it for the author.
    pub agents: Agents,
    /// Octets the client sent, dots unstuffed; less than what was given out as [`Action::Body`].
    pub size: u64,
    /// There is an octet above 127 in it.
    pub eight_bit: bool,
}

/// An answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Granted,
    /// Wrong user or password.
    Denied,
    /// The login goes on: this is said to the client.
    Challenged(Message),
    /// No; the client is told this.
    Refused(Reply),
    /// Yes, or what the client is told, for each recipient of the envelope in order.
    Judged(Vec<Result<(), Reply>>),
    /// The message is open and takes its body.
    Opened {
        /// Its id in our logs: letters, digits, `.` and `-`.
        id: String,
        /// The time for the `Received:` field.
        now: Timestamp,
    },
}

/// What the machine waits for.
#[derive(Debug)]
enum State {
    ExpectCommand,
    ExpectResponse(Login),
    ExpectAnswer(Pending),
    ExpectBody(Box<Body>),
    ExpectChunk(Chunk),
    ExpectTls,
    Closed,
}

/// Which question is open.
#[derive(Debug)]
enum Pending {
    Authenticate,
    Client(Xclient),
    Sender(Mail),
    Recipient(ForwardPath),
    Open,
    /// The message is opened by its first chunk.
    OpenForChunk(Announced),
    Commit,
    /// A reply for each of these is due.
    CommitEach(Vec<ForwardPath>),
}

/// What the client called itself.
#[derive(Debug)]
struct Hello {
    name: HelloName,
    extended: bool,
}

/// One connection from a client.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    peer: IpAddr,
    tls: Option<String>,
    /// The peer has said that its client is elsewhere.
    is_proxied: bool,
    input: LineBuffer,
    actions: VecDeque<Action>,
    state: State,
    hello: Option<Hello>,
    authenticated: bool,
    proofs: sasl::Proofs,
    /// A mechanism beside those of the port.
    more: Option<Mechanism>,
    transaction: Option<Envelope>,
    /// The message, between two chunks of it.
    between_chunks: Option<Box<Body>>,
    /// The id of the opened message, for the reply that acknowledges it.
    message_id: String,
    /// How many messages were accepted.
    accepted: usize,
    patience: Patience,
    /// Lines that came as commands, or within one.
    lines: u32,
    stopping: bool,
}

impl Server {
    /// A server on a fresh connection from `peer`; it greets. `tls` describes the encryption (version
    /// and cipher suite) of a port that begins with TLS.
    #[must_use]
    pub fn greet(config: Arc<Config>, peer: IpAddr, tls: Option<String>) -> Self {
        let mut server = Self::new(config, peer, tls);
        let greeting = server.greeting();
        server.say(&greeting);
        server
    }

    // RFC 5321 §4.2: the greeting begins with our name.
    fn greeting(&self) -> Reply {
        let protocol = match self.config.role {
            Role::Exchange | Role::Submission => "ESMTP",
            Role::Delivery => "LMTP",
        };
        Reply::bare(
            220,
            &alloc::format!("{} {protocol} rmail", self.config.hostname),
        )
    }

    /// The server after a TLS handshake that [`Action::StartTls`] asked for.
    ///
    /// RFC 3207 §4.2: nothing heard before survives, neither bytes nor `EHLO` nor login. There is
    /// no second greeting.
    #[must_use]
    pub fn secured(self, tls: String) -> Self {
        let mut server = Self::new(self.config, self.peer, Some(tls));
        server.stopping = self.stopping;
        server.accepted = self.accepted;
        server.is_proxied = self.is_proxied;
        server.await_command();
        server
    }

    fn new(config: Arc<Config>, peer: IpAddr, tls: Option<String>) -> Self {
        Self {
            patience: Patience::new(&config),
            input: LineBuffer::new(config.max_command_line),
            config,
            peer,
            tls,
            is_proxied: false,
            actions: VecDeque::new(),
            state: State::ExpectCommand,
            hello: None,
            authenticated: false,
            proofs: sasl::Proofs::default(),
            more: None,
            transaction: None,
            between_chunks: None,
            message_id: String::new(),
            accepted: 0,
            lines: 0,
            stopping: false,
        }
    }

    /// Takes what happened.
    pub fn feed(&mut self, input: Input<'_>) {
        match input {
            Input::Bytes(bytes) => self.read(bytes),
            Input::Answer(answer) => self.hear(answer),
            Input::Timeout => self.time_out(),
            Input::Shutdown => self.stopping = true,
            Input::Dismissal(reply) => self.dismiss(&reply),
            Input::End => self.end(),
        }
    }

    /// What is to be done next; `None` when it is time to feed again.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "a machine goes on after None, an iterator does not"
    )]
    pub fn next(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if !self.advance() {
                return None;
            }
        }
    }

    /// How many commands, and responses of logins, came since this was last asked.
    pub fn take_line_count(&mut self) -> u32 {
        core::mem::take(&mut self.lines)
    }

    /// Protocol version and cipher suite, behind TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&str> {
        self.tls.as_deref()
    }

    /// How long a transaction may take in all.
    #[must_use]
    pub fn transaction_timeout(&self) -> Duration {
        self.config.transaction_timeout
    }

    /// Whether the text of a message is awaited.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        matches!(self.state, State::ExpectBody(_) | State::ExpectChunk(_))
    }

    /// What the client called itself, empty before it did.
    #[must_use]
    pub fn hello(&self) -> &str {
        self.hello.as_ref().map_or("", |hello| hello.name.as_str())
    }

    /// Whether no transaction has begun, so that closing now loses nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::ExpectCommand | State::Closed) && self.transaction.is_none()
    }

    fn read(&mut self, bytes: &[u8]) {
        match self.state {
            // Nothing is taken on before the handshake, and nothing after the end.
            State::ExpectTls | State::Closed => {}
            // The body goes straight through; only what follows its end is kept.
            State::ExpectBody(_) | State::ExpectChunk(_) if self.input.pending().is_empty() => {
                let used = self.receive(bytes);
                let rest = bytes.get(used..).unwrap_or_default();
                self.read_rest(rest);
            }
            _ => self.input.push(bytes),
        }
    }

    fn read_rest(&mut self, rest: &[u8]) {
        if !rest.is_empty() && !matches!(self.state, State::Closed) {
            self.input.push(rest);
        }
    }

    // Uses up some of the input; false when nothing is to be done before the next feed.
    fn advance(&mut self) -> bool {
        match self.state {
            State::ExpectCommand if self.stopping && self.transaction.is_none() => {
                self.say_goodbye(&words::shutting_down(&self.config.hostname));
                true
            }
            State::ExpectCommand | State::ExpectResponse(_) => self.read_line(),
            State::ExpectBody(_) | State::ExpectChunk(_) if !self.input.pending().is_empty() => {
                let bytes = self.input.pending().to_vec();
                let used = self.receive(&bytes);
                self.input.consume(used);
                true
            }
            State::ExpectBody(_)
            | State::ExpectChunk(_)
            | State::ExpectAnswer(_)
            | State::ExpectTls
            | State::Closed => false,
        }
    }

    fn read_line(&mut self) -> bool {
        let limit = self.line_limit();
        self.input.limit_lines(limit);
        match self.input.take_line() {
            Ok(None) => false,
            Ok(Some(line)) => {
                self.lines = self.lines.saturating_add(1);
                self.obey_line(&line);
                true
            }
            // There is no telling where the next command begins.
            Err(error) => {
                self.say_goodbye(&words::bad_line(error));
                true
            }
        }
    }

    // RFC 4954 §4: lines of AUTH are longer than others; who cannot log in now has no use for that.
    fn line_limit(&self) -> usize {
        let may_log_in = self.offers_auth() && !self.authenticated;
        let verb = self.input.pending().get(..5).unwrap_or_default();
        let is_auth = match self.state {
            State::ExpectResponse(_) => true,
            _ => may_log_in && verb.eq_ignore_ascii_case(b"AUTH "),
        };
        match is_auth {
            true => MAX_AUTH.max(self.config.max_command_line),
            false => self.config.max_command_line,
        }
    }

    fn ask(&mut self, question: Question, pending: Pending) {
        self.actions.push_back(Action::Ask(question));
        self.state = State::ExpectAnswer(pending);
    }

    fn hear(&mut self, answer: Answer) {
        let state = core::mem::replace(&mut self.state, State::ExpectCommand);
        let State::ExpectAnswer(pending) = state else {
            self.state = state;
            return;
        };
        match pending {
            Pending::Authenticate => self.hear_authentication(answer),
            Pending::Client(said) => self.hear_client(said, answer),
            Pending::Sender(mail) => self.hear_sender(mail, answer),
            Pending::Recipient(path) => self.hear_recipient(path, answer),
            Pending::Open => self.hear_opening(answer),
            Pending::OpenForChunk(chunk) => self.hear_opening_for_chunk(chunk, answer),
            Pending::Commit => self.hear_commit(answer),
            Pending::CommitEach(recipients) => self.hear_commit_each(&recipients, answer),
        }
    }

    fn time_out(&mut self) {
        self.dismiss(&words::timeout(&self.config.hostname));
    }

    fn dismiss(&mut self, reply: &Reply) {
        if matches!(self.state, State::Closed | State::ExpectAnswer(_)) {
            return;
        }
        self.abort_body();
        self.say_goodbye(reply);
    }

    fn end(&mut self) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.abort_body();
        self.close();
    }

    fn abort_body(&mut self) {
        let body = match &self.state {
            State::ExpectBody(body) => Some(&**body),
            State::ExpectChunk(chunk) => chunk.body(),
            _ => None,
        };
        if body.is_some_and(|body| !body.is_refused()) {
            self.actions.push_back(Action::Abort);
        }
    }

    // Whatever was said since MAIL is forgotten.
    fn end_transaction(&mut self) {
        self.transaction = None;
        if self.between_chunks.take().is_some() {
            self.actions.push_back(Action::Abort);
        }
    }

    // Replies, and waits for the next command.
    fn say(&mut self, reply: &Reply) {
        self.actions.push_back(Action::Send(reply.to_bytes()));
        self.await_command();
    }

    fn await_command(&mut self) {
        self.state = State::ExpectCommand;
        let deadline = Action::Deadline(self.config.command_timeout);
        self.actions.push_back(deadline);
    }

    fn say_goodbye(&mut self, reply: &Reply) {
        self.actions.push_back(Action::Send(reply.to_bytes()));
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.end_transaction();
        self.input.clear();
        self.actions.push_back(Action::Close);
    }
}
