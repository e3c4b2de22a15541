//! Network ports: connections are taken, counted and given a task each; the same for every protocol.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proxy::Header;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tracing::{Instrument, error, info, info_span, warn};

use crate::limits::{Crowded, Door};
use crate::tls::Certificates;
use crate::{Birth, StartError, Stop, session_id};

/// A TLS handshake takes a few round trips; who needs longer is not a client.
pub const HANDSHAKE: Duration = Duration::from_mins(1);
/// How long to wait before the next accept when there are no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a proxy may take to say for whom it speaks.
const PROXY_HEADER: Duration = Duration::from_secs(10);
/// Read at once of a proxy's header at most.
const PROXY_READ: usize = 512;
/// How long the word that there is no room may take to be sent.
const TURN_AWAY: Duration = Duration::from_secs(5);
/// How long sessions may go on once the daemon is to stop; less than the supervisor waits.
const GRACE: Duration = Duration::from_secs(20);

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// In clear text.
    Clear,
    /// With a TLS handshake (RFC 8314).
    Tls,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address, `127.0.0.1` on a Unix socket; an IPv4 address is never shown as a mapped IPv6 one.
    pub address: IpAddr,
    /// The id of its session, for the logs of all daemons.
    pub session: u64,
}

/// What a protocol does with the connections of one of its ports.
pub trait Protocol: Debug + Send + Sync + 'static {
    /// Who may come in; shared by all ports of a daemon.
    fn door(&self) -> &Arc<Door>;

    /// Serves one connection to its end. `begins` tells whether a TLS handshake is due first.
    fn receive(
        self: Arc<Self>,
        stream: TcpStream,
        client: Client,
        stop: Stop,
    ) -> impl Future<Output = ()> + Send;

    /// Whether connections of `peer` begin with a PROXY header, because it is a proxy that the configuration lists.
    fn is_proxy(&self, peer: IpAddr) -> bool {
        let _ = peer;
        false
    }

    /// Whether its listeners are Unix sockets, for programs on this machine.
    fn is_local(&self) -> bool {
        false
    }

    /// Serves one connection of a program on this machine; only where [`Protocol::is_local`].
    fn receive_local(
        self: Arc<Self>,
        stream: UnixStream,
        client: Client,
        stop: Stop,
    ) -> impl Future<Output = ()> + Send {
        let _ = (client, stop);
        async move { drop(stream) }
    }

    /// What a client is told that there is no room for; empty to say nothing, as where TLS is due.
    fn regret(&self, crowded: Crowded) -> Vec<u8>;
}

/// Serves the listeners handed over under each name until the daemon is to stop, and reads the certificates again when asked.
///
/// # Errors
/// [`StartError`] when no listener was handed over, or one cannot be used.
pub async fn serve<P: Protocol>(
    mut birth: Birth,
    ports: Vec<(&'static str, Arc<P>)>,
    certificates: &Certificates,
) -> Result<(), StartError> {
    let names: Vec<_> = ports.iter().map(|(name, _)| *name).collect();
    let mut open = JoinSet::new();
    for (name, protocol) in ports {
        if protocol.is_local() {
            for listener in birth.local_listeners(name)? {
                let (protocol, stop) = (Arc::clone(&protocol), birth.stop.clone());
                open.spawn(accept_local(name, protocol, listener, stop));
            }
            continue;
        }
        for listener in birth.tcp_listeners(name)? {
            open.spawn(accept(
                name,
                Arc::clone(&protocol),
                listener,
                birth.stop.clone(),
            ));
        }
    }
    if open.is_empty() {
        return Err(StartError::Config(format!(
            "no socket named {} was handed over; set a port for one of them in the configuration",
            names.join(" or ")
        )));
    }
    for name in birth.inherited.rest() {
        warn!(name, "a socket was handed over that nobody serves");
    }
    birth.ready();
    keep(certificates, birth.stop).await;
    close(open).await;
    Ok(())
}

/// Makes the TLS handshake with a client, who has the time `within`; usually [`HANDSHAKE`].
///
/// # Errors
/// When the client cannot, will not, or takes too long.
pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    certificates: &Certificates,
    stream: S,
    within: Duration,
) -> io::Result<Box<TlsStream<S>>> {
    shake_hands(certificates.server_config(), stream, within).await
}

