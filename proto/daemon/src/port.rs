//! Network ports: connections are taken, counted and given a task each; the same for every protocol.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{Instrument, error, info, info_span, warn};

use crate::limits::{Crowded, Door};
use crate::tls::Certificates;
use crate::{Birth, StartError, Stop, session_id};

/// A TLS handshake takes a few round trips; who needs longer is not a client.
pub const HANDSHAKE: Duration = Duration::from_mins(1);
/// How long to wait before the next accept when there are no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(100);
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
    /// Its address; an IPv4 address is never shown as a mapped IPv6 one.
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
pub async fn secure(
    certificates: &Certificates,
    stream: TcpStream,
    within: Duration,
) -> io::Result<Box<TlsStream<TcpStream>>> {
    let acceptor = TlsAcceptor::from(certificates.server_config());
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
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(name, &protocol, &mut sessions, stream, peer, &stop),
                // Descriptors or memory are short; that passes, and the clients wait in the backlog meanwhile.
                Err(error) => {
                    warn!(port = name, %error, "cannot accept a connection");
                    sleep(BACK_OFF).await;
                }
            },
            Some(ended) = sessions.join_next() => report(ended),
            () = stop.requested() => break,
        }
    }
    drop(listener);
    while let Some(ended) = sessions.join_next().await {
        report(ended);
    }
}

fn admit<P: Protocol>(
    name: &'static str,
    protocol: &Arc<P>,
    sessions: &mut JoinSet<()>,
    mut stream: TcpStream,
    peer: SocketAddr,
    stop: &Stop,
) {
    let address = peer.ip().to_canonical();
    let permit = match protocol.door().admit(address) {
        Ok(permit) => permit,
        Err(crowded) => {
            warn!(port = name, client = %address, ?crowded, "turned away");
            let words = protocol.regret(crowded);
            sessions.spawn(async move {
                // A client that is gone need not hear it.
                let _ = timeout(TURN_AWAY, stream.write_all(&words)).await;
            });
            return;
        }
    };
    // Answers are written whole, so waiting for more to send only delays them; without the option they are merely late.
    let _ = stream.set_nodelay(true);
    let client = Client {
        address,
        session: session_id::next(),
    };
    let span = info_span!("session", session = format!("{:016x}", client.session), port = name, client = %address);
    let visit = Arc::clone(protocol).receive(stream, client, stop.clone());
    let counted = async move {
        visit.await;
        drop(permit);
    };
    sessions.spawn(counted.instrument(span));
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

    /// Panics when the client says `p`, echoes everything else.
    #[derive(Debug)]
    struct Echo(Arc<Door>);

    impl Protocol for Echo {
        fn door(&self) -> &Arc<Door> {
            &self.0
        }

        async fn receive(self: Arc<Self>, mut stream: TcpStream, _: Client, _: Stop) {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                assert_ne!(byte[0], b'p', "as asked");
                stream.write_all(&byte).await.unwrap();
            }
        }

        fn regret(&self, _: Crowded) -> Vec<u8> {
            b"full".to_vec()
        }
    }

    async fn open(limits: Limits) -> (SocketAddr, stop::StopSender) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, stop) = stop::channel();
        tokio::spawn(accept(
            "echo",
            Arc::new(Echo(Door::new(limits))),
            listener,
            stop,
        ));
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
}
