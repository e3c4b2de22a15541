//! Quota: how much users, domains and tenants may store, and how much they do.
//!
//! One [`Ledger`] in memory has the figures of all three. Room for messages is set aside ([`Hold`]) before a mailbox gets them,
//! and what is set aside becomes usage in one step with the mailbox's lock held ([`Tally`]).
//!
//! Invariant: what is used and set aside together exceeds no limit by anything that asked for room. Over it goes only who had a
//! limit lowered, or files put into the store by hand.
//!
//! A user's usage is what its mailboxes have. Until all of them were counted ([`Member::is_exact`]) it is what was known before
//! the start, with all changes since.

mod kept;
mod tally;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::quota::{Limits, Usage};

pub(crate) use self::tally::Hold;
pub(super) use self::tally::{Change, Tally};
use super::Owner;
use super::mailbox::Totals;

/// How long it is remembered that a message of unknown size did not fit: senders try again within minutes or hours.
const MEMORY: Duration = Duration::from_secs(4 * 3600);

/// Figures of all users, domains and tenants. Its lock is the last one taken.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    tenants: HashMap<String, Figures>,
    domains: HashMap<String, Domain>,
    /// Number of the user who joined last.
    last: u64,
    /// Users whose usage is not what was written down.
    stale: Vec<Owner>,
}

#[derive(Debug, Default)]
struct Domain {
    tenant: Option<String>,
    figures: Figures,
    users: HashMap<String, User>,
}

#[derive(Debug, Default)]
struct User {
    /// Never given again: who was a member before a removal is none after it.
    number: u64,
    figures: Figures,
    /// Sum over the mailboxes counted so far.
    counted: Totals,
    /// Whether that is all of them.
    is_exact: bool,
    is_stale: bool,
    /// Whether it was counted what is kept of what was expunged.
    knows_kept: bool,
    /// Bytes of a delivery there was no room for.
    refused: Option<(u64, Instant)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Figures {
    limits: Limits,
    used: Totals,
    held: Totals,
    /// Bytes kept of what was expunged.
    kept: u64,
}

/// The figures a user's messages count in.
struct Levels<'a> {
    user: &'a mut User,
    domain: &'a mut Figures,
    tenant: Option<&'a mut Figures>,
}

/// A user in the ledger. After the user's removal it counts nothing and gets no room.
#[derive(Debug)]
pub(crate) struct Member {
    ledger: Arc<Ledger>,
    owner: Owner,
    number: u64,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a tenant, or changes its limits.
    pub(crate) fn set_tenant(&self, name: &str, limits: Limits) {
        self.books()
            .tenants
            .entry(name.to_owned())
            .or_default()
            .limits = limits;
    }

    /// Forgets a tenant; its domains have been given to others.
    pub(crate) fn remove_tenant(&self, name: &str) {
        self.books().tenants.remove(name);
    }

    /// Enters a domain, or changes its limits.
    pub(crate) fn set_domain(&self, name: &str, limits: Limits) {
        self.books()
            .domains
            .entry(name.to_owned())
            .or_default()
            .figures
            .limits = limits;
    }

    /// Gives a domain, with all that is used and set aside, to a tenant or to none.
    pub(crate) fn assign_domain(&self, name: &str, tenant: Option<&str>) {
        let mut books = self.books();
        let Books {
            tenants, domains, ..
        } = &mut *books;
        let domain = domains.entry(name.to_owned()).or_default();
        let Figures {
            used, held, kept, ..
        } = domain.figures;
        if let Some(old) = domain.tenant.take().and_then(|old| tenants.get_mut(&old)) {
            old.used = old.used.minus(used);
            old.held = old.held.minus(held);
            old.kept = old.kept.saturating_sub(kept);
        }
        domain.tenant = tenant.map(str::to_owned);
        if let Some(new) = tenant.and_then(|new| tenants.get_mut(new)) {
            new.used = new.used.plus(used);
            new.held = new.held.plus(held);
            new.kept = new.kept.saturating_add(kept);
        }
    }

    /// Forgets a domain; its users have been removed.
    pub(crate) fn remove_domain(&self, name: &str) {
        self.assign_domain(name, None);
        self.books().domains.remove(name);
    }

