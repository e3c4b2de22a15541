//! Aliases: where mail for an address goes.
//!
//! Within a domain the first that matches decides: an exact alias, the user of that name, regular expressions in the order they
//! were added, the catch-all. An exact alias that names its own address means the user itself, so `alice → alice, bob` keeps a
//! copy.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use ipc::Refusal;
use ipc::control::{Alias, AliasKind};
use mail::address::Address;
use regex::{Regex, RegexBuilder};
use rusqlite::{OptionalExtension, params};
use tracing::warn;

use super::directory::{PAGE, Page, found, unique};
use super::{Accounts, address, domain};
use crate::fault::OrFault;
use crate::store::Owner;

/// Addresses one recipient may expand to, aliases on the way included.
const MAX_TARGETS: usize = 1000;
/// Aliases that may stand behind one another.
const MAX_DEPTH: usize = 10;
/// Bytes of a regular expression, as text and compiled.
const MAX_PATTERN: usize = 250;
const MAX_COMPILED: usize = 1 << 20;
/// Targets of one alias, so that a page of aliases fits into a frame.
const MAX_ALIAS_TARGETS: usize = 25;
const MAX_TARGETS_LEN: usize = 600;
/// Aliases one domain may have with regular expressions: each is tried for each recipient.
const MAX_PATTERNS: usize = 1000;

/// A compiled alias.
pub(super) struct Pattern {
    regex: Regex,
    targets: Vec<String>,
}

/// Where mail for an address goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) local: Vec<Owner>,
    pub(crate) remote: Vec<String>,
}

impl Accounts {
    /// What an address leads to, if that was read since the last change. Never blocks.
    pub(crate) fn known(&self, address: &Address) -> Option<Arc<Resolved>> {
        self.known.get(address)
    }

    /// Expands an address. `None`: its domain is not ours.
    pub(crate) fn resolve(&self, address: &Address) -> Result<Option<Arc<Resolved>>, Refusal> {
        let generation = self.known.generation();
        let resolved = self.read(address)?.map(Arc::new);
        if let Some(resolved) = &resolved {
            self.known.put(generation, address, resolved);
        }
        Ok(resolved)
    }

    fn read(&self, address: &Address) -> Result<Option<Resolved>, Refusal> {
        let name = address.domain().as_str();
        let Some(domain) = self.domain_id(name)? else {
            return Ok(None);
        };
        let mut walk = Walk {
            accounts: self,
            domains: HashMap::from([(name.to_owned(), Some(domain))]),
            seen: HashSet::new(),
            local: BTreeSet::new(),
            remote: BTreeSet::new(),
        };
        walk.expand(address, 0)?;
        if walk.local.is_empty() && walk.remote.is_empty() {
            return Err(Refusal::NoSuchUser);
        }
        Ok(Some(Resolved {
            local: walk.local.into_iter().collect(),
            remote: walk.remote.into_iter().collect(),
        }))
    }

