//! A world for the server machine: it answers every question from a table and keeps what it was given.
#![allow(dead_code, reason = "each test file uses another part")]

use std::sync::Arc;
use std::time::Duration;

use mail::address::{Domain, ForwardPath};
use smtp::command::Mail;
use smtp::date::Timestamp;
use smtp::reply::Reply;
use smtp::server::{
    Action, Agents, Answer, Author, Config, HeaderLimits, Input, Question, Role, Server, Summary,
};

pub(crate) fn config(role: Role) -> Config {
    let hostname = Domain::parse("mx.example.org").unwrap();
    Config {
        max_message_size: 10_000,
        max_recipients: 3,
        max_messages: 3,
        max_text_line: 5_000,
        header: HeaderLimits {
            octets: 8_000,
            fields: 120,
            hops: 100,
        },
        max_idle_commands: 12,
        starttls: true,
        min_data_rate: 10,
        data_window: Duration::from_secs(180),
        ..Config::new(hostname, role)
    }
}

/// The server, the driver, and everything behind them.
pub(crate) struct World {
    pub(crate) server: Option<Server>,
    pub(crate) sent: Vec<u8>,
    pub(crate) messages: Vec<Vec<u8>>,
    /// Of all messages that came to their end, taken or not.
    pub(crate) summaries: Vec<Summary>,
    pub(crate) closed: bool,
    pub(crate) tls_wanted: bool,
    pub(crate) deadlines: Vec<Duration>,
    pub(crate) pauses: Vec<Duration>,
    recipients: Vec<ForwardPath>,
    opened: Option<Vec<u8>>,
    user: Option<String>,
    /// A login in several messages has begun.
    begun: bool,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let server = Server::greet(Arc::new(config), "192.0.2.7".parse().unwrap(), None);
        Self::of(server)
    }

    pub(crate) fn with_tls(config: Config) -> Self {
        let tls = Some("TLSv1.3".to_string());
        let server = Server::greet(Arc::new(config), "192.0.2.7".parse().unwrap(), tls);
        Self::of(server)
    }

    fn of(server: Server) -> Self {
        let mut world = Self {
            server: Some(server),
            sent: Vec::new(),
            messages: Vec::new(),
            summaries: Vec::new(),
            closed: false,
            tls_wanted: false,
            deadlines: Vec::new(),
            pauses: Vec::new(),
            recipients: Vec::new(),
            opened: None,
            user: None,
            begun: false,
        };
        world.run();
        world
    }

    pub(crate) fn feed(&mut self, input: Input<'_>) {
        self.server.as_mut().unwrap().feed(input);
        self.run();
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.feed(Input::Bytes(bytes));
    }

    /// The TLS handshake is done.
    pub(crate) fn secure(&mut self) {
        assert!(
            std::mem::take(&mut self.tls_wanted),
            "STARTTLS was not granted"
        );
        self.user = None;
        self.server = self.server.take().map(|s| s.secured("TLSv1.3".to_string()));
        self.run();
    }

    pub(crate) fn heard(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent)).unwrap()
    }

    fn run(&mut self) {
        while let Some(action) = self.server.as_mut().unwrap().next() {
            match action {
                Action::Send(bytes) => self.sent.extend(bytes),
                Action::Pause(time) => self.pauses.push(time),
                Action::Deadline(time) => self.deadlines.push(time),
                Action::Ask(question) => {
                    let answer = self.answer(question);
                    self.server.as_mut().unwrap().feed(Input::Answer(answer));
                }
                Action::Body(bytes) => self.opened.as_mut().unwrap().extend(bytes),
                Action::Abort => {
                    assert!(self.opened.take().is_some(), "aborted twice");
                }
                Action::StartTls => self.tls_wanted = true,
                Action::Close => {
                    assert!(self.opened.is_none(), "closed with an open message");
                    self.closed = true;
                }
            }
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Authenticate(who) => {
                if who.user == "alice@example.org" && who.password.expose() == "wonderland" {
                    self.user = Some(who.user);
                    return Answer::Granted;
                }
                Answer::Denied
            }
            Question::Client(said) => {
                if said.address == "192.0.2.66".parse().ok() {
                    return Answer::Refused(Reply::new(421, (4, 7, 0), "too many"));
                }
                if said
                    .login
                    .as_ref()
                    .is_some_and(|login| login.starts_with("nobody@"))
                {
                    return Answer::Refused(Reply::new(550, (5, 7, 1), "no such account"));
                }
                self.user = said.login;
                Answer::Granted
            }
            Question::BeginLogin { response, .. } => {
                self.begun = true;
                Answer::Challenged(response)
            }
            // The dialogs log in with "yes", and fail with anything else.
            Question::ContinueLogin(response) => {
                assert!(std::mem::take(&mut self.begun), "continued before it began");
                match response.octets() {
                    b"more" => {
                        self.begun = true;
                        Answer::Challenged(response)
                    }
                    b"yes" => {
                        self.user = Some("alice@example.org".into());
                        Answer::Granted
                    }
                    _ => Answer::Denied,
                }
            }
            Question::Sender(mail) => self.answer_sender(&mail),
            Question::Recipient(rcpt) => self.answer_recipient(&rcpt.path),
            Question::Open(envelope) => {
                if envelope.mail.sender.to_string() == "away@example.com" {
                    return Answer::Refused(Reply::new(451, (4, 3, 0), "away"));
                }
                self.recipients = envelope.recipients;
                self.opened = Some(Vec::new());
                let id = format!("m{}", self.messages.len() + 1);
                let now = Timestamp(0);
                Answer::Opened { id, now }
            }
            Question::Commit(summary) => {
                let message = self.opened.take().unwrap();
                let is_written = self.is_written_by_user(&summary);
                self.summaries.push(summary);
                if !is_written {
                    return Answer::Refused(Reply::new(550, (5, 7, 1), "written by somebody else"));
                }
                if message.ends_with(b"fail the commit\r\n") {
                    return Answer::Refused(Reply::new(452, (4, 3, 1), "disk full"));
                }
                self.messages.push(message);
                Answer::Granted
            }
            Question::CommitEach(_) => {
                let message = self.opened.take().unwrap();
                if message.ends_with(b"fail the commit\r\n") {
                    return Answer::Refused(Reply::new(452, (4, 3, 1), "disk full"));
                }
                let verdicts: Vec<_> = self.recipients.iter().map(judge).collect();
                if verdicts.iter().any(Result::is_ok) {
                    self.messages.push(message);
                }
                Answer::Judged(verdicts)
            }
        }
    }

    fn is_written_by_user(&self, summary: &Summary) -> bool {
        let Some(user) = &self.user else { return true };
        let agents = match &summary.agents {
            Agents::Named { addresses, .. } => addresses,
            Agents::Unclear => return false,
        };
        let authors = match &summary.author {
            Author::One(only) => std::slice::from_ref(only),
            Author::Several(all) => all,
            Author::Absent | Author::Unclear => return false,
        };
        let mut all = authors.iter().chain(agents);
        all.all(|one| one.to_string() == *user)
    }

    fn answer_sender(&self, mail: &Mail) -> Answer {
        let sender = mail.sender.to_string();
        if self.user.as_ref().is_some_and(|user| *user != sender) {
            return Answer::Refused(Reply::new(553, (5, 7, 1), "not your address"));
        }
        Answer::Granted
    }

    fn answer_recipient(&self, path: &ForwardPath) -> Answer {
        let ForwardPath::Address(address) = path else {
            return Answer::Granted;
        };
        match (address.local(), address.domain().as_str()) {
            ("nobody", "example.org") => {
                let text = format!("<{address}>: no such user here");
                Answer::Refused(Reply::new(550, (5, 1, 1), &text))
            }
            (_, "example.org") => Answer::Granted,
            _ if self.user.is_some() => Answer::Granted,
            _ => Answer::Refused(Reply::new(550, (5, 7, 1), "relay not permitted")),
        }
    }
}

/// Mail for `late@` is refused only at its end.
fn judge(path: &ForwardPath) -> Result<(), Reply> {
    let text = path.to_string();
    match text.starts_with("late@") {
        true => Err(Reply::new(
            452,
            (4, 2, 2),
            &format!("<{text}>: mailbox full"),
        )),
        false => Ok(()),
    }
}
