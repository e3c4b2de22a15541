//! The SMTP client machine: whatever a server says, each recipient gets one verdict, and nothing but lines goes out.

use mail::address::{Address, Domain, ReversePath};
use smtp::auth::{Credentials, Secret};
use smtp::client::{Action, Client, Config, Envelope, Extensions, Input, Order, Timeouts};

use super::pieces::Connection;

/// The first line is `T` to ask for TLS, `C` to log in, and digits for how the rest, what a server says, is cut.
///
/// # Panics
/// When the property does not hold.
pub fn check(data: &[u8]) {
    let connection = Connection::new(data);
    let Ok(mut line) = Line::open(&connection) else {
        return;
    };
    for piece in connection.pieces() {
        line.feed(Input::Bytes(piece));
        line.work();
    }
    line.feed(Input::End);
    assert!(line.is_closed, "still open");
    assert!(line.failures <= 1, "failed twice");
    assert_eq!(
        line.is_delivering,
        !line.results.is_empty(),
        "a message without verdicts"
    );
    assert!(
        matches!(*line.results, [] | [2]),
        "{:?} verdicts",
        line.results
    );
    let lines = line.sent.replace("\r\n", "");
    assert!(
        !lines.contains(['\r', '\n', '\0']),
        "a bare line end goes out"
    );
}

/// The driver: asks for TLS, logs in, brings a message to two, and says good-bye.
struct Line {
    client: Option<Client>,
    wants_tls: bool,
    wants_login: bool,
    ready: Option<Extensions>,
    is_body_wanted: bool,
    is_delivering: bool,
    is_closed: bool,
    /// How many verdicts each message got.
    results: Vec<usize>,
    failures: usize,
    sent: String,
}

impl Line {
    fn open(connection: &Connection<'_>) -> Result<Self, mail::address::AddressError> {
        let config = Config {
            hostname: Domain::parse("out.example.org")?,
            timeouts: Timeouts::default(),
        };
        let mut line = Self {
            client: Some(Client::connected(config)),
            wants_tls: connection.says(b'T'),
            wants_login: connection.says(b'C'),
            ready: None,
            is_body_wanted: false,
            is_delivering: false,
            is_closed: false,
            results: Vec::new(),
            failures: 0,
            sent: String::new(),
        };
        line.run();
        Ok(line)
    }

    fn feed(&mut self, input: Input<'_>) {
        if let Some(client) = &mut self.client {
            client.feed(input);
        }
        self.run();
    }

    fn run(&mut self) {
        while let Some(action) = self.client.as_mut().and_then(Client::next) {
            assert!(!self.is_closed, "{action:?} after Close");
            match action {
                Action::Send(bytes) => self.sent.push_str(&String::from_utf8_lossy(&bytes)),
                Action::Ready(extensions) => self.ready = Some(extensions),
                Action::StartTls => self.client = self.client.take().map(Client::secured),
                Action::WantBody => self.is_body_wanted = true,
                Action::Finished(results) => self.results.push(results.len()),
                Action::Failed(_) => self.failures += 1,
                Action::Close => self.is_closed = true,
                Action::Deadline(_) | Action::Refused(_) => {}
            }
        }
    }

    /// Does what the machine waits for.
    fn work(&mut self) {
        while !self.is_closed {
            if std::mem::take(&mut self.is_body_wanted) {
                self.feed(Input::Body(b".text\n.\r"));
                self.feed(Input::BodyEnd);
            } else if let Some(extensions) = self.ready.take() {
                let order = self.order(&extensions);
                self.feed(Input::Order(order));
            } else {
                return;
            }
        }
    }

    fn order(&mut self, extensions: &Extensions) -> Order {
        if std::mem::take(&mut self.wants_tls) && extensions.starttls {
            return Order::StartTls;
        }
        if std::mem::take(&mut self.wants_login) && (extensions.auth.plain || extensions.auth.login)
        {
            return Order::Authenticate(Credentials {
                user: "alice".into(),
                password: Secret::new("wonderland".into()),
            });
        }
        let recipients = ["b@example.net", "gr\u{fc}n@example.net"];
        match ReversePath::parse("a@example.org") {
            Ok(sender) if !std::mem::replace(&mut self.is_delivering, true) => {
                Order::Deliver(Envelope {
                    sender,
                    recipients: recipients
                        .iter()
                        .filter_map(|text| Address::parse(text).ok())
                        .collect(),
                    size: 100,
                    eight_bit: true,
                    smtputf8: false,
                    parameters: smtp::parameter::MailParameters::default(),
                    recipient_parameters: Vec::new(),
                })
            }
            _ => Order::Quit,
        }
    }
}
