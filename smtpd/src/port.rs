//! What a port offers, and how a connection to it goes: greeting, TLS, conversation.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Stop;
use daemon::config::Network;
use daemon::limits::{Crowded, Door};
use daemon::port::{self, Begins, Client, Protocol};
use smtp::hold::HoldLimit;
use smtp::reply::Reply;
use smtp::server::{self, Server};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::desk::{self, Desk};
use crate::house::House;
use crate::session::{End, converse};

/// How long a client that is sent away may take to hear it.
const FAREWELL: Duration = Duration::from_secs(5);

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
    /// Who may come; `None` for everybody.
    pub clients: Option<Vec<Network>>,
    /// Proxies that speak for its clients.
    pub proxies: Vec<Network>,
    /// What it shares with the others.
    pub house: Arc<House>,
}

impl Protocol for Port {
    fn door(&self) -> &Arc<Door> {
        &self.house.door
    }

    async fn receive(self: Arc<Self>, mut stream: TcpStream, client: Client, stop: Stop) {
        if !self.serves(client.address) {
            return self.send_away(&mut stream).await;
        }
        self.visit(stream, client, stop).await;
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    async fn receive_local(self: Arc<Self>, stream: UnixStream, client: Client, stop: Stop) {
        self.visit(stream, client, stop).await;
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
    async fn visit<S>(self: Arc<Self>, stream: S, client: Client, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        info!("connected");
        let visit = Visit {
            port: self,
            client,
            stop,
        };
        match visit.talk(stream).await {
            Ok(()) => info!("disconnected"),
            Err(error) => info!(%error, "connection lost"),
        }
    }

    fn serves(&self, client: IpAddr) -> bool {
        let is_listed = |list: &Vec<Network>| list.iter().any(|network| network.contains(client));
        self.clients.as_ref().is_none_or(is_listed)
    }

    async fn send_away(&self, stream: &mut TcpStream) {
        warn!("not a client of this port, sent away");
        let text = format!(
            "{} does not take mail from your address here",
            self.house.hostname
        );
        let reply = Reply::new(554, (5, 7, 1), &text).to_bytes();
        // A client that is gone, or does not listen, need not hear it.
        let _ = timeout(FAREWELL, async {
            stream.write_all(&reply).await?;
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
    async fn talk<S>(&self, stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let house = &self.port.house;
        let ask = Arc::clone(&house.ask);
        let mut desk = Desk::new(
            ask,
            self.client.address,
            house.home.clone(),
            self.client.session,
            self.port.config.max_recipients,
        );
        match self.port.begins {
            Begins::Clear => self.talk_clear(stream, &mut desk).await,
            Begins::Tls => {
                let mut stream = self.secure(stream).await?;
                let server = self.greet(Some(describe(&stream)));
                self.talk_secured(&mut stream, server, &mut desk).await
            }
        }
    }

    async fn talk_clear<S>(&self, mut stream: S, desk: &mut Desk) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = self.greet(None);
        match converse(&mut stream, server, desk, &self.stop).await? {
            End::Closed => Ok(()),
            End::StartTls(server) => {
                desk.forget();
                let mut stream = self.secure(stream).await?;
                let server = server.secured(describe(&stream));
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

    fn greet(&self, tls: Option<String>) -> Server {
        let config = match self.client.address.is_loopback() {
            true => &self.port.loopback,
            false => &self.port.config,
        };
        let mut config = Arc::clone(config);
        if let Some(limit) = config.offer.hold {
            let until = desk::now().saturating_add(limit.seconds.into());
            Arc::make_mut(&mut config).offer.hold = Some(HoldLimit { until, ..limit });
        }
        Server::greet(config, self.client.address, tls)
    }

    async fn secure<S>(&self, stream: S) -> io::Result<Box<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        port::secure(&self.port.house.certificates, stream, port::HANDSHAKE).await
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
