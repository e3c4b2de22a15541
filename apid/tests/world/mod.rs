//! A world around apid: deliverd as it looks over IPC, and clients that speak text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test stops at what it did not expect, plays the world around apid, and uses another part of it each"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apid::ask::Ask;
use apid::house::House;
use apid::port::Port;
use apid::session::http::Routes;
use apid::session::{Desk, Patience};
use daemon::channel::{Answered, Events, Service, serve};
use daemon::limits::{Door, Limits};
use daemon::port::Begins;
use daemon::stop::{self, Stop, StopSender};
use daemon::tls::Certificates;
use ipc::api::{ApiAnswer, ApiEdge, ApiRequest};
use ipc::{Call, Refusal, Secret};
use sys::packet::PacketListener;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub(crate) const TOKEN: &str = "dG9rZW4tb2YtYWxpY2U";

/// A deliverd that knows one user, alice@example.test with the password `p"ass`, and refuses what it is told to.
#[derive(Debug, Default)]
pub(crate) struct Deliverd {
    pub(crate) refusal: Mutex<Option<Refusal>>,
    pub(crate) silent: Mutex<bool>,
    /// Answers after this long.
    pub(crate) pause: Mutex<Duration>,
    pub(crate) clients: Mutex<Vec<String>>,
}

impl Service<ApiEdge> for Deliverd {
    type Peer = ();

    fn open(&self, _: Events<ApiEdge>) {}

    async fn answer(
        &self,
        _: Arc<()>,
        call: Call<ApiRequest>,
    ) -> Result<Answered<ApiAnswer>, Refusal> {
        let silent = *self.silent.lock().unwrap();
        if silent {
            return std::future::pending().await;
        }
        let pause = *self.pause.lock().unwrap();
        tokio::time::sleep(pause).await;
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let answer = match call.request {
            ApiRequest::CheckHealth => ApiAnswer::Healthy,
            ApiRequest::IssueToken(credentials) => {
                self.clients.lock().unwrap().push(credentials.client);
                if credentials.user != "alice@example.test"
                    || credentials.password.reveal() != b"p\"ass"
                {
                    return Err(Refusal::BadCredentials { wait: 0 });
                }
                ApiAnswer::TokenIssued {
                    token: Secret::new(TOKEN),
                    account: credentials.user,
                    expires_in: 3600,
                }
            }
        };
        Ok(Answered::plain(answer))
    }
}

/// apid, and a deliverd to ask.
pub(crate) struct World {
    pub(crate) deliverd: Arc<Deliverd>,
    pub(crate) house: Arc<House>,
    pub(crate) sender: StopSender,
    pub(crate) stop: Stop,
    pub(crate) ca: PathBuf,
    directory: TempDir,
}

pub(crate) const ROOMY: Limits = Limits {
    total: 0,
    per_address: 0,
};

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Patience::default(), ROOMY)
    }

    pub(crate) fn with(patience: Patience, limits: Limits) -> Self {
        let world = Self::without_deliverd(patience, limits);
        let listener = PacketListener::bind(&world.socket()).unwrap();
        let deliverd = Arc::clone(&world.deliverd);
        tokio::spawn(serve::<ApiEdge, _>(listener, deliverd, world.stop.clone()));
        world
    }

    pub(crate) fn without_deliverd(patience: Patience, limits: Limits) -> Self {
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        write_certificate(directory.path());
        let desk = Desk {
            ask: Ask::new(directory.path().join("deliverd-apid.sock")),
            lockout: 600,
            body: patience.body,
        };
        let house = House {
            routes: Routes::new(desk),
            door: Door::new(limits),
            certificates: Certificates::load(directory.path()).unwrap(),
            patience,
        };
        let (sender, stop) = stop::channel();
        Self {
            deliverd: Arc::default(),
            house: Arc::new(house),
            sender,
            stop,
            ca: directory.path().join("tls.crt"),
            directory,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("deliverd-apid.sock")
    }

    pub(crate) fn renew_certificate(&self) {
        write_certificate(self.directory.path());
    }

    /// Opens a port and returns its address.
    pub(crate) async fn open(&self, begins: Begins) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port {
            begins,
            house: Arc::clone(&self.house),
        };
        tokio::spawn(daemon::port::accept(
            "test",
            Arc::new(port),
            listener,
            self.stop.clone(),
        ));
        address
    }

    pub(crate) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.open(Begins::Clear).await)
            .await
            .unwrap()
    }
}

pub(crate) fn write_certificate(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(["mail.example.test".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
}

/// A TLS client that trusts exactly the certificate in `ca`.
pub(crate) async fn secure(ca: &Path, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("mail.example.test").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// Sends `bytes` and reads one response.
pub(crate) async fn exchange<S>(stream: &mut S, bytes: impl AsRef<[u8]>) -> Response
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes.as_ref()).await.unwrap();
    read(stream).await
}

/// Reads one response.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Response {
    tokio::time::timeout(Duration::from_secs(20), read_patiently(stream))
        .await
        .expect("a response in time")
}

async fn read_patiently<S: AsyncRead + Unpin>(stream: &mut S) -> Response {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole response head"));
    }
    let mut response = Response {
        status: 0,
        head: String::from_utf8(head).unwrap(),
        body: String::new(),
    };
    response.status = response.head[9..12].parse().unwrap();
    let length = response
        .field("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    response.body = String::from_utf8(body).unwrap();
    response
}

/// Whether the other side ends the connection now, without another byte.
pub(crate) async fn is_closed<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await;
    matches!(read, Ok(Err(_)))
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: mail.example.test\r\n\r\n")
}

pub(crate) fn login(body: &str) -> String {
    format!(
        "POST /auth/login HTTP/1.1\r\nHost: mail.example.test\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
