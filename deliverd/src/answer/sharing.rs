//! What a session does with mailboxes as a whole, its own and those of others, and who may do what with them (RFC 4314).

use std::sync::Arc;

use daemon::channel::Answered;
use ipc::Refusal;
use ipc::acl::{Rights, RightsChange, SHARED_PER_FRAME};
use ipc::control::StoreControlAnswer;
use ipc::session::{MailboxInfo, SessionAnswer, SpecialUse};
use tracing::info;

use super::reach::{Reached, Visit};
use super::session::Door;
use super::{House, control};
use crate::accounts::Sharer;
use crate::store::{Identifier, MailboxName, Owner, User, Visitor, parse_shared};

/// Users whose mailboxes are looked through for one page.
const OWNERS_PER_PAGE: usize = 50;

/// Any of these shows that a mailbox is there (RFC 4314 §4, MYRIGHTS).
const SHOWING: Rights = Rights::LOOKUP
    .and(Rights::READ)
    .and(Rights::INSERT)
    .and(Rights::CREATE)
    .and(Rights::DELETE)
    .and(Rights::ADMINISTER);

/// What a session is, for work on another thread.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) user: Arc<User>,
    pub(super) owner: Owner,
    pub(super) visitor: Visitor,
}

impl Identity {
    /// The mailbox of that name, whatever may be done with it. A name that could not be a mailbox's is simply not there.
    pub(super) fn find(&self, house: &House, name: &str) -> Result<Reached, Refusal> {
        if parse_shared(name).is_some() {
            let (visit, name) = Visit::begin(house, (&self.owner, &self.visitor), name)?;
            return visit.to(name);
        }
        self.find_own(name)
    }

    pub(super) fn find_own(&self, name: &str) -> Result<Reached, Refusal> {
        let name = MailboxName::parse(name).map_err(|_| Refusal::NoSuchMailbox)?;
        Ok(Reached {
            mailbox: self.user.mailbox(&name)?,
            name,
            visit: None,
        })
    }

