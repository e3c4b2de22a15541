//! How the addresses of a domain are read: in any letter case or only as they are written, up to a tag, with or without dots.
//!
//! Users are called by small letters everywhere: that is what they log in with and what their directories are called. Where letter case
//! matters, only that spelling is a user's address, and every other one is an alias or nobody, so none of these rules makes two
//! users one. A postmaster is meant in any letter case (RFC 5321 §4.5.1).

use ipc::Refusal;
use ipc::routing::{AddressRules, Duty, RulesChange};
use mail::address::Address;
use rusqlite::{OptionalExtension, Row, params};

use super::directory::found;
use super::role::is_role;
use super::{Accounts, domain};
use crate::fault::OrFault;
use crate::store::Owner;

/// What may separate a tag. Neither dots, which may not matter, nor what needs quotes.
const SEPARATORS: &str = "+-_=#~";

/// A domain of ours.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    pub(super) id: i64,
    pub(super) rules: AddressRules,
}

impl Ours {
    /// The local part without its tag, if it has one.
    pub(super) fn base<'a>(&self, local: &'a str) -> Option<&'a str> {
        let separator = Some(self.rules.separator.as_str()).filter(|text| !text.is_empty())?;
        let (base, _) = local.split_once(separator)?;
        Some(base).filter(|base| !base.is_empty())
    }

    /// Who an address of the domain names, as it is compared.
    pub(super) fn named(&self, address: &Address) -> Owner {
        let mut named = Owner::of(address);
        let is_spelled = self.rules.case_matters && named.local != address.local();
        if is_spelled && !is_role(self.base(&named.local).unwrap_or(&named.local)) {
            address.local().clone_into(&mut named.local);
        }
        named
    }

    pub(super) fn is_backup(&self) -> bool {
        match self.rules.duty {
            Duty::Final => false,
            Duty::BackupForAnybody | Duty::BackupForListed => true,
        }
    }
}

