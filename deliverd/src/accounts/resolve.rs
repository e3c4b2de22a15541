//! From an address to whoever gets its mail.
//!
//! Within a domain the first that matches decides: an exact alias, the user of that name, both again without the tag and, where
//! they do not matter, without dots; regular expressions in the order they were added; the catch-all; for a postmaster who is
//! nobody whoever stands in for it. An exact alias that names its own address means the user itself, so `alice → alice, bob` keeps
//! a copy.

use std::sync::Arc;

use ipc::Refusal;
use ipc::control::AliasKind;
use ipc::routing::{Duty, Found, TraceStep};
use mail::address::Address;

use super::Accounts;
use super::role::is_role;
use super::rules::Ours;
use super::walk::{Steps, Walk};
use crate::store::Owner;

/// Where mail for an address goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) local: Vec<Owner>,
    pub(crate) remote: Vec<String>,
    /// We are a backup for the address: `remote` is the address itself.
    pub(crate) is_relayed: bool,
}

/// The steps from an address, and why mail for it is refused, if it is.
pub(crate) type Trace = (Vec<TraceStep>, Option<Refusal>);

impl Accounts {
    /// What an address leads to, if that was read since the last change. Never blocks.
    pub(crate) fn known(&self, address: &Address) -> Option<Arc<Resolved>> {
        self.known.get(address)
    }

    /// Expands an address. `None`: its domain is not ours.
    pub(crate) fn resolve(&self, address: &Address) -> Result<Option<Arc<Resolved>>, Refusal> {
        // Not remembered: it ends by itself.
        if let Some(sender) = self.original_sender(address)? {
            return Ok(Some(Arc::new(Resolved {
                remote: vec![sender.to_string()],
                ..Resolved::default()
            })));
        }
        let generation = self.known.generation();
        let resolved = self.read(address, &mut Vec::new(), Steps::Forget)?;
        let resolved = resolved.map(Arc::new);
        if let Some(resolved) = &resolved {
            self.known.put(generation, address, resolved);
        }
        Ok(resolved)
    }

    /// The same, told step by step.
    pub(crate) fn trace(&self, address: &Address) -> Result<Trace, Refusal> {
        let first = |found| TraceStep {
            depth: 0,
            address: address.to_string(),
            found,
        };
        match self.original_sender(address) {
            Ok(None) => {}
            Ok(Some(sender)) => {
                return Ok((vec![first(Found::Rewritten(sender.to_string()))], None));
            }
            Err(Refusal::NoSuchUser) => {
                return Ok((vec![first(Found::Nobody)], Some(Refusal::NoSuchUser)));
            }
            Err(fault) => return Err(fault),
        }
        let mut steps = Vec::new();
        match self.read(address, &mut steps, Steps::Keep) {
            Ok(Some(_)) => Ok((steps, None)),
            Ok(None) => Ok((vec![first(Found::Elsewhere)], Some(Refusal::NoSuchDomain))),
            Err(refusal @ (Refusal::NoSuchUser | Refusal::TooManyRecipients)) => {
                Ok((steps, Some(refusal)))
            }
            Err(fault) => Err(fault),
        }
    }

    fn read(
        &self,
        address: &Address,
        steps: &mut Vec<TraceStep>,
        keeps: Steps,
    ) -> Result<Option<Resolved>, Refusal> {
        let name = address.domain().as_str();
        let ours = self.ours(name)?;
        if ours.is_none() && !self.is_home_postmaster(address) {
            return Ok(None);
        }
        let backup = ours.clone().filter(Ours::is_backup);
        let mut walk = Walk::new(self, (name, ours), steps, keeps);
        walk.expand(address, 0)?;
        if walk.local.is_empty() && walk.remote.is_empty() {
            return Err(Refusal::NoSuchUser);
        }
        let Walk { local, remote, .. } = walk;
        let is_relayed = backup.is_some_and(|ours| {
            let named = ours.named(address);
            let is_itself = |text: &String| {
                super::address(text).is_ok_and(|target| ours.named(&target) == named)
            };
            local.is_empty() && remote.iter().all(is_itself)
        });
        Ok(Some(Resolved {
            is_relayed,
            local: local.into_iter().collect(),
            remote: remote.into_iter().collect(),
        }))
    }