/// The same for a client that may show a certificate, see [`Certificates::asking_config`].
///
/// # Errors
/// As [`secure`].
pub async fn secure_asking<S: AsyncRead + AsyncWrite + Unpin>(
    certificates: &Certificates,
    stream: S,
    within: Duration,
) -> io::Result<Box<TlsStream<S>>> {
    shake_hands(certificates.asking_config(), stream, within).await
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ServerConfig>,
    stream: S,
    within: Duration,
) -> io::Result<Box<TlsStream<S>>> {
    let acceptor = TlsAcceptor::from(config);
    // Boxed, so that a session does not carry the handshake's state for all its life.
    let handshake = Box::pin(timeout(within, acceptor.accept(stream)));
    let stream = handshake
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    stream.map(Box::new)
}

/// Takes connections of one listener until `stop`, then waits for those that are in the middle of something.
pub async fn accept<P: Protocol>(
    name: &'static str,
    protocol: Arc<P>,
    listener: TcpListener,
    stop: Stop,
) {
    let poll = move |context: &mut Context<'_>| listener.poll_accept(context);
    let mut visits = Visits {
        name,
        protocol,
        stop,
        open: JoinSet::new(),
    };
    visits.take(poll, Visits::admit).await;
}

/// The same for a listener of this machine.
pub async fn accept_local<P: Protocol>(
    name: &'static str,
    protocol: Arc<P>,
    listener: UnixListener,
    stop: Stop,
) {
    let poll = move |context: &mut Context<'_>| listener.poll_accept(context);
    let mut visits = Visits {
        name,
        protocol,
        stop,
        open: JoinSet::new(),
    };
    visits.take(poll, Visits::admit_local).await;
}

/// The visits of one listener's clients.
struct Visits<P> {
    name: &'static str,
    protocol: Arc<P>,
    stop: Stop,
    open: JoinSet<()>,
}

impl<P: Protocol> Visits<P> {
    async fn take<S, A>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, A)>>,
        admit: fn(&mut Self, S, A),
    ) {
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                accepted = poll_fn(&mut poll) => match accepted {
                    Ok((stream, peer)) => admit(self, stream, peer),
                    // Descriptors or memory are short; that passes, and the clients wait in the backlog meanwhile.
                    Err(error) => {
                        warn!(port = self.name, %error, "cannot accept a connection");
                        sleep(BACK_OFF).await;
                    }
                },
                Some(ended) = self.open.join_next() => report(ended),
                () = stop.requested() => break,
            }
        }
        drop(poll);
        while let Some(ended) = self.open.join_next().await {
            report(ended);
        }
    }

    fn admit(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        let peer = peer.ip().to_canonical();
        // Answers are written whole, so waiting for more to send only delays them; without the option they are merely late.
        let _ = stream.set_nodelay(true);
        let (name, protocol, stop) = (self.name, Arc::clone(&self.protocol), self.stop.clone());
        if !protocol.is_proxy(peer) {
            let visit = welcome(name, &protocol, stream, peer, &stop, P::receive);
            self.open.spawn(visit);
            return;
        }
        self.open.spawn(async move {
            let header = tokio::select! {
                header = timeout(PROXY_HEADER, read_header(&mut stream)) => {
                    header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }
                () = stop.requested() => return,
            };
            let client = match header {
                Ok(Header::For(client)) => client.ip().to_canonical(),
                Ok(Header::Direct) => peer,
                // Nothing is said: whoever is behind the proxy must not learn more than that it does not work.
                Err(error) => return warn!(port = name, proxy = %peer, %error, "dropped"),
            };
            welcome(name, &protocol, stream, client, &stop, P::receive).await;
        });
    }

    // Who may connect is decided by the owner and mode of the socket file.
    fn admit_local(&mut self, stream: UnixStream, _: unix::SocketAddr) {
        let (name, here) = (self.name, Ipv4Addr::LOCALHOST.into());
        let visit = welcome(
            name,
            &self.protocol,
            stream,
            here,
            &self.stop,
            P::receive_local,
        );
        self.open.spawn(visit);
    }
}

