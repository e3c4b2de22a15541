//! `rmailctl domain`

use std::path::Path;

use daemon::config::Config;
use ipc::budget::Payer;
use ipc::control::{DomainInfo, StoreControlAnswer, StoreControlRequest};
use ipc::routing::{AddressRules, Duty, RulesChange};
use serde_json::json;

use crate::Error;
use crate::cli::{Backup, DomainCommand, Switch};
use crate::cmd::budget::{self, Figures};
use crate::cmd::{alias, quota};
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: DomainCommand) -> Result<(), Error> {
    let config = Config::read(config)?;
    let store = Store::of(&config);
    match command {
        DomainCommand::Add {
            domain,
            postmaster,
            tenant,
            backup_mx,
        } => {
            let duty = backup_mx.map_or(Duty::Final, duty);
            let what = format!("cannot add the domain {domain}");
            store
                .ask(
                    what,
                    StoreControlRequest::AddDomain {
                        name: domain.clone(),
                        tenant,
                        duty,
                    },
                )
                .await?;
            match postmaster {
                Some(address) => alias::add_postmaster(&store, &domain, &address).await?,
                None if duty == Duty::Final => println!(
                    "mail for postmaster@{domain}, which every domain must take (RFC 5321 §4.5.1), goes to whom the key \
                     routing.postmaster names, or to the postmaster of the first domain; otherwise: \
                     rmailctl alias add {domain} exact postmaster ADDRESS"
                ),
                None => {}
            }
        }
        DomainCommand::Set {
            domain,
            subaddress,
            dots,
            case,
            backup_mx,
        } => {
            let rules = RulesChange {
                separator: subaddress.map(|text| match text.as_str() {
                    "off" => String::new(),
                    _ => text,
                }),
                dots_matter: dots.map(|switch| switch == Switch::On),
                case_matters: case.map(|switch| switch == Switch::On),
                duty: backup_mx.map(duty),
            };
            set(&store, domain, rules).await?;
        }
        DomainCommand::Remove { domain } => {
            store
                .ask(
                    format!("cannot remove the domain {domain}"),
                    StoreControlRequest::RemoveDomain { name: domain },
                )
                .await?;
        }
        DomainCommand::Quota { domain, limits } => {
            let request = StoreControlRequest::LimitDomain {
                name: domain.clone(),
                limits: limits.new_limits()?,
            };
            store
                .ask(
                    format!("cannot change the quota of the domain {domain}"),
                    request,
                )
                .await?;
        }
        DomainCommand::Assign { domain, tenant } => {
            let what = match &tenant {
                Some(tenant) => format!("cannot give the domain {domain} to {tenant}"),
                None => format!("cannot take the domain {domain} from its tenant"),
            };
            let request = StoreControlRequest::AssignDomain {
                name: domain,
                tenant,
            };
            store.ask(what, request).await?;
            // It is paid from the budget of another tenant now.
            budget::tell_relayd(&config).await?;
        }
        DomainCommand::Budget {
            domain,
            budget,
            json,
        } => budget::run(&config, Payer::Domain(domain), budget, json).await?,
        DomainCommand::List { json } => list(&config, &store, json).await?,
    }
    Ok(())
}

async fn set(store: &Store, name: String, rules: RulesChange) -> Result<(), Error> {
    let what = format!("cannot change how the addresses of {name} are read");
    let request = StoreControlRequest::SetDomainRules { name, rules };
    store.ask(what, request).await.map(drop)
}

const fn duty(backup: Backup) -> Duty {
    match backup {
        Backup::Anybody => Duty::BackupForAnybody,
        Backup::Listed => Duty::BackupForListed,
        Backup::Off => Duty::Final,
    }
}

/// How addresses are read, as `domain set` takes it.
fn options(rules: &AddressRules) -> [(&'static str, &str); 4] {
    let separator = match rules.separator.as_str() {
        "" => "off",
        separator => separator,
    };
    let switch = |matters| match matters {
        true => "on",
        false => "off",
    };
    let backup = match rules.duty {
        Duty::BackupForAnybody => "anybody",
        Duty::BackupForListed => "listed",
        Duty::Final => "off",
    };
    [
        ("subaddress", separator),
        ("dots", switch(rules.dots_matter)),
        ("case", switch(rules.case_matters)),
        ("backup_mx", backup),
    ]
}

/// All domains.
pub(super) async fn all(store: &Store) -> Result<Vec<DomainInfo>, Error> {
    let mut domains: Vec<DomainInfo> = Vec::new();
    loop {
        let request = StoreControlRequest::ListDomains {
            after: domains.last().map(|domain| domain.name.clone()),
        };
        match store.ask("cannot list the domains", request).await? {
            StoreControlAnswer::Domains {
                domains: page,
                more,
            } => {
                domains.extend(page);
                if !more {
                    return Ok(domains);
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}

async fn list(config: &Config, store: &Store, json: bool) -> Result<(), Error> {
    let domains = all(store).await?;
    let payers = domains
        .iter()
        .map(|domain| Payer::Domain(domain.name.clone()));
    let spent = budget::spent(config, payers.collect()).await?;
    let figures = |(place, domain): (usize, &DomainInfo)| {
        let spent = spent.get(place).copied();
        Figures::of(domain.budget, &config.relay.budgets.domain, spent)
    };
    let budgets = domains.iter().enumerate().map(figures);
    let rows = domains.iter().zip(budgets);
    if json {
        let row = |(domain, budget): (&DomainInfo, Figures)| {
            let mut row = quota::row(domain.usage, domain.limits);
            row.insert("domain".into(), json!(domain.name));
            row.insert("tenant".into(), json!(domain.tenant));
            row.insert("budget".into(), budget.row());
            for (name, value) in options(&domain.rules) {
                row.insert(name.into(), json!(value));
            }
            row
        };
        println!("{}", json!(rows.map(row).collect::<Vec<_>>()));
    } else {
        for (domain, budget) in rows {
            let usage = quota::text(domain.usage, domain.limits);
            let rules = options(&domain.rules).map(|(name, value)| format!("{name}={value}"));
            let tenant = domain.tenant.as_deref().unwrap_or_default();
            println!(
                "{}\t{usage}\t{tenant}\t{}\t{}",
                domain.name,
                rules.join(" "),
                budget.text()
            );
        }
    }
    Ok(())
}