    /// The user an address belongs to, however it is written.
    pub(super) fn identity(&self, ours: &Ours, owner: &Owner) -> Result<Option<Owner>, Refusal> {
        for local in [Some(owner.local.as_str()), ours.base(&owner.local)] {
            let Some(local) = local else { continue };
            if let Some(user) = self.user_named(ours, &owner.domain, local)? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    fn user_named(&self, ours: &Ours, domain: &str, local: &str) -> Result<Option<Owner>, Refusal> {
        let owner = |local: String| Owner {
            local,
            domain: domain.to_owned(),
        };
        let exactly = owner(local.to_owned());
        if self.user(&exactly)?.is_some() {
            return Ok(Some(exactly));
        }
        if ours.rules.dots_matter {
            return Ok(None);
        }
        Ok(self.user_without_dots(ours.id, local)?.map(owner))
    }

    fn alias_named(&self, ours: &Ours, local: &str) -> Result<Option<Step>, Refusal> {
        if let Some(targets) = self.exact(ours.id, AliasKind::Exact, local)? {
            return Ok(Some(Step::exact(local.to_owned(), targets)));
        }
        if ours.rules.dots_matter {
            return Ok(None);
        }
        let Some(pattern) = self.alias_without_dots(ours.id, local)? else {
            return Ok(None);
        };
        let targets = self.exact(ours.id, AliasKind::Exact, &pattern)?;
        Ok(targets.map(|targets| Step::exact(pattern, targets)))
    }

    /// What an address of ours leads to, one step; `owner` is whom it names.
    pub(super) fn step(
        &self,
        ours: &Ours,
        address: &Address,
        owner: &Owner,
    ) -> Result<Step, Refusal> {
        for local in [Some(owner.local.as_str()), ours.base(&owner.local)] {
            let Some(local) = local else { continue };
            if let Some(alias) = self.alias_named(ours, local)? {
                return Ok(alias);
            }
            if let Some(user) = self.user_named(ours, &owner.domain, local)? {
                return Ok(Step::User(user));
            }
        }
        for pattern in self.patterns(&owner.domain)?.iter() {
            if let Some(targets) = pattern.expand(address.local()) {
                return Ok(Step::Alias {
                    kind: AliasKind::Regex,
                    pattern: pattern.text.clone(),
                    targets,
                });
            }
        }
        if let Some(targets) = self.exact(ours.id, AliasKind::CatchAll, "")? {
            return Ok(Step::Alias {
                kind: AliasKind::CatchAll,
                pattern: String::new(),
                targets,
            });
        }
        let is_role = is_role(ours.base(&owner.local).unwrap_or(&owner.local));
        match ours.rules.duty {
            Duty::Final if is_role => self.stand_in(owner),
            Duty::Final => Ok(Step::Nobody),
            Duty::BackupForListed if !is_role => Ok(Step::Nobody),
            Duty::BackupForListed | Duty::BackupForAnybody => Ok(Step::Backup),
        }
    }
}

/// What an address leads to.
pub(super) enum Step {
    /// A user.
    User(Owner),
    /// These addresses.
    Alias {
        kind: AliasKind,
        pattern: String,
        targets: Vec<String>,
    },
    /// The address that stands in.
    Role(String),
    /// The better servers of the domain.
    Backup,
    Nobody,
}

impl Step {
    fn exact(pattern: String, targets: Vec<String>) -> Self {
        Self::Alias {
            kind: AliasKind::Exact,
            pattern,
            targets,
        }
    }

    /// The same, for people.
    pub(super) fn found(&self) -> Found {
        match self {
            Self::User(owner) => Found::User(owner.address()),
            Self::Alias {
                kind,
                pattern,
                targets,
            } => Found::Alias {
                kind: *kind,
                pattern: pattern.clone(),
                targets: targets.clone(),
            },
            Self::Role(address) => Found::Role(address.clone()),
            Self::Backup => Found::Backup,
            Self::Nobody => Found::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address;
    use super::super::world::World;
    use super::*;

    #[test]
    fn what_was_resolved_is_known_until_something_changes() {
        let world = World::new();
        let is_known = || {
            let address = address("alice@a.example").unwrap();
            world.accounts.known(&address).is_some()
        };
        assert!(!is_known());
        world.resolve("alice@a.example").unwrap();
        assert!(is_known());
        world.alias(AliasKind::Exact, "alice", &["moved@c.example"]);
        assert!(!is_known());
        let moved = world.resolve("alice@a.example");
        assert_eq!(moved.unwrap(), ["moved@c.example"]);
        let alias = (AliasKind::Exact, "alice");
        world
            .accounts
            .remove_alias("a.example", alias.0, alias.1)
            .unwrap();
        assert!(!is_known());
        world.resolve("alice@a.example").unwrap();
        let alice = Owner::of(&address("alice@a.example").unwrap());
        world.accounts.remove_user(&alice).unwrap();
        assert!(!is_known());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let world = World::new();
        let alice = address("alice@a.example").unwrap();
        let resolved = world.accounts.resolve(&alice).unwrap().unwrap();
        let generation = world.accounts.known.generation();
        world.accounts.add_domain("d.example", None).unwrap();
        world.accounts.known.put(generation, &alice, &resolved);
        assert!(world.accounts.known(&alice).is_none());
    }

    #[test]
    fn a_user_is_found_in_any_letter_case() {
        assert_eq!(
            World::new().resolve("ALICE@A.Example").unwrap(),
            ["alice@a.example"]
        );
    }

    #[test]
    fn a_foreign_domain_is_not_resolved_and_an_unknown_user_is_refused() {
        assert_eq!(
            World::new().resolve("x@c.example"),
            Err(Refusal::NoSuchDomain)
        );
        assert_eq!(
            World::new().resolve("x@a.example"),
            Err(Refusal::NoSuchUser)
        );
    }

    #[test]
    fn exact_comes_before_user_before_regex_in_order_before_catch_all() {
        let world = World::new();
        world.alias(AliasKind::CatchAll, "", &["rest@c.example"]);
        world.alias(AliasKind::Regex, "sales-(.+)", &["first@c.example"]);
        world.alias(
            AliasKind::Regex,
            "sales-.*|alice|bob",
            &["second@c.example"],
        );
        world.alias(AliasKind::Exact, "Sales-X", &["exact@c.example"]);
        world.alias(AliasKind::Exact, "bob", &["moved@c.example"]);
        assert_eq!(
            world.resolve("sales-x@a.example").unwrap(),
            ["exact@c.example"]
        );
        assert_eq!(world.resolve("bob@a.example").unwrap(), ["moved@c.example"]);
        assert_eq!(
            world.resolve("alice@a.example").unwrap(),
            ["alice@a.example"]
        );
        assert_eq!(
            world.resolve("SALES-y@a.example").unwrap(),
            ["first@c.example"]
        );
        assert_eq!(
            world.resolve("sales-@a.example").unwrap(),
            ["second@c.example"]
        );
        assert_eq!(
            world.resolve("other@a.example").unwrap(),
            ["rest@c.example"]
        );
    }

    #[test]
    fn a_regex_matches_the_whole_local_part_only() {
        let world = World::new();
        world.alias(AliasKind::Regex, "x|info", &["alice@a.example"]);
        assert_eq!(
            world.resolve("info@a.example").unwrap(),
            ["alice@a.example"]
        );
        assert_eq!(world.resolve("infos@a.example"), Err(Refusal::NoSuchUser));
        assert_eq!(world.resolve("ainfo@a.example"), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn groups_are_filled_into_targets() {
        let world = World::new();
        world.alias(
            AliasKind::Regex,
            r"(\w+)\.(\w+)",
            &["$1@a.example", "${2}_list@c.example"],
        );
        assert_eq!(
            world.resolve("alice.x@a.example").unwrap(),
            ["alice@a.example", "x_list@c.example"]
        );
    }

    #[test]
    fn an_alias_with_its_own_address_keeps_a_copy() {
        let world = World::new();
        world.alias(
            AliasKind::Exact,
            "alice",
            &["alice@a.example", "bob@a.example"],
        );
        assert_eq!(
            world.resolve("alice@a.example").unwrap(),
            ["alice@a.example", "bob@a.example"]
        );
    }

    #[test]
    fn a_loop_ends_and_delivers_to_nobody() {
        let world = World::new();
        world.alias(AliasKind::Exact, "x", &["y@a.example"]);
        world.alias(AliasKind::Exact, "y", &["x@a.example"]);
        assert_eq!(world.resolve("x@a.example"), Err(Refusal::NoSuchUser));
        world.alias(AliasKind::Regex, "(z.*)", &["z$1@a.example"]);
        assert_eq!(
            world.resolve("z@a.example"),
            Err(Refusal::TooManyRecipients)
        );
    }

    #[test]
    fn an_alias_that_expands_too_far_is_refused() {
        let world = World::new();
        for level in 0..4 {
            let targets: Vec<String> = (0..10)
                .map(|at| format!("l{}-${{1}}{at}@a.example", level + 1))
                .collect();
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            world.alias(AliasKind::Regex, &format!("l{level}-(.*)"), &targets);
        }
        assert_eq!(
            world.resolve("l0-@a.example"),
            Err(Refusal::TooManyRecipients)
        );
    }

    #[test]
    fn an_alias_that_expands_too_far_is_refused_even_if_it_ends_nowhere() {
        let world = World::new();
        for level in 0..3 {
            let targets: Vec<String> = (0..10)
                .map(|at| format!("l{}-${{1}}{at}@a.example", level + 1))
                .collect();
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            world.alias(AliasKind::Regex, &format!("l{level}-(.*)"), &targets);
        }
        // There is no second group, so this is no address.
        world.alias(AliasKind::Regex, "l3-(.*)", &["$2@a.example"]);
        assert_eq!(
            world.resolve("l0-@a.example"),
            Err(Refusal::TooManyRecipients)
        );
    }

    #[test]
    fn a_target_that_was_accepted_is_reached() {
        let world = World::new();
        world.alias(AliasKind::Exact, "x", &["a b@c.example"]);
        world.alias(AliasKind::Regex, "to-(.*)", &["$1@c.example"]);
        assert_eq!(
            world.resolve("x@a.example").unwrap(),
            [r#""a b"@c.example"#]
        );
        assert_eq!(
            world.resolve(r#""to-a b"@a.example"#).unwrap(),
            [r#""a b"@c.example"#]
        );
    }

    #[test]
    fn hostile_addresses_are_matched_literally() {
        let world = World::new();
        for text in [
            r#""x'/**/UNION SELECT 1--"@a.example"#,
            r#""*)(uid=*"@a.example"#,
            r#""%"@a.example"#,
            "_lice@a.example",
        ] {
            assert_eq!(world.resolve(text), Err(Refusal::NoSuchUser), "{text}");
        }
        assert!(matches!(
            world.resolve(r#"""@a.example"#),
            Err(Refusal::Invalid(_))
        ));
        assert_eq!(
            world.resolve("alice@a.example").unwrap(),
            ["alice@a.example"]
        );
    }

    #[test]
    fn a_trace_names_each_step_and_what_matched() {
        let world = World::new();
        world.alias(
            AliasKind::Regex,
            r"team-(\w+)",
            &["$1@a.example", "all@a.example", "x@c.example"],
        );
        world.alias(
            AliasKind::Exact,
            "all",
            &["team-bob@a.example", "no@b.example"],
        );
        let (steps, refusal) = world.trace("Team-Bob@a.example");
        let alias = |kind, pattern: &str, targets: &[&str]| Found::Alias {
            kind,
            pattern: pattern.into(),
            targets: targets.iter().map(ToString::to_string).collect(),
        };
        let expected = [
            (
                0,
                "Team-Bob@a.example",
                alias(
                    AliasKind::Regex,
                    r"team-(\w+)",
                    &["Bob@a.example", "all@a.example", "x@c.example"],
                ),
            ),
            (1, "Bob@a.example", Found::User("bob@a.example".into())),
            (
                1,
                "all@a.example",
                alias(
                    AliasKind::Exact,
                    "all",
                    &["team-bob@a.example", "no@b.example"],
                ),
            ),
            (2, "team-bob@a.example", Found::Loop),
            (2, "no@b.example", Found::Nobody),
            (1, "x@c.example", Found::Elsewhere),
        ];
        let expected = expected.map(|(depth, address, found)| TraceStep {
            depth,
            address: address.into(),
            found,
        });
        assert_eq!((steps, refusal), (expected.to_vec(), None));
    }

    #[test]
    fn a_trace_of_what_is_refused_says_why() {
        let world = World::new();
        let last = |text: &str| {
            let (mut steps, refusal) = world.trace(text);
            (steps.pop().unwrap().found, refusal)
        };
        world.alias(AliasKind::Regex, "(z.*)", &["z$1@a.example"]);
        world.alias(AliasKind::Regex, "(y.*)", &["$2@a.example"]);
        for (address, found, refusal) in [
            ("who@a.example", Found::Nobody, Refusal::NoSuchUser),
            ("y@a.example", Found::NoAddress, Refusal::NoSuchUser),
            ("z@a.example", Found::TooFar, Refusal::TooManyRecipients),
            ("x@c.example", Found::Elsewhere, Refusal::NoSuchDomain),
        ] {
            assert_eq!(last(address), (found, Some(refusal)), "{address}");
        }
    }
}
