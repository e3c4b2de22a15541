//! `rmailctl tenant`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{StoreControlAnswer, StoreControlRequest, TenantInfo};
use ipc::quota::Limits;
use serde_json::json;

use crate::Error;
use crate::cli::{Switch, TenantCommand};
use crate::cmd::{domain, quota, store};
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: TenantCommand) -> Result<(), Error> {
    let store = Store::of(&Config::read(config)?);
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
        TenantCommand::List { json } => return list(&store, json).await,
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

async fn list(store: &Store, json: bool) -> Result<(), Error> {
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
    if json {
        let row = |tenant: &TenantInfo| {
            let mut row = quota::row(tenant.usage, tenant.limits);
            row.insert("tenant".into(), json!(tenant.name));
            row.insert("domains".into(), json!(tenant.domains));
            row.insert("search_text".into(), json!(tenant.search_text));
            row
        };
        println!("{}", json!(tenants.iter().map(row).collect::<Vec<_>>()));
    } else {
        for tenant in tenants {
            let usage = quota::text(tenant.usage, tenant.limits);
            let search = if tenant.search_text {
                ""
            } else {
                "\tsearch text off"
            };
            println!(
                "{}\t{usage}\t{} domains{search}",
                tenant.name, tenant.domains
            );
        }
    }
    Ok(())
}
