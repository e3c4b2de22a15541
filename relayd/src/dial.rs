//! One connection to one host: the driver around the SMTP client machine. One select, one match.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mail::address::Address;
use smtp::auth::Credentials;
use smtp::client::{Action, Client, Config, Envelope, Extensions, Input, Order, Outcome, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use crate::letter::Letter;
use crate::line::{Boxed, Line};
use crate::pool::Pool;
use crate::tls::{self, Policy, Tls};
use crate::tlsrpt::row::{Fault, Flaw};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_mins(1);
/// However patient each step is, one connection may not take longer.
const LONGEST: Duration = Duration::from_hours(1);
const CHUNK: usize = 32 * 1024;

/// Where to connect, and how. A connection is good for another message only if all of this is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the host, for TLS and logs.
    pub host: String,
    /// Its address.
    pub address: SocketAddr,
    /// How much TLS is asked for.
    pub policy: Policy,
    /// When TLS comes.
    pub begins: Begins,
    /// Log in with these; only ever sent under TLS.
    pub credentials: Option<Credentials>,
}

/// When TLS comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// With STARTTLS, if it is offered.
    Clear,
    /// Not at all: it was tried on another connection and does not work.
    ClearOnly,
    /// Before the greeting (RFC 8314).
    Tls,
}

/// What all connections have in common.
#[derive(Debug)]
pub struct Phone {
    /// How we introduce ourselves.
    pub config: Config,
    /// TLS.
    pub tls: Tls,
    /// Connections that wait for another message.
    pub pool: Arc<Pool>,
}

/// What came of a connection.
#[derive(Debug)]
pub enum Heard {
    /// A verdict for each recipient.
    Results {
        /// In the order of the envelope.
        results: Vec<(Address, Verdict)>,
        /// The host reports to the sender by itself (RFC 3461).
        reports: bool,
    },
    /// The host took no mail from us; nothing was handed over.
    Refused(Verdict),
    /// No connection, or it broke before any mail was handed over.
    Unreachable(String),
    /// TLS was offered and does not work.
    TlsBroken(Flaw),
}

/// What was seen of TLS on a connection.
#[derive(Debug, Default)]
pub struct Glimpse {
    /// Our address.
    pub from: Option<IpAddr>,
    /// How it went, if it came to that.
    pub tls: Option<Result<(), Flaw>>,
}

/// The server has left a connection that was kept, before anything of the message went there.
struct Stale;

impl Phone {
    /// Hands a message over to one host, if it can be.
    pub async fn dial(
        self: &Arc<Self>,
        target: &Target,
        envelope: Envelope,
        body: &mut Letter,
        glimpse: &mut Glimpse,
    ) -> Heard {
        if let Some(line) = self.pool.take(target) {
            let call = Call::new(self, target, line, envelope.clone(), body, glimpse);
            match call.run().await {
                Ok(heard) => return heard,
                Err(Stale) => debug!(host = target.host, "a connection that was kept has ended"),
            }
        }
        let tcp = match timeout(CONNECT, TcpStream::connect(target.address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Heard::Unreachable(error.to_string()),
            Err(_) => return Heard::Unreachable("connection timed out".into()),
        };
        if let Err(error) = tcp.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        glimpse.from = tcp.local_addr().ok().map(|local| local.ip());
        let mut stream: Boxed = Box::new(tcp);
        if target.begins == Begins::Tls {
            stream = match self.shake_hands(stream, target, glimpse).await {
                Ok(stream) => stream,
                Err(flaw) => return Heard::TlsBroken(flaw),
            };
        }
        let client = Client::connected(self.config.clone());
        let line = Line::new(stream, client, target.begins == Begins::Tls);
        let call = Call::new(self, target, line, envelope, body, glimpse);
        let heard = call.run().await;
        heard.unwrap_or_else(|Stale| Heard::Unreachable("the connection ended".into()))
    }

    async fn shake_hands(
        &self,
        stream: Boxed,
        target: &Target,
        glimpse: &mut Glimpse,
    ) -> Result<Boxed, Flaw> {
        let shaken = self.try_shake_hands(stream, target).await;
        let shaken = shaken.map_err(|error| Flaw::of(&error));
        glimpse.tls = Some(shaken.as_ref().map(drop).map_err(Flaw::clone));
        shaken
    }

    async fn try_shake_hands(&self, stream: Boxed, target: &Target) -> io::Result<Boxed> {
        let host = match &target.policy {
            Policy::Dane(dane) => dane.base(),
            Policy::Never
            | Policy::Opportunistic
            | Policy::Required
            | Policy::Verified
            | Policy::Tested => &target.host,
        };
        let name = tls::server_name(host, target.address.ip());
        let connector = self.tls.connector(&target.policy);
        let connector = connector.map_err(io::Error::other)?;
        let connect = connector.connect(name, stream);
        let stream = timeout(HANDSHAKE, connect)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let verified = matches!(
            target.policy,
            Policy::Verified | Policy::Tested | Policy::Dane(_)
        );
        let (_, session) = stream.get_ref();
        debug!(host = target.host, version = ?session.protocol_version(), verified, "TLS");
        Ok(Box::new(stream))
    }
}

/// A message on its way over a connection.
struct Call<'a> {
    phone: &'a Arc<Phone>,
    target: &'a Target,
    line: Line,
    deadline: Instant,
    latest: Instant,
    reports: bool,
    envelope: Option<Envelope>,
    body: &'a mut Letter,
    sending_body: bool,
    /// Something of the body may have gone.
    has_begun: bool,
    glimpse: &'a mut Glimpse,
}

