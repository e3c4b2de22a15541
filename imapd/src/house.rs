//! The whole daemon: its ports, what they share, and how it starts and stops.

use std::sync::Arc;

use daemon::config::ServerMetadata;
use daemon::limits::{self, Door};
use daemon::port::{self, Begins};
use daemon::tls::Certificates;
use daemon::{Birth, StartError};
use imap::capability::Limits;

use crate::ask::Ask;
use crate::budget::{Budget, Room};
use crate::port::Port;

/// Every port there can be, by the name under which its socket is handed over.
const PORTS: [(&str, Begins); 2] = [("imap", Begins::Clear), ("imaps", Begins::Tls)];

/// Memory for messages whose structure is looked at, in all sessions together.
const BUDGET_KIB: u32 = 128 * 1024;
/// Memory for what SORT and THREAD compare, in all sessions together.
const SORTING_KIB: u32 = 256 * 1024;

/// Memory for what searches found that is kept up to date, in all sessions together.
const CONTEXTS_KIB: u32 = 128 * 1024;

/// What all sessions have in common.
#[derive(Debug)]
pub struct House {
    /// Our name.
    pub hostname: String,
    /// Whether clients on this machine may log in without TLS.
    pub cleartext_on_loopback: bool,
    /// Whom to ask.
    pub ask: Ask,
    /// What clients can learn about the server.
    pub metadata: ServerMetadata,
    /// Who may come in.
    pub door: Arc<Door>,
    /// What TLS is done with.
    pub certificates: Certificates,
    /// Bytes of the largest message that is taken.
    pub append_limit: u32,
    /// How many messages a command is about.
    pub limits: Limits,
    /// Memory for messages.
    pub budget: Budget,
    /// Memory for what is compared. Whoever has some of it may wait for some of `budget`, nobody the other way round.
    pub sorting: Budget,
    /// Memory for what searches found that is kept up to date.
    pub contexts: Room,
}

impl House {
    /// A house with these things in it.
    #[must_use]
    pub fn new(
        hostname: String,
        cleartext_on_loopback: bool,
        ask: Ask,
        door: limits::Limits,
        certificates: Certificates,
        append_limit: u32,
    ) -> Self {
        Self {
            hostname,
            cleartext_on_loopback,
            ask,
            metadata: ServerMetadata::default(),
            door: Door::new(door),
            certificates,
            append_limit,
            limits: Limits::default(),
            budget: Budget::new(BUDGET_KIB),
            sorting: Budget::new(SORTING_KIB),
            contexts: Room::new(CONTEXTS_KIB),
        }
    }
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
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let door = limits::Limits {
        total: count(config.imap.max_connections.value()),
        per_address: count(u64::from(config.limits.connections_per_address)),
    };
    let certificates = Certificates::load(birth.credentials()?).map_err(StartError::config)?;
    let house = House::new(
        config.hostname.as_str().to_owned(),
        config.imap.cleartext_login_on_loopback,
        Ask::new(config.ipc_socket("deliverd", "imapd")),
        door,
        certificates,
        // RFC 7889 §5: a number of IMAP, which has 32 bits.
        u32::try_from(config.smtp.max_kept_size()).unwrap_or(u32::MAX),
    );
    Ok(House {
        limits: Limits {
            any: config.imap.limits.of_any(),
            saving: config.imap.limits.of_saving(),
        },
        metadata: config.imap.metadata.clone(),
        ..house
    })
}