    /// Enters a user with the usage that was written down, or changes a user's limits.
    pub(crate) fn set_user(&self, owner: &Owner, limits: Limits, known: Totals) {
        let mut books = self.books();
        let number = books.join(owner);
        if let Some(mut levels) = books.levels(owner, number) {
            levels.user.figures.limits = limits;
            let used = levels.user.figures.used;
            levels.use_instead(
                used,
                if used == Totals::default() {
                    known
                } else {
                    used
                },
            );
        }
    }

    /// Changes a user's limits.
    pub(crate) fn limit_user(&self, owner: &Owner, limits: Limits) {
        let mut books = self.books();
        let user = books.domains.get_mut(&owner.domain);
        if let Some(user) = user.and_then(|domain| domain.users.get_mut(&owner.local)) {
            user.figures.limits = limits;
        }
    }

    /// Forgets a user: nothing of it counts any more.
    pub(crate) fn remove_user(&self, owner: &Owner) {
        let mut books = self.books();
        let number = books.number(owner);
        if let Some(mut levels) = number.and_then(|number| books.levels(owner, number)) {
            let Figures { used, held, .. } = levels.user.figures;
            levels.use_instead(used, Totals::default());
            levels.hold_instead(held, Totals::default());
        }
        if let Some(number) = number {
            books.forget_kept(owner, number);
        }
        if let Some(domain) = books.domains.get_mut(&owner.domain) {
            domain.users.remove(&owner.local);
        }
    }

    /// The user's entry, if there is such a user.
    pub(crate) fn member(self: &Arc<Self>, owner: &Owner) -> Option<Arc<Member>> {
        let number = self.books().number(owner)?;
        Some(self.found(owner, number))
    }

    /// The user's entry; one without limits is made if there is none.
    pub(super) fn join(self: &Arc<Self>, owner: &Owner) -> Arc<Member> {
        let number = self.books().join(owner);
        self.found(owner, number)
    }

    fn found(self: &Arc<Self>, owner: &Owner, number: u64) -> Arc<Member> {
        Arc::new(Member {
            ledger: Arc::clone(self),
            owner: owner.clone(),
            number,
        })
    }

    /// Domains whose users together may not store as much as they like.
    pub(crate) fn limited_domains(&self) -> Vec<String> {
        let books = self.books();
        let is_limited = |figures: &Figures| figures.limits != Limits::default();
        let limited = books.domains.iter().filter(|(_, domain)| {
            let tenant = domain
                .tenant
                .as_ref()
                .and_then(|name| books.tenants.get(name));
            is_limited(&domain.figures) || tenant.is_some_and(is_limited)
        });
        limited.map(|(name, _)| name.clone()).collect()
    }

    /// What a domain stores.
    pub(crate) fn domain_usage(&self, name: &str) -> Usage {
        let books = self.books();
        let domain = books.domains.get(name);
        domain.map_or_else(Usage::default, |domain| domain.figures.used.into())
    }

    /// What a tenant stores, and how many domains it has.
    pub(crate) fn tenant_usage(&self, name: &str) -> (Usage, u64) {
        let books = self.books();
        let usage = books.tenants.get(name).copied().unwrap_or_default().used;
        let is_its = |domain: &&Domain| domain.tenant.as_deref() == Some(name);
        (
            usage.into(),
            books.domains.values().filter(is_its).count() as u64,
        )
    }

    /// Up to `most` users whose usage is not what was written down, with what it is now. The caller writes it.
    pub(crate) fn stale(&self, most: usize) -> Vec<(Owner, Totals)> {
        let mut books = self.books();
        let from = books.stale.len().saturating_sub(most);
        let owners = books.stale.split_off(from);
        let mut found = Vec::with_capacity(owners.len());
        for owner in owners {
            let user = books.domains.get_mut(&owner.domain);
            if let Some(user) = user.and_then(|domain| domain.users.get_mut(&owner.local)) {
                user.is_stale = false;
                found.push((owner, user.figures.used));
            }
        }
        found
    }

    /// These could not be written down.
    pub(crate) fn still_stale(&self, owners: Vec<(Owner, Totals)>) {
        let mut books = self.books();
        for (owner, _) in owners {
            if let Some(number) = books.number(&owner) {
                books.note_stale(&owner, number);
            }
        }
    }

