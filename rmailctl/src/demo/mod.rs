//! `rmailctl demo`: the whole system in a temporary home, as an ordinary user, with an outside world of its own.

mod conversation;
mod dns;
mod home;
mod outside;
mod trip;

use std::fmt::Display;
use std::time::Instant;

use ipc::Secret;
use serde_json::json;

use crate::cli::DemoOptions;
use crate::cmd::{alias, user};
use crate::operator::Store;
use crate::supervisor::System;
use crate::{Error, secret};
use home::Home;
use outside::Outside;

/// A user of the demo.
#[derive(Debug, Clone)]
pub(crate) struct User {
    address: String,
    password: String,
}

/// Tells what happens and when, unless the demo is to be silent.
struct Progress {
    begin: Instant,
    silent: bool,
}

impl Progress {
    fn step(&self, what: impl Display) {
        if !self.silent {
            println!("[{:7.3} s] {what}", self.begin.elapsed().as_secs_f64());
        }
    }

    fn line(&self, what: impl Display) {
        if !self.silent {
            println!("{what}");
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Error`]; with `--once` also when any part of the round trip did not happen.
pub async fn run(options: DemoOptions) -> Result<(), Error> {
    let progress = Progress {
        begin: Instant::now(),
        silent: options.json,
    };
    let outside = Outside::open().await?;
    let home = Home::make(&options, &outside)?;
    progress.step(format_args!(
        "home {} with a development certificate",
        home.directory.display()
    ));
    let mut system = System::start(&home.config_file, &home.directory, &home.log).await?;
    progress.step(format_args!(
        "six daemons are ready, log in {}",
        home.log.display()
    ));
    let result = serve(&options, &progress, &home, &outside, &mut system).await;
    progress.step("stopping");
    let stopped = system.stop().await;
    let failed = result.is_err() || stopped.is_err();
    if failed && !options.json {
        eprintln!(
            "the daemons' log:\n{}",
            std::fs::read_to_string(&home.log).unwrap_or_default()
        );
    }
    home.leave()?;
    result.and(stopped)
}

async fn serve(
    options: &DemoOptions,
    progress: &Progress,
    home: &Home,
    outside: &Outside,
    system: &mut System,
) -> Result<(), Error> {
    let work = async {
        let users = make_users(options, home).await?;
        let addresses: Vec<_> = users
            .iter()
            .take(5)
            .map(|user| user.address.as_str())
            .collect();
        progress.step(format_args!(
            "domain {}, {} users: {}",
            options.domain,
            users.len(),
            addresses.join(", ")
        ));
        if options.json {
            println!("{}", description(options, home, &users));
            return Ok::<_, Error>(users);
        }
        trip::run(progress, home, outside, &users).await?;
        progress.step("the round trip is complete");
        Ok(users)
    };
    let users = tokio::select! {
        done = work => done?,
        over = system.interrupted() => return over.and(Err(Error::interrupted())),
    };
    if options.once {
        return Ok(());
    }
    if !options.json {
        explain(progress, home, &users);
    }
    system.interrupted().await
}

async fn make_users(options: &DemoOptions, home: &Home) -> Result<Vec<User>, Error> {
    let names: Vec<String> = match options.users {
        None => vec!["alice".into(), "bob".into()],
        Some(0) => return Err(Error::Usage("--users must be at least 1".into())),
        Some(count) => (1..=count).map(|number| format!("user{number}")).collect(),
    };
    let password = options.password.clone().map_or_else(secret::made_up, Ok)?;
    let store = Store::of(&home.config);
    let mut users = Vec::with_capacity(names.len());
    for name in names {
        let user = User {
            address: format!("{name}@{}", options.domain),
            password: password.clone(),
        };
        user::make(&store, &user.address, &Secret::new(password.clone())).await?;
        users.push(user);
    }
    if let Some(first) = users.first() {
        alias::add_postmaster(&store, &options.domain, &first.address).await?;
    }
    Ok(users)
}

/// What other programs need to attach.
fn description(options: &DemoOptions, home: &Home, users: &[User]) -> serde_json::Value {
    let ports: serde_json::Map<_, _> = crate::init::Ports::NAMES
        .iter()
        .zip(home.ports.0)
        .map(|(name, port)| ((*name).to_owned(), json!(port)))
        .collect();
    let users: Vec<_> = users
        .iter()
        .map(|user| json!({"address": user.address, "password": user.password}))
        .collect();
    json!({
        "host": home::HOST, "ports": ports, "domain": options.domain, "users": users,
        "ca_file": home.certificate, "store": home.config.store_dir(), "config": home.config_file,
        "log": home.log, "pid": std::process::id(),
    })
}

fn explain(progress: &Progress, home: &Home, users: &[User]) {
    let Some(User {
        address: user,
        password,
    }) = users.first()
    else {
        return;
    };
    let [smtp, submission, submissions, imap, imaps, api, _] = home.ports.0;
    // In a URL the @ of the user name is escaped (RFC 3986 §2.1).
    let login = user.replace('@', "%40");
    let (host, cert) = (home::HOST, home.certificate.display());
    progress.line(format_args!(
        "
The system keeps running until Ctrl-C. Try it from another terminal:

  swaks --server {host}:{smtp} --from you@outside.test --to {user}
  swaks --server {host}:{submission} -tls --auth-user {user} --auth-password {password} --from {user} --to friend@outside.test
  curl --cacert {cert} --user {user}:{password} imaps://localhost:{imaps}/INBOX
  mutt -f imap://{login}@{host}:{imap}/INBOX
  curl -d '{{\"username\":\"{user}\",\"password\":\"{password}\"}}' -H 'Content-Type: application/json' http://{host}:{api}/auth/login
  Thunderbird: IMAP localhost:{imaps} SSL/TLS, SMTP localhost:{submissions} SSL/TLS, user {user}; accept the certificate

  All users of the demo have the password {password}
  rmailctl --config {} status
",
        home.config_file.display()
    ));
}
