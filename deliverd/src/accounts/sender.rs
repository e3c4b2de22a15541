//! Who may send as whom: the users themselves, whom an alias leads to, and whom the admin lets.

use ipc::Refusal;
use mail::address::Address;
use rusqlite::params;

use super::directory::{PAGE, Page, found, unique};
use super::rules::Ours;
use super::{Accounts, address};
use crate::fault::OrFault;
use crate::store::Owner;

impl Accounts {
    /// Whether `owner` may send as `sender`: its own address however it is written, an alias that leads to it, or one that was
    /// granted to it.
    pub(crate) fn may_send_as(&self, owner: &Owner, sender: &Address) -> Result<bool, Refusal> {
        let ours = self.ours(sender.domain().as_str())?;
        let named = named(ours.as_ref(), sender);
        if named == *owner || self.is_granted(owner, &named)? {
            return Ok(true);
        }
        let Some(ours) = ours else {
            return Ok(false);
        };
        // Another user's address stays that user's, even if copies of its mail go to this one.
        if let Some(user) = self.identity(&ours, &named)? {
            return Ok(user == *owner || self.is_granted(owner, &user)?);
        }
        match self.resolve(sender) {
            Ok(Some(resolved)) => Ok(resolved.local.contains(owner)),
            Ok(None) | Err(Refusal::NoSuchUser) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Lets a user send as an address.
    pub(crate) fn grant_sender(&self, owner: &Owner, sender: &str) -> Result<(), Refusal> {
        let Owner { local, domain } = self.granted(sender)?;
        if self.user(owner)?.is_none() {
            return Err(Refusal::NoSuchUser);
        }
        let granted = self.database().execute(
            "INSERT INTO grants (user, domain, local)
             SELECT users.id, ?3, ?4 FROM users JOIN domains ON domains.id = users.domain WHERE name = ?1 AND users.local = ?2",
            params![owner.domain, owner.local, domain, local],
        );
        unique(granted)
    }

    /// Takes that back.
    pub(crate) fn revoke_sender(&self, owner: &Owner, sender: &str) -> Result<(), Refusal> {
        let Owner { local, domain } = self.granted(sender)?;
        let revoked = self.database().execute(
            "DELETE FROM grants WHERE domain = ?3 AND local = ?4 AND user =
             (SELECT users.id FROM users JOIN domains ON domains.id = users.domain WHERE name = ?1 AND users.local = ?2)",
            params![owner.domain, owner.local, domain, local],
        );
        found(revoked, "take a sender address back")
    }

    /// A page of what was granted to a user, by domain and local part.
    pub(crate) fn grants(&self, owner: &Owner, skip: u32) -> Result<Page<Owner>, Refusal> {
        if self.user(owner)?.is_none() {
            return Err(Refusal::NoSuchUser);
        }
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT grants.local, grants.domain FROM grants JOIN users ON users.id = grants.user
                 JOIN domains ON domains.id = users.domain WHERE name = ?1 AND users.local = ?2
                 ORDER BY grants.domain, grants.local LIMIT ?3 OFFSET ?4",
            )
            .or_fault("list grants")?;
        let rows = select
            .query_map(params![owner.domain, owner.local, PAGE, skip], |row| {
                Ok(Owner {
                    local: row.get(0)?,
                    domain: row.get(1)?,
                })
            })
            .or_fault("list grants")?;
        Ok(Page::cut(
            rows.collect::<rusqlite::Result<_>>()
                .or_fault("list grants")?,
        ))
    }

    /// Whom an address names that is granted or taken back.
    fn granted(&self, sender: &str) -> Result<Owner, Refusal> {
        let sender = address(sender)?;
        let ours = self.ours(sender.domain().as_str())?;
        Ok(named(ours.as_ref(), &sender))
    }

    fn is_granted(&self, owner: &Owner, named: &Owner) -> Result<bool, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM grants JOIN users ON users.id = grants.user
                 JOIN domains ON domains.id = users.domain
                 WHERE name = ?1 AND users.local = ?2 AND grants.domain = ?3 AND grants.local = ?4)",
            )
            .or_fault("read grants")?;
        let exists = params![owner.domain, owner.local, named.domain, named.local];
        select
            .query_row(exists, |row| row.get(0))
            .or_fault("read grants")
    }
}