    /// Fails if a sum is none, or a limit is exceeded.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let books = self.books();
        let sum = |figures: &mut dyn Iterator<Item = &Figures>| {
            figures.fold(
                (Totals::default(), Totals::default()),
                |(used, held), one| (used.plus(one.used), held.plus(one.held)),
            )
        };
        let exceeds = |one: &Figures| {
            let all = one.used.plus(one.held);
            let over = |limit, all| limit != 0 && all > limit;
            over(one.limits.messages, all.messages) || over(one.limits.bytes, all.bytes)
        };
        for (name, domain) in &books.domains {
            let users = sum(&mut domain.users.values().map(|user| &user.figures));
            assert_eq!(users, (domain.figures.used, domain.figures.held), "{name}");
            let mut all = domain.users.values().map(|user| &user.figures);
            assert!(
                !all.any(exceeds) && !exceeds(&domain.figures),
                "{name}: {domain:?}"
            );
        }
        for (name, tenant) in &books.tenants {
            let its = |domain: &&Domain| domain.tenant.as_ref() == Some(name);
            let domains = books.domains.values().filter(its);
            let domains = sum(&mut domains.map(|domain| &domain.figures));
            assert_eq!(domains, (tenant.used, tenant.held), "{name}");
            assert!(!exceeds(tenant), "{name}: {tenant:?}");
        }
    }

    fn settle(&self, member: &Member, changes: &[Change]) {
        let mut books = self.books();
        let Some(mut levels) = books.levels(&member.owner, member.number) else {
            return;
        };
        let used = levels.user.figures.used;
        let mut now = used;
        for change in changes {
            let before = change.before.unwrap_or_default();
            levels.user.counted = levels.user.counted.minus(before).plus(change.now);
            // What is found in a mailbox at its first use has been in the sum all the time, unless the sum is of counted ones.
            if change.before.is_some() || levels.user.is_exact {
                now = now.plus(change.now).minus(before);
            }
            levels.hold_instead(change.granted, Totals::default());
        }
        levels.use_instead(used, now);
        if used != now {
            books.note_stale(&member.owner, member.number);
        }
    }

    /// Has every one of the holds be of `amount`, or leaves them all as they are.
    fn resize(&self, holds: &mut [Hold], amount: Totals) -> Result<(), Refusal> {
        let mut books = self.books();
        let mut refusal = None;
        let mut done = 0;
        for hold in &*holds {
            let Some(mut levels) = books.levels(&hold.member.owner, hold.member.number) else {
                refusal = Some(Refusal::NoSuchUser);
                break;
            };
            if !levels.has_room(hold.amount, amount) {
                refusal = Some(Refusal::OverQuota);
                break;
            }
            levels.hold_instead(hold.amount, amount);
            done += 1;
        }
        if let Some(refusal) = refusal {
            for hold in &holds[..done] {
                if let Some(mut levels) = books.levels(&hold.member.owner, hold.member.number) {
                    levels.hold_instead(amount, hold.amount);
                }
            }
            return Err(refusal);
        }
        for hold in holds {
            hold.amount = amount;
        }
        Ok(())
    }
}

impl Books {
    fn number(&self, owner: &Owner) -> Option<u64> {
        let user = self.domains.get(&owner.domain)?.users.get(&owner.local)?;
        Some(user.number)
    }

    fn join(&mut self, owner: &Owner) -> u64 {
        if let Some(number) = self.number(owner) {
            return number;
        }
        self.last += 1;
        let user = User {
            number: self.last,
            ..User::default()
        };
        let domain = self.domains.entry(owner.domain.clone()).or_default();
        domain.users.insert(owner.local.clone(), user);
        self.last
    }

    fn levels(&mut self, owner: &Owner, number: u64) -> Option<Levels<'_>> {
        let domain = self.domains.get_mut(&owner.domain)?;
        let user = domain.users.get_mut(&owner.local)?;
        if user.number != number {
            return None;
        }
        let tenant = domain.tenant.as_ref();
        Some(Levels {
            user,
            domain: &mut domain.figures,
            tenant: tenant.and_then(|tenant| self.tenants.get_mut(tenant)),
        })
    }

    fn note_stale(&mut self, owner: &Owner, number: u64) {
        if let Some(levels) = self.levels(owner, number)
            && !std::mem::replace(&mut levels.user.is_stale, true)
        {
            self.stale.push(owner.clone());
        }
    }
}

