//! What accounts, domains and tenants may send to other servers in a day, where that is not what the configuration says. relayd
//! counts and asks.

use ipc::Refusal;
use ipc::budget::{BudgetChange, OwnBudget, OwnBudgets, Payer, TenantBudget};
use rusqlite::{OptionalExtension, Row, params};

use super::directory::found;
use super::{Accounts, address, domain};
use crate::fault::OrFault;
use crate::store::Owner;

impl Accounts {
    /// Changes the budget of somebody.
    pub(crate) fn change_budget(&self, whose: &Payer, change: BudgetChange) -> Result<(), Refusal> {
        let place = Place::of(whose)?;
        let (
            OwnBudget {
                messages,
                recipients,
                first_time_recipients,
            },
            is_new,
        ) = match change {
            BudgetChange::Set(budget) => (budget, false),
            BudgetChange::Reset => (OwnBudget::default(), true),
        };
        let update = format!(
            "UPDATE {} SET budget_messages = iif(?6, ?3, coalesce(?3, budget_messages)),
                budget_recipients = iif(?6, ?4, coalesce(?4, budget_recipients)),
                budget_first_time = iif(?6, ?5, coalesce(?5, budget_first_time)) WHERE {}",
            place.table, place.row
        );
        // Where mail goes does not depend on it.
        let changed = self.database_of_senders().execute(
            &update,
            params![
                place.name,
                place.local,
                messages,
                recipients,
                first_time_recipients,
                is_new
            ],
        );
        found(changed, "change a budget")
    }

    /// The budget of somebody.
    pub(crate) fn budget(&self, whose: &Payer) -> Result<OwnBudget, Refusal> {
        let place = Place::of(whose)?;
        let select = format!(
            "SELECT budget_messages, budget_recipients, budget_first_time FROM {} WHERE {}",
            place.table, place.row
        );
        let database = self.database();
        let mut select = database.prepare_cached(&select).or_fault("read a budget")?;
        let read = select.query_row(params![place.name, place.local], |row| budget(row, 0));
        read.optional()
            .or_fault("read a budget")?
            .ok_or(Refusal::NotFound)
    }

    /// The budgets of all who pay for a user's mail.
    pub(crate) fn budgets(&self, owner: &Owner) -> Result<OwnBudgets, Refusal> {
        let database = self.database();
        let mut select = database
            .prepare_cached(
                "SELECT users.budget_messages, users.budget_recipients, users.budget_first_time,
                    domains.budget_messages, domains.budget_recipients, domains.budget_first_time,
                    tenants.budget_messages, tenants.budget_recipients, tenants.budget_first_time, tenants.name
                 FROM users JOIN domains ON domains.id = users.domain LEFT JOIN tenants ON tenants.id = domains.tenant
                 WHERE domains.name = ?1 AND local = ?2",
            )
            .or_fault("read budgets")?;
        let read = select.query_row([&owner.domain, &owner.local], |row| {
            let tenant = match row.get(9)? {
                Some(name) => Some(TenantBudget {
                    name,
                    budget: budget(row, 6)?,
                }),
                None => None,
            };
            Ok(OwnBudgets {
                account: budget(row, 0)?,
                domain: budget(row, 3)?,
                tenant,
            })
        });
        read.optional()
            .or_fault("read budgets")?
            .ok_or(Refusal::NoSuchUser)
    }
}

/// Where somebody's budget is kept.
struct Place {
    table: &'static str,
    /// How its row is found by name and local part.
    row: &'static str,
    name: String,
    local: Option<String>,
}

impl Place {
    fn of(whose: &Payer) -> Result<Self, Refusal> {
        Ok(match whose {
            Payer::Account(account) => {
                let Owner { local, domain } = Owner::of(&address(account)?);
                Self {
                    table: "users",
                    row: "domain = (SELECT id FROM domains WHERE name = ?1) AND local = ?2",
                    name: domain,
                    local: Some(local),
                }
            }
            Payer::Domain(name) => Self {
                table: "domains",
                row: "name = ?1 AND ?2 IS NULL",
                name: domain(name)?.as_str().to_owned(),
                local: None,
            },
            Payer::Tenant(name) => Self {
                table: "tenants",
                row: "name = ?1 AND ?2 IS NULL",
                name: name.clone(),
                local: None,
            },
        })
    }
}

