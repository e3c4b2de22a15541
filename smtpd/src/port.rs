//! What a port offers, and how a connection to it goes: greeting, TLS, conversation.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Stop;
use daemon::certificate;
use daemon::config::{Network, Xclient};
use daemon::limits::{Crowded, Door};
use daemon::port::{self, Begins, Client, Protocol};
use daemon::tls;
use smtp::auth::Mechanism;
use smtp::hold::HoldLimit;
use smtp::reply::Reply;
use smtp::server::{self, Proxying, Role, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::ask::Ask;
use crate::desk::{self, Desk};
use crate::farewell;
use crate::filter::Filters;
use crate::guard::{Exceeded, Pass};
use crate::house::House;
use crate::judge::Judge;
use crate::login::Proofs;
use crate::session::{End, converse};
use crate::words;

/// How long a client that is sent away may take to hear it.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long one may take that talked before it was greeted.
const LINGER: Duration = Duration::from_secs(1);
/// Read at once of what is not listened to.
const EARLY_READ: usize = 512;

/// One kind of port.
#[derive(Debug, Clone)]
pub struct Port {
    /// What it offers.
    pub config: Arc<server::Config>,
    /// What it offers to clients on this machine.
    pub loopback: Arc<server::Config>,
    /// How it begins.
    pub begins: Begins,
    /// Whether its listeners are Unix sockets.
    pub is_local: bool,
    /// How long a client waits for its greeting, and must not talk meanwhile.
    pub greeting_delay: Duration,
    /// Who may come; `None` for everybody.
    pub clients: Option<Vec<Network>>,
    /// Proxies that speak for its clients.
    pub proxies: Vec<Network>,
    /// Peers that say with XCLIENT for whom they speak.
    pub xclient: Xclient,
    /// Filters that its mail goes through.
    pub filters: Arc<Filters>,
    /// What it shares with the others.
    pub house: Arc<House>,
}

impl Protocol for Port {
    fn door(&self) -> &Arc<Door> {
        &self.house.door
    }

    async fn receive(self: Arc<Self>, mut stream: TcpStream, client: Client, stop: Stop) {
        if !self.serves(client.address) {
            warn!("not a client of this port, sent away");
            let words = self.not_served();
            return self.send_away(&mut stream, &words).await;
        }
        match self.admit(client.address) {
            Ok(pass) => self.visit(stream, client, pass, stop).await,
            Err(exceeded) => {
                exceeded.tell();
                let words = words::too_many_connections(&self.house.hostname);
                self.send_away(&mut stream, &words).await;
            }
        }
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    async fn receive_local(self: Arc<Self>, stream: UnixStream, client: Client, stop: Stop) {
        let pass = self.house.guard.trust(client.address);
        self.visit(stream, client, pass, stop).await;
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(peer))
    }

    fn regret(&self, crowded: Crowded) -> Vec<u8> {
        // Nothing can be said in clear text where TLS is due.
        if self.begins == Begins::Tls {
            return Vec::new();
        }
        let text = match crowded {
            Crowded::Total => "too many connections, try again later",
            Crowded::Address => "too many connections from your address, close some",
        };
        Reply::new(421, (4, 7, 0), &format!("{} {text}", self.house.hostname)).to_bytes()
    }
}

impl Port {
    async fn visit<S>(self: Arc<Self>, stream: S, client: Client, pass: Pass, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        info!("connected");
        let visit = Visit {
            port: self,
            client,
            stop,
        };
        match visit.talk(stream, pass).await {
            Ok(()) => info!("disconnected"),
            Err(error) => info!(%error, "connection lost"),
        }
    }

    /// The desk for a session of `client`, which asks those two.
    pub(crate) fn desk(
        &self,
        ask: Arc<Ask>,
        judge: Arc<Judge>,
        pass: Pass,
        client: Client,
    ) -> Desk {
        let house = &self.house;
        let mut desk = Desk::new(
            ask,
            pass,
            house.home.clone(),
            client.session,
            self.config.max_recipients,
            Arc::clone(&self.filters),
        );
        if self.config.role == Role::Exchange {
            desk.consult(Arc::clone(&house.lists));
            desk.be_reserved(house.greylisting);
            // Mail of our own users and of our own programs is not judged.
            if judge.judges(client.address) {
                desk = desk.judged_by(judge);
            }
        }
        desk
    }

    /// The machine for a session of `client`.
    pub(crate) fn greet(&self, client: IpAddr, tls: Option<String>) -> Server {
        let config = match client.is_loopback() {
            true => &self.loopback,
            false => &self.config,
        };
        let mut config = Arc::clone(config);
        if let Some(limit) = config.offer.hold {
            let until = desk::now().saturating_add(limit.seconds.into());
            Arc::make_mut(&mut config).offer.hold = Some(HoldLimit { until, ..limit });
        }
        let proxying = self.proxying(client);
        if proxying != Proxying::Nothing {
            Arc::make_mut(&mut config).proxying = proxying;
        }
        Server::greet(config, client, tls)
    }

    pub(crate) fn serves(&self, client: IpAddr) -> bool {
        let is_listed = |list: &Vec<Network>| list.iter().any(|network| network.contains(client));
        self.clients.as_ref().is_none_or(is_listed)
    }

    fn admit(&self, client: IpAddr) -> Result<Pass, Exceeded> {
        match self.is_counted(client) {
            true => self.house.guard.admit(client),
            false => Ok(self.house.guard.trust(client)),
        }
    }

    /// The same for an onlooker.
    pub(crate) fn look(&self, client: IpAddr) -> Result<Pass, Exceeded> {
        match self.is_counted(client) {
            true => self.house.guard.look(client),
            false => Ok(self.house.guard.look_trusting(client)),
        }
    }

    // Those who bring mail by LMTP are known, and bring that of many; so do those who speak for others.
    fn is_counted(&self, client: IpAddr) -> bool {
        match (self.config.role, self.proxying(client)) {
            (Role::Exchange | Role::Submission, Proxying::Nothing) => true,
            (Role::Exchange | Role::Submission, Proxying::Client | Proxying::Login)
            | (Role::Delivery, _) => false,
        }
    }

    fn proxying(&self, peer: IpAddr) -> Proxying {
        let is_in = |list: &[Network]| list.iter().any(|network| network.contains(peer));
        match (
            is_in(&self.xclient.login_clients),
            is_in(&self.xclient.clients),
        ) {
            (true, _) => Proxying::Login,
            (false, true) => Proxying::Client,
            (false, false) => Proxying::Nothing,
        }
    }

    pub(crate) fn not_served(&self) -> Reply {
        let text = format!(
            "{} does not take mail from your address here",
            self.house.hostname
        );
        Reply::new(554, (5, 7, 1), &text)
    }

    async fn send_away<S: AsyncWrite + Unpin>(&self, stream: &mut S, words: &Reply) {
        // Nothing can be said in clear text where TLS is due.
        let words = match self.begins {
            Begins::Clear => words.to_bytes(),
            Begins::Tls => Vec::new(),
        };
        // A client that is gone, or does not listen, need not hear it.
        let _ = timeout(FAREWELL, async {
            stream.write_all(&words).await?;
            stream.shutdown().await
        })
        .await;
    }
}

/// One connection.
struct Visit {
    port: Arc<Port>,
    client: Client,
    stop: Stop,
}

impl Visit {
    async fn talk<S>(&self, mut stream: S, pass: Pass) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if !self.hears_nothing(&mut stream, &pass).await? {
            return Ok(());
        }
        let house = &self.port.house;
        let (ask, judge) = (Arc::clone(&house.ask), Arc::clone(&house.judge));
        let mut desk = self.port.desk(ask, judge, pass, self.client);
        match self.port.begins {
            Begins::Clear => self.talk_clear(stream, &mut desk).await,
            Begins::Tls => {
                let mut stream = self.secure(stream).await?;
                let proofs = self.port.prove(&stream)?;
                let tls = Some(describe(&stream));
                let server = self.port.greet(self.client.address, tls);
                let server = server.with_proofs(offer(&proofs));
                desk.start_over(proofs);
                self.talk_secured(&mut stream, server, &mut desk).await
            }
        }
    }

    // RFC 5321 §3.1: the server speaks first. Programs that only send do not wait for that.
    async fn hears_nothing<S>(&self, stream: &mut S, pass: &Pass) -> io::Result<bool>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let delay = self.port.greeting_delay;
        if delay.is_zero() || pass.is_exempt() {
            return Ok(true);
        }
        let mut heard = [0; EARLY_READ];
        let read = tokio::select! {
            read = stream.read(&mut heard) => read?,
            () = sleep(delay) => return Ok(true),
            () = self.stop.requested() => return Ok(true),
        };
        if read > 0 {
            let key = "smtp.limits.greeting_delay_ms";
            warn!(key, "the client talked before it was greeted, refused");
            self.port.send_away(stream, &words::talked_first()).await;
            farewell::linger(stream, LINGER).await;
        }
        Ok(false)
    }

    async fn talk_clear<S>(&self, mut stream: S, desk: &mut Desk) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = self.port.greet(self.client.address, None);
        match converse(&mut stream, server, desk, &self.stop).await? {
            End::Closed => Ok(()),
            End::StartTls(server) => {
                let mut stream = self.secure(stream).await?;
                let proofs = self.port.prove(&stream)?;
                let server = server.secured(describe(&stream));
                let server = server.with_proofs(offer(&proofs));
                desk.start_over(proofs);
                self.talk_secured(&mut stream, server, desk).await
            }
        }
    }

    async fn talk_secured<S>(
        &self,
        stream: &mut S,
        server: Server,
        desk: &mut Desk,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match converse(stream, server, desk, &self.stop).await? {
            End::Closed => Ok(()),
            // The machine does not start TLS twice.
            End::StartTls(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn secure<S>(&self, stream: S) -> io::Result<Box<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let certificates = &self.port.house.certificates;
        match self.port.config.role {
            Role::Submission => port::secure_asking(certificates, stream, port::HANDSHAKE).await,
            Role::Exchange | Role::Delivery => {
                port::secure(certificates, stream, port::HANDSHAKE).await
            }
        }
    }
}

impl Port {
    /// What a login on this connection can be bound to.
    fn prove<S>(&self, stream: &TlsStream<S>) -> io::Result<Proofs> {
        let (_, connection) = stream.get_ref();
        let plus = Mechanism::Exchange(sasl::Mechanism::ScramSha256Plus);
        Ok(Proofs {
            // RFC 5802 §6: a client that could bind and was offered nothing says so. Where nothing is offered there is nothing to bind to,
            // or that would be taken for an attack.
            binding: match self.config.mechanisms.contains(&plus) {
                true => tls::channel_binding(connection).map_err(io::Error::other)?,
                false => None,
            },
            certificates: certificate::shown(connection),
        })
    }
}

fn offer(proofs: &Proofs) -> sasl::Proofs {
    sasl::Proofs {
        binding: proofs.binding.is_some(),
        certificate: !proofs.certificates.is_empty(),
    }
}

/// Protocol version and cipher suite, for `Received:`.
fn describe<S>(stream: &TlsStream<S>) -> String {
    let (_, connection) = stream.get_ref();
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str());
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    let words: Vec<&str> = [version, suite].into_iter().flatten().collect();
    words.join(" ").replace("TLSv1_", "TLSv1.")
}
