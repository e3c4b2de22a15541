//! A world around smtpd: deliverd and relayd as they look over IPC, and clients that speak text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a test stops at what it did not expect, and each uses another part"
)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::channel::{Answered, Events, Service, serve};
use daemon::config::{Authentication, DnsLists, Filter, Network, Smtp, Xclient};
use daemon::limits::{Door, Limits};
use daemon::port::Begins;
use daemon::stop::{self, Stop, StopSender};
use daemon::tls::Certificates;
use ipc::delivery::{DeliveryAnswer, DeliveryRequest, Destination, MessageHandle};
use ipc::dns::{Found, Kind};
use ipc::greylist::{Acquaintance, Triple};
use ipc::login::{Challenge, LoginRequest};
use ipc::observation::Observation;
use ipc::queue::{Envelope, Quarantine, QueueAnswer, QueueEdge, QueueRequest, Recipient};
use ipc::smtp::{SmtpAnswer, SmtpEdge, SmtpRequest};
use ipc::{Call, Refusal, Secret};
use mail::address::Domain;
use smtp::hold::HoldLimit;
use smtp::server::{Config, Offer, Role, Server};
use smtpd::ask::Ask;
use smtpd::desk::Desk;
use smtpd::filter::{Filters, Means};
use smtpd::guard::{self, Guard};
use smtpd::house::House;
use smtpd::judge::Judge;
use smtpd::lists::Lists;
use smtpd::port::Port;
use smtpd::session::{End, converse};
use sys::packet::{PacketListener, stream_pair};
use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

mod client;
mod daemons;
mod explaining;

pub(crate) use self::client::Client;
pub(crate) use self::daemons::{Deliverd, Relayd};

/// A message that somebody keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) recipients: Vec<String>,
    /// As relayd heard of them.
    pub(crate) queued: Vec<Recipient>,
    pub(crate) envelope: Option<Envelope>,
    /// As deliverd heard of it: those of the recipients who find it in the mailbox for junk.
    pub(crate) junk: Vec<String>,
    /// As relayd heard of it.
    pub(crate) quarantine: Option<Quarantine>,
    pub(crate) bytes: Vec<u8>,
}

impl Kept {
    pub(crate) fn reverse_path(&self) -> &str {
        &self.envelope.as_ref().unwrap().reverse_path
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }
}

/// What deliverd or relayd has, and what it refuses.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) kept: Mutex<Vec<Kept>>,
    pub(crate) aborted: Mutex<usize>,
    /// How many messages were opened.
    opened: Mutex<usize>,
    pub(crate) commit_refusal: Mutex<Option<Refusal>>,
    /// Nothing more fits into quarantine.
    pub(crate) is_full: Mutex<bool>,
    /// Closes the stream of a message at once, and finds nothing wrong with that.
    pub(crate) is_deaf: Mutex<bool>,
    /// Reads no more of a message than this.
    pub(crate) max_size: Mutex<Option<u64>>,
    /// How long a commit takes.
    pub(crate) commit_time: Mutex<Duration>,
    pub(crate) open_refusal: Mutex<Option<Refusal>>,
    /// Logins under way.
    pub(crate) logins: Mutex<Vec<u64>>,
    /// Transactions room is set aside for.
    pub(crate) held: Mutex<Vec<u64>>,
    /// What was asked about; who is among them is known.
    pub(crate) greeted: Mutex<Vec<Triple>>,
    /// What relayd was told for reports.
    pub(crate) noted: Mutex<Vec<Observation>>,
    /// What there is in DNS.
    pub(crate) zone: Mutex<HashMap<(String, Kind), Found>>,
    /// Names about which there is never an answer.
    pub(crate) silence: Mutex<Vec<String>>,
    /// How many questions are answered Busy before others are heard.
    pub(crate) busy: Mutex<usize>,
    /// Everybody at example.org lives here, but nobody@.
    pub(crate) is_full_of_life: Mutex<bool>,
}

/// The messages that are open on one channel.
#[derive(Default)]
pub(crate) struct Opened {
    next: Mutex<u64>,
    messages: Mutex<HashMap<u64, Open>>,
}

impl Opened {
    fn note(&self, message: MessageHandle, quarantine: Option<Quarantine>) {
        let mut messages = self.messages.lock().unwrap();
        if let Some(open) = messages.get_mut(&message.0) {
            open.quarantine = quarantine;
        }
    }
}

