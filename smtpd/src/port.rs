//! What a port offers, and how a connection to it goes: greeting, TLS, conversation.

use std::io;
use std::sync::Arc;

use daemon::Stop;
use daemon::limits::{Crowded, Door};
use daemon::port::{self, Begins, Client, Protocol};
use smtp::reply::Reply;
use smtp::server::{self, Server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::info;

use crate::desk::Desk;
use crate::house::House;
use crate::session::{End, converse};

/// One kind of port.
#[derive(Debug, Clone)]
pub struct Port {
    /// What it offers.
    pub config: Arc<server::Config>,
    /// What it offers to clients on this machine.
    pub loopback: Arc<server::Config>,
    /// How it begins.
    pub begins: Begins,
    /// What it shares with the others.
    pub house: Arc<House>,
}

impl Protocol for Port {
    fn door(&self) -> &Arc<Door> {
        &self.house.door
    }

    async fn receive(self: Arc<Self>, stream: TcpStream, client: Client, stop: Stop) {
        info!("connected");
        match (Visit {
            port: self,
            client,
            stop,
        })
        .talk(stream)
        .await
        {
            Ok(()) => info!("disconnected"),
            Err(error) => info!(%error, "connection lost"),
        }
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

/// One connection.
struct Visit {
    port: Arc<Port>,
    client: Client,
    stop: Stop,
}

impl Visit {
    async fn talk(&self, stream: TcpStream) -> io::Result<()> {
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

    async fn talk_clear(&self, mut stream: TcpStream, desk: &mut Desk) -> io::Result<()> {
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
        Server::greet(Arc::clone(config), self.client.address, tls)
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        port::secure(&self.port.house.certificates, stream, port::HANDSHAKE).await
    }
}

/// Protocol version and cipher suite, for `Received:`.
fn describe(stream: &TlsStream<TcpStream>) -> String {
    let (_, connection) = stream.get_ref();
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str());
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    let words: Vec<&str> = [version, suite].into_iter().flatten().collect();
    words.join(" ").replace("TLSv1_", "TLSv1.")
}