/// A budget from three columns.
pub(super) fn budget(row: &Row<'_>, at: usize) -> rusqlite::Result<OwnBudget> {
    Ok(OwnBudget {
        messages: row.get(at)?,
        recipients: row.get(at + 1)?,
        first_time_recipients: row.get(at + 2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;

    const ALICE: &str = "alice@a.example";

    fn messages(messages: u32) -> OwnBudget {
        OwnBudget {
            messages: Some(messages),
            ..OwnBudget::default()
        }
    }

    fn set(world: &World, whose: &Payer, budget: OwnBudget) -> Result<(), Refusal> {
        world
            .accounts
            .change_budget(whose, BudgetChange::Set(budget))
    }

    fn budgets(world: &World, account: &str) -> Result<OwnBudgets, Refusal> {
        world
            .accounts
            .budgets(&Owner::of(&address(account).unwrap()))
    }

    #[test]
    fn each_payer_has_its_own_budget_and_what_is_not_named_stays() {
        let world = World::new();
        let limits = ipc::quota::Limits::default();
        world.accounts.add_tenant("acme", limits).unwrap();
        assert_eq!(budgets(&world, ALICE), Ok(OwnBudgets::default()));
        world
            .accounts
            .assign_domain("a.example", Some("acme"))
            .unwrap();
        let (account, domain) = (
            Payer::Account("Alice@A.example".into()),
            Payer::Domain("A.example".into()),
        );
        let tenant = Payer::Tenant("acme".into());
        for (number, whose) in (1..).zip([&account, &domain, &tenant]) {
            set(&world, whose, messages(number)).unwrap();
        }
        let recipients = OwnBudget {
            recipients: Some(0),
            ..OwnBudget::default()
        };
        set(&world, &domain, recipients).unwrap();
        let both = OwnBudget {
            recipients: Some(0),
            ..messages(2)
        };
        let expected = OwnBudgets {
            account: messages(1),
            domain: both,
            tenant: Some(TenantBudget {
                name: "acme".into(),
                budget: messages(3),
            }),
        };
        assert_eq!(budgets(&world, ALICE), Ok(expected.clone()));
        assert_eq!(world.accounts.budget(&domain), Ok(both));
        let neighbour = OwnBudgets {
            account: OwnBudget::default(),
            ..expected
        };
        assert_eq!(budgets(&world, "bob@a.example"), Ok(neighbour));
        for whose in [&account, &domain, &tenant] {
            world
                .accounts
                .change_budget(whose, BudgetChange::Reset)
                .unwrap();
            assert_eq!(world.accounts.budget(whose), Ok(OwnBudget::default()));
        }
    }

    #[test]
    fn who_is_not_there_has_no_budget() {
        let world = World::new();
        for whose in [
            Payer::Account("carol@a.example".into()),
            Payer::Account("alice@b.example".into()),
            Payer::Domain("c.example".into()),
            Payer::Tenant("acme".into()),
        ] {
            assert_eq!(
                set(&world, &whose, messages(1)),
                Err(Refusal::NotFound),
                "{whose}"
            );
            assert_eq!(
                world.accounts.budget(&whose),
                Err(Refusal::NotFound),
                "{whose}"
            );
        }
        assert_eq!(budgets(&world, "carol@a.example"), Err(Refusal::NoSuchUser));
    }

    #[test]
    fn a_user_that_is_made_anew_has_no_budget_of_the_one_before() {
        let world = World::new();
        set(&world, &Payer::Account(ALICE.into()), messages(1)).unwrap();
        let alice = Owner::of(&address(ALICE).unwrap());
        world.accounts.remove_user(&alice).unwrap();
        world.user(ALICE);
        assert_eq!(budgets(&world, ALICE), Ok(OwnBudgets::default()));
    }
}