struct Open {
    quarantine: Option<Quarantine>,
    recipients: Vec<String>,
    junk: Vec<String>,
    queued: Vec<Recipient>,
    envelope: Option<Envelope>,
    bytes: JoinHandle<Vec<u8>>,
}

impl Store {
    fn max_size(&self) -> u64 {
        self.max_size.lock().unwrap().unwrap_or(u64::MAX)
    }

    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.kept.lock().unwrap().clone()
    }

    fn open(
        &self,
        opened: &Opened,
        envelope: Option<Envelope>,
    ) -> Result<(MessageHandle, StdUnixStream), Refusal> {
        if let Some(refusal) = self.open_refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let (ours, theirs) = stream_pair().unwrap();
        let stream = UnixStream::from_std(ours).unwrap();
        let stream = Some(stream).filter(|_| !*self.is_deaf.lock().unwrap());
        let max_size = self.max_size();
        let bytes = tokio::spawn(async move {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                let mut stream = stream.take(max_size.saturating_add(1));
                stream.read_to_end(&mut bytes).await.unwrap();
            }
            bytes
        });
        *self.opened.lock().unwrap() += 1;
        let mut next = opened.next.lock().unwrap();
        *next += 1;
        let open = Open {
            quarantine: None,
            recipients: Vec::new(),
            junk: Vec::new(),
            queued: Vec::new(),
            envelope,
            bytes,
        };
        opened.messages.lock().unwrap().insert(*next, open);
        Ok((MessageHandle(*next), theirs))
    }

    fn add(
        &self,
        opened: &Opened,
        message: MessageHandle,
        recipients: Vec<String>,
    ) -> Result<(), Refusal> {
        let mut messages = opened.messages.lock().unwrap();
        let open = messages.get_mut(&message.0).ok_or(Refusal::UnknownHandle)?;
        open.recipients.extend(recipients);
        Ok(())
    }

    fn add_queued(
        &self,
        opened: &Opened,
        message: MessageHandle,
        recipients: Vec<Recipient>,
    ) -> Result<(), Refusal> {
        let addresses = recipients.iter().map(|one| one.address.clone()).collect();
        self.add(opened, message, addresses)?;
        let mut messages = opened.messages.lock().unwrap();
        let open = messages.get_mut(&message.0).ok_or(Refusal::UnknownHandle)?;
        open.queued.extend(recipients);
        Ok(())
    }

    async fn commit(
        &self,
        opened: &Opened,
        message: MessageHandle,
        size: u64,
        head: Vec<u8>,
    ) -> Result<(), Refusal> {
        let open = opened.messages.lock().unwrap().remove(&message.0);
        let open = open.ok_or(Refusal::UnknownHandle)?;
        let bytes = open.bytes.await.unwrap();
        if bytes.len() as u64 != size && bytes.len() as u64 <= self.max_size() {
            return Err(Refusal::SizeMismatch);
        }
        let Open {
            quarantine,
            recipients,
            junk,
            queued,
            envelope,
            ..
        } = open;
        self.keep(Kept {
            recipients,
            queued,
            envelope,
            quarantine,
            junk,
            bytes: [head, bytes].concat(),
        })
        .await
    }

    async fn keep(&self, message: Kept) -> Result<(), Refusal> {
        let time = *self.commit_time.lock().unwrap();
        tokio::time::sleep(time).await;
        if message.bytes.len() as u64 > self.max_size() {
            return Err(Refusal::MessageTooLarge);
        }
        let is_doomed = message.bytes.ends_with(b"fail the commit\r\n");
        if is_doomed && *self.is_full_of_life.lock().unwrap() {
            return Err(Refusal::DiskFull);
        }
        if let Some(refusal) = self.commit_refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        self.kept.lock().unwrap().push(message);
        Ok(())
    }

    /// Says back what a login is bound to, or what the client said, and lets it in when it then says "yes".
    fn log_in(&self, request: LoginRequest) -> Result<SmtpAnswer, Refusal> {
        let mut logins = self.logins.lock().unwrap();
        let is_in_dialog = *self.is_full_of_life.lock().unwrap();
        match request {
            LoginRequest::Begin(start) => {
                assert_eq!(start.client, "127.0.0.1");
                let exchange = logins.last().map_or(1, |last| last + 1);
                logins.push(exchange);
                // The dialogs do not know what this TLS session can be bound to.
                let binding = start.binding.filter(|_| !is_in_dialog);
                let message = binding.map_or(start.message, Secret::new);
                Ok(SmtpAnswer::LoginChallenged(Challenge { exchange, message }))
            }
            LoginRequest::Continue { exchange, message } => {
                logins.retain(|one| *one != exchange);
                match message.reveal() {
                    b"more" if is_in_dialog => {
                        logins.push(exchange + 1);
                        let exchange = exchange + 1;
                        Ok(SmtpAnswer::LoginChallenged(Challenge { exchange, message }))
                    }
                    b"yes" => Ok(SmtpAnswer::Authenticated {
                        account: "alice@example.org".into(),
                    }),
                    b"garbled" => Err(Refusal::Invalid("garbled".into())),
                    _ => Err(Refusal::BadCredentials { wait: 0 }),
                }
            }
            LoginRequest::Abandon { exchange } => {
                logins.retain(|one| *one != exchange);
                Ok(SmtpAnswer::LoginAbandoned)
            }
        }
    }

    /// Waits until no login is under way.
    pub(crate) async fn sees_no_login(&self) {
        for _ in 0..500 {
            if self.logins.lock().unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("under way: {:?}", self.logins.lock().unwrap());
    }

    fn free(&self, transaction: u64) {
        self.held.lock().unwrap().retain(|one| *one != transaction);
    }

    /// Waits until nothing is set aside for any transaction.
    pub(crate) async fn sees_nothing_held(&self) {
        for _ in 0..500 {
            if self.held.lock().unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("held for {:?}", self.held.lock().unwrap());
    }

    fn abort(&self, opened: &Opened, message: MessageHandle) {
        opened.messages.lock().unwrap().remove(&message.0);
        *self.aborted.lock().unwrap() += 1;
    }

    /// Waits until so many messages are kept.
    pub(crate) async fn keeps(&self, count: usize) {
        for _ in 0..500 {
            if self.kept().len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} kept", self.kept().len());
    }

    /// Waits until so many messages were opened.
    pub(crate) async fn opens(&self, count: usize) {
        for _ in 0..500 {
            if *self.opened.lock().unwrap() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} opened", self.opened.lock().unwrap());
    }

    /// Waits until so many messages were aborted.
    pub(crate) async fn sees_aborts(&self, count: usize) {
        for _ in 0..500 {
            if *self.aborted.lock().unwrap() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} aborts", self.aborted.lock().unwrap());
    }
}

/// smtpd's ports and those behind it.
pub(crate) struct World {
    home: TempDir,
    certificate: CertificateDer<'static>,
    pub(crate) house: Arc<House>,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<Store>,
    deliverd: Option<StopSender>,
    relayd: Option<StopSender>,
    smtpd: StopSender,
    stop: Stop,
    pub(crate) ports: Vec<JoinHandle<()>>,
    /// How long a transaction may take.
    pub(crate) transaction_timeout: Duration,
    /// Proxies of the ports opened from now on.
    pub(crate) proxies: Vec<Network>,
    /// Clients of the ports opened from now on.
    pub(crate) clients: Option<Vec<Network>>,
    /// How long clients of the ports opened from now on wait for their greeting.
    pub(crate) greeting_delay: Duration,
    /// Peers of the ports opened from now on that may say XCLIENT.
    pub(crate) xclient: Xclient,
    /// Filters of the ports opened from now on; their sockets are files of these names in the world's directory.
    pub(crate) filters: Vec<Filter>,
    /// What the ports opened from now on offer instead of the usual.
    pub(crate) offer: Option<Config>,
}

/// A guard by this section `smtp.limits` who lets an address have two connections at once, and nobody have more.
fn guard(limits: &str) -> Arc<Guard> {
    let text = format!(
        r#"{{"version": 1, "hostname": "mx.example.org", "tls": {{"cert_file": "/c", "key_file": "/k"}},
            "limits": {{"connections_per_address": 2}}, "smtp": {{"limits": {limits}}}}}"#
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Guard::new(guard::Limits::new(
        &daemon::config::Config::read(file.path()).unwrap(),
    ))
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits {
            total: 0,
            per_address: 0,
        })
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with_rules(limits, Authentication::default())
    }

    /// Mail is judged by these rules.
    pub(crate) fn judging(rules: Authentication) -> Self {
        let limits = Limits {
            total: 0,
            per_address: 0,
        };
        Self::with_rules(limits, rules)
    }

    pub(crate) fn with_rules(limits: Limits, rules: Authentication) -> Self {
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["mx.example.org".to_string()]).unwrap();
        std::fs::write(home.path().join("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(
            home.path().join("tls.key"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        let ask = Ask::new(home.path().join("deliverd"), home.path().join("relayd"));
        let ask = Arc::new(ask.with_patience(Duration::from_millis(500)));
        let judge = Judge::new(Arc::clone(&ask), "mx.example.org", rules);
        let house = Arc::new(House {
            hostname: Domain::parse("mx.example.org").unwrap(),
            home: Domain::parse("example.org").unwrap(),
            ask,
            judge: Arc::new(judge),
            door: Door::new(limits),
            guard: guard("{}"),
            lists: Lists::new(&DnsLists::default()),
            greylisting: false,
            certificates: Arc::new(Certificates::load(home.path()).unwrap()),
            filter_means: Means::new(4 << 20),
        });
        let (smtpd, stop) = stop::channel();
        let mut world = Self {
            certificate: made.cert.der().clone(),
            home,
            house,
            store: Arc::default(),
            queue: Arc::default(),
            deliverd: None,
            relayd: None,
            smtpd,
            stop,
            ports: Vec::new(),
            transaction_timeout: Duration::from_secs(60),
            proxies: Vec::new(),
            clients: None,
            greeting_delay: Duration::ZERO,
            xclient: Xclient::default(),
            filters: Vec::new(),
            offer: None,
        };
        world.start_deliverd();
        world.start_relayd();
        world
    }

    /// The same with this section `smtp.limits`; an address may have two connections at once.
    pub(crate) fn guarded(limits: &str) -> Self {
        let mut world = Self::new();
        Arc::get_mut(&mut world.house).unwrap().guard = guard(limits);
        world
    }

    /// The same where mail of strangers is put off.
    pub(crate) fn greylisting() -> Self {
        let mut world = Self::new();
        Arc::get_mut(&mut world.house).unwrap().greylisting = true;
        world
    }

    /// The same with these lists, in a zone that `queue.zone` has.
    pub(crate) fn with_lists(lists: &DnsLists) -> Self {
        let mut world = Self::new();
        Arc::get_mut(&mut world.house).unwrap().lists = Lists::new(lists);
        world
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A file that lives as long as the world; returns its path.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    }

    pub(crate) fn start_deliverd(&mut self) {
        let listener = PacketListener::bind(&self.socket("deliverd")).unwrap();
        let (sender, stop) = stop::channel();
        tokio::spawn(serve(
            listener,
            Arc::new(Deliverd(Arc::clone(&self.store))),
            stop,
        ));
        self.deliverd = Some(sender);
    }

    pub(crate) fn start_relayd(&mut self) {
        let listener = PacketListener::bind(&self.socket("relayd")).unwrap();
        let (sender, stop) = stop::channel();
        tokio::spawn(serve(
            listener,
            Arc::new(Relayd {
                store: Arc::clone(&self.queue),
                filters: self.home.path().to_owned(),
            }),
            stop,
        ));
        self.relayd = Some(sender);
    }

    /// deliverd dies: its socket is gone and its channels are closed.
    pub(crate) async fn kill_deliverd(&mut self) {
        std::fs::remove_file(self.socket("deliverd")).unwrap();
        self.deliverd.take().unwrap().stop();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// The same with relayd.
    pub(crate) async fn kill_relayd(&mut self) {
        std::fs::remove_file(self.socket("relayd")).unwrap();
        self.relayd.take().unwrap().stop();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub(crate) fn stop_smtpd(&self) {
        self.smtpd.stop();
    }

    /// A client whose connection holds no more than `octets` that nobody has read.
    pub(crate) async fn narrow(&self, octets: usize) -> Client<DuplexStream> {
        let (ours, mut theirs) = tokio::io::duplex(octets);
        let address = Ipv4Addr::LOCALHOST.into();
        let (ask, home) = (Arc::clone(&self.house.ask), self.house.home.clone());
        let pass = self.house.guard.trust(address);
        let server = Server::greet(self.offer(Role::Exchange), address, None);
        let stop = self.stop.clone();
        let filters = self.filters_of(Role::Exchange);
        tokio::spawn(async move {
            let mut desk = Desk::new(ask, pass, home, 1, 100, filters);
            let end = converse(&mut theirs, server, &mut desk, &stop).await;
            assert!(matches!(end, Ok(End::Closed)), "{end:?}");
        });
        let mut client = Client::new(ours);
        client.expect("220 mx.example.org").await;
        client
    }

    fn offer(&self, role: Role) -> Arc<Config> {
        if let Some(offer) = &self.offer {
            return Arc::new(offer.clone());
        }
        Arc::new(Config {
            max_message_size: 1_000_000,
            max_recipients: 100,
            max_messages: 100,
            starttls: true,
            binary_mime: true,
            offer: Offer {
                dsn: true,
                require_tls: true,
                priority: role == Role::Submission,
                deliver_by: true,
                hold: (role == Role::Submission).then_some(HoldLimit {
                    seconds: 600,
                    until: 0,
                }),
            },
            command_timeout: Duration::from_secs(10),
            min_data_rate: 6_554,
            data_window: Duration::from_secs(10),
            transaction_timeout: self.transaction_timeout,
            ..Config::new(self.house.hostname.clone(), role)
        })
    }

    fn filters_of(&self, role: Role) -> Arc<Filters> {
        let smtp = Smtp {
            filters: self.filters.clone(),
            ..Smtp::default()
        };
        let means = self.house.filter_means.clone();
        Arc::new(Filters::of(&smtp, role, "mx.example.org".into(), means))
    }

    fn port(&self, role: Role, begins: Begins) -> Port {
        let config = self.offer(role);
        let loopback = Arc::clone(&config);
        Port {
            config,
            loopback,
            begins,
            is_local: false,
            greeting_delay: self.greeting_delay,
            clients: self.clients.clone(),
            proxies: self.proxies.clone(),
            xclient: self.xclient.clone(),
            filters: self.filters_of(role),
            house: Arc::clone(&self.house),
        }
    }

    /// Opens a Unix socket for LMTP; returns a client of it that has been greeted.
    pub(crate) async fn visit_locally(&mut self) -> Client<UnixStream> {
        let path = self.socket("lmtp");
        let listener = UnixListener::bind(&path).unwrap();
        let port = Port {
            is_local: true,
            ..self.port(Role::Delivery, Begins::Clear)
        };
        let (port, stop) = (Arc::new(port), self.stop.clone());
        let serving = daemon::port::accept_local("test", port, listener, stop);
        self.ports.push(tokio::spawn(serving));
        let mut client = Client::new(UnixStream::connect(path).await.unwrap());
        client.expect("220 mx.example.org LMTP").await;
        client
    }

    pub(crate) async fn listen(&mut self, role: Role, begins: Begins) -> SocketAddr {
        let port = self.port(role, begins);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.ports.push(tokio::spawn(daemon::port::accept(
            "test",
            Arc::new(port),
            listener,
            self.stop.clone(),
        )));
        address
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Client<TcpStream> {
        let mut client = Client::new(TcpStream::connect(address).await.unwrap());
        client.expect("220 mx.example.org").await;
        client
    }

    /// A client of port 25 that has said EHLO.
    pub(crate) async fn visit(&mut self) -> Client<TcpStream> {
        let address = self.listen(Role::Exchange, Begins::Clear).await;
        let mut client = self.connect(address).await;
        client.ask("EHLO client.example", "250").await;
        client
    }

    pub(crate) async fn secure(
        &self,
        stream: TcpStream,
    ) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
        self.secure_as(stream, &[]).await
    }

    /// The same for a client that wants to speak one of these protocols.
    pub(crate) async fn secure_as(
        &self,
        stream: TcpStream,
        protocols: &[&[u8]],
    ) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut config = self.client_config();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("mx.example.org").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Client::new(connector.connect(name, stream).await.unwrap())
    }

    /// Of a client that trusts our certificate.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}
