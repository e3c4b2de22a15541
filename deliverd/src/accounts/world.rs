//! For the tests of routing: a database with two domains and two users.

use ipc::Refusal;
use ipc::control::{Alias, AliasKind};
use ipc::routing::{AddressRules, RulesChange};

use super::resolve::Trace;
use super::{Accounts, Policy, address};
use crate::store::Owner;

pub(super) struct World {
    _temp: tempfile::TempDir,
    pub(super) accounts: Accounts,
}

impl World {
    /// Domains `a.example`, which is the first, and `b.example`; users alice and bob at the first.
    pub(super) fn new() -> Self {
        let policy = Policy {
            home: "a.example".into(),
            ..Policy::default()
        };
        let world = Self::with(policy);
        world.user("alice@a.example");
        world.user("bob@a.example");
        world
    }

    /// The same without users.
    pub(super) fn with(policy: Policy) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::cheap_with(temp.path(), policy);
        accounts.add_domain("a.example", None).unwrap();
        accounts.add_domain("b.example", None).unwrap();
        Self {
            _temp: temp,
            accounts,
        }
    }

    pub(super) fn user(&self, user: &str) {
        self.try_user(user).unwrap();
    }

    pub(super) fn try_user(&self, user: &str) -> Result<(), Refusal> {
        let owner = Owner::of(&address(user)?);
        let password = ipc::Secret::new("password");
        self.accounts
            .add_user(&owner, &password, ipc::quota::Limits::default())
    }

    pub(super) fn alias(&self, kind: AliasKind, pattern: &str, targets: &[&str]) {
        self.try_alias(kind, pattern, targets).unwrap();
    }

    pub(super) fn try_alias(
        &self,
        kind: AliasKind,
        pattern: &str,
        targets: &[&str],
    ) -> Result<(), Refusal> {
        self.try_alias_of("a.example", kind, pattern, targets)
    }

    pub(super) fn try_alias_of(
        &self,
        domain: &str,
        kind: AliasKind,
        pattern: &str,
        targets: &[&str],
    ) -> Result<(), Refusal> {
        let targets = targets.iter().map(|target| (*target).to_owned()).collect();
        self.accounts.add_alias(&Alias {
            domain: domain.into(),
            kind,
            pattern: pattern.into(),
            targets,
        })
    }

    pub(super) fn rules(&self, name: &str, change: &RulesChange) -> Result<AddressRules, Refusal> {
        self.accounts.set_rules(name, change)
    }

    /// All addresses that one leads to.
    pub(super) fn resolve(&self, text: &str) -> Result<Vec<String>, Refusal> {
        let resolved = self
            .accounts
            .resolve(&address(text)?)?
            .ok_or(Refusal::NoSuchDomain)?;
        Ok(resolved
            .local
            .iter()
            .map(Owner::address)
            .chain(resolved.remote.iter().cloned())
            .collect())
    }

    pub(super) fn trace(&self, text: &str) -> Trace {
        self.accounts.trace(&address(text).unwrap()).unwrap()
    }

    pub(super) fn is_relayed(&self, text: &str) -> bool {
        let address = address(text).unwrap();
        self.accounts.resolve(&address).unwrap().unwrap().is_relayed
    }

    pub(super) fn may_send(&self, user: &str, sender: &str) -> bool {
        let owner = Owner::of(&address(user).unwrap());
        self.accounts
            .may_send_as(&owner, &address(sender).unwrap())
            .unwrap()
    }
}
