//! The whole daemon: what it is made of, how it starts and stops.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::channel::serve;
use daemon::config::{Config, Relay, TlsDemand};
use daemon::{Birth, StartError};
use mail::address::Domain;
use smtp::auth::{Credentials, Secret};
use smtp::client::{self, Timeouts};
use tracing::{error, info, warn};

use crate::aggregate::courier::Courier;
use crate::aggregate::kind::Kind;
use crate::aggregate::register::Register;
use crate::answer::filters::Filters;
use crate::answer::intake::Intake;
use crate::answer::lookup::LookUps;
use crate::answer::operator::Operator;
use crate::answer::reports::Reports;
use crate::answer::till::Till;
use crate::answer::welcome::Welcome;
use crate::ask::Ask;
use crate::attempt::{Carrier, Smarthost};
use crate::desk::Desk;
use crate::dial::Phone;
use crate::dispatch::Dispatcher;
use crate::dns::Dns;
use crate::lanes::Lanes;
use crate::lookout::Lookout;
use crate::pool::Pool;
use crate::quarantine::Ward;
use crate::queue::Queue;
use crate::reporter::Reporter;
use crate::signer::Signer;
use crate::sts::Sts;
use crate::tls::{self, Tls};
use crate::tlsrpt::ledger::Ledger;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`StartError`] when it cannot start.
pub async fn run(mut birth: Birth) -> Result<(), StartError> {
    let started = Instant::now();
    let config = birth.config.clone();
    let hostname = domain(config.hostname.as_str())?;
    let dns = resolver(&config)?;
    let desk = Arc::new(open_queue(&config)?);
    read_queue(Arc::clone(&desk))?;
    let reports = Reports {
        dmarc: register(&config, &desk).await?,
        tls: register(&config, &desk).await?,
        dns: dns.clone(),
    };
    let ledger = Ledger::new(Arc::clone(&reports.tls), dns.clone());
    let carrier = Arc::new(Carrier {
        ledger: Some(ledger),
        ..carrier(&birth, &hostname, dns.clone(), &desk).await?
    });
    let ask = Ask::new(config.ipc_socket("deliverd", "relayd"));
    let till = Till::open(Arc::clone(&desk), ask.clone(), &config.relay.budgets);
    let till = Arc::new(till.await.map_err(StartError::fault)?);
    let welcome = Welcome::open(Arc::clone(&desk), &config.smtp.greylisting);
    let intake = Intake {
        welcome: welcome.await.map_err(StartError::fault)?,
        desk: Arc::clone(&desk),
        ask: ask.clone(),
        register: Arc::clone(&reports.dmarc),
        till: Arc::clone(&till),
        enabled: config.relay.enabled,
        max_size: config.smtp.max_kept_size(),
        max_recipients: count(config.smtp.max_recipients.value()),
        look_ups: LookUps::new(carrier.dns.clone()),
        filters: Filters::new(config.smtp.filters.clone(), dns),
    };
    let dmarc = courier(&config, &reports.dmarc, &desk, &ask, &carrier.dns);
    let tls = courier(&config, &reports.tls, &desk, &ask, &carrier.dns);
    let operator = Operator {
        desk: Arc::clone(&desk),
        reports,
        carrier: Arc::clone(&carrier),
        till,
        started,
    };
    let smtpd = tokio::spawn(serve(
        birth.packet_listener("smtpd")?,
        Arc::new(intake),
        birth.stop.clone(),
    ));
    let ctl = tokio::spawn(serve(
        birth.packet_listener("ctl")?,
        Arc::new(operator),
        birth.stop.clone(),
    ));
    for name in birth.inherited.rest() {
        warn!(name, "a socket was handed over that nobody serves");
    }
    let dmarc = tokio::spawn(dmarc.run(birth.stop.clone()));
    let tls = tokio::spawn(tls.run(birth.stop.clone()));
    let signer = Arc::new(Signer::new(config.ipc_socket("keyd", "relayd")));
    let lookout = Lookout {
        signer: Arc::clone(&signer),
        dns: carrier.dns.clone(),
    };
    let lookout = tokio::spawn(lookout.run(birth.stop.clone()));
    let dispatcher = Arc::new(Dispatcher {
        desk: Arc::clone(&desk),
        carrier,
        reporter: Reporter {
            desk,
            ask,
            hostname,
        },
        signer,
        waits: config.relay.retry_seconds.as_slice().to_vec(),
    });
    let lanes = Lanes::new(
        count(config.relay.max_connections.value()),
        count(config.relay.max_connections_per_domain.value()),
    );
    let closing = Arc::clone(&dispatcher.desk);
    birth.ready();
    dispatcher.run(lanes, birth.stop.clone()).await;
    info!("stopping");
    for task in [dmarc, tls, lookout] {
        task.await.map_err(StartError::fault)?;
    }
    for served in [smtpd, ctl] {
        served
            .await
            .map_err(StartError::fault)?
            .map_err(StartError::fault)?;
    }
    let closed = tokio::task::spawn_blocking(move || closing.close()).await;
    closed.map_err(StartError::fault)
}