impl Accounts {
    /// A domain, if it is one of ours.
    pub(super) fn ours(&self, name: &str) -> Result<Option<Ours>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached("SELECT id, separator, dots_matter, case_matters, duty FROM domains WHERE name = ?1")
            .or_fault("read domains")?;
        let ours = |row: &Row<'_>| {
            Ok(Ours {
                id: row.get(0)?,
                rules: rules(row, 1)?,
            })
        };
        select
            .query_row([name], ours)
            .optional()
            .or_fault("read domains")
    }

    /// Changes how a domain's addresses are read, and gives how they are now.
    pub(crate) fn set_rules(
        &self,
        name: &str,
        change: &RulesChange,
    ) -> Result<AddressRules, Refusal> {
        let name = domain(name)?;
        let Some(Ours { id, mut rules }) = self.ours(name.as_str())? else {
            return Err(Refusal::NoSuchDomain);
        };
        if let Some(separator) = &change.separator {
            check_separator(separator)?;
            rules.separator.clone_from(separator);
        }
        if let Some(dots_matter) = change.dots_matter {
            rules.dots_matter = dots_matter;
        }
        if let Some(case_matters) = change.case_matters {
            rules.case_matters = case_matters;
        }
        if let Some(duty) = change.duty {
            rules.duty = duty;
        }
        if !rules.dots_matter {
            self.check_dots(id)?;
        }
        if !rules.case_matters {
            self.check_case(id)?;
        }
        if rules.duty != Duty::Final && self.has_users(id)? {
            return Err(Refusal::Invalid(format!(
                "{name} has users, who would get no mail any more; remove them first"
            )));
        }
        let changed = self.database().execute(
            "UPDATE domains SET separator = ?2, dots_matter = ?3, case_matters = ?4, duty = ?5 WHERE id = ?1",
            params![
                id,
                rules.separator,
                rules.dots_matter,
                rules.case_matters,
                number(rules.duty)
            ],
        );
        found(changed, "change a domain")?;
        self.forget_patterns(name.as_str());
        Ok(rules)
    }

    /// A user of the domain whose local part is this but for dots.
    pub(super) fn user_without_dots(
        &self,
        domain: i64,
        local: &str,
    ) -> Result<Option<String>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT local FROM users WHERE domain = ?1 AND replace(local, '.', '') = ?2 LIMIT 1",
            )
            .or_fault("read users")?;
        select
            .query_row(params![domain, local.replace('.', "")], |row| row.get(0))
            .optional()
            .or_fault("read users")
    }

    /// An exact alias of the domain that is this but for dots.
    pub(super) fn alias_without_dots(
        &self,
        domain: i64,
        local: &str,
    ) -> Result<Option<String>, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT pattern FROM aliases WHERE domain = ?1 AND kind = 0 AND replace(pattern, '.', '') = ?2 LIMIT 1",
            )
            .or_fault("read aliases")?;
        select
            .query_row(params![domain, local.replace('.', "")], |row| row.get(0))
            .optional()
            .or_fault("read aliases")
    }

    /// Refuses a new name that only dots tell from another one, where dots do not matter.
    pub(super) fn check_new_name(&self, ours: &Ours, local: &str) -> Result<(), Refusal> {
        if ours.rules.dots_matter {
            return Ok(());
        }
        let user = self.user_without_dots(ours.id, local)?;
        let alias = self.alias_without_dots(ours.id, local)?;
        match [user, alias]
            .into_iter()
            .flatten()
            .find(|name| name != local)
        {
            None => Ok(()),
            Some(other) => Err(Refusal::Invalid(format!(
                "\"{}\" is \"{}\" already, as dots do not matter in this domain",
                local.escape_debug(),
                other.escape_debug()
            ))),
        }
    }

    fn check_dots(&self, domain: i64) -> Result<(), Refusal> {
        let twice: Option<String> = self
            .database()
            .query_row(
                "SELECT min(name) FROM (SELECT local AS name FROM users WHERE domain = ?1
                                        UNION SELECT pattern FROM aliases WHERE domain = ?1 AND kind = 0)
                 GROUP BY replace(name, '.', '') HAVING count(*) > 1 LIMIT 1",
                [domain],
                |row| row.get(0),
            )
            .optional()
            .or_fault("read users")?;
        match twice {
            None => Ok(()),
            Some(name) => Err(Refusal::Invalid(format!(
                "\"{}\" and another user or alias differ in their dots only; remove one of them first",
                name.escape_debug()
            ))),
        }
    }

    /// Refuses to forget letter case where a name would not be found any more.
    fn check_case(&self, domain: i64) -> Result<(), Refusal> {
        let database = self.database();
        let mut select = database
            .prepare(
                "SELECT pattern FROM aliases WHERE domain = ?1 AND kind = 0
                 UNION SELECT local FROM grants JOIN domains ON domains.name = grants.domain WHERE domains.id = ?1",
            )
            .or_fault("read aliases")?;
        let names = select
            .query_map([domain], |row| row.get::<_, String>(0))
            .or_fault("read aliases")?;
        for name in names {
            let name = name.or_fault("read aliases")?;
            if name != name.to_lowercase() {
                return Err(Refusal::Invalid(format!(
                    "there is an alias or a grant \"{}\", which nothing would match any more; remove it first, or add it again in \
                     small letters",
                    name.escape_debug()
                )));
            }
        }
        Ok(())
    }

    /// Refuses to make a user at a spelling that would be none of its addresses.
    pub(crate) fn check_user_name(&self, address: &Address) -> Result<(), Refusal> {
        let small = Owner::of(address);
        match self.ours(&small.domain)? {
            Some(ours) if ours.named(address) != small => Err(Refusal::Invalid(format!(
                "letter case matters in {}, and names of users have small letters: add {}, and an alias for the spelling {}",
                small.domain,
                small.address(),
                address
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn has_users(&self, domain: i64) -> Result<bool, Refusal> {
        let exists = "SELECT EXISTS (SELECT 1 FROM users WHERE domain = ?1)";
        self.database()
            .query_row(exists, [domain], |row| row.get(0))
            .or_fault("read users")
    }
}

fn check_separator(separator: &str) -> Result<(), Refusal> {
    let mut chars = separator.chars();
    match (chars.next(), chars.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if SEPARATORS.contains(one) => Ok(()),
        _ => Err(Refusal::Invalid(format!(
            "\"{}\" cannot separate a tag: one of {SEPARATORS} can",
            separator.escape_debug()
        ))),
    }
}

/// Rules from four columns.
pub(super) fn rules(row: &Row<'_>, at: usize) -> rusqlite::Result<AddressRules> {
    Ok(AddressRules {
        separator: row.get(at)?,
        dots_matter: row.get(at + 1)?,
        case_matters: row.get(at + 2)?,
        duty: match row.get(at + 3)? {
            0 => Duty::Final,
            1 => Duty::BackupForAnybody,
            _ => Duty::BackupForListed,
        },
    })
}

/// How the database has it.
pub(super) const fn number(duty: Duty) -> i64 {
    match duty {
        Duty::Final => 0,
        Duty::BackupForAnybody => 1,
        Duty::BackupForListed => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;
    use ipc::control::AliasKind::{CatchAll, Exact, Regex};

    fn separator(text: &str) -> RulesChange {
        RulesChange {
            separator: Some(text.into()),
            ..RulesChange::default()
        }
    }

    fn dots(matter: bool) -> RulesChange {
        RulesChange {
            dots_matter: Some(matter),
            ..RulesChange::default()
        }
    }

    fn case(matters: bool) -> RulesChange {
        RulesChange {
            case_matters: Some(matters),
            ..RulesChange::default()
        }
    }

    fn duty(duty: Duty) -> RulesChange {
        RulesChange {
            duty: Some(duty),
            ..RulesChange::default()
        }
    }

    #[test]
    fn a_tag_does_not_count_behind_the_separator_of_the_domain() {
        let world = World::new();
        let alice = Ok(vec!["alice@a.example".to_owned()]);
        assert_eq!(world.resolve("Alice+News+x@a.example"), alice);
        assert_eq!(world.resolve("alice+@a.example"), alice);
        assert_eq!(
            world.resolve("alice-news@a.example"),
            Err(Refusal::NoSuchUser)
        );
        assert_eq!(world.resolve("+alice@a.example"), Err(Refusal::NoSuchUser));
        world.rules("a.example", &separator("-")).unwrap();
        assert_eq!(world.resolve("alice-news@a.example"), alice);
        assert_eq!(world.resolve("alice+x@a.example"), Err(Refusal::NoSuchUser));
        world.rules("a.example", &separator("")).unwrap();
        assert_eq!(world.resolve("alice-x@a.example"), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn whoever_is_named_with_the_tag_comes_first() {
        let world = World::new();
        world.alias(Exact, "alice+shop", &["shop@c.example"]);
        world.alias(Exact, "info", &["bob@a.example"]);
        world.alias(Regex, r"(\w+)\+x", &["never@c.example"]);
        world.alias(CatchAll, "", &["rest@c.example"]);
        world.user("bob+own@a.example");
        for (address, target) in [
            ("alice+Shop@a.example", "shop@c.example"),
            ("bob+own@a.example", "bob+own@a.example"),
            ("alice+x@a.example", "alice@a.example"),
            ("info+x@a.example", "bob@a.example"),
            ("other+x@a.example", "never@c.example"),
            ("other+y@a.example", "rest@c.example"),
        ] {
            assert_eq!(world.resolve(address).unwrap(), [target], "{address}");
        }
    }

    #[test]
    fn dots_matter_unless_the_domain_says_otherwise() {
        let world = World::new();
        world.user("j.doe@a.example");
        world.alias(Exact, "in.fo", &["bob@a.example"]);
        assert_eq!(world.resolve("jd.oe@a.example"), Err(Refusal::NoSuchUser));
        world.rules("a.example", &dots(false)).unwrap();
        for (address, target) in [
            ("jdoe@a.example", "j.doe@a.example"),
            ("J.D.O.E+x.y@a.example", "j.doe@a.example"),
            ("i.nfo@a.example", "bob@a.example"),
            ("a.lice@a.example", "alice@a.example"),
        ] {
            assert_eq!(world.resolve(address).unwrap(), [target], "{address}");
        }
        world.rules("a.example", &dots(true)).unwrap();
        assert_eq!(world.resolve("jdoe@a.example"), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn nobody_is_told_from_another_by_dots_that_do_not_matter() {
        let world = World::new();
        world.user("a.lice@a.example");
        let refused = world.rules("a.example", &dots(false)).unwrap_err();
        assert!(refused.to_string().contains("a.lice"), "{refused}");
        world.rules("b.example", &dots(false)).unwrap();
        world.user("j.doe@b.example");
        for refused in [
            world.try_user("jdoe@b.example"),
            world.try_alias_of("b.example", Exact, "jd.oe", &["x@c.example"]),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.to_string().contains("j.doe"), "{refused}");
        }
        world
            .try_alias_of("b.example", Exact, "j.doe", &["j.doe@b.example"])
            .unwrap();
    }

    #[test]
    fn letter_case_does_not_matter_unless_the_domain_says_so() {
        let world = World::new();
        world.alias(Exact, "Token-AbC", &["bob@a.example"]);
        world.alias(Regex, "ticket-([a-z]+)", &["$1@c.example"]);
        let of = |text: &str| world.resolve(text);
        let alice = Ok(vec!["alice@a.example".to_owned()]);
        let bob = Ok(vec!["bob@a.example".to_owned()]);
        let nobody = Err(Refusal::NoSuchUser);
        assert_eq!(of("ALICE+x@a.example"), alice);
        assert_eq!(of("tOKEN-aBc@a.example"), bob);
        // RFC 5321 §2.4: what goes on to another server keeps its letters.
        assert_eq!(of("Ticket-Xy@a.example"), Ok(vec!["Xy@c.example".into()]));
        let rules = world.rules("a.example", &case(true)).unwrap();
        assert!(rules.case_matters);
        assert_eq!(of("alice+X@a.example"), alice);
        assert_eq!(of("Alice@a.example"), nobody);
        // What was added before is matched by the letters it was kept in.
        assert_eq!(of("token-abc@a.example"), bob);
        assert_eq!(of("Token-AbC@a.example"), nobody);
        assert_eq!(of("Ticket-xy@a.example"), nobody);
        assert_eq!(of("ticket-Xy@a.example"), nobody);
        assert_eq!(of("ticket-xy@a.example"), Ok(vec!["xy@c.example".into()]));
        world.alias(Exact, "Alice", &["bob@a.example"]);
        world.alias(Exact, "aLICE", &["alice@a.example", "x@c.example"]);
        assert_eq!(of("Alice@a.example"), bob);
        assert_eq!(of("Alice+x@a.example"), bob);
        assert_eq!(of("alice@a.example"), alice);
        assert_eq!(of("aLICE@a.example").unwrap().len(), 2);
        assert_eq!(of("ALICE@a.example"), nobody);
        // Other domains are not concerned.
        world.alias(Regex, "far", &["BOB@b.example"]);
        world.user("bob@b.example");
        assert_eq!(of("far@a.example"), Ok(vec!["bob@b.example".into()]));
    }

    #[test]
    fn letter_case_and_dots_are_two_rules() {
        let world = World::new();
        let both = RulesChange {
            case_matters: Some(true),
            dots_matter: Some(false),
            ..RulesChange::default()
        };
        world.rules("a.example", &both).unwrap();
        world.alias(Exact, "J.Doe", &["bob@a.example"]);
        world.user("j.doe@a.example");
        let found = |text: &str, target: &str| {
            assert_eq!(world.resolve(text), Ok(vec![target.to_owned()]), "{text}");
        };
        found("JDoe@a.example", "bob@a.example");
        found("jdoe@a.example", "j.doe@a.example");
        assert_eq!(world.resolve("jDoe@a.example"), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn a_loop_ends_where_letter_case_matters_too() {
        let world = World::new();
        world.rules("a.example", &case(true)).unwrap();
        world.alias(Exact, "X", &["x@a.example"]);
        world.alias(Exact, "x", &["X@a.example", "alice@a.example"]);
        assert_eq!(
            world.resolve("X@a.example"),
            Ok(vec!["alice@a.example".into()])
        );
        let backup = RulesChange {
            case_matters: Some(true),
            duty: Some(Duty::BackupForListed),
            ..RulesChange::default()
        };
        world.rules("b.example", &backup).unwrap();
        for (pattern, target) in [("Ab", "Ab@b.example"), ("AB", "ab@b.example")] {
            world
                .try_alias_of("b.example", Exact, pattern, &[target])
                .unwrap();
        }
        world
            .try_alias_of("b.example", Exact, "ab", &["ab@b.example"])
            .unwrap();
        assert!(world.is_relayed("Ab@b.example"));
        assert!(!world.is_relayed("AB@b.example"));
    }

    #[test]
    fn a_postmaster_is_meant_in_any_letter_case() {
        let world = World::new();
        world.rules("a.example", &case(true)).unwrap();
        for text in ["PostMaster@a.example", "ABUSE+x@a.example"] {
            assert_eq!(
                world.resolve(text),
                Ok(vec!["alice@a.example".into()]),
                "{text}"
            );
        }
        world.alias(Exact, "Postmaster", &["bob@a.example"]);
        assert_eq!(
            world.resolve("POSTMASTER@a.example"),
            Ok(vec!["bob@a.example".into()])
        );
        world
            .accounts
            .remove_alias("a.example", Exact, "postMaster")
            .unwrap();
    }

    #[test]
    fn a_user_is_never_made_at_a_spelling_that_is_not_its_address() {
        let world = World::new();
        let check = |text: &str| {
            let address = super::super::address(text).unwrap();
            world.accounts.check_user_name(&address)
        };
        assert_eq!(check("Carol@a.example"), Ok(()));
        world.rules("a.example", &case(true)).unwrap();
        assert_eq!(check("carol@A.example"), Ok(()));
        let refused = check("Carol@a.example").unwrap_err().to_string();
        assert!(refused.contains("carol@a.example"), "{refused}");
    }

    #[test]
    fn letter_case_is_forgotten_only_where_nothing_is_lost() {
        let world = World::new();
        world.rules("a.example", &case(true)).unwrap();
        world.alias(Exact, "Ä", &["alice@a.example"]);
        let alice = Owner::of(&super::super::address("alice@a.example").unwrap());
        world
            .accounts
            .grant_sender(&alice, "Bob@a.example")
            .unwrap();
        let refused = |name: &str| {
            let refused = world.rules("a.example", &case(false)).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        };
        refused("Bob");
        world
            .accounts
            .revoke_sender(&alice, "Bob@a.example")
            .unwrap();
        refused("Ä");
        let remove = |pattern: &str| world.accounts.remove_alias("a.example", Exact, pattern);
        assert_eq!(remove("ä"), Err(Refusal::NotFound));
        remove("Ä").unwrap();
        world.rules("a.example", &case(false)).unwrap();
        assert_eq!(
            world.resolve("ALICE@a.example"),
            Ok(vec!["alice@a.example".into()])
        );
    }

    #[test]
    fn only_a_separator_separates() {
        let world = World::new();
        for text in [".", "a", "++", "@", " ", "\"", "+x"] {
            assert!(
                matches!(
                    world.rules("a.example", &separator(text)),
                    Err(Refusal::Invalid(_))
                ),
                "{text}"
            );
        }
        assert_eq!(
            world.rules("z.example", &separator("-")),
            Err(Refusal::NoSuchDomain)
        );
    }

    #[test]
    fn a_backup_takes_mail_for_anybody_or_for_those_who_are_listed() {
        let world = World::new();
        let far = |text: &str| Ok(vec![text.to_owned()]);
        world
            .rules("b.example", &duty(Duty::BackupForAnybody))
            .unwrap();
        assert_eq!(world.resolve("X+y@b.example"), far("X+y@b.example"));
        assert!(world.is_relayed("X+y@b.example"));
        world
            .rules("b.example", &duty(Duty::BackupForListed))
            .unwrap();
        assert_eq!(world.resolve("x@b.example"), Err(Refusal::NoSuchUser));
        let listed = ["info@b.example"];
        world
            .try_alias_of("b.example", Exact, "info", &listed)
            .unwrap();
        world
            .try_alias_of("b.example", Regex, "(list-.*)", &["$1@b.example"])
            .unwrap();
        world
            .try_alias_of("b.example", Exact, "away", &["x@c.example"])
            .unwrap();
        assert_eq!(world.resolve("INFO@b.example"), far("info@b.example"));
        assert_eq!(world.resolve("list-x@b.example"), far("list-x@b.example"));
        assert_eq!(
            world.resolve("postmaster@b.example"),
            far("postmaster@b.example")
        );
        for (address, is_relayed) in [
            ("INFO@b.example", true),
            ("list-x@b.example", true),
            ("away@b.example", false),
            ("alice@a.example", false),
        ] {
            assert_eq!(world.is_relayed(address), is_relayed, "{address}");
        }
    }

    #[test]
    fn a_backup_has_no_users() {
        let world = World::new();
        assert!(matches!(
            world.rules("a.example", &duty(Duty::BackupForAnybody)),
            Err(Refusal::Invalid(_))
        ));
        world
            .rules("b.example", &duty(Duty::BackupForListed))
            .unwrap();
        assert!(matches!(
            world.try_user("carol@b.example"),
            Err(Refusal::Invalid(_))
        ));
    }
}