enum Event {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Flushed(io::Result<()>),
    Chunk(io::Result<usize>),
    Timeout,
}

impl<'a> Call<'a> {
    fn new(
        phone: &'a Arc<Phone>,
        target: &'a Target,
        line: Line,
        envelope: Envelope,
        body: &'a mut Letter,
        glimpse: &'a mut Glimpse,
    ) -> Self {
        let now = Instant::now();
        Self {
            phone,
            target,
            line,
            deadline: now + phone.config.timeouts.greeting,
            latest: now + LONGEST,
            reports: false,
            envelope: Some(envelope),
            body,
            sending_body: false,
            has_begun: false,
            glimpse,
        }
    }

    async fn run(mut self) -> Result<Heard, Stale> {
        let extensions = self.line.extensions.take();
        let is_old = extensions.is_some();
        if let Some(extensions) = extensions {
            match self.order(&extensions) {
                Ok(order) => self.line.client.feed(Input::Order(order)),
                Err(heard) => return Ok(self.hang_up(heard)),
            }
        }
        let (mut heard, mut chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            while let Some(action) = self.line.client.next() {
                match action {
                    Action::Send(bytes) => self.line.outgoing.extend_from_slice(&bytes),
                    Action::Deadline(patience) => self.deadline = Instant::now() + patience,
                    Action::Ready(extensions) => match self.order(&extensions) {
                        Ok(order) => self.line.client.feed(Input::Order(order)),
                        Err(heard) => return Ok(self.hang_up(heard)),
                    },
                    Action::StartTls => match self.start_tls().await {
                        Ok(secured) => self = secured,
                        Err(flaw) => return Ok(Heard::TlsBroken(flaw)),
                    },
                    Action::Refused(verdict) => {
                        if let Some(heard) = self.bear(verdict) {
                            return Ok(self.hang_up(heard));
                        }
                    }
                    Action::WantBody => (self.sending_body, self.has_begun) = (true, true),
                    Action::Finished(results) => return self.finish(results, is_old),
                    Action::Failed(verdict) => {
                        return Ok(self.hang_up(Heard::Refused(verdict)));
                    }
                    Action::Close => {
                        return Ok(Heard::Unreachable("the connection ended".into()));
                    }
                }
            }
            let event = self.wait(&mut heard, &mut chunk).await;
            match event {
                Event::Read(Ok(0))
                | Event::Read(Err(_))
                | Event::Written(Err(_) | Ok(0))
                | Event::Flushed(Err(_)) => {
                    self.line.client.feed(Input::End);
                }
                Event::Read(Ok(count)) => self.line.client.feed(Input::Bytes(&heard[..count])),
                Event::Written(Ok(count)) => {
                    self.line.outgoing.drain(..count);
                    self.line.unflushed = true;
                }
                Event::Flushed(Ok(())) => self.line.unflushed = false,
                Event::Chunk(Ok(0)) => {
                    self.sending_body = false;
                    self.line.client.feed(Input::BodyEnd);
                }
                Event::Chunk(Ok(count)) => self.line.client.feed(Input::Body(&chunk[..count])),
                // Without the rest of the body there must be no end of data: the connection is cut.
                Event::Chunk(Err(error)) => {
                    let text = format!("the queued body cannot be read: {error}");
                    return Ok(Heard::Unreachable(text));
                }
                Event::Timeout => self.line.client.feed(Input::Timeout),
            }
        }
    }