    /// Whether `owner` may send as `sender`: its own address, or an alias that leads to it.
    pub(crate) fn may_send_as(&self, owner: &Owner, sender: &Address) -> Result<bool, Refusal> {
        let sender_owner = Owner::of(sender);
        if sender_owner == *owner {
            return Ok(true);
        }
        // Another user's address stays that user's, even if copies of its mail go to this one.
        if self.user(&sender_owner)?.is_some() {
            return Ok(false);
        }
        match self.resolve(sender) {
            Ok(Some(resolved)) => Ok(resolved.local.contains(owner)),
            Ok(None) | Err(Refusal::NoSuchUser) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Adds an alias; a regular expression goes behind those there are.
    pub(crate) fn add_alias(&self, alias: &Alias) -> Result<(), Refusal> {
        let domain = domain(&alias.domain)?;
        let Some(id) = self.domain_id(domain.as_str())? else {
            return Err(Refusal::NoSuchDomain);
        };
        let pattern = check_pattern(alias, &domain)?;
        check_targets(alias)?;
        let targets = serde_json::to_string(&alias.targets).map_err(|_| Refusal::StorageFault)?;
        if alias.kind == AliasKind::Regex && self.patterns(domain.as_str())?.len() >= MAX_PATTERNS {
            return Err(Refusal::Invalid(format!(
                "{domain} has {MAX_PATTERNS} regular expressions already"
            )));
        }
        unique(self.database().execute(
            "INSERT INTO aliases (domain, kind, pattern, targets) VALUES (?1, ?2, ?3, ?4)",
            params![id, number(alias.kind), pattern, targets],
        ))?;
        self.forget_patterns(domain.as_str());
        Ok(())
    }

    /// Removes an alias.
    pub(crate) fn remove_alias(
        &self,
        name: &str,
        kind: AliasKind,
        pattern: &str,
    ) -> Result<(), Refusal> {
        let name = domain(name)?;
        let pattern = if kind == AliasKind::Exact {
            pattern.to_lowercase()
        } else {
            pattern.to_owned()
        };
        let removed = self.database().execute(
            "DELETE FROM aliases WHERE domain = (SELECT id FROM domains WHERE name = ?1) AND kind = ?2 AND pattern = ?3",
            params![name.as_str(), number(kind), pattern],
        );
        self.forget_patterns(name.as_str());
        found(removed, "remove an alias")
    }

    /// A page of a domain's aliases in matching order.
    pub(crate) fn aliases(&self, name: &str, skip: u32) -> Result<Page<Alias>, Refusal> {
        let name = domain(name)?;
        let Some(id) = self.domain_id(name.as_str())? else {
            return Err(Refusal::NoSuchDomain);
        };
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT kind, pattern, targets FROM aliases WHERE domain = ?1
                 ORDER BY kind, CASE kind WHEN 0 THEN pattern ELSE '' END, id LIMIT ?2 OFFSET ?3",
            )
            .or_fault("list aliases")?;
        let rows = select
            .query_map(params![id, PAGE, skip], |row| {
                Ok(Alias {
                    domain: name.as_str().to_owned(),
                    kind: kind(row.get(0)?),
                    pattern: row.get(1)?,
                    targets: targets(&row.get::<_, String>(2)?),
                })
            })
            .or_fault("list aliases")?;
        Ok(Page::cut(
            rows.collect::<rusqlite::Result<_>>()
                .or_fault("list aliases")?,
        ))
    }

    pub(super) fn has_exact_alias(&self, domain: i64, local: &str) -> Result<bool, Refusal> {
        Ok(self.exact(domain, AliasKind::Exact, local)?.is_some())
    }

    fn exact(
        &self,
        domain: i64,
        kind: AliasKind,
        pattern: &str,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT targets FROM aliases WHERE domain = ?1 AND kind = ?2 AND pattern = ?3",
            )
            .or_fault("read aliases")?;
        let found: Option<String> = select
            .query_row(params![domain, number(kind), pattern], |row| row.get(0))
            .optional()
            .or_fault("read aliases")?;
        Ok(found.map(|text| targets(&text)))
    }