/// Reads a PROXY header and nothing behind it.
async fn read_header(stream: &mut TcpStream) -> io::Result<Header> {
    let mut parser = proxy::Parser::new();
    let mut piece = [0; PROXY_READ];
    loop {
        let wanted = parser.wants().min(PROXY_READ);
        let room = piece.get_mut(..wanted).unwrap_or_default();
        let read = stream.read_exact(room).await?;
        let fed = parser.feed(piece.get(..read).unwrap_or_default());
        let (_, header) = fed.map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// The visit of a client: it counts from now on, and for as long as it lasts.
fn welcome<P, S, R, V>(
    name: &'static str,
    protocol: &Arc<P>,
    mut stream: S,
    address: IpAddr,
    stop: &Stop,
    receive: R,
) -> impl Future<Output = ()> + Send + use<P, S, R, V>
where
    P: Protocol,
    S: AsyncWrite + Unpin + Send,
    R: FnOnce(Arc<P>, S, Client, Stop) -> V + Send,
    V: Future<Output = ()> + Send,
{
    let admitted = protocol.door().admit(address);
    let (protocol, stop) = (Arc::clone(protocol), stop.clone());
    let client = Client {
        address,
        session: session_id::next(),
    };
    async move {
        let permit = match admitted {
            Ok(permit) => permit,
            Err(crowded) => {
                warn!(port = name, client = %address, ?crowded, "turned away");
                let words = protocol.regret(crowded);
                // A client that is gone need not hear it.
                let _ = timeout(TURN_AWAY, stream.write_all(&words)).await;
                return;
            }
        };
        let span = info_span!("session", session = format!("{:016x}", client.session), port = name, client = %address);
        receive(protocol, stream, client, stop)
            .instrument(span)
            .await;
        drop(permit);
    }
}

// A panic ends one connection and nothing else.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "bug: a session panicked");
    }
}

/// Reads certificates again when asked, until it is time to stop.
async fn keep(certificates: &Certificates, mut stop: Stop) {
    let stopping = stop.clone();
    loop {
        tokio::select! {
            () = stop.reload_requested() => match certificates.reload() {
                Ok(()) => info!("certificates reloaded"),
                Err(error) => error!(%error, "the old certificates stay in use"),
            },
            () = stopping.requested() => return,
        }
    }
}

