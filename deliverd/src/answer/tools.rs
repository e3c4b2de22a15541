//! The store's tools: walks in pieces, one at a time, behind mail.

use std::os::fd::OwnedFd;
use std::sync::TryLockError;
use std::time::{Duration, Instant};

use ipc::Refusal;
use ipc::control::StoreControlAnswer;
use ipc::tools::{ExpungedRange, Row, Scope, Work, pack};
use tracing::error;

use super::House;
use crate::accounts;
use crate::store::{After, Order, Owner, Piece, Walker, Wanted, give_way};

/// Pages of accounts in a piece, and accounts in a page.
const PAGES: usize = 16;
const PAGE: u32 = if cfg!(test) { 8 } else { 64 };
/// How long accounts are compared in a piece.
const PIECE: Duration = Duration::from_millis(200);

/// Does a piece of a walk. Refused while another one is under way: whoever waited here would keep mail from being worked on.
pub(super) fn walk(
    house: &House,
    work: Work,
    scope: &Scope,
    after: Option<&str>,
    fds: &mut Vec<OwnedFd>,
) -> Result<StoreControlAnswer, Refusal> {
    let mut walker = match house.walker.try_lock() {
        Ok(walker) => walker,
        Err(TryLockError::WouldBlock) => return Err(Refusal::Busy),
        // What it keeps only makes it quicker.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
    };
    let walker = &mut *walker;
    let piece = match work {
        // These hold a mailbox longer than a look, and must not be slow with it.
        Work::Repair | Work::Rebuild | Work::DropText => step(house, walker, work, scope, after),
        Work::Check | Work::Measure | Work::Hash => std::thread::scope(|threads| {
            let stepping = threads.spawn(|| {
                give_way();
                step(house, walker, work, scope, after)
            });
            stepping.join().unwrap_or_else(|_| {
                error!("bug: a piece of a walk over the store panicked");
                Err(Refusal::StorageFault)
            })
        }),
    }?;
    let after = match piece.after {
        After::Place(place) => Some(place),
        After::Tree(_) | After::Nothing => None,
    };
    Ok(StoreControlAnswer::StoreWalked {
        seen: piece.seen,
        within: piece.within,
        rows: put(&piece.rows, fds)?,
        after,
    })
}

/// What the last recovery did.
pub(super) fn last_recovery(
    house: &House,
    fds: &mut Vec<OwnedFd>,
) -> Result<StoreControlAnswer, Refusal> {
    let (summary, rows) = match house.store.last_recovery()? {
        Some((summary, rows)) => (Some(summary), rows),
        None => (None, Vec::new()),
    };
    let rows = put(&rows, fds)?;
    Ok(StoreControlAnswer::Recovery { summary, rows })
}

/// A piece of what a user expunged and can have back.
pub(super) fn list_expunged(
    house: &House,
    owner: &Owner,
    range: &ExpungedRange,
    after: Option<&str>,
    fds: &mut Vec<OwnedFd>,
) -> Result<StoreControlAnswer, Refusal> {
    let (rows, after) = house.store.expunged(owner, &Wanted::read(range)?, after)?;
    let rows = put(&rows, fds)?;
    Ok(StoreControlAnswer::Expunged { rows, after })
}

/// Gives a piece of that back.
pub(super) fn undelete(
    house: &House,
    owner: &Owner,
    range: &ExpungedRange,
    after: Option<&str>,
) -> Result<StoreControlAnswer, Refusal> {
    let restored = house.store.undelete(owner, &Wanted::read(range)?, after)?;
    Ok(StoreControlAnswer::Undeleted {
        messages: restored.messages,
        bytes: restored.bytes,
        after: restored.after,
    })
}

