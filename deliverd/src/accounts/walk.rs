//! An expansion under way: aliases are followed until nothing but users and other servers' addresses is left.

use std::collections::{BTreeSet, HashMap, HashSet};

use ipc::Refusal;
use ipc::routing::{Found, TraceStep};
use mail::address::{Address, Domain};
use tracing::warn;

use super::Accounts;
use super::resolve::Step;
use super::rules::Ours;
use crate::store::Owner;

/// Addresses one recipient may expand to, aliases on the way included.
const MAX_TARGETS: usize = 1000;
/// Aliases that may stand behind one another.
const MAX_DEPTH: u32 = 10;

/// Whether somebody wants to see the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    Keep,
    Forget,
}

/// What was seen and found so far.
pub(super) struct Walk<'a> {
    accounts: &'a Accounts,
    /// Domains that were looked for: each question to the database costs every mail.
    domains: HashMap<String, Option<Ours>>,
    seen: HashSet<Owner>,
    pub(super) local: BTreeSet<Owner>,
    pub(super) remote: BTreeSet<String>,
    steps: &'a mut Vec<TraceStep>,
    keeps: Steps,
}

impl<'a> Walk<'a> {
    /// Begins in a domain that was looked for already.
    pub(super) fn new(
        accounts: &'a Accounts,
        (name, ours): (&str, Option<Ours>),
        steps: &'a mut Vec<TraceStep>,
        keeps: Steps,
    ) -> Self {
        Self {
            accounts,
            domains: HashMap::from([(name.to_owned(), ours)]),
            seen: HashSet::new(),
            local: BTreeSet::new(),
            remote: BTreeSet::new(),
            steps,
            keeps,
        }
    }

    /// Follows an address that so many steps lead to.
    pub(super) fn expand(&mut self, address: &Address, depth: u32) -> Result<(), Refusal> {
        self.check(address, depth)?;
        let Some(ours) = self.domain(address.domain())? else {
            if self.accounts.is_home_postmaster(address) {
                let step = self.accounts.stand_in(&Owner::of(address))?;
                return self.take(address, depth, step);
            }
            self.note(address, depth, || Found::Elsewhere);
            self.remote.insert(address.to_string());
            return self.check(address, depth);
        };
        let owner = ours.named(address);
        // A loop ends where it began: what was seen is not expanded again, but a user that is reached again is meant itself.
        if !self.seen.insert(owner.clone()) {
            return self.reach(address, depth, &ours, &owner);
        }
        if depth > MAX_DEPTH {
            warn!(%address, "an alias leads over too many others");
            self.note(address, depth, || Found::TooFar);
            return Err(Refusal::TooManyRecipients);
        }
        let step = self.accounts.step(&ours, address, &owner)?;
        self.take(address, depth, step)
    }

    fn take(&mut self, address: &Address, depth: u32, step: Step) -> Result<(), Refusal> {
        self.note(address, depth, || step.found());
        match step {
            Step::Nobody => Ok(()),
            Step::User(owner) => {
                self.local.insert(owner);
                self.check(address, depth)
            }
            Step::Backup => {
                self.remote.insert(address.to_string());
                self.check(address, depth)
            }
            Step::Role(target) => self.follow(address, depth, &target),
            Step::Alias { targets, .. } => {
                for target in targets {
                    self.follow(address, depth, &target)?;
                }
                Ok(())
            }
        }
    }

    fn follow(&mut self, address: &Address, depth: u32, target: &str) -> Result<(), Refusal> {
        match super::address(target) {
            Ok(target) => self.expand(&target, depth + 1),
            Err(error) => {
                warn!(alias = %address, target, %error, "a target of an alias is no address");
                if self.keeps == Steps::Keep {
                    self.steps.push(TraceStep {
                        depth: depth + 1,
                        address: target.to_owned(),
                        found: Found::NoAddress,
                    });
                }
                Ok(())
            }
        }
    }

    fn domain(&mut self, domain: &Domain) -> Result<Option<Ours>, Refusal> {
        let name = domain.as_str();
        if let Some(known) = self.domains.get(name) {
            return Ok(known.clone());
        }
        let found = self.accounts.ours(name)?;
        self.domains.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    fn reach(
        &mut self,
        address: &Address,
        depth: u32,
        ours: &Ours,
        owner: &Owner,
    ) -> Result<(), Refusal> {
        let step = if ours.is_backup() {
            Some(Step::Backup)
        } else {
            self.accounts.identity(ours, owner)?.map(Step::User)
        };
        match step {
            Some(step) => self.take(address, depth, step),
            None => {
                self.note(address, depth, || Found::Loop);
                self.check(address, depth)
            }
        }
    }

    fn note(&mut self, address: &Address, depth: u32, found: impl FnOnce() -> Found) {
        if self.keeps == Steps::Keep {
            self.steps.push(TraceStep {
                depth,
                address: address.to_string(),
                found: found(),
            });
        }
    }

    fn check(&mut self, address: &Address, depth: u32) -> Result<(), Refusal> {
        let many = self.seen.len().max(self.local.len() + self.remote.len());
        if many > MAX_TARGETS {
            self.note(address, depth, || Found::TooFar);
            Err(Refusal::TooManyRecipients)
        } else {
            Ok(())
        }
    }
}