    fn create(
        &self,
        house: &House,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> Result<(), Refusal> {
        if parse_shared(name).is_none() {
            return self
                .user
                .create_mailbox(&MailboxName::parse(name)?, special_use);
        }
        let (visit, name) = self.below(house, name)?;
        // What a mailbox is for is for its owner to say.
        if special_use.is_some() {
            return Err(Refusal::NotPermitted);
        }
        visit.user.create_mailbox(&name, None)
    }

    /// A name of another user's below a mailbox where mailboxes may be made.
    // RFC 4314 §4: the right counts on the nearest parent there is.
    fn below(&self, house: &House, name: &str) -> Result<(Arc<Visit>, MailboxName), Refusal> {
        let hidden = |refusal| match refusal {
            Refusal::NoSuchMailbox => Refusal::NoRight,
            refusal => refusal,
        };
        let begun = Visit::begin(house, (&self.owner, &self.visitor), name);
        let (visit, name) = begun.map_err(hidden)?;
        let parents: Vec<_> = name.parents().collect();
        let mut nearest = parents.into_iter().rev();
        let nearest = nearest.find_map(|parent| visit.to(parent).ok());
        let nearest = nearest.ok_or(Refusal::NoRight)?;
        nearest.need(house, Rights::CREATE).map_err(hidden)?;
        Ok((visit, name))
    }

    fn delete(&self, house: &House, name: &str) -> Result<(), Refusal> {
        if parse_shared(name).is_none() {
            return self.user.delete_mailbox(&MailboxName::parse(name)?);
        }
        let reached = self.find(house, name)?;
        reached.need(house, Rights::DELETE)?;
        let visit = reached.visit.as_ref().ok_or(Refusal::NoSuchMailbox)?;
        visit.user.delete_mailbox(&reached.name)?;
        info!(
            owner = visit.address,
            mailbox = reached.name.as_str(),
            "deleted by another user"
        );
        Ok(())
    }

    fn rename(&self, house: &House, from: &str, to: &str) -> Result<(), Refusal> {
        match (parse_shared(from), parse_shared(to)) {
            (None, None) => {
                let (from, to) = (MailboxName::parse(from)?, MailboxName::parse(to)?);
                return self.user.rename_mailbox(&from, &to);
            }
            (Some(_), Some(_)) => {}
            // Mail changes its owner by COPY and MOVE, under the rights that these need.
            (Some(_), None) | (None, Some(_)) => return Err(Refusal::NotPermitted),
        }
        let source = self.find(house, from)?;
        source.need(house, Rights::DELETE)?;
        let (visit, to) = self.below(house, to)?;
        let own = source.visit.as_ref().ok_or(Refusal::NoSuchMailbox)?;
        if own.owner != visit.owner || source.name.is_inbox() {
            return Err(Refusal::NotPermitted);
        }
        // What is below it gets another name, too.
        for child in visit.user.names_below(&source.name) {
            match visit.to(child).and_then(|child| child.rights(house)) {
                Ok(rights) if rights.has(Rights::DELETE) => {}
                Ok(_) => return Err(Refusal::NoRight),
                Err(refusal) => return Err(refusal),
            }
        }
        visit.user.rename_mailbox(&source.name, &to)
    }

    fn read_acl(&self, house: &House, name: &str) -> Result<SessionAnswer, Refusal> {
        let reached = self.find(house, name)?;
        reached.need(house, Rights::ADMINISTER)?;
        let owner = reached.owner(&self.owner);
        let is_present = |text: &str, stamp| house.accounts.is_present(owner, text, stamp);
        Ok(SessionAnswer::Acl {
            entries: reached.mailbox.acl_entries(&owner.address(), is_present)?,
            owner: owner.address(),
        })
    }

    fn change_acl(
        &self,
        house: &House,
        name: &str,
        identifier: &str,
        change: RightsChange,
    ) -> Result<(), Refusal> {
        let reached = self.find(house, name)?;
        reached.need(house, Rights::ADMINISTER)?;
        let owner = reached.owner(&self.owner);
        let user = match &reached.visit {
            Some(visit) => &visit.user,
            None => &self.user,
        };
        change_rights(house, (owner, user), &reached, identifier, change)
    }

    fn list_rights(
        &self,
        house: &House,
        name: &str,
        identifier: &str,
    ) -> Result<SessionAnswer, Refusal> {
        let reached = self.find(house, name)?;
        reached.need(house, Rights::ADMINISTER)?;
        let (given, possible) =
            match house
                .accounts
                .identify(reached.owner(&self.owner), identifier, true)
            {
                Ok(_) => (Rights::NONE, Rights::ALL),
                // The owner.
                Err(Refusal::NotPermitted) => (Rights::ALL, Rights::NONE),
                Err(refusal) => return Err(refusal),
            };
        Ok(SessionAnswer::Rights { given, possible })
    }

    fn my_rights(&self, house: &House, name: &str) -> Result<SessionAnswer, Refusal> {
        let given = self.find(house, name)?.rights(house)?;
        if !given.has_some(SHOWING) {
            return Err(Refusal::NoSuchMailbox);
        }
        let possible = Rights::NONE;
        Ok(SessionAnswer::Rights { given, possible })
    }

    /// A page of what others share with this account. `after` is a name, or the address of a user who was looked through.
    fn list_shared(&self, house: &House, after: Option<&str>) -> Result<SessionAnswer, Refusal> {
        let (passed, mut behind) = match after {
            None => (None, None),
            Some(after) => match parse_shared(after) {
                Some((whose, name)) => (Some(whose), Some(name)),
                None => (Some(after), None),
            },
        };
        let sharers = house.accounts.sharers(&self.owner)?;
        let is_left = |owner: &&Owner| {
            let (address, begun) = (owner.address(), behind.is_some());
            passed.is_none_or(|passed| address.as_str() > passed || begun && address == passed)
        };
        let left: Vec<&Owner> = sharers.iter().filter(is_left).collect();
        let mut mailboxes: Vec<MailboxInfo> = Vec::new();
        for owner in left.iter().take(OWNERS_PER_PAGE) {
            let address = owner.address();
            let behind = behind.take().filter(|_| passed == Some(address.as_str()));
            let room = SHARED_PER_FRAME - mailboxes.len();
            if house.accounts.user(owner)?.is_none() {
                continue;
            }
            let user = house.store.user(owner);
            let found = user.and_then(|user| user.list_for(&address, &self.visitor, behind, room));
            let Ok((mut found, more)) = found else {
                // The fault is logged. What others share is shown all the same.
                continue;
            };
            for one in &mut found {
                one.subscribed = self.user.is_subscribed(&one.name);
            }
            mailboxes.extend(found);
            if more {
                let next = mailboxes.last().map(|last| last.name.clone());
                return Ok(SessionAnswer::SharedMailboxes { mailboxes, next });
            }
        }
        house.store.trim();
        let is_over = left.len() <= OWNERS_PER_PAGE;
        let last = left.get(OWNERS_PER_PAGE - 1).filter(|_| !is_over);
        let next = last.map(|owner| owner.address());
        Ok(SessionAnswer::SharedMailboxes { mailboxes, next })
    }
}

/// Changes what somebody may do with a mailbox of `owner`. It holds at once.
pub(super) fn change_rights(
    house: &House,
    (owner, user): (&Owner, &User),
    reached: &Reached,
    identifier: &str,
    change: RightsChange,
) -> Result<(), Refusal> {
    let gives = match change {
        RightsChange::Set(rights) | RightsChange::Add(rights) => rights != Rights::NONE,
        RightsChange::Remove(_) => false,
    };
    let whom: Identifier = house.accounts.identify(owner, identifier, gives)?;
    let register = Sharer {
        accounts: &house.accounts,
        owner,
    };
    let mailbox = (&reached.name, &reached.mailbox);
    user.change_rights(&owner.address(), mailbox, &whom, change, &register)?;
    house.visits.look_again(house, owner);
    let (mailbox, whom) = (reached.name.as_str(), whom.name());
    info!(
        owner = owner.address(),
        mailbox,
        whom,
        ?change,
        "rights changed"
    );
    Ok(())
}

/// The next mailbox of a user that has a list.
pub(super) fn show(
    house: &House,
    owner: &Owner,
    after: Option<&str>,
) -> Result<StoreControlAnswer, Refusal> {
    let user = house.store.user(owner)?;
    let is_present = |text: &str, stamp| house.accounts.is_present(owner, text, stamp);
    for (name, mailbox) in user.shared_mailboxes()? {
        if after.is_some_and(|after| name.as_str() <= after) {
            continue;
        }
        let entries = mailbox.acl_entries(&owner.address(), is_present)?;
        if !entries.is_empty() {
            let mailbox = Some(name.as_str().to_owned());
            return Ok(StoreControlAnswer::Sharing { mailbox, entries });
        }
    }
    Ok(StoreControlAnswer::Sharing {
        mailbox: None,
        entries: Vec::new(),
    })
}

/// The operator changes what others may do with a mailbox.
pub(super) fn change(
    house: &House,
    owner: &Owner,
    mailbox: &str,
    identifier: &str,
    change: RightsChange,
) -> Result<(), Refusal> {
    let user = house.store.user(owner)?;
    let name = MailboxName::parse(mailbox)?;
    let reached = Reached {
        mailbox: user.mailbox(&name)?,
        name,
        visit: None,
    };
    change_rights(house, (owner, &user), &reached, identifier, change)
}

/// Notes anew who is given rights by a page of users.
pub(super) fn register(house: &House, after: Option<&str>) -> Result<StoreControlAnswer, Refusal> {
    let after = after.map(control::owner).transpose()?;
    let page = house.accounts.users(None, after.as_ref())?;
    let mut users = 0;
    for account in &page.entries {
        let owner = &account.owner;
        let register = Sharer {
            accounts: &house.accounts,
            owner,
        };
        house
            .store
            .user(owner)?
            .register(&owner.address(), &register)?;
        house.visits.look_again(house, owner);
        house.store.let_go(owner);
        users += 1;
    }
    let last = page.entries.last().filter(|_| page.more);
    let next = last.map(|account| account.owner.address());
    Ok(StoreControlAnswer::SharingRegistered { users, next })
}

impl Door {
    async fn with_identity<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Identity, &House) -> Result<T, Refusal> + Send + 'static,
    {
        let me = self.me.clone();
        self.house.work(move |house| work(&me, house)).await
    }