    /// The regular expressions of a domain, compiled once.
    fn patterns(&self, domain: &str) -> Result<Arc<Vec<Pattern>>, Refusal> {
        // The lock is held while reading, so that a change cannot slip in between reading and remembering.
        let mut cache = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(patterns) = cache.get(domain) {
            return Ok(Arc::clone(patterns));
        }
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT pattern, targets FROM aliases JOIN domains ON domains.id = aliases.domain
                 WHERE name = ?1 AND kind = ?2 ORDER BY aliases.id",
            )
            .or_fault("read aliases")?;
        let rows = select
            .query_map(params![domain, number(AliasKind::Regex)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .or_fault("read aliases")?;
        let rows: Vec<(String, String)> = rows
            .collect::<rusqlite::Result<_>>()
            .or_fault("read aliases")?;
        let mut patterns = Vec::with_capacity(rows.len());
        for (pattern, text) in rows {
            match compile(&pattern) {
                Ok(regex) => patterns.push(Pattern {
                    regex,
                    targets: targets(&text),
                }),
                Err(error) => warn!(domain, pattern, %error, "a regular expression is passed over"),
            }
        }
        let patterns = Arc::new(patterns);
        cache.insert(domain.to_owned(), Arc::clone(&patterns));
        Ok(patterns)
    }

    pub(super) fn forget_patterns(&self, domain: &str) {
        self.patterns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(domain);
        // Somebody may have resolved with them since the database changed.
        self.known.forget();
    }

    /// What an address of ours leads to, one step.
    fn step(&self, domain: i64, owner: &Owner) -> Result<Step, Refusal> {
        if let Some(targets) = self.exact(domain, AliasKind::Exact, &owner.local)? {
            return Ok(Step::To(targets));
        }
        if self.user(owner)?.is_some() {
            return Ok(Step::User);
        }
        for pattern in self.patterns(&owner.domain)?.iter() {
            if let Some(found) = pattern.regex.captures(&owner.local) {
                let expand = |target: &String| {
                    let mut text = String::new();
                    found.expand(target, &mut text);
                    text
                };
                return Ok(Step::To(pattern.targets.iter().map(expand).collect()));
            }
        }
        let catch_all = self.exact(domain, AliasKind::CatchAll, "")?;
        Ok(catch_all.map_or(Step::Nobody, Step::To))
    }
}

/// What an address leads to.
enum Step {
    /// The user of that name.
    User,
    /// These addresses.
    To(Vec<String>),
    Nobody,
}

/// An expansion under way.
struct Walk<'a> {
    accounts: &'a Accounts,
    /// Domains that were looked for: each question to the database costs every mail.
    domains: HashMap<String, Option<i64>>,
    seen: HashSet<String>,
    local: BTreeSet<Owner>,
    remote: BTreeSet<String>,
}