async fn close(mut open: JoinSet<()>) {
    info!("stopping");
    let ended = timeout(GRACE, async {
        while let Some(ended) = open.join_next().await {
            if let Err(error) = ended {
                error!(%error, "bug: a port panicked");
            }
        }
    });
    if ended.await.is_err() {
        warn!("sessions that took too long to end are cut off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::stop;
    use tokio::io::AsyncReadExt;

    /// Panics when the client says `p`, tells its address when it says `a`, echoes everything else.
    #[derive(Debug)]
    struct Echo {
        door: Arc<Door>,
        proxy: Option<IpAddr>,
    }

    impl Protocol for Echo {
        fn door(&self) -> &Arc<Door> {
            &self.door
        }

        async fn receive(self: Arc<Self>, mut stream: TcpStream, client: Client, _: Stop) {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                assert_ne!(byte[0], b'p', "as asked");
                let told = client.address.to_string();
                let answer = if byte[0] == b'a' {
                    told.as_bytes()
                } else {
                    &byte
                };
                stream.write_all(answer).await.unwrap();
            }
        }

        fn is_proxy(&self, peer: IpAddr) -> bool {
            self.proxy == Some(peer)
        }

        fn regret(&self, _: Crowded) -> Vec<u8> {
            b"full".to_vec()
        }
    }

    async fn open(limits: Limits) -> (SocketAddr, stop::StopSender) {
        open_behind(None, limits).await
    }

    async fn open_behind(proxy: Option<IpAddr>, limits: Limits) -> (SocketAddr, stop::StopSender) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, stop) = stop::channel();
        let door = Door::new(limits);
        let echo = Arc::new(Echo { door, proxy });
        tokio::spawn(accept("echo", echo, listener, stop));
        (address, sender)
    }

    async fn echo(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_all(&[byte]).await.ok()?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await.ok().map(|_| answer[0])
    }

    #[tokio::test]
    async fn a_panic_ends_one_session_and_not_the_port() {
        let (address, _sender) = open(Limits {
            total: 0,
            per_address: 0,
        })
        .await;
        let mut other = TcpStream::connect(address).await.unwrap();
        assert_eq!(echo(&mut other, b'x').await, Some(b'x'));
        let mut doomed = TcpStream::connect(address).await.unwrap();
        assert_eq!(echo(&mut doomed, b'p').await, None);
        assert_eq!(echo(&mut other, b'y').await, Some(b'y'));
        let mut late = TcpStream::connect(address).await.unwrap();
        assert_eq!(echo(&mut late, b'z').await, Some(b'z'));
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so_and_a_left_one_makes_room() {
        let (address, _sender) = open(Limits {
            total: 0,
            per_address: 1,
        })
        .await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert_eq!(echo(&mut first, b'x').await, Some(b'x'));
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut words = String::new();
        second.read_to_string(&mut words).await.unwrap();
        assert_eq!(words, "full");
        drop(first);
        // The first one's task notices that its client left.
        for _ in 0..100 {
            let mut third = TcpStream::connect(address).await.unwrap();
            if echo(&mut third, b'x').await == Some(b'x') {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no room was made");
    }

    #[tokio::test]
    async fn without_descriptors_a_port_waits_before_it_tries_again_and_goes_on() {
        const EMFILE: i32 = 24;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (_sender, stop) = stop::channel();
        let (door, proxy) = (Door::new(NO_LIMITS), None);
        let mut visits = Visits {
            name: "echo",
            protocol: Arc::new(Echo { door, proxy }),
            stop,
            open: JoinSet::new(),
        };
        let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
        let mut left = 3;
        let poll = move |context: &mut Context<'_>| {
            if left == 0 {
                return listener.poll_accept(context);
            }
            left -= 1;
            failed.send(std::time::Instant::now()).unwrap();
            Poll::Ready(Err(io::Error::from_raw_os_error(EMFILE)))
        };
        tokio::spawn(async move { visits.take(poll, Visits::admit).await });
        assert_eq!(echo(&mut client, b'x').await, Some(b'x'));
        let mut before = failures.recv().await.unwrap();
        for _ in 0..2 {
            let next = failures.recv().await.unwrap();
            assert!(next - before >= BACK_OFF, "it does not wait");
            before = next;
        }
    }

    const NO_LIMITS: Limits = Limits {
        total: 0,
        per_address: 0,
    };
    const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 25\r\n";

    /// What is said until the connection is closed, or three octets more than an address has at most.
    async fn hear(stream: &mut TcpStream, most: usize) -> String {
        let mut said = Vec::new();
        let mut stream = stream.take(most as u64);
        // A reset instead of an end is an end, too.
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8(said).unwrap()
    }

    #[tokio::test]
    async fn a_listed_proxy_says_who_the_client_is() {
        let (address, _sender) = open_behind("127.0.0.1".parse().ok(), NO_LIMITS).await;
        let block = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10\xc0\x00\x02\x07\x7f\x00\x00\x01\xc3\x50\x00\x19\x04\x00\x01x";
        for header in [LINE, block] {
            let mut at_once = TcpStream::connect(address).await.unwrap();
            at_once.write_all(&[header, b"a"].concat()).await.unwrap();
            assert_eq!(hear(&mut at_once, 9).await, "192.0.2.7");
            let mut slowly = TcpStream::connect(address).await.unwrap();
            slowly.set_nodelay(true).unwrap();
            for octet in [header, b"a"].concat() {
                slowly.write_all(&[octet]).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(hear(&mut slowly, 9).await, "192.0.2.7");
        }
        let mut health = TcpStream::connect(address).await.unwrap();
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00a";
        health.write_all(local).await.unwrap();
        assert_eq!(hear(&mut health, 9).await, "127.0.0.1");
    }

    #[tokio::test]
    async fn a_listed_proxy_that_says_nothing_of_the_kind_is_dropped() {
        let (address, _sender) = open_behind("127.0.0.1".parse().ok(), NO_LIMITS).await;
        for start in [
            &b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..],
            b"PROXY TCP4 x\r\naaaaaaaaaaaaa",
            b"PROXY TC",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(start).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(hear(&mut stream, 100).await, "", "{start:?}");
        }
    }

    #[tokio::test]
    async fn from_others_the_header_is_just_octets() {
        let (address, _sender) = open_behind("127.0.0.2".parse().ok(), NO_LIMITS).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PROXY a").await.unwrap();
        assert_eq!(hear(&mut stream, 15).await, "PROXY 127.0.0.1");
    }

    #[tokio::test]
    async fn behind_a_proxy_each_client_has_its_own_limit() {
        let limits = Limits {
            total: 0,
            per_address: 1,
        };
        let (address, _sender) = open_behind("127.0.0.1".parse().ok(), limits).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(&[LINE, b"a"].concat()).await.unwrap();
        assert_eq!(hear(&mut first, 9).await, "192.0.2.7");
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(LINE).await.unwrap();
        assert_eq!(hear(&mut second, 100).await, "full");
        let mut other = TcpStream::connect(address).await.unwrap();
        other
            .write_all(b"PROXY TCP4 192.0.2.8 127.0.0.1 50000 25\r\na")
            .await
            .unwrap();
        assert_eq!(hear(&mut other, 9).await, "192.0.2.8");
    }
}
