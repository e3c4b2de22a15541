//! The whole daemon: its ports, what they share, and how it starts and stops.

use std::sync::Arc;
use std::time::Duration;

use daemon::config::Config;
use daemon::limits::{Door, Limits};
use daemon::port::{self, Begins};
use daemon::tls::Certificates;
use daemon::{Birth, StartError};
use mail::address::Domain;
use smtp::server::{self, Role};

use crate::ask::Ask;
use crate::port::Port;

/// Every port there can be, by the name under which its socket is handed over.
const PORTS: [(&str, Role, Begins); 3] = [
    ("smtp", Role::Exchange, Begins::Clear),
    ("submission", Role::Submission, Begins::Clear),
    ("submissions", Role::Submission, Begins::Tls),
];

// RFC 5321 §4.5.3.2.7: a server waits at least five minutes for a command.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(5);
/// For each 64 KiB of a message.
const DATA_TIMEOUT: Duration = Duration::from_mins(5);

/// What all ports have in common.
#[derive(Debug)]
pub struct House {
    /// Our name.
    pub hostname: Domain,
    /// The domain of a bare `<postmaster>`.
    pub home: Domain,
    /// Whom to ask.
    pub ask: Arc<Ask>,
    /// Who may come in.
    pub door: Arc<Door>,
    /// What TLS is done with.
    pub certificates: Arc<Certificates>,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub async fn run(birth: Birth) -> Result<(), StartError> {
    let house = Arc::new(furnish(&birth)?);
    let open = |(name, role, begins)| (name, Arc::new(open(role, begins, &birth.config, &house)));
    let ports = PORTS.into_iter().map(open).collect();
    port::serve(birth, ports, &house.certificates).await
}

fn furnish(birth: &Birth) -> Result<House, StartError> {
    let config = &birth.config;
    let hostname = domain(config.hostname.as_str())?;
    let home = match config.domains.first() {
        Some(first) => domain(first.as_str())?,
        None => hostname.clone(),
    };
    let socket = |answerer| config.ipc_socket(answerer, "smtpd");
    let limits = Limits {
        total: count(config.smtp.max_connections.value()),
        per_address: count(u64::from(config.limits.connections_per_address)),
    };
    let certificates = Certificates::load(birth.credentials()?).map_err(StartError::config)?;
    Ok(House {
        hostname,
        home,
        ask: Arc::new(Ask::new(socket("deliverd"), socket("relayd"))),
        door: Door::new(limits),
        certificates: Arc::new(certificates),
    })
}

fn open(role: Role, begins: Begins, config: &Config, house: &Arc<House>) -> Port {
    let offer = server::Config {
        hostname: house.hostname.clone(),
        role,
        max_message_size: config.smtp.max_message_size.value(),
        max_recipients: count(config.smtp.max_recipients.value()),
        max_messages: count(config.smtp.max_messages_per_connection.value()),
        max_text_line: None,
        starttls: true,
        cleartext_auth: false,
        command_timeout: COMMAND_TIMEOUT,
        data_timeout: DATA_TIMEOUT,
    };
    let cleartext_auth = config.smtp.cleartext_auth_on_loopback;
    let loopback = server::Config {
        cleartext_auth,
        ..offer.clone()
    };
    let (config, loopback) = (Arc::new(offer), Arc::new(loopback));
    Port {
        config,
        loopback,
        begins,
        house: Arc::clone(house),
    }
}

fn domain(text: &str) -> Result<Domain, StartError> {
    // A host without a name calls itself by its address literal (RFC 5321 §4.1.3).
    if let Ok(address) = text.parse() {
        return Ok(Domain::from_ip(address));
    }
    Domain::parse(text).map_err(|error| StartError::Config(format!("\"{text}\": {error}")))
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
