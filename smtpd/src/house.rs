//! The whole daemon: its ports, what they share, and how it starts and stops.

use std::sync::Arc;
use std::time::Duration;

use daemon::channel::serve;
use daemon::config::{Config, Network, SaslMechanism, Smtp, StrayLineEnds, Xclient};
use daemon::limits::{Door, Limits};
use daemon::port::{self, Begins};
use daemon::tls::Certificates;
use daemon::{Birth, StartError};
use mail::address::Domain;
use smtp::auth::Mechanism;
use smtp::data::Stray;
use smtp::hold::HoldLimit;
use smtp::server::{self, HeaderLimits, Offer, Proxying, Role};

use crate::ask::Ask;
use crate::explain::{Explainer, Listener};
use crate::filter::{Filters, Means};
use crate::guard::{self, Guard};
use crate::judge::Judge;
use crate::lists::Lists;
use crate::port::Port;

/// A kind of port.
struct Kind {
    /// The name under which its socket is handed over.
    name: &'static str,
    /// The key that switches it on.
    switch: &'static str,
    is_on: fn(&Smtp) -> bool,
    role: Role,
    begins: Begins,
    /// Its listeners are Unix sockets.
    is_local: bool,
    /// The proxies that the configuration lists for it.
    proxies: fn(&Smtp) -> &[Network],
}

const PORTS: [Kind; 5] = [
    Kind {
        name: "smtp",
        switch: "smtp.port",
        is_on: |smtp| smtp.port != 0,
        role: Role::Exchange,
        begins: Begins::Clear,
        is_local: false,
        proxies: |smtp| &smtp.proxies,
    },
    Kind {
        name: "submission",
        switch: "smtp.submission_port",
        is_on: |smtp| smtp.submission_port != 0,
        role: Role::Submission,
        begins: Begins::Clear,
        is_local: false,
        proxies: |smtp| &smtp.submission_proxies,
    },
    Kind {
        name: "submissions",
        switch: "smtp.smtps_port",
        is_on: |smtp| smtp.smtps_port != 0,
        role: Role::Submission,
        begins: Begins::Tls,
        is_local: false,
        proxies: |smtp| &smtp.smtps_proxies,
    },
    Kind {
        name: "lmtp",
        switch: "smtp.lmtp_port",
        is_on: |smtp| smtp.lmtp_port != 0,
        role: Role::Delivery,
        begins: Begins::Clear,
        is_local: false,
        proxies: |smtp| &smtp.lmtp_proxies,
    },
    Kind {
        name: "lmtp-local",
        switch: "smtp.lmtp_socket_user",
        is_on: |smtp| smtp.lmtp_socket_user.is_some(),
        role: Role::Delivery,
        begins: Begins::Clear,
        is_local: true,
        proxies: |_| &[],
    },
];

/// The time in which a message has to come as fast as the configuration says, on average.
const DATA_WINDOW: Duration = Duration::from_mins(5);

/// What all ports have in common.
#[derive(Debug)]
pub struct House {
    /// Our name.
    pub hostname: Domain,
    /// The domain of a bare `<postmaster>`.
    pub home: Domain,
    /// Whom to ask.
    pub ask: Arc<Ask>,
    /// Who looks into whether mail from other servers is from whom it says.
    pub judge: Arc<Judge>,
    /// Who may come in.
    pub door: Arc<Door>,
    /// How much each of them may do.
    pub guard: Arc<Guard>,
    /// Lists of whose mail is wanted and whose is not.
    pub lists: Arc<Lists>,
    /// Mail of strangers is put off once.
    pub greylisting: bool,
    /// What TLS is done with.
    pub certificates: Arc<Certificates>,
    /// What filters may use.
    pub filter_means: Means,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub async fn run(mut birth: Birth) -> Result<(), StartError> {
    let house = Arc::new(furnish(&birth)?);
    if !house.lists.is_empty() {
        let (lists, ask) = (Arc::clone(&house.lists), Arc::clone(&house.ask));
        tokio::spawn(lists.keep_testing(ask, birth.stop.clone()));
    }
    let listener = |kind: Kind| Listener {
        name: kind.name,
        port: Arc::new(open(&kind, &birth.config, &house)),
        switch: kind.switch,
        is_on: (kind.is_on)(&birth.config.smtp),
    };
    let listeners: Vec<_> = PORTS.into_iter().map(listener).collect();
    let ports = listeners.iter();
    let ports = ports.map(|one| (one.name, Arc::clone(&one.port))).collect();
    let explainer = Arc::new(Explainer::new(listeners, birth.stop.clone()));
    let operator = birth.packet_listener("ctl")?;
    let explaining = tokio::spawn(serve(operator, explainer, birth.stop.clone()));
    port::serve(birth, ports, &house.certificates).await?;
    explaining
        .await
        .map_err(StartError::fault)?
        .map_err(StartError::fault)
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
        // The guard knows whom that does not apply to.
        per_address: 0,
    };
    let certificates = Certificates::load(birth.credentials()?).map_err(StartError::config)?;
    let ask = Arc::new(Ask::new(socket("deliverd"), socket("relayd")));
    let rules = config.authentication.clone();
    let judge = Judge::new(Arc::clone(&ask), config.hostname.as_str(), rules);
    Ok(House {
        hostname,
        home,
        ask,
        judge: Arc::new(judge),
        door: Door::new(limits),
        guard: Guard::new(guard::Limits::new(config)),
        lists: Lists::new(&config.smtp.dns_lists),
        greylisting: config.smtp.greylisting.enabled,
        certificates: Arc::new(certificates),
        filter_means: Means::new(config.smtp.filter_memory.value()),
    })
}

