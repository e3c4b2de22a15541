//! What a port does with a connection: TLS where it is due, and clear text only for this machine.

use std::net::IpAddr;
use std::sync::Arc;

use daemon::Stop;
use daemon::limits::{Crowded, Door};
use daemon::port::{self, Begins, Client, Protocol};
use tokio::net::TcpStream;
use tracing::{debug, warn};

use crate::house::House;
use crate::session::{Visitor, converse};

/// One kind of port.
#[derive(Debug, Clone)]
pub struct Port {
    /// How a connection begins; clear text is for clients on this machine.
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
        let visitor = Visitor {
            address: client.address,
            session: client.session,
        };
        let House {
            routes,
            patience,
            certificates,
            ..
        } = &*self.house;
        match self.begins {
            Begins::Clear if is_on_this_machine(client.address) => {
                converse(stream, visitor, routes.open.clone(), patience, &stop).await;
            }
            Begins::Clear => {
                warn!("refused: clear text from another machine");
                converse(stream, visitor, routes.closed.clone(), patience, &stop).await;
            }
            Begins::Tls => match port::secure(certificates, stream, patience.handshake).await {
                Ok(stream) => converse(stream, visitor, routes.open.clone(), patience, &stop).await,
                Err(error) => debug!(%error, "TLS handshake failed"),
            },
        }
    }

    fn regret(&self, crowded: Crowded) -> Vec<u8> {
        // Nothing can be said in clear text where TLS is due.
        if self.begins == Begins::Tls {
            return Vec::new();
        }
        let error = match crowded {
            Crowded::Total => "too many connections, try again later",
            Crowded::Address => "too many connections from your address, close some",
        };
        let body = format!("{{\"error\":\"{error}\"}}");
        let response = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Retry-After: 5\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        response.into_bytes()
    }
}

fn is_on_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_on_this_machine() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("2001:db8::1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(
                is_on_this_machine(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }
}
