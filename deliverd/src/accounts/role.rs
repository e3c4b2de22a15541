//! Those who must get mail in every domain, whether somebody is named so or not.

use ipc::Refusal;
use mail::address::Address;
use rusqlite::OptionalExtension;

use super::Accounts;
use super::resolve::Step;
use crate::fault::OrFault;
use crate::store::Owner;

/// Who must get mail in every domain (RFC 5321 §4.5.1).
const POSTMASTER: &str = "postmaster";
/// Who should (RFC 2142 §4); the postmaster stands in.
const ABUSE: &str = "abuse";

/// Whether somebody has to stand in where there is nobody of this name.
pub(super) fn is_role(local: &str) -> bool {
    [POSTMASTER, ABUSE].contains(&local)
}

impl Accounts {
    /// Who gets the mail of a postmaster who is nobody: that of one's domain, the one of the configuration, that of the first
    /// domain, the user that was made first.
    pub(super) fn stand_in(&self, owner: &Owner) -> Result<Step, Refusal> {
        let postmaster = |domain: &str| Owner {
            local: POSTMASTER.into(),
            domain: domain.into(),
        };
        if owner.local != POSTMASTER {
            return Ok(Step::Role(postmaster(&owner.domain).address()));
        }
        match &self.policy.postmaster {
            Some(address) if Owner::of(address) != *owner => {
                return Ok(Step::Role(address.to_string()));
            }
            None if owner.domain != self.policy.home && self.ours(&self.policy.home)?.is_some() => {
                return Ok(Step::Role(postmaster(&self.policy.home).address()));
            }
            Some(_) | None => {}
        }
        Ok(match self.first_user()? {
            Some(first) => Step::Role(first.address()),
            None => Step::Nobody,
        })
    }

    /// A bare `<postmaster>` is taken even if the domain it is in is none of ours.
    pub(super) fn is_home_postmaster(&self, address: &Address) -> bool {
        address.domain().as_str() == self.policy.home
            && address.local().eq_ignore_ascii_case(POSTMASTER)
    }

    fn first_user(&self) -> Result<Option<Owner>, Refusal> {
        let first = "SELECT local, name FROM users JOIN domains ON domains.id = users.domain ORDER BY users.id LIMIT 1";
        self.database()
            .query_row(first, [], |row| {
                Ok(Owner {
                    local: row.get(0)?,
                    domain: row.get(1)?,
                })
            })
            .optional()
            .or_fault("read users")
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::super::{Policy, address};
    use super::*;
    use ipc::control::AliasKind;

    fn policy() -> Policy {
        Policy {
            home: "a.example".into(),
            ..Policy::default()
        }
    }

    #[test]
    fn somebody_gets_the_mail_of_every_postmaster() {
        let world = World::with(policy());
        let of = |text: &str| world.resolve(text);
        assert_eq!(of("postmaster@b.example"), Err(Refusal::NoSuchUser));
        world.user("zoe@b.example");
        world.user("alice@a.example");
        for address in [
            "postmaster@a.example",
            "Postmaster@b.example",
            "abuse@a.example",
            "ABUSE@b.example",
            "postmaster+x@a.example",
        ] {
            assert_eq!(of(address).unwrap(), ["zoe@b.example"], "{address}");
        }
        assert_eq!(of("hostmaster@a.example"), Err(Refusal::NoSuchUser));
        world.alias(AliasKind::Exact, "postmaster", &["alice@a.example"]);
        for address in ["postmaster@a.example", "abuse@b.example"] {
            assert_eq!(of(address).unwrap(), ["alice@a.example"], "{address}");
        }
        let own = ["x@c.example"];
        world
            .try_alias_of("b.example", AliasKind::Exact, "abuse", &own)
            .unwrap();
        assert_eq!(of("abuse@b.example").unwrap(), own);
        assert_eq!(of("postmaster@b.example").unwrap(), ["alice@a.example"]);
    }

    #[test]
    fn the_postmaster_of_the_configuration_stands_in_first() {
        let world = World::with(Policy {
            postmaster: Some(address("Admin@c.example").unwrap()),
            ..policy()
        });
        world.user("alice@a.example");
        for text in ["postmaster@a.example", "abuse@b.example"] {
            assert_eq!(world.resolve(text).unwrap(), ["Admin@c.example"], "{text}");
        }
        world.user("postmaster@b.example");
        assert_eq!(
            world.resolve("abuse@b.example").unwrap(),
            ["postmaster@b.example"]
        );
        // One that is nobody itself ends with a user all the same.
        for nobody in ["postmaster@a.example", "postmaster@b.example"] {
            let world = World::with(Policy {
                postmaster: Some(address(nobody).unwrap()),
                ..policy()
            });
            world.user("alice@a.example");
            for text in ["postmaster@a.example", "postmaster@b.example"] {
                assert_eq!(world.resolve(text).unwrap(), ["alice@a.example"], "{text}");
            }
        }
    }

    #[test]
    fn a_bare_postmaster_is_taken_where_the_first_domain_is_not_ours() {
        let world = World::with(Policy {
            home: "mx.c.example".into(),
            ..Policy::default()
        });
        world.user("alice@a.example");
        let bare = "postmaster@mx.c.example";
        assert_eq!(world.resolve(bare).unwrap(), ["alice@a.example"]);
        assert_eq!(world.resolve("x@mx.c.example"), Err(Refusal::NoSuchDomain));
        assert_eq!(world.trace(bare).0.len(), 2);
    }
}