async fn register<K: Kind>(
    config: &Config,
    desk: &Arc<Desk>,
) -> Result<Arc<Register<K>>, StartError> {
    let rules = &config.authentication.aggregate_reports;
    let register = Register::open(Arc::clone(desk), rules).await;
    Ok(Arc::new(register.map_err(StartError::fault)?))
}

fn courier<K: Kind>(
    config: &Config,
    register: &Arc<Register<K>>,
    desk: &Arc<Desk>,
    ask: &Ask,
    dns: &Dns,
) -> Courier<K> {
    Courier {
        register: Arc::clone(register),
        desk: Arc::clone(desk),
        ask: ask.clone(),
        dns: dns.clone(),
        rules: config.authentication.aggregate_reports.clone(),
    }
}

fn open_queue(config: &Config) -> Result<Desk, StartError> {
    let path = config.queue_dir();
    let explain = |error: std::io::Error| {
        let text = format!(
            "the queue directory {} cannot be used: {error}; it must belong to the user relayd runs as",
            path.display()
        );
        match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotFound => {
                StartError::Config(text)
            }
            _ => StartError::Fault(text),
        }
    };
    let warning = config.relay.delay_warning_hours.value();
    let warning = (warning > 0).then(|| i64::from(warning) * 3600);
    let quarantine = Ward::new(&config.authentication.quarantine);
    let kept = (&config.relay.history).into();
    let queue = Queue::open(&path, kept).map_err(explain)?;
    Ok(Desk::new(queue, warning, quarantine))
}

/// Has the queue read while mail goes on. Not on a thread of the runtime, which would wait for it at the end.
fn read_queue(desk: Arc<Desk>) -> Result<(), StartError> {
    let read = move || {
        if let Err(error) = desk.read() {
            error!(%error, "the queue cannot be read: what is in it waits for the next start");
        }
    };
    let thread = std::thread::Builder::new().name("queue-read".into());
    thread.spawn(read).map(drop).map_err(StartError::fault)
}

async fn carrier(
    birth: &Birth,
    hostname: &Domain,
    dns: Dns,
    desk: &Arc<Desk>,
) -> Result<Carrier, StartError> {
    let relay = &birth.config.relay;
    let smarthost = smarthost(birth, relay)?;
    let tls = Tls::new(tls::native_roots()).map_err(StartError::fault)?;
    let sts = Sts::open(Arc::clone(desk), dns.clone(), tls.clone(), &relay.mta_sts);
    let phone = Phone {
        config: client::Config {
            hostname: hostname.clone(),
            timeouts: Timeouts::default(),
        },
        tls,
        pool: Arc::new(Pool::new(Duration::from_secs(
            relay.connection_reuse_seconds.value().into(),
        ))),
    };
    Ok(Carrier {
        dns,
        sts: sts.await.map_err(StartError::fault)?,
        rules: rules(relay),
        phone: Arc::new(phone),
        port: relay.port,
        smarthost,
        ledger: None,
    })
}

fn rules(relay: &Relay) -> HashMap<String, TlsDemand> {
    let entries = relay.domains.iter();
    entries
        .flat_map(|entry| {
            entry
                .names
                .iter()
                .map(|name| (name.as_str().to_owned(), entry.tls))
        })
        .collect()
}

fn resolver(config: &Config) -> Result<Dns, StartError> {
    let servers: Vec<SocketAddr> = config.relay.dns.iter().map(|socket| socket.0).collect();
    Dns::checking(&servers, config.hostname.as_str(), &config.relay.dnssec)
        .map_err(StartError::config)
}

fn smarthost(birth: &Birth, relay: &Relay) -> Result<Option<Smarthost>, StartError> {
    let Some(host) = &relay.smarthost else {
        return Ok(None);
    };
    let credentials = match &relay.smarthost_username {
        None => None,
        Some(user) => Some(Credentials {
            user: user.clone(),
            password: password(birth)?,
        }),
    };
    Ok(Some(Smarthost {
        host: host.as_str().to_owned(),
        port: relay.smarthost_port,
        credentials,
    }))
}

fn password(birth: &Birth) -> Result<Secret, StartError> {
    let file = birth.credentials()?.join("smarthost.password");
    let text = std::fs::read_to_string(&file).map_err(|error| {
        StartError::Config(format!(
            "{}: {error}; check relay.smarthost_password_file",
            file.display()
        ))
    })?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(StartError::Config(
            "the first line of relay.smarthost_password_file is empty".into(),
        ));
    }
    Ok(Secret::new(password.to_owned()))
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
