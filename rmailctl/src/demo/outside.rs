//! The demo's outside world: a domain in the DNS and a server that takes its mail.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mail::address::Domain;
use smtp::date::Timestamp;
use smtp::reply::Reply;
use smtp::server::{Action, Answer, Config, Input, Question, Role, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::dns;
use crate::Error;

/// More than any message of the demo.
const LARGEST: u64 = 1 << 20;

/// The world outside.
pub(super) struct Outside {
    pub(super) dns: SocketAddr,
    pub(super) smtp: SocketAddr,
    arrived: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
}

impl Outside {
    pub(super) async fn open() -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let smtp = listener.local_addr()?;
        let (sender, arrived) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(converse(stream, peer, sender.clone()));
            }
        });
        Ok(Self {
            dns: dns::open().await?,
            smtp,
            arrived: tokio::sync::Mutex::new(arrived),
        })
    }

    /// The next message that arrives.
    pub(super) async fn message(&self) -> Option<Vec<u8>> {
        self.arrived.lock().await.recv().await
    }
}

fn config() -> Option<Arc<Config>> {
    let hostname = Domain::parse("mail.outside.test").ok()?;
    Some(Arc::new(Config {
        max_message_size: LARGEST,
        ..Config::new(hostname, Role::Exchange)
    }))
}

/// Serves one connection with the SMTP server machine; takes everything.
async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    arrived: mpsc::UnboundedSender<Vec<u8>>,
) -> Option<()> {
    let mut server = Server::greet(config()?, peer.ip(), None);
    let mut body = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(action) = server.next() {
            match action {
                Action::Send(bytes) => stream.write_all(&bytes).await.ok()?,
                Action::Ask(question) => {
                    server.feed(Input::Answer(answer(&question, &mut body, &arrived)))
                }
                Action::Body(bytes) => body.extend(bytes),
                Action::Abort => body.clear(),
                Action::Deadline(_) | Action::Pause(_) => {}
                Action::StartTls | Action::Close => return Some(()),
            }
        }
        match stream.read(&mut buffer).await.ok()? {
            0 => server.feed(Input::End),
            length => server.feed(Input::Bytes(&buffer[..length])),
        }
    }
}

fn answer(
    question: &Question,
    body: &mut Vec<u8>,
    arrived: &mpsc::UnboundedSender<Vec<u8>>,
) -> Answer {
    match question {
        Question::Authenticate(_)
        | Question::BeginLogin { .. }
        | Question::ContinueLogin(_)
        | Question::Client(_) => Answer::Denied,
        Question::Sender(_) | Question::Recipient(_) => Answer::Granted,
        Question::Open(_) => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Answer::Opened {
                id: "demo".into(),
                now: Timestamp(now.as_secs()),
            }
        }
        Question::Commit(_) | Question::CommitEach(_) => match arrived.send(std::mem::take(body)) {
            Ok(()) => Answer::Granted,
            Err(_) => Answer::Refused(Reply::bare(421, "the demo is over")),
        },
    }
}
