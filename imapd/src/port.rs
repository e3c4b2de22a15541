//! What a port does with a connection: greeting, TLS where it is due, conversation.

use std::io;
use std::sync::Arc;

use daemon::Stop;
use daemon::limits::{Crowded, Door};
use daemon::port::{self, Begins, Client, Protocol};
use imap::response::{self, Code, Kind};
use tokio::net::TcpStream;
use tracing::debug;

use crate::house::House;
use crate::session::{End, Session};
use crate::stream::Stream;

/// One kind of port.
#[derive(Debug, Clone)]
pub struct Port {
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
        debug!("connected");
        if let Err(error) = self.talk(stream, client, stop).await {
            debug!(%error, "connection lost");
        }
    }

    fn regret(&self, crowded: Crowded) -> Vec<u8> {
        let mut line = Vec::new();
        // Nothing can be said in clear text where TLS is due.
        if self.begins == Begins::Clear {
            let text = match crowded {
                Crowded::Total => "too many connections, try again later",
                Crowded::Address => "too many connections from your address, close some",
            };
            response::untagged(Kind::Bye, Some(&Code::Limit), text, &mut line);
        }
        line
    }
}

impl Port {
    async fn talk(&self, stream: TcpStream, client: Client, stop: Stop) -> io::Result<()> {
        // Handshakes are boxed: the session that follows is what there are many of.
        let stream = match self.begins {
            Begins::Clear => Stream::Clear(stream),
            Begins::Tls => Box::pin(self.secure(stream)).await?,
        };
        let mut session = Session::new(stream, Arc::clone(&self.house), client, stop.clone());
        session.greet();
        match session.run().await {
            End::Closed => Ok(()),
            // Nothing that was heard before TLS survives: neither pipelined commands nor their state.
            End::StartTls(Stream::Clear(stream)) => {
                let stream = Box::pin(self.secure(stream)).await?;
                let house = Arc::clone(&self.house);
                Box::pin(Session::new(stream, house, client, stop).run()).await;
                Ok(())
            }
            // The session refuses STARTTLS under TLS.
            End::StartTls(Stream::Tls(_)) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        port::secure_asking(&self.house.certificates, stream, port::HANDSHAKE)
            .await
            .map(Stream::Tls)
    }
}