impl Walk<'_> {
    fn expand(&mut self, address: &Address, depth: usize) -> Result<(), Refusal> {
        self.check()?;
        let owner = Owner::of(address);
        let Some(domain) = self.domain(&owner.domain)? else {
            self.remote.insert(address.to_string());
            return self.check();
        };
        // A loop ends where it began: what was seen is not expanded again, but a user that is reached again is meant itself.
        if !self.seen.insert(address.key()) {
            return self.reach(owner);
        }
        if depth > MAX_DEPTH {
            warn!(%address, "an alias leads over too many others");
            return Err(Refusal::TooManyRecipients);
        }
        match self.accounts.step(domain, &owner)? {
            Step::Nobody => Ok(()),
            Step::User => {
                self.local.insert(owner);
                self.check()
            }
            Step::To(targets) => {
                for target in targets {
                    match super::address(&target) {
                        Ok(target) => self.expand(&target, depth + 1)?,
                        Err(error) => {
                            warn!(alias = %address, target, %error, "a target of an alias is no address")
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn domain(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        if let Some(known) = self.domains.get(name) {
            return Ok(*known);
        }
        let found = self.accounts.domain_id(name)?;
        self.domains.insert(name.to_owned(), found);
        Ok(found)
    }

    fn reach(&mut self, owner: Owner) -> Result<(), Refusal> {
        if self.accounts.user(&owner)?.is_some() {
            self.local.insert(owner);
        }
        self.check()
    }

    fn check(&self) -> Result<(), Refusal> {
        let many = self.seen.len().max(self.local.len() + self.remote.len());
        if many > MAX_TARGETS {
            Err(Refusal::TooManyRecipients)
        } else {
            Ok(())
        }
    }
}

/// Checks what an alias is matched with and gives its stored form.
fn check_pattern(alias: &Alias, domain: &mail::address::Domain) -> Result<String, Refusal> {
    let pattern = alias.pattern.as_str();
    match alias.kind {
        AliasKind::Exact => match Address::new(pattern, domain.clone()) {
            Ok(_) => Ok(pattern.to_lowercase()),
            Err(error) => Err(Refusal::Invalid(format!(
                "\"{}\" is no local part: {error}",
                pattern.escape_debug()
            ))),
        },
        AliasKind::Regex if pattern.is_empty() || pattern.len() > MAX_PATTERN => Err(
            Refusal::Invalid(format!("a regular expression has 1 to {MAX_PATTERN} bytes")),
        ),
        AliasKind::Regex => match compile(pattern) {
            Ok(_) => Ok(pattern.to_owned()),
            Err(error) => Err(Refusal::Invalid(format!(
                "the regular expression is not accepted: {error}"
            ))),
        },
        AliasKind::CatchAll if pattern.is_empty() => Ok(String::new()),
        AliasKind::CatchAll => Err(Refusal::Invalid("a catch-all has no pattern".into())),
    }
}

fn check_targets(alias: &Alias) -> Result<(), Refusal> {
    let len: usize = alias.targets.iter().map(String::len).sum();
    if alias.targets.is_empty() || alias.targets.len() > MAX_ALIAS_TARGETS || len > MAX_TARGETS_LEN
    {
        return Err(Refusal::Invalid(format!(
            "an alias has 1 to {MAX_ALIAS_TARGETS} targets of {MAX_TARGETS_LEN} bytes together; aliases may point to aliases"
        )));
    }
    for target in &alias.targets {
        // `$1` is filled in later; what stands around it must be an address already.
        let sample = if alias.kind == AliasKind::Regex {
            target.replace(['$', '{', '}'], "x")
        } else {
            target.clone()
        };
        address(&sample)?;
    }
    Ok(())
}

/// The whole local part must match, in any case; neither text nor program may be large.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    // Alone first: a pattern like `a)|(b` must not break out of the group it is put into.
    Regex::new(pattern)?;
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .case_insensitive(true)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .build()
}

fn targets(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}

const fn number(kind: AliasKind) -> i64 {
    match kind {
        AliasKind::Exact => 0,
        AliasKind::Regex => 1,
        AliasKind::CatchAll => 2,
    }
}

const fn kind(number: i64) -> AliasKind {
    match number {
        0 => AliasKind::Exact,
        1 => AliasKind::Regex,
        _ => AliasKind::CatchAll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc::Secret;

    struct World {
        _temp: tempfile::TempDir,
        accounts: Accounts,
    }

    /// Domains `a.example` and `b.example`, users alice and bob at the first.
    fn world() -> World {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::cheap(temp.path());
        accounts.add_domain("a.example", None).unwrap();
        accounts.add_domain("b.example", None).unwrap();
        for user in ["alice@a.example", "bob@a.example"] {
            accounts
                .add_user(
                    &Owner::of(&address(user).unwrap()),
                    &Secret::new("password"),
                    ipc::quota::Limits::default(),
                )
                .unwrap();
        }
        World {
            _temp: temp,
            accounts,
        }
    }

    impl World {
        fn alias(&self, kind: AliasKind, pattern: &str, targets: &[&str]) {
            self.try_alias(kind, pattern, targets).unwrap();
        }

        fn try_alias(
            &self,
            kind: AliasKind,
            pattern: &str,
            targets: &[&str],
        ) -> Result<(), Refusal> {
            let targets = targets.iter().map(|target| (*target).to_owned()).collect();
            self.accounts.add_alias(&Alias {
                domain: "a.example".into(),
                kind,
                pattern: pattern.into(),
                targets,
            })
        }

        fn resolve(&self, text: &str) -> Result<Vec<String>, Refusal> {
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

        fn may_send(&self, user: &str, sender: &str) -> bool {
            self.accounts
                .may_send_as(
                    &Owner::of(&address(user).unwrap()),
                    &address(sender).unwrap(),
                )
                .unwrap()
        }
    }

    #[test]
    fn what_was_resolved_is_known_until_something_changes() {
        let world = world();
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
        let world = world();
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
            world().resolve("ALICE@A.Example").unwrap(),
            ["alice@a.example"]
        );
    }

    #[test]
    fn a_foreign_domain_is_not_resolved_and_an_unknown_user_is_refused() {
        assert_eq!(world().resolve("x@c.example"), Err(Refusal::NoSuchDomain));
        assert_eq!(world().resolve("x@a.example"), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn exact_comes_before_user_before_regex_in_order_before_catch_all() {
        let world = world();
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
        let world = world();
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
        let world = world();
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
        let world = world();
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
        let world = world();
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
        let world = world();
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
        let world = world();
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
        let world = world();
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
        let world = world();
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
    fn bad_aliases_are_refused_with_a_reason() {
        let world = world();
        let long = "a".repeat(MAX_PATTERN + 1);
        for (kind, pattern, target) in [
            (AliasKind::Regex, "(", "a@a.example"),
            (AliasKind::Regex, "a)|(b", "a@a.example"),
            (AliasKind::Regex, "((a{99}){99}){99}", "a@a.example"),
            (AliasKind::Regex, &long, "a@a.example"),
            (AliasKind::Regex, "", "a@a.example"),
            (AliasKind::CatchAll, "x", "a@a.example"),
            (AliasKind::Exact, "", "a@a.example"),
            (AliasKind::Exact, "x", "nobody"),
        ] {
            assert!(
                matches!(
                    world.try_alias(kind, pattern, &[target]),
                    Err(Refusal::Invalid(_))
                ),
                "{pattern} {target}"
            );
        }
        world.alias(AliasKind::Exact, "x", &["a@a.example"]);
        assert_eq!(
            world.try_alias(AliasKind::Exact, "X", &["b@a.example"]),
            Err(Refusal::Exists)
        );
    }

    #[test]
    fn a_removed_alias_no_longer_matches() {
        let world = world();
        world.alias(AliasKind::Regex, "x.*", &["alice@a.example"]);
        assert!(world.resolve("xy@a.example").is_ok());
        world
            .accounts
            .remove_alias("a.example", AliasKind::Regex, "x.*")
            .unwrap();
        assert_eq!(world.resolve("xy@a.example"), Err(Refusal::NoSuchUser));
        assert_eq!(
            world
                .accounts
                .remove_alias("a.example", AliasKind::Regex, "x.*"),
            Err(Refusal::NotFound)
        );
    }

    #[test]
    fn aliases_are_listed_in_matching_order() {
        let world = world();
        world.alias(AliasKind::CatchAll, "", &["alice@a.example"]);
        world.alias(AliasKind::Regex, "z", &["alice@a.example"]);
        world.alias(AliasKind::Regex, "b", &["alice@a.example"]);
        world.alias(AliasKind::Exact, "x", &["alice@a.example"]);
        let page = world.accounts.aliases("a.example", 0).unwrap();
        let patterns: Vec<_> = page
            .entries
            .iter()
            .map(|alias| alias.pattern.as_str())
            .collect();
        assert_eq!(
            (patterns.as_slice(), page.more),
            (["x", "z", "b", ""].as_slice(), false)
        );
    }

    #[test]
    fn a_sender_is_the_users_own_address_or_an_alias_of_it() {
        let world = world();
        world.alias(
            AliasKind::Exact,
            "info",
            &["alice@a.example", "x@c.example"],
        );
        world.alias(AliasKind::Regex, "alice-.*", &["alice@a.example"]);
        world.alias(
            AliasKind::Exact,
            "bob",
            &["bob@a.example", "alice@a.example"],
        );
        assert!(world.may_send("alice@a.example", "Alice@a.example"));
        assert!(world.may_send("alice@a.example", "info@a.example"));
        assert!(world.may_send("alice@a.example", "alice-news@a.example"));
        assert!(!world.may_send("alice@a.example", "bob@a.example"));
        assert!(!world.may_send("bob@a.example", "info@a.example"));
        assert!(!world.may_send("alice@a.example", "alice@c.example"));
        assert!(!world.may_send("alice@a.example", "nobody@a.example"));
    }
}