    async fn wait(&mut self, heard: &mut [u8], chunk: &mut [u8]) -> Event {
        let writing = !self.line.outgoing.is_empty() || self.line.unflushed;
        let write = async {
            if self.line.outgoing.is_empty() {
                Event::Flushed(self.line.writer.flush().await)
            } else {
                Event::Written(self.line.writer.write(&self.line.outgoing).await)
            }
        };
        tokio::select! {
            read = self.line.reader.read(heard) => Event::Read(read),
            event = write, if writing => event,
            read = self.body.read(chunk), if !writing && self.sending_body => Event::Chunk(read),
            () = sleep_until(self.deadline.min(self.latest)) => Event::Timeout,
        }
    }

    /// What to ask for next, now that the host listens.
    fn order(&mut self, extensions: &Extensions) -> Result<Order, Heard> {
        let policy = &self.target.policy;
        if !self.line.secured
            && !self.line.tls_refused
            && extensions.starttls
            && self.target.begins != Begins::ClearOnly
        {
            return Ok(Order::StartTls);
        }
        // Of a connection that was kept it has been told before.
        let is_news = self.line.messages == 0 && !self.line.tls_refused;
        if !self.line.secured && is_news && self.target.begins != Begins::ClearOnly {
            let flaw = Flaw::new(Fault::StarttlsNotSupported, "STARTTLS is not offered");
            self.glimpse.tls = Some(Err(flaw));
        }
        if !self.line.secured && !matches!(policy, Policy::Never | Policy::Opportunistic) {
            return Err(Heard::TlsBroken(Flaw::new(
                Fault::StarttlsNotSupported,
                "the server does not offer STARTTLS, which is required here",
            )));
        }
        let requires = |envelope: &Envelope| envelope.parameters.require_tls;
        if self.envelope.as_ref().is_some_and(requires) && !extensions.require_tls {
            return Err(Heard::TlsBroken(Flaw::new(
                Fault::ValidationFailure,
                "the server does not offer REQUIRETLS, which the sender asks for",
            )));
        }
        match self.target.credentials.clone() {
            // Passwords go under TLS only, whatever the policy says.
            Some(_) if !self.line.secured => {
                return Err(Heard::TlsBroken(Flaw::new(
                    Fault::StarttlsNotSupported,
                    "no password is sent without TLS",
                )));
            }
            Some(credentials) if !self.line.logged_in => {
                self.line.logged_in = true;
                return Ok(Order::Authenticate(credentials));
            }
            _ => {}
        }
        self.reports = extensions.dsn;
        self.envelope
            .take()
            .map(Order::Deliver)
            .ok_or_else(|| Heard::Unreachable("the connection ended".into()))
    }

    /// A refused STARTTLS is borne by the opportunistic; a refused login is not.
    fn bear(&mut self, verdict: Verdict) -> Option<Heard> {
        if self.line.secured {
            let outcome = Outcome::Temporary;
            return Some(Heard::Refused(Verdict { outcome, ..verdict }));
        }
        info!(host = self.target.host, reply = %verdict.reply, "STARTTLS refused");
        let reason = format!("STARTTLS is refused: {}", verdict.reply);
        self.glimpse.tls = Some(Err(Flaw::new(Fault::StarttlsNotSupported, reason)));
        self.line.tls_refused = true;
        None
    }

    async fn start_tls(self) -> Result<Self, Flaw> {
        let stream = self.line.reader.unsplit(self.line.writer);
        let shaken = self.phone.shake_hands(stream, self.target, self.glimpse);
        let line = Line::new(shaken.await?, self.line.client.secured(), true);
        Ok(Self { line, ..self })
    }

    /// All that is to be said about the message has been said. The connection waits for the next one, if it can.
    fn finish(mut self, results: Vec<(Address, Verdict)>, is_old: bool) -> Result<Heard, Stale> {
        let reports = self.reports;
        let heard = Heard::Results { results, reports };
        match self.line.client.next() {
            Some(Action::Ready(extensions)) => {
                self.line.extensions = Some(extensions);
                self.line.messages += 1;
                self.phone.pool.keep(self.target, self.line);
                Ok(heard)
            }
            // It is over with the connection, but nobody has had the message: a new one may do better.
            _ if is_old && !self.has_begun => Err(Stale),
            _ => Ok(heard),
        }
    }

    /// The result counts now; saying good-bye must not delay its record.
    fn hang_up(self, heard: Heard) -> Heard {
        self.line.hang_up();
        heard
    }
}