    async fn done<F>(&self, work: F) -> Result<Answered<SessionAnswer>, Refusal>
    where
        F: FnOnce(&Identity, &House) -> Result<(), Refusal> + Send + 'static,
    {
        self.with_identity(work).await?;
        Ok(Answered::plain(SessionAnswer::Done))
    }

    async fn told<F>(&self, work: F) -> Result<Answered<SessionAnswer>, Refusal>
    where
        F: FnOnce(&Identity, &House) -> Result<SessionAnswer, Refusal> + Send + 'static,
    {
        self.with_identity(work).await.map(Answered::plain)
    }

    /// The mailbox of that name, if `needed` may be done with it, and what else may be.
    pub(super) async fn reach(
        &self,
        name: String,
        needed: Rights,
    ) -> Result<(Reached, Rights), Refusal> {
        if parse_shared(&name).is_none() {
            return Ok((self.me.find_own(&name)?, Rights::ALL));
        }
        self.with_identity(move |me, house| {
            let reached = me.find(house, &name)?;
            let rights = reached.need(house, needed)?;
            Ok((reached, rights))
        })
        .await
    }

    /// What may be done with a mailbox, refused if `needed` may not.
    pub(super) async fn allow(&self, reached: &Reached, needed: Rights) -> Result<Rights, Refusal> {
        if reached.visit.is_none() {
            return Ok(Rights::ALL);
        }
        let reached = reached.clone();
        self.house
            .work(move |house| reached.need(house, needed))
            .await
    }