/// Puts rows into a memory file, if there are any; gives how many there are.
fn put(rows: &[Row], fds: &mut Vec<OwnedFd>) -> Result<u32, Refusal> {
    if !rows.is_empty() {
        let packed = pack(rows).map_err(|error| {
            error!(%error, "bug: a row of a walk does not fit into a frame");
            Refusal::StorageFault
        })?;
        let file = sys::memfd::sealed("rows", &packed).map_err(|error| {
            error!(%error, "cannot make a memory file");
            Refusal::Busy
        })?;
        fds.push(file);
    }
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}

fn step(
    house: &House,
    walker: &mut Walker,
    work: Work,
    scope: &Scope,
    after: Option<&str>,
) -> Result<Piece, Refusal> {
    exists(house, scope)?;
    let is_account = |owner: &Owner| Ok(house.accounts.user(owner)?.is_some());
    let order = Order {
        work,
        scope,
        after,
        is_account: &is_account,
    };
    let mut piece = walker.walk(&house.store, &order)?;
    match (work, std::mem::take(&mut piece.after)) {
        (Work::Check | Work::Repair, After::Tree(owner)) => {
            compare_accounts(house, work, scope, owner, &mut piece)?;
        }
        (_, after) => piece.after = after,
    }
    Ok(piece)
}

/// Refuses a domain or user that is neither in the accounts nor in the store.
fn exists(house: &House, scope: &Scope) -> Result<(), Refusal> {
    let (domain, owner) = match scope {
        Scope::Everything => return Ok(()),
        Scope::Domain(name) => (accounts::domain(name)?.as_str().to_owned(), None),
        Scope::User(user) | Scope::Mailbox { user, .. } => {
            let owner = Owner::of(&accounts::address(user)?);
            (owner.domain.clone(), Some(owner))
        }
    };
    if house.store.has_directory(scope)? {
        return Ok(());
    }
    if !house.accounts.is_local(&domain)? {
        return Err(Refusal::NoSuchDomain);
    }
    match (scope, owner) {
        (Scope::Mailbox { .. }, _) => Err(Refusal::NoSuchMailbox),
        (_, Some(owner)) if house.accounts.user(&owner)?.is_none() => Err(Refusal::NoSuchUser),
        _ => Ok(()),
    }
}

/// Goes through accounts, and on behind `owner` with the next piece.
fn compare_accounts(
    house: &House,
    work: Work,
    scope: &Scope,
    owner: Option<Owner>,
    piece: &mut Piece,
) -> Result<(), Refusal> {
    let began = Instant::now();
    let repair = work == Work::Repair;
    let mut compare = |owner: &Owner| {
        // A user that is just being added has an account before it has a directory.
        let _alone = house.alone();
        if house.accounts.user(owner)?.is_some() {
            piece
                .rows
                .extend(house.store.compare_account(owner, repair)?);
        }
        Ok::<_, Refusal>(())
    };
    let only = match scope {
        Scope::Everything => None,
        Scope::Domain(name) => Some(accounts::domain(name)?.as_str().to_owned()),
        Scope::User(user) => return compare(&Owner::of(&accounts::address(user)?)),
        Scope::Mailbox { .. } => return Ok(()),
    };
    let mut at = owner.unwrap_or_else(|| Owner {
        local: String::new(),
        domain: only.clone().unwrap_or_default(),
    });
    for _ in 0..PAGES {
        let locals = house.accounts.locals(&at.domain, &at.local, PAGE)?;
        for local in &locals {
            at.local.clone_from(local);
            compare(&at)?;
            if began.elapsed() >= PIECE {
                piece.after = After::accounts(at);
                return Ok(());
            }
        }
        if locals.is_empty() {
            // The domain is done.
            let next = match only {
                Some(_) => None,
                None => house
                    .accounts
                    .domains(Some(&at.domain))?
                    .entries
                    .into_iter()
                    .next(),
            };
            let Some(domain) = next else { return Ok(()) };
            at = Owner {
                local: String::new(),
                domain: domain.name,
            };
        }
    }
    piece.after = After::accounts(at);
    Ok(())
}
