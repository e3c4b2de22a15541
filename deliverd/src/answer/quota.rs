//! Tenants, domains, and what they and users may store: what the operator orders in database and ledger together, and how room
//! for a delivery is set aside.

use daemon::config::TRACE_SIZE;
use ipc::Refusal;
use ipc::budget::Payer;
use ipc::control::{DomainInfo, StoreControlAnswer, TenantInfo};
use ipc::quota::{LimitChange, Limits};
use ipc::routing::Duty;
use tracing::info;

use super::House;
use crate::accounts::{DomainEntry, Tenant, domain};
use crate::store::{Hold, Owner, Totals};

/// Bytes that a message of unknown size is expected to have. Most are smaller; one that is larger asks for more at the commit.
const USUAL: u64 = 8 * 1024;

impl House {
    /// Sets room aside for a message whose sender says it has `size` bytes, or says nothing with 0: for all or for none.
    pub(super) fn hold(&self, owners: &[Owner], size: u64) -> Result<Vec<Hold>, Refusal> {
        if size > 0 {
            // The trace that smtpd puts in front of it counts too.
            let bytes = size.saturating_add(TRACE_SIZE);
            return self.store.hold(owners, Totals::message(bytes));
        }
        let ledger = self.store.ledger();
        let expected = |owner| ledger.member(owner).map_or(0, |member| member.expected());
        let mut holds = Vec::with_capacity(owners.len());
        for owner in owners {
            let size = Totals::message(expected(owner).max(USUAL));
            holds.extend(self.store.hold(std::slice::from_ref(owner), size)?);
        }
        Ok(holds)
    }
}

pub(super) fn add_domain(
    house: &House,
    name: &str,
    tenant: Option<&str>,
    duty: Duty,
) -> Result<(), Refusal> {
    let _alone = house.alone();
    house.accounts.add_domain_for(name, tenant, duty)?;
    let domain = domain(name)?;
    house
        .store
        .ledger()
        .set_domain(domain.as_str(), Limits::default());
    house.store.ledger().assign_domain(domain.as_str(), tenant);
    info!(%domain, tenant, ?duty, "domain added");
    Ok(())
}

pub(super) fn assign_domain(
    house: &House,
    name: &str,
    tenant: Option<&str>,
) -> Result<(), Refusal> {
    let _alone = house.alone();
    house.accounts.assign_domain(name, tenant)?;
    let domain = domain(name)?;
    house.store.ledger().assign_domain(domain.as_str(), tenant);
    house.visits.look_at_all(house);
    info!(%domain, tenant, "domain given to a tenant");
    Ok(())
}

pub(super) fn limit_domain(house: &House, name: &str, change: LimitChange) -> Result<(), Refusal> {
    let _alone = house.alone();
    let limits = house.accounts.limit_domain(name, change)?;
    let domain = domain(name)?;
    house.store.ledger().set_domain(domain.as_str(), limits);
    info!(%domain, ?limits, "limits changed");
    Ok(())
}

pub(super) fn remove_domain(house: &House, name: &str) -> Result<(), Refusal> {
    let _alone = house.alone();
    house.accounts.remove_domain(name)?;
    let domain = domain(name)?;
    house.store.ledger().remove_domain(domain.as_str());
    info!(%domain, "domain removed");
    Ok(())
}

pub(super) fn list_domains(
    house: &House,
    after: Option<&str>,
) -> Result<StoreControlAnswer, Refusal> {
    let page = house.accounts.domains(after)?;
    let info = |entry: DomainEntry| {
        Ok(DomainInfo {
            usage: house.store.ledger().domain_usage(&entry.name),
            budget: house.accounts.budget(&Payer::Domain(entry.name.clone()))?,
            name: entry.name,
            tenant: entry.tenant,
            limits: entry.limits,
            rules: entry.rules,
        })
    };
    let domains = page.entries.into_iter().map(info);
    Ok(StoreControlAnswer::Domains {
        domains: domains.collect::<Result<_, Refusal>>()?,
        more: page.more,
    })
}

pub(super) fn add_tenant(house: &House, name: &str, limits: Limits) -> Result<(), Refusal> {
    let _alone = house.alone();
    house.accounts.add_tenant(name, limits)?;
    house.store.ledger().set_tenant(name, limits);
    info!(tenant = name, ?limits, "tenant added");
    Ok(())
}

pub(super) fn limit_tenant(house: &House, name: &str, change: LimitChange) -> Result<(), Refusal> {
    let _alone = house.alone();
    let limits = house.accounts.limit_tenant(name, change)?;
    house.store.ledger().set_tenant(name, limits);
    info!(tenant = name, ?limits, "limits changed");
    Ok(())
}

pub(super) fn remove_tenant(house: &House, name: &str) -> Result<(), Refusal> {
    let _alone = house.alone();
    house.accounts.remove_tenant(name)?;
    house.store.ledger().remove_tenant(name);
    info!(tenant = name, "tenant removed");
    Ok(())
}

pub(super) fn list_tenants(
    house: &House,
    after: Option<&str>,
) -> Result<StoreControlAnswer, Refusal> {
    let page = house.accounts.tenants(after)?;
    let info = |tenant: Tenant| {
        let Tenant {
            name,
            limits,
            search_text,
        } = tenant;
        let (usage, domains) = house.store.ledger().tenant_usage(&name);
        Ok(TenantInfo {
            budget: house.accounts.budget(&Payer::Tenant(name.clone()))?,
            name,
            domains,
            limits,
            usage,
            search_text,
        })
    };
    let tenants = page.entries.into_iter().map(info);
    Ok(StoreControlAnswer::Tenants {
        tenants: tenants.collect::<Result<_, Refusal>>()?,
        more: page.more,
    })
}

pub(super) fn limit_user(house: &House, owner: &Owner, change: LimitChange) -> Result<(), Refusal> {
    let _alone = house.alone();
    let limits = house.accounts.limit_user(owner, change)?;
    house.store.ledger().limit_user(owner, limits);
    info!(account = owner.address(), ?limits, "limits changed");
    Ok(())
}
