//! What the operator may order through rmailctl.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::channel::{Answered, Events, Service};
use ipc::control::{Alias, StoreControlAnswer, StoreControlEdge, StoreControlRequest, UserInfo};
use ipc::frame::MAX_FRAME;
use ipc::{Call, Refusal, Secret};
use tracing::{Instrument, info, info_span};

use super::{House, hex};
use crate::accounts::{address, domain};
use crate::store::Owner;

/// What stands around an answer in its frame, generously.
const ENVELOPE: usize = 64;

/// The operator's door.
pub(super) struct Door(pub(super) Arc<House>);

impl Service<StoreControlEdge> for Door {
    type Peer = ();

    fn open(&self, _events: Events<StoreControlEdge>) {}

    async fn answer(
        &self,
        _peer: Arc<()>,
        call: Call<StoreControlRequest>,
    ) -> Result<Answered<StoreControlAnswer>, Refusal> {
        let span = info_span!("ctl", session = hex(call.context.session));
        let entered = span.clone();
        let done = self
            .0
            .work(move |house| entered.in_scope(|| obey(house, call.request)));
        done.instrument(span).await.map(Answered::plain)
    }
}

fn obey(house: &House, request: StoreControlRequest) -> Result<StoreControlAnswer, Refusal> {
    match request {
        StoreControlRequest::AddDomain { name } => {
            house.accounts.add_domain(&name)?;
            info!(domain = name, "domain added");
        }
        StoreControlRequest::ListDomains { after } => {
            let page = house.accounts.domains(after.as_deref())?;
            return Ok(StoreControlAnswer::Domains {
                names: page.entries,
                more: page.more,
            });
        }
        StoreControlRequest::RemoveDomain { name } => {
            house.accounts.remove_domain(&name)?;
            info!(domain = name, "domain removed");
        }
        StoreControlRequest::AddUser {
            address,
            password,
            quota,
        } => add_user(house, &address, &password, quota)?,
        StoreControlRequest::ListUsers { domain, after } => {
            return list_users(house, domain, after.as_deref());
        }
        StoreControlRequest::RemoveUser { address } => remove_user(house, &address)?,
        StoreControlRequest::SetPassword { address, password } => {
            let owner = owner(&address)?;
            house.accounts.set_password(&owner, &password)?;
            house.doorman.forget(&owner);
            info!(account = owner.address(), "password changed");
        }
        StoreControlRequest::AddAlias(alias) => {
            house.accounts.add_alias(&alias)?;
            info!(domain = alias.domain, kind = ?alias.kind, pattern = alias.pattern, "alias added");
        }
        StoreControlRequest::ListAliases { domain, skip } => {
            let page = house.accounts.aliases(&domain, skip)?;
            return Ok(fitting(page.entries, page.more));
        }
        StoreControlRequest::RemoveAlias {
            domain,
            kind,
            pattern,
        } => {
            house.accounts.remove_alias(&domain, kind, &pattern)?;
            info!(domain, ?kind, pattern, "alias removed");
        }
        StoreControlRequest::ShowStatus => return show_status(house),
    }
    Ok(StoreControlAnswer::Done)
}

/// As many aliases of a page as fit into a frame; one always does.
fn fitting(mut aliases: Vec<Alias>, mut more: bool) -> StoreControlAnswer {
    let is_too_long = |aliases: &Vec<Alias>| {
        ipc::frame::encode(aliases).map_or(true, |bytes| bytes.len() > MAX_FRAME - ENVELOPE)
    };
    while aliases.len() > 1 && is_too_long(&aliases) {
        aliases.pop();
        more = true;
    }
    StoreControlAnswer::Aliases { aliases, more }
}

fn owner(text: &str) -> Result<Owner, Refusal> {
    address(text).map(|address| Owner::of(&address))
}

fn add_user(house: &House, text: &str, password: &Secret, quota: u64) -> Result<(), Refusal> {
    let owner = owner(text)?;
    let _alone = house.alone();
    if house.accounts.user(&owner)?.is_some() {
        return Err(Refusal::Exists);
    }
    // Mail of a user that was removed before (or half removed, by a crash) must not become the new user's.
    house.store.set_aside(&owner)?;
    let quota = if quota == 0 {
        house.default_quota
    } else {
        quota
    };
    house.accounts.add_user(&owner, password, quota)?;
    house.doorman.forget(&owner);
    house.store.user(&owner)?;
    info!(account = owner.address(), "user added");
    Ok(())
}

fn remove_user(house: &House, text: &str) -> Result<(), Refusal> {
    let owner = owner(text)?;
    let _alone = house.alone();
    house.accounts.remove_user(&owner)?;
    house.doorman.forget(&owner);
    house.store.set_aside(&owner)?;
    info!(
        account = owner.address(),
        "user removed; the mail stays on disk"
    );
    Ok(())
}

fn list_users(
    house: &House,
    name: Option<String>,
    after: Option<&str>,
) -> Result<StoreControlAnswer, Refusal> {
    let name = name.map(|name| domain(&name)).transpose()?;
    let name = name.as_ref().map(mail::address::Domain::as_str);
    if let Some(name) = name
        && !house.accounts.is_local(name)?
    {
        return Err(Refusal::NoSuchDomain);
    }
    let after = after.map(owner).transpose()?;
    let page = house.accounts.users(name, after.as_ref())?;
    let info = |account: crate::accounts::Account| {
        let totals = house.store.user(&account.owner)?.totals()?;
        Ok(UserInfo {
            address: account.owner.address(),
            quota: account.quota,
            used: totals.bytes,
            messages: totals.messages,
        })
    };
    let users = page
        .entries
        .into_iter()
        .map(info)
        .collect::<Result<_, Refusal>>()?;
    Ok(StoreControlAnswer::Users {
        users,
        more: page.more,
    })
}

fn show_status(house: &House) -> Result<StoreControlAnswer, Refusal> {
    let (domains, users) = house.accounts.counts()?;
    Ok(StoreControlAnswer::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: house.started.elapsed().as_secs(),
        domains,
        users,
        sessions: house.sessions.load(Ordering::Relaxed),
        stored: house.store.stored(),
    })
}