impl Levels<'_> {
    fn all(&mut self) -> impl Iterator<Item = &mut Figures> {
        let tenant = self.tenant.as_deref_mut();
        [&mut self.user.figures, &mut *self.domain]
            .into_iter()
            .chain(tenant)
    }

    /// Whether `after` may be set aside where `before` is.
    fn has_room(&mut self, before: Totals, after: Totals) -> bool {
        self.all().all(|figures| {
            let Figures {
                limits, used, held, ..
            } = *figures;
            let sum = used.plus(held.minus(before)).plus(after);
            let fits = |limit, sum, before, after| limit == 0 || sum <= limit || after <= before;
            fits(
                limits.messages,
                sum.messages,
                before.messages,
                after.messages,
            ) && fits(limits.bytes, sum.bytes, before.bytes, after.bytes)
        })
    }

    fn hold_instead(&mut self, before: Totals, after: Totals) {
        for figures in self.all() {
            figures.held = figures.held.minus(before).plus(after);
        }
    }

    fn use_instead(&mut self, before: Totals, after: Totals) {
        for figures in self.all() {
            figures.used = figures.used.minus(before).plus(after);
        }
    }
}

impl Member {
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    fn look<T>(&self, look: impl FnOnce(&mut Levels<'_>) -> T) -> Option<T> {
        let mut books = self.ledger.books();
        books
            .levels(&self.owner, self.number)
            .map(|mut levels| look(&mut levels))
    }

    /// Usage and limits.
    pub(crate) fn figures(&self) -> (Totals, Limits) {
        self.look(|levels| (levels.user.figures.used, levels.user.figures.limits))
            .unwrap_or_default()
    }

    /// Whether all mailboxes of the user were counted.
    pub(crate) fn is_exact(&self) -> bool {
        self.look(|levels| levels.user.is_exact).unwrap_or(true)
    }

    /// Whether it depends on the user's usage what it, its domain or its tenant may store.
    pub(crate) fn is_limited(&self) -> bool {
        self.look(|levels| levels.all().any(|one| one.limits != Limits::default()))
            .unwrap_or(false)
    }

    /// Whether room can be set aside without counting its mailboxes first: what is not limited need not be known.
    pub(crate) fn is_counted(&self) -> bool {
        !self.is_limited() || self.is_exact()
    }

    /// All mailboxes of the user were counted: what they have is its usage.
    pub(super) fn set_exact(&self) {
        let mut books = self.ledger.books();
        let Some(mut levels) = books.levels(&self.owner, self.number) else {
            return;
        };
        let (used, counted) = (levels.user.figures.used, levels.user.counted);
        levels.user.is_exact = true;
        levels.use_instead(used, counted);
        books.note_stale(&self.owner, self.number);
    }

    /// The user's mailboxes leave memory: its usage stays, and is what was known before the next ones are counted.
    pub(super) fn set_known(&self) {
        self.look(|levels| {
            levels.user.is_exact = false;
            levels.user.counted = Totals::default();
        });
    }

    /// Bytes that a delivery of unknown size must be expected to have: those of one that was refused lately.
    pub(crate) fn expected(&self) -> u64 {
        self.look(|levels| match levels.user.refused {
            Some((bytes, at)) if at.elapsed() < MEMORY => bytes,
            _ => 0,
        })
        .unwrap_or(0)
    }
}

/// Sets aside `amount` for each of the members, in their order: for all or for none. What is `held` already is used for it, and
/// what is held for others is given up.
///
/// # Errors
/// [`Refusal::OverQuota`], or [`Refusal::NoSuchUser`] for one that was removed.
pub(super) fn reserve(
    held: Vec<Hold>,
    members: &[Arc<Member>],
    amount: Totals,
) -> Result<Vec<Hold>, Refusal> {
    let mut held: HashMap<u64, Hold> = held
        .into_iter()
        .map(|hold| (hold.member.number, hold))
        .collect();
    let mut holds: Vec<Hold> = members
        .iter()
        .map(|member| {
            let held = held.remove(&member.number);
            held.unwrap_or_else(|| Hold::nothing(member))
        })
        .collect();
    drop(held);
    if let Some(first) = members.first() {
        first.ledger.resize(&mut holds, amount)?;
    }
    Ok(holds)
}

/// Remembers who of the members has no room for a delivery of so many bytes, so that those are refused by name when its sender,
/// who does not say its size, tries again.
pub(super) fn remember(members: &[Arc<Member>], amount: Totals) {
    for member in members {
        member.look(|levels| {
            if !levels.has_room(Totals::default(), amount) {
                levels.user.refused = Some((amount.bytes, Instant::now()));
            }
        });
    }
}
