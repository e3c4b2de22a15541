//! `rmailctl tenant`

use std::path::Path;

use daemon::config::Config;
use ipc::budget::Payer;
use ipc::control::{StoreControlAnswer, StoreControlRequest, TenantInfo};
use ipc::quota::Limits;
use serde_json::json;

use crate::Error;
use crate::cli::{Switch, TenantCommand};
use crate::cmd::budget::{self, Figures};
use crate::cmd::{domain, quota, store};
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: TenantCommand) -> Result<(), Error> {
    let config = Config::read(config)?;
    let store = Store::of(&config);
    let (what, request) = match command {
        TenantCommand::Add { tenant, limits } => (
            format!("cannot add the tenant {tenant}"),
            StoreControlRequest::AddTenant {
                name: tenant,
                limits: limits.change()?.apply(Limits::default()),
            },
        ),
        TenantCommand::Quota { tenant, limits } => (
            format!("cannot change the quota of the tenant {tenant}"),
            StoreControlRequest::LimitTenant {
                name: tenant,
                limits: limits.new_limits()?,
            },
        ),
        TenantCommand::Remove { tenant } => (
            format!("cannot remove the tenant {tenant}"),
            StoreControlRequest::RemoveTenant { name: tenant },
        ),
        TenantCommand::Search { tenant, keep } => return search(&store, tenant, keep).await,
        TenantCommand::Budget {
            tenant,
            budget,
            json,
        } => return budget::run(&config, Payer::Tenant(tenant), budget, json).await,
        TenantCommand::List { json } => return list(&config, &store, json).await,
    };
    store.ask(what, request).await.map(drop)
}

/// Has text kept for searching, or not any more.
async fn search(operator: &Store, tenant: String, keep: Switch) -> Result<(), Error> {
    let what = format!("cannot change the tenant {tenant}");
    let request = StoreControlRequest::KeepSearchText {
        name: tenant.clone(),
        keep: keep == Switch::On,
    };
    operator.ask(what, request).await?;
    if keep == Switch::On {
        return Ok(());
    }
    for domain in domain::all(operator).await? {
        if domain.tenant.as_ref() == Some(&tenant) {
            store::drop_text(operator, domain.name).await?;
        }
    }
    Ok(())
}

async fn list(config: &Config, store: &Store, json: bool) -> Result<(), Error> {
    let mut tenants: Vec<TenantInfo> = Vec::new();
    loop {
        let request = StoreControlRequest::ListTenants {
            after: tenants.last().map(|tenant| tenant.name.clone()),
        };
        match store.ask("cannot list the tenants", request).await? {
            StoreControlAnswer::Tenants {
                tenants: page,
                more,
            } => {
                tenants.extend(page);
                if !more {
                    break;
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
    let payers = tenants
        .iter()
        .map(|tenant| Payer::Tenant(tenant.name.clone()));
    let spent = budget::spent(config, payers.collect()).await?;
    let figures = |(place, tenant): (usize, &TenantInfo)| {
        let spent = spent.get(place).copied();
        Figures::of(tenant.budget, &config.relay.budgets.tenant, spent)
    };
    let budgets = tenants.iter().enumerate().map(figures);
    let rows = tenants.iter().zip(budgets);
    if json {
        let row = |(tenant, budget): (&TenantInfo, Figures)| {
            let mut row = quota::row(tenant.usage, tenant.limits);
            row.insert("tenant".into(), json!(tenant.name));
            row.insert("domains".into(), json!(tenant.domains));
            row.insert("budget".into(), budget.row());
            row.insert("search_text".into(), json!(tenant.search_text));
            row
        };
        println!("{}", json!(rows.map(row).collect::<Vec<_>>()));
    } else {
        for (tenant, budget) in rows {
            let usage = quota::text(tenant.usage, tenant.limits);
            let search = if tenant.search_text {
                ""
            } else {
                "\tsearch text off"
            };
            println!(
                "{}\t{usage}\t{} domains{search}\t{}",
                tenant.name,
                tenant.domains,
                budget.text()
            );
        }
    }
    Ok(())
}
