//! One connection to one host: the driver around the SMTP client machine. One select, one match.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mail::address::Address;
use smtp::auth::Credentials;
use smtp::client::{Action, Client, Config, Envelope, Extensions, Input, Order, Outcome, Verdict};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use crate::tls::{self, Policy, Tls};
use crate::tlsrpt::row::{Fault, Flaw};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_mins(1);
/// However patient each step is, one connection may not take longer.
const LONGEST: Duration = Duration::from_hours(1);
/// How long we wait to be polite once all is said.
const FAREWELL: Duration = Duration::from_secs(5);
const CHUNK: usize = 32 * 1024;

/// Where to connect, and how.
#[derive(Debug, Clone)]
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

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
type Boxed = Box<dyn Stream>;

impl Phone {
    /// Hands a message over to one host, if it can be.
    pub async fn dial(
        self: &Arc<Self>,
        target: &Target,
        envelope: Envelope,
        body: File,
        glimpse: &mut Glimpse,
    ) -> Heard {
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
        let call = Call::new(self, target, stream, envelope, body, glimpse);
        call.run().await
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

/// A connection that is up.
struct Call<'a> {
    phone: &'a Arc<Phone>,
    target: &'a Target,
    client: Client,
    reader: ReadHalf<Boxed>,
    writer: WriteHalf<Boxed>,
    /// Bytes to be written. Bounded: the next piece of the body is only read when this is empty.
    outgoing: Vec<u8>,
    /// Bytes were given to TLS that it may still hold.
    unflushed: bool,
    deadline: Instant,
    latest: Instant,
    secured: bool,
    tls_refused: bool,
    logged_in: bool,
    reports: bool,
    envelope: Option<Envelope>,
    body: File,
    sending_body: bool,
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
        stream: Boxed,
        envelope: Envelope,
        body: File,
        glimpse: &'a mut Glimpse,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            phone,
            target,
            client: Client::connected(phone.config.clone()),
            reader,
            writer,
            outgoing: Vec::new(),
            unflushed: false,
            deadline: now + phone.config.timeouts.greeting,
            latest: now + LONGEST,
            secured: target.begins == Begins::Tls,
            tls_refused: false,
            logged_in: false,
            reports: false,
            envelope: Some(envelope),
            body,
            sending_body: false,
            glimpse,
        }
    }

    async fn run(mut self) -> Heard {
        let (mut heard, mut chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            while let Some(action) = self.client.next() {
                match action {
                    Action::Send(bytes) => self.outgoing.extend_from_slice(&bytes),
                    Action::Deadline(patience) => self.deadline = Instant::now() + patience,
                    Action::Ready(extensions) => match self.order(&extensions) {
                        Ok(order) => self.client.feed(Input::Order(order)),
                        Err(heard) => return self.hang_up(heard),
                    },
                    Action::StartTls => match self.start_tls().await {
                        Ok(secured) => self = secured,
                        Err(flaw) => return Heard::TlsBroken(flaw),
                    },
                    Action::Refused(verdict) => {
                        if let Some(heard) = self.bear(verdict) {
                            return self.hang_up(heard);
                        }
                    }
                    Action::WantBody => self.sending_body = true,
                    Action::Finished(results) => {
                        let reports = self.reports;
                        return self.hang_up(Heard::Results { results, reports });
                    }
                    Action::Failed(verdict) => return self.hang_up(Heard::Refused(verdict)),
                    Action::Close => return Heard::Unreachable("the connection ended".into()),
                }
            }
            let event = self.wait(&mut heard, &mut chunk).await;
            match event {
                Event::Read(Ok(0))
                | Event::Read(Err(_))
                | Event::Written(Err(_) | Ok(0))
                | Event::Flushed(Err(_)) => {
                    self.client.feed(Input::End);
                }
                Event::Read(Ok(count)) => self.client.feed(Input::Bytes(&heard[..count])),
                Event::Written(Ok(count)) => {
                    self.outgoing.drain(..count);
                    self.unflushed = true;
                }
                Event::Flushed(Ok(())) => self.unflushed = false,
                Event::Chunk(Ok(0)) => {
                    self.sending_body = false;
                    self.client.feed(Input::BodyEnd);
                }
                Event::Chunk(Ok(count)) => self.client.feed(Input::Body(&chunk[..count])),
                // Without the rest of the body there must be no end of data: the connection is cut.
                Event::Chunk(Err(error)) => {
                    return Heard::Unreachable(format!("the queued body cannot be read: {error}"));
                }
                Event::Timeout => self.client.feed(Input::Timeout),
            }
        }
    }

    async fn wait(&mut self, heard: &mut [u8], chunk: &mut [u8]) -> Event {
        let writing = !self.outgoing.is_empty() || self.unflushed;
        let write = async {
            if self.outgoing.is_empty() {
                Event::Flushed(self.writer.flush().await)
            } else {
                Event::Written(self.writer.write(&self.outgoing).await)
            }
        };
        tokio::select! {
            read = self.reader.read(heard) => Event::Read(read),
            event = write, if writing => event,
            read = self.body.read(chunk), if !writing && self.sending_body => Event::Chunk(read),
            () = sleep_until(self.deadline.min(self.latest)) => Event::Timeout,
        }
    }

    /// What to ask for next, now that the host listens.
    fn order(&mut self, extensions: &Extensions) -> Result<Order, Heard> {
        let policy = &self.target.policy;
        if !self.secured
            && !self.tls_refused
            && extensions.starttls
            && self.target.begins != Begins::ClearOnly
        {
            return Ok(Order::StartTls);
        }
        if !self.secured && self.target.begins != Begins::ClearOnly && !self.tls_refused {
            let flaw = Flaw::new(Fault::StarttlsNotSupported, "STARTTLS is not offered");
            self.glimpse.tls = Some(Err(flaw));
        }
        if !self.secured && !matches!(policy, Policy::Never | Policy::Opportunistic) {
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
            Some(_) if !self.secured => {
                return Err(Heard::TlsBroken(Flaw::new(
                    Fault::StarttlsNotSupported,
                    "no password is sent without TLS",
                )));
            }
            Some(credentials) if !self.logged_in => {
                self.logged_in = true;
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
        if self.secured {
            let outcome = Outcome::Temporary;
            return Some(Heard::Refused(Verdict { outcome, ..verdict }));
        }
        info!(host = self.target.host, reply = %verdict.reply, "STARTTLS refused");
        let reason = format!("STARTTLS is refused: {}", verdict.reply);
        self.glimpse.tls = Some(Err(Flaw::new(Fault::StarttlsNotSupported, reason)));
        self.tls_refused = true;
        None
    }

    async fn start_tls(self) -> Result<Self, Flaw> {
        let stream = self.reader.unsplit(self.writer);
        let shaken = self.phone.shake_hands(stream, self.target, self.glimpse);
        let stream = shaken.await?;
        let (reader, writer) = tokio::io::split(stream);
        let client = self.client.secured();
        Ok(Self {
            client,
            reader,
            writer,
            outgoing: Vec::new(),
            unflushed: false,
            secured: true,
            ..self
        })
    }

    /// The result counts now; saying good-bye must not delay its record.
    fn hang_up(self, heard: Heard) -> Heard {
        let (mut client, mut reader, mut writer) = (self.client, self.reader, self.writer);
        let mut bytes = self.outgoing;
        // Heeded only where an order is awaited.
        client.feed(Input::Order(Order::Quit));
        while let Some(action) = client.next() {
            match action {
                Action::Send(more) => bytes.extend_from_slice(&more),
                // A connection that is of no use any more is dropped, lest what is left be taken for commands.
                Action::Close => return heard,
                _ => {}
            }
        }
        tokio::spawn(timeout(FAREWELL, async move {
            writer.write_all(&bytes).await?;
            writer.flush().await?;
            let mut last = [0; 512];
            let _ = reader.read(&mut last).await?;
            writer.shutdown().await
        }));
        heard
    }
}
