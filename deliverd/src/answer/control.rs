//! What the operator may order through rmailctl.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::channel::{Answered, Events, Service};
use ipc::budget::Payer;
use ipc::control::{Alias, StoreControlAnswer, StoreControlEdge, StoreControlRequest, UserInfo};
use ipc::frame::MAX_FRAME;
use ipc::quota::{LimitChange, Limits};
use ipc::{Call, Refusal, Secret};
use tracing::{Instrument, info, info_span};

use super::{House, ban, budget, hex, quota, routing, sharing, tools};
use crate::accounts::{Account, address, domain};
use crate::store::{Owner, Totals};

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
        let done = self.0.work(move |house| {
            let mut fds = Vec::new();
            let answer = entered.in_scope(|| obey(house, call.request, &mut fds))?;
            Ok(Answered::with(answer, fds))
        });
        done.instrument(span).await
    }
}

/// What does not fit into the answer's frame goes as files into `fds`.
fn obey(
    house: &House,
    request: StoreControlRequest,
    fds: &mut Vec<OwnedFd>,
) -> Result<StoreControlAnswer, Refusal> {
    match request {
        StoreControlRequest::AddDomain { name, tenant, duty } => {
            quota::add_domain(house, &name, tenant.as_deref(), duty)?;
        }
        StoreControlRequest::ListDomains { after } => {
            return quota::list_domains(house, after.as_deref());
        }
        StoreControlRequest::AssignDomain { name, tenant } => {
            quota::assign_domain(house, &name, tenant.as_deref())?;
        }
        StoreControlRequest::LimitDomain { name, limits } => {
            quota::limit_domain(house, &name, limits)?;
        }
        StoreControlRequest::SetDomainRules { name, rules } => {
            routing::set_rules(house, &name, &rules)?;
        }
        StoreControlRequest::RemoveDomain { name } => quota::remove_domain(house, &name)?,
        StoreControlRequest::AddTenant { name, limits } => {
            quota::add_tenant(house, &name, limits)?;
        }
        StoreControlRequest::ListTenants { after } => {
            return quota::list_tenants(house, after.as_deref());
        }
        StoreControlRequest::LimitTenant { name, limits } => {
            quota::limit_tenant(house, &name, limits)?;
        }
        StoreControlRequest::KeepSearchText { name, keep } => {
            house.accounts.keep_search_text(&name, keep)?;
            info!(tenant = name, keep, "text is kept for searching, or not");
        }
        StoreControlRequest::RemoveTenant { name } => quota::remove_tenant(house, &name)?,
        StoreControlRequest::AddUser {
            address,
            password,
            limits,
        } => add_user(house, &address, &password, limits)?,
        StoreControlRequest::LimitUser { address, limits } => {
            quota::limit_user(house, &owner(&address)?, limits)?;
        }
        StoreControlRequest::SetImapWithout { address, names } => {
            let owner = owner(&address)?;
            house.accounts.set_imap_without(&owner, &names)?;
            let without = names.join(" ");
            info!(
                account = owner.address(),
                without, "IMAP extensions switched off"
            );
        }
        StoreControlRequest::ShowImapWithout { address } => {
            let names = house.accounts.imap_without(&owner(&address)?)?;
            return Ok(StoreControlAnswer::ImapWithout(names));
        }
        StoreControlRequest::ShowSharing { address, after } => {
            let owner = known(house, &address)?;
            return sharing::show(house, &owner, after.as_deref());
        }
        StoreControlRequest::ChangeSharing {
            address,
            mailbox,
            identifier,
            change,
        } => {
            let owner = known(house, &address)?;
            sharing::change(house, &owner, &mailbox, &identifier, change)?;
        }
        StoreControlRequest::RegisterSharing { after } => {
            return sharing::register(house, after.as_deref());
        }
        StoreControlRequest::ListUsers { domain, after } => {
            return list_users(house, domain, after.as_deref());
        }
        StoreControlRequest::ShowUser { address } => {
            let owner = owner(&address)?;
            let account = house.accounts.user(&owner)?.ok_or(Refusal::NoSuchUser)?;
            return Ok(StoreControlAnswer::User(user_info(house, account)?));
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
        StoreControlRequest::ListBans { skip } => return Ok(ban::list(house, skip)),
        StoreControlRequest::LiftBan { what } => ban::lift(house, &what)?,
        StoreControlRequest::TraceAddress { address, skip } => {
            return routing::trace(house, &address, skip);
        }
        StoreControlRequest::GrantSender { account, sender } => {
            let owner = owner(&account)?;
            house.accounts.grant_sender(&owner, &sender)?;
            info!(account = owner.address(), sender, "sender address granted");
        }
        StoreControlRequest::RevokeSender { account, sender } => {
            let owner = owner(&account)?;
            house.accounts.revoke_sender(&owner, &sender)?;
            info!(account = owner.address(), sender, "sender address revoked");
        }
        StoreControlRequest::ListGrants { account, skip } => {
            return routing::list_grants(house, &owner(&account)?, skip);
        }
        StoreControlRequest::ChangeBudget { whose, change } => {
            budget::change(house, &whose, change)?;
        }
        StoreControlRequest::ShowBudget { whose } => {
            return Ok(StoreControlAnswer::Budget(house.accounts.budget(&whose)?));
        }
        StoreControlRequest::ShowStatus => return show_status(house),
        StoreControlRequest::WalkStore { work, scope, after } => {
            return tools::walk(house, work, &scope, after.as_deref(), fds);
        }
        StoreControlRequest::ShowJournal => {
            return Ok(StoreControlAnswer::Journal(house.store.journal_state()));
        }
        StoreControlRequest::ShowRecovery => return tools::last_recovery(house, fds),
        StoreControlRequest::ListExpunged {
            address,
            range,
            after,
        } => {
            let owner = known(house, &address)?;
            return tools::list_expunged(house, &owner, &range, after.as_deref(), fds);
        }
        StoreControlRequest::Undelete {
            address,
            range,
            after,
        } => {
            let owner = known(house, &address)?;
            return tools::undelete(house, &owner, &range, after.as_deref());
        }
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

pub(super) fn owner(text: &str) -> Result<Owner, Refusal> {
    address(text).map(|address| Owner::of(&address))
}

/// The user with that address.
fn known(house: &House, text: &str) -> Result<Owner, Refusal> {
    let owner = owner(text)?;
    let user = house.accounts.user(&owner)?;
    user.map(|_| owner).ok_or(Refusal::NoSuchUser)
}

fn add_user(
    house: &House,
    text: &str,
    password: &Secret,
    limits: LimitChange,
) -> Result<(), Refusal> {
    let address = address(text)?;
    house.accounts.check_user_name(&address)?;
    let owner = Owner::of(&address);
    let _alone = house.alone();
    if house.accounts.user(&owner)?.is_some() {
        return Err(Refusal::Exists);
    }
    // Mail of a user that was removed before (or half removed, by a crash) must not become the new user's.
    house.store.set_aside(&owner)?;
    let limits = limits.apply(Limits {
        messages: 0,
        bytes: house.default_quota,
    });
    house.accounts.add_user(&owner, password, limits)?;
    house
        .store
        .ledger()
        .set_user(&owner, limits, Totals::default());
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
    let users = page
        .entries
        .into_iter()
        .map(|account| user_info(house, account))
        .collect::<Result<_, Refusal>>()?;
    Ok(StoreControlAnswer::Users {
        users,
        more: page.more,
    })
}

fn user_info(house: &House, account: Account) -> Result<UserInfo, Refusal> {
    let totals = house.store.user(&account.owner)?.totals()?;
    let address = account.owner.address();
    Ok(UserInfo {
        budget: house.accounts.budget(&Payer::Account(address.clone()))?,
        address,
        limits: account.limits,
        usage: totals.into(),
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
