//! A world around imapd: deliverd as it looks over IPC, with its mail in memory, and clients that speak text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unused_imports,
    reason = "a test stops at what it did not expect, and each uses another part"
)]

mod caches;
mod store;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::channel::serve;
use daemon::config::ServerMetadata;
use daemon::limits::Limits;
use daemon::port::{self, Begins};
use daemon::stop::{self, StopSender};
use daemon::tls::Certificates;
use imapd::ask::Ask;
use imapd::budget::Room;
use imapd::house::House;
use imapd::port::Port;
use sys::packet::PacketListener;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

pub(crate) use store::{Lie, Store};

/// Bytes of the largest message that is taken.
pub(crate) const APPEND_LIMIT: u32 = 1 << 24;
/// Long enough for everything that happens at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// imapd with its neighbours.
pub(crate) struct World {
    home: TempDir,
    certificate: CertificateDer<'static>,
    pub(crate) store: Arc<Store>,
    pub(crate) deliverd: Option<StopSender>,
    pub(crate) imapd: StopSender,
    clear: SocketAddr,
    clear_remote: SocketAddr,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_limits(Limits {
            total: 0,
            per_address: 0,
        })
        .await
    }

    /// Where a command is about so many messages at most.
    pub(crate) async fn limited(messages: imap::capability::Limits) -> Self {
        let limits = Limits {
            total: 0,
            per_address: 0,
        };
        Self::build(limits, messages, None).await
    }

    /// Where all searches that are kept up to date have so many KiB.
    pub(crate) async fn cramped(kibibytes: u32) -> Self {
        let limits = Limits {
            total: 0,
            per_address: 0,
        };
        Self::build(limits, imap::capability::Limits::default(), Some(kibibytes)).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::build(limits, imap::capability::Limits::default(), None).await
    }

    async fn build(limits: Limits, messages: imap::capability::Limits, room: Option<u32>) -> Self {
        // Another test of this process may have been first.
        let _ = crypto::aws_lc_rs::default_provider().install_default();
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["mx.example.org".to_string()]).unwrap();
        std::fs::write(home.path().join("tls.crt"), made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_pem();
        std::fs::write(home.path().join("tls.key"), key).unwrap();
        let (imapd, stop) = stop::channel();
        let mut addresses = Vec::new();
        for cleartext in [true, false] {
            let socket = home.path().join("deliverd.sock");
            let ask = Ask::new(socket).with_patience(Duration::from_secs(3));
            let certificates = Certificates::load(home.path()).unwrap();
            let name = "mx.example.org".to_owned();
            let house = House::new(name, cleartext, ask, limits, certificates, APPEND_LIMIT);
            let admin = "mailto:postmaster@example.org".to_owned();
            let metadata = ServerMetadata {
                admin: Some(admin.try_into().unwrap()),
                comment: None,
            };
            let house = Arc::new(House {
                metadata,
                limits: messages,
                contexts: room.map_or(house.contexts, Room::new),
                ..house
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let port = Port {
                begins: Begins::Clear,
                house,
            };
            tokio::spawn(port::accept("imap", Arc::new(port), listener, stop.clone()));
        }
        let mut world = Self {
            certificate: made.cert.der().clone(),
            home,
            store: Arc::default(),
            deliverd: None,
            imapd,
            clear: addresses[0],
            clear_remote: addresses[1],
        };
        world.start_deliverd();
        world
    }

    pub(crate) fn start_deliverd(&mut self) {
        let socket = self.home.path().join("deliverd.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = PacketListener::bind(&socket).unwrap();
        let (sender, stop) = stop::channel();
        let front = Arc::new(store::Front(Arc::clone(&self.store), stop.clone()));
        tokio::spawn(serve(listener, front, stop));
        self.deliverd = Some(sender);
    }

    /// A client on this machine, who may log in without TLS.
    pub(crate) async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.clear).await.unwrap())
    }

    /// A client who may not.
    pub(crate) async fn connect_far(&self) -> Client {
        Client::new(TcpStream::connect(self.clear_remote).await.unwrap())
    }

    /// A client with alice's INBOX selected.
    pub(crate) async fn alice(&self) -> Client {
        let mut client = self.connect().await;
        client.ok("a LOGIN alice@example.org secret-alice").await;
        client.ok("b SELECT INBOX").await;
        client
    }

    pub(crate) async fn secure(&self, client: Client) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("mx.example.org").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Client::new(connector.connect(name, client.stream).await.unwrap())
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The far end of a connection.
pub(crate) struct Client {
    stream: Box<dyn Wire>,
    heard: Vec<u8>,
}

impl Client {
    fn new(stream: impl Wire + 'static) -> Self {
        let heard = Vec::new();
        let stream = Box::new(stream);
        Self { stream, heard }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next line; `None` when the server hung up.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).into_owned();
                return Some(
                    line.strip_suffix("\r\n")
                        .expect("a line ends with CRLF")
                        .into(),
                );
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await;
            // Hanging up may show as a reset.
            if read.expect("silence where a line was due").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Says a command and returns all lines up to its tagged answer.
    pub(crate) async fn ask(&mut self, command: &str) -> Vec<String> {
        self.send(format!("{command}\r\n").as_bytes()).await;
        let tag = command.split(' ').next().unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self.line().await.expect("an answer");
            let last = line.starts_with(&format!("{tag} "));
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// The same, and the answer must be OK.
    pub(crate) async fn ok(&mut self, command: &str) -> Vec<String> {
        let lines = self.ask(command).await;
        let tag = command.split(' ').next().unwrap();
        let last = lines.last().unwrap();
        assert!(
            last.starts_with(&format!("{tag} OK")),
            "{command}: {lines:?}"
        );
        lines
    }

    /// Exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.heard.len() < count {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await;
            assert!(read.unwrap().unwrap() > 0, "the server hung up");
        }
        self.heard.drain(..count).collect()
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.line().await.is_none()
    }
}