    pub(super) async fn create(
        &self,
        name: String,
        special_use: Option<SpecialUse>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        self.done(move |me, house| me.create(house, &name, special_use))
            .await
    }

    pub(super) async fn delete(&self, name: String) -> Result<Answered<SessionAnswer>, Refusal> {
        self.done(move |me, house| me.delete(house, &name)).await
    }

    pub(super) async fn rename(
        &self,
        from: String,
        to: String,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        self.done(move |me, house| me.rename(house, &from, &to))
            .await
    }

    pub(super) async fn subscribe(
        &self,
        name: String,
        subscribed: bool,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        let name = MailboxName::parse(&name)?;
        self.done(move |me, _| me.user.subscribe(&name, subscribed))
            .await
    }

    pub(super) async fn list_shared(
        &self,
        after: Option<String>,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        self.told(move |me, house| me.list_shared(house, after.as_deref()))
            .await
    }

    pub(super) async fn read_acl(&self, name: String) -> Result<Answered<SessionAnswer>, Refusal> {
        self.told(move |me, house| me.read_acl(house, &name)).await
    }

    pub(super) async fn change_acl(
        &self,
        name: String,
        identifier: String,
        change: RightsChange,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        self.done(move |me, house| me.change_acl(house, &name, &identifier, change))
            .await
    }

    pub(super) async fn list_rights(
        &self,
        name: String,
        identifier: String,
    ) -> Result<Answered<SessionAnswer>, Refusal> {
        self.told(move |me, house| me.list_rights(house, &name, &identifier))
            .await
    }

    pub(super) async fn my_rights(&self, name: String) -> Result<Answered<SessionAnswer>, Refusal> {
        self.told(move |me, house| me.my_rights(house, &name)).await
    }
}
