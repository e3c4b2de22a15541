//! The whole daemon: its ports, what they share, and how it starts and stops.

use std::sync::Arc;

use daemon::limits::{Door, Limits};
use daemon::port::{self, Begins};
use daemon::tls::Certificates;
use daemon::{Birth, StartError};

use crate::ask::Ask;
use crate::port::Port;
use crate::session::http::Routes;
use crate::session::{Desk, Patience};

/// Every port there can be, by the name under which its socket is handed over.
const PORTS: [(&str, Begins); 2] = [("api", Begins::Clear), ("apis", Begins::Tls)];

/// What all ports have in common.
#[derive(Debug)]
pub struct House {
    /// What can be asked for.
    pub routes: Routes,
    /// Who may come in.
    pub door: Arc<Door>,
    /// What TLS is done with.
    pub certificates: Certificates,
    /// How long clients may take.
    pub patience: Patience,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub async fn run(birth: Birth) -> Result<(), StartError> {
    let house = Arc::new(furnish(&birth)?);
    let open = |(name, begins)| {
        (
            name,
            Arc::new(Port {
                begins,
                house: Arc::clone(&house),
            }),
        )
    };
    let ports = PORTS.into_iter().map(open).collect();
    port::serve(birth, ports, &house.certificates).await
}

fn furnish(birth: &Birth) -> Result<House, StartError> {
    let config = &birth.config;
    let patience = Patience::default();
    let desk = Desk {
        ask: Ask::new(config.ipc_socket("deliverd", "apid")),
        lockout: config.limits.auth_lockout_seconds,
        body: patience.body,
    };
    let total = config.exchange_api.max_connections.value();
    Ok(House {
        routes: Routes::new(desk),
        door: Door::new(Limits {
            total: usize::try_from(total).unwrap_or(usize::MAX),
            per_address: usize::try_from(config.limits.connections_per_address)
                .unwrap_or(usize::MAX),
        }),
        certificates: Certificates::load(birth.credentials()?).map_err(StartError::config)?,
        patience,
    })
}
