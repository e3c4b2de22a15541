//! Aliases: adding, listing, removing, and finding those that match. What follows from them is in `resolve.rs`.

use std::sync::{Arc, PoisonError};

use ipc::Refusal;
use ipc::control::{Alias, AliasKind};
use mail::address::{Address, Domain};
use regex::{Regex, RegexBuilder};
use rusqlite::{OptionalExtension, params};
use tracing::warn;

use super::directory::{PAGE, Page, found, unique};
use super::rules::Ours;
use super::{Accounts, address, domain};
use crate::fault::OrFault;

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
    pub(super) text: String,
    regex: Regex,
    targets: Vec<String>,
}

impl Pattern {
    /// The targets with captures filled in, if it matches.
    pub(super) fn expand(&self, local: &str) -> Option<Vec<String>> {
        let found = self.regex.captures(local)?;
        let expand = |target: &String| {
            let mut text = String::new();
            found.expand(target, &mut text);
            text
        };
        Some(self.targets.iter().map(expand).collect())
    }
}

impl Accounts {
    /// Adds an alias; a regular expression goes behind those there are.
    pub(crate) fn add_alias(&self, alias: &Alias) -> Result<(), Refusal> {
        let domain = domain(&alias.domain)?;
        let Some(ours) = self.ours(domain.as_str())? else {
            return Err(Refusal::NoSuchDomain);
        };
        let pattern = check_pattern(alias, &domain, &ours)?;
        if alias.kind == AliasKind::Exact {
            self.check_new_name(&ours, &pattern)?;
        }
        check_targets(alias)?;
        let targets = serde_json::to_string(&alias.targets).map_err(|_| Refusal::StorageFault)?;
        if alias.kind == AliasKind::Regex && self.patterns(domain.as_str())?.len() >= MAX_PATTERNS {
            return Err(Refusal::Invalid(format!(
                "{domain} has {MAX_PATTERNS} regular expressions already"
            )));
        }
        unique(self.database().execute(
            "INSERT INTO aliases (domain, kind, pattern, targets) VALUES (?1, ?2, ?3, ?4)",
            params![ours.id, number(alias.kind), pattern, targets],
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
        let Some(ours) = self.ours(name.as_str())? else {
            return Err(Refusal::NotFound);
        };
        let pattern = match (kind, Address::new(pattern, name.clone())) {
            (AliasKind::Exact, Ok(address)) => ours.named(&address).local,
            _ => pattern.to_owned(),
        };
        let removed = self.database().execute(
            "DELETE FROM aliases WHERE domain = ?1 AND kind = ?2 AND pattern = ?3",
            params![ours.id, number(kind), pattern],
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

    pub(super) fn exact(
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
    pub(super) fn patterns(&self, domain: &str) -> Result<Arc<Vec<Pattern>>, Refusal> {
        // The lock is held while reading, so that a change cannot slip in between reading and remembering.
        let mut cache = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(patterns) = cache.get(domain) {
            return Ok(Arc::clone(patterns));
        }
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT pattern, targets, case_matters FROM aliases JOIN domains ON domains.id = aliases.domain
                 WHERE name = ?1 AND kind = ?2 ORDER BY aliases.id",
            )
            .or_fault("read aliases")?;
        let rows = select
            .query_map(params![domain, number(AliasKind::Regex)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .or_fault("read aliases")?;
        let rows: Vec<(String, String, bool)> = rows
            .collect::<rusqlite::Result<_>>()
            .or_fault("read aliases")?;
        let mut patterns = Vec::with_capacity(rows.len());
        for (pattern, text, case_matters) in rows {
            match compile(&pattern, case_matters) {
                Ok(regex) => patterns.push(Pattern {
                    text: pattern,
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
}

/// Checks what an alias is matched with and gives its stored form.
fn check_pattern(alias: &Alias, domain: &Domain, ours: &Ours) -> Result<String, Refusal> {
    let pattern = alias.pattern.as_str();
    match alias.kind {
        AliasKind::Exact => match Address::new(pattern, domain.clone()) {
            Ok(address) => Ok(ours.named(&address).local),
            Err(error) => Err(Refusal::Invalid(format!(
                "\"{}\" is no local part: {error}",
                pattern.escape_debug()
            ))),
        },
        AliasKind::Regex if pattern.is_empty() || pattern.len() > MAX_PATTERN => Err(
            Refusal::Invalid(format!("a regular expression has 1 to {MAX_PATTERN} bytes")),
        ),
        AliasKind::Regex => match compile(pattern, ours.rules.case_matters) {
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

/// The whole local part must match, in any letter case unless that matters; neither text nor program may be large.
fn compile(pattern: &str, case_matters: bool) -> Result<Regex, regex::Error> {
    // Alone first: a pattern like `a)|(b` must not break out of the group it is put into.
    Regex::new(pattern)?;
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .case_insensitive(!case_matters)
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
    use super::super::world::World;
    use super::*;

    #[test]
    fn bad_aliases_are_refused_with_a_reason() {
        let world = World::new();
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
            // No line can be added to an envelope or a header.
            (AliasKind::Exact, "x\r\nRCPT TO:<y", "a@a.example"),
            (
                AliasKind::Exact,
                "x",
                "a@a.example>\r\nRCPT TO:<y@c.example",
            ),
            (AliasKind::Exact, "x", "\"a\r\nBcc: y\"@c.example"),
            (AliasKind::Exact, "x", "a@c.example\nBcc: y"),
            (AliasKind::Regex, "x(.*)", "a\r$1@c.example"),
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
        let world = World::new();
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
        let world = World::new();
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
}