fn open(kind: &Kind, config: &Config, house: &Arc<House>) -> Port {
    let smtp = &config.smtp;
    let submits = config.relay.enabled && kind.role == Role::Submission;
    let longest_hold = smtp.max_hold_seconds.value();
    let offer = server::Config {
        hostname: house.hostname.clone(),
        role: kind.role,
        max_message_size: smtp.max_message_size.value(),
        max_recipients: count(smtp.max_recipients.value()),
        max_messages: count(smtp.max_messages_per_connection.value()),
        max_command_line: count(smtp.max_command_line.value()),
        max_text_line: count(smtp.max_text_line.value()),
        header: HeaderLimits {
            octets: smtp.max_header_size.value(),
            fields: count(smtp.max_header_fields.value()),
            hops: count(smtp.max_hops.value()),
        },
        max_bad_commands: count(smtp.max_bad_commands.value()),
        max_idle_commands: count(smtp.max_idle_commands.value()),
        undelayed_errors: count(smtp.limits.undelayed_errors.into()),
        error_delay: Duration::from_millis(smtp.limits.error_delay_ms.value().into()),
        stray_line_ends: match smtp.stray_line_ends {
            StrayLineEnds::Reject => Stray::Reject,
            StrayLineEnds::Normalize => Stray::Normalize,
        },
        // What does not leave the machine needs no encryption.
        starttls: !kind.is_local,
        cleartext_auth: false,
        mechanisms: config
            .submission
            .mechanisms
            .as_slice()
            .iter()
            .map(mechanism)
            .collect(),
        proxying: Proxying::Nothing,
        binary_mime: smtp.binary_mime,
        // Without relayd nobody would honour them.
        offer: Offer {
            dsn: config.relay.enabled,
            require_tls: true,
            // Who has not logged in may not push in.
            priority: submits,
            deliver_by: config.relay.enabled,
            hold: (submits && longest_hold > 0).then_some(HoldLimit {
                seconds: longest_hold,
                // Each connection has its own.
                until: 0,
            }),
        },
        redact_received: config.submission.redact_received,
        command_timeout: Duration::from_secs(smtp.command_timeout_seconds.value()),
        min_data_rate: smtp.min_data_rate.value(),
        data_window: DATA_WINDOW,
        transaction_timeout: Duration::from_secs(smtp.transaction_timeout_seconds.value()),
    };
    let loopback = server::Config {
        cleartext_auth: smtp.cleartext_auth_on_loopback,
        ..offer.clone()
    };
    // Nobody logs in to LMTP; whoever may connect to its socket file may bring mail.
    let filters = Filters::of(
        smtp,
        kind.role,
        house.hostname.to_string(),
        house.filter_means.clone(),
    );
    let is_closed = kind.role == Role::Delivery && !kind.is_local;
    Port {
        config: Arc::new(offer),
        loopback: Arc::new(loopback),
        begins: kind.begins,
        is_local: kind.is_local,
        greeting_delay: match kind.role {
            Role::Exchange => Duration::from_millis(smtp.limits.greeting_delay_ms.value().into()),
            Role::Submission | Role::Delivery => Duration::ZERO,
        },
        clients: is_closed.then(|| smtp.lmtp_clients.clone()),
        proxies: (kind.proxies)(smtp).to_vec(),
        xclient: match kind.role {
            Role::Exchange | Role::Submission => smtp.xclient.clone(),
            Role::Delivery => Xclient::default(),
        },
        filters: Arc::new(filters),
        house: Arc::clone(house),
    }
}

const fn mechanism(mechanism: &SaslMechanism) -> Mechanism {
    match mechanism {
        SaslMechanism::External => Mechanism::Exchange(sasl::Mechanism::External),
        SaslMechanism::ScramSha256Plus => Mechanism::Exchange(sasl::Mechanism::ScramSha256Plus),
        SaslMechanism::ScramSha256 => Mechanism::Exchange(sasl::Mechanism::ScramSha256),
        SaslMechanism::OAuthBearer => Mechanism::Exchange(sasl::Mechanism::OAuthBearer),
        SaslMechanism::XOAuth2 => Mechanism::Exchange(sasl::Mechanism::XOAuth2),
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::Login => Mechanism::Login,
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