fn named(ours: Option<&Ours>, address: &Address) -> Owner {
    ours.map_or_else(|| Owner::of(address), |ours| ours.named(address))
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;
    use ipc::control::AliasKind;
    use ipc::routing::RulesChange;

    fn owner(text: &str) -> Owner {
        Owner::of(&address(text).unwrap())
    }

    #[test]
    fn where_letter_case_matters_another_spelling_is_somebody_else() {
        let world = World::new();
        let rules = RulesChange {
            case_matters: Some(true),
            ..RulesChange::default()
        };
        world.rules("a.example", &rules).unwrap();
        world.alias(AliasKind::Exact, "Alice", &["bob@a.example"]);
        assert!(world.may_send("Alice@a.example", "alice+X@a.example"));
        assert!(!world.may_send("alice@a.example", "Alice@a.example"));
        assert!(world.may_send("bob@a.example", "Alice@a.example"));
        assert!(!world.may_send("bob@a.example", "alice@a.example"));
        let alice = owner("alice@a.example");
        world
            .accounts
            .grant_sender(&alice, "BOB@a.example")
            .unwrap();
        world
            .accounts
            .grant_sender(&alice, "Far@c.example")
            .unwrap();
        assert!(world.may_send("alice@a.example", "BOB@a.example"));
        assert!(!world.may_send("alice@a.example", "bob@a.example"));
        assert!(world.may_send("alice@a.example", "FAR@c.example"));
        world
            .accounts
            .revoke_sender(&alice, "BOB@a.example")
            .unwrap();
        assert!(!world.may_send("alice@a.example", "BOB@a.example"));
    }

    #[test]
    fn a_sender_is_the_users_own_address_or_an_alias_of_it() {
        let world = World::new();
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
        assert!(world.may_send("alice@a.example", "Alice+x@a.example"));
        assert!(world.may_send("alice@a.example", "info@a.example"));
        assert!(world.may_send("alice@a.example", "alice-news@a.example"));
        assert!(!world.may_send("alice@a.example", "bob@a.example"));
        assert!(!world.may_send("alice@a.example", "bob+x@a.example"));
        assert!(!world.may_send("bob@a.example", "info@a.example"));
        assert!(!world.may_send("alice@a.example", "alice@c.example"));
        assert!(!world.may_send("alice@a.example", "nobody@a.example"));
    }

    #[test]
    fn a_granted_address_can_be_sent_as_until_it_is_revoked() {
        let world = World::new();
        let alice = owner("alice@a.example");
        for address in ["Bob@a.example", "team@c.example"] {
            assert!(!world.may_send("alice@a.example", address));
            world.accounts.grant_sender(&alice, address).unwrap();
            assert!(world.may_send("alice@a.example", address));
            assert!(!world.may_send("bob@a.example", "alice@a.example"));
        }
        assert!(world.may_send("alice@a.example", "bob+x@a.example"));
        assert!(!world.may_send("alice@a.example", "other@c.example"));
        let granted = |skip| {
            let page = world.accounts.grants(&alice, skip).unwrap();
            page.entries.iter().map(Owner::address).collect::<Vec<_>>()
        };
        assert_eq!(granted(0), ["bob@a.example", "team@c.example"]);
        assert_eq!(granted(1), ["team@c.example"]);
        let again = world.accounts.grant_sender(&alice, "bob@a.example");
        assert_eq!(again, Err(Refusal::Exists));
        world
            .accounts
            .revoke_sender(&alice, "BOB@a.example")
            .unwrap();
        assert!(!world.may_send("alice@a.example", "bob@a.example"));
        let again = world.accounts.revoke_sender(&alice, "bob@a.example");
        assert_eq!(again, Err(Refusal::NotFound));
        for bad in [
            "x\r\nBcc: y@c.example",
            "nobody",
            "@c.example",
            "x@c.example\r\n",
        ] {
            let refused = world.accounts.grant_sender(&alice, bad);
            assert!(matches!(refused, Err(Refusal::Invalid(_))), "{bad:?}");
        }
        let nobody = owner("nobody@a.example");
        let refused = world.accounts.grant_sender(&nobody, "bob@a.example");
        assert_eq!(refused, Err(Refusal::NoSuchUser));
    }

    #[test]
    fn a_grant_ends_with_the_user_it_was_for_or_from() {
        let world = World::new();
        let (alice, bob) = (owner("alice@a.example"), owner("bob@a.example"));
        world
            .accounts
            .grant_sender(&alice, "bob@a.example")
            .unwrap();
        world.accounts.remove_user(&bob).unwrap();
        world.user("bob@a.example");
        assert!(!world.may_send("alice@a.example", "bob@a.example"));
        world
            .accounts
            .grant_sender(&alice, "bob@a.example")
            .unwrap();
        world.accounts.remove_user(&alice).unwrap();
        world.user("alice@a.example");
        assert!(!world.may_send("alice@a.example", "bob@a.example"));
        world
            .accounts
            .grant_sender(&alice, "info@b.example")
            .unwrap();
        world.accounts.remove_domain("b.example").unwrap();
        assert!(!world.may_send("alice@a.example", "info@b.example"));
    }
}
