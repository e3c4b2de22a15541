//! How much mail an account, all accounts of a domain and all of a tenant together may send to other servers in a day (UTC).
//!
//! A message beyond that is held, not lost. What was sent is written down as [`Sent`], a line of JSON each; reading those lines
//! again makes the same counters.

use std::collections::HashMap;

use daemon::config::{Budget, Budgets};
use ipc::budget::{OwnBudget, OwnBudgets, Payer, Spent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Days for which it is remembered whom an account has written to.
const REMEMBERED: i64 = 60;
/// So many of them per account; the ones written to longest ago are forgotten.
const MAX_KNOWN: usize = 10_000;
/// Recipients on a line that is written anew.
const PER_LINE: usize = 100;

/// A message that was sent, less its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Days since 1970.
    day: i64,
    account: String,
    /// Whose domain the account was in; a domain that changes hands takes nothing along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    recipients: Vec<String>,
}

/// What everybody has sent today, and whom they have ever written to.
#[derive(Debug)]
pub struct Ledger {
    budgets: Budgets,
    day: i64,
    spent: HashMap<Payer, Spent>,
    /// By account: each recipient, with the day of the last message.
    known: HashMap<String, HashMap<String, i64>>,
}

/// What comes of a message that is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Charge {
    /// It may go; this is to be written down.
    Charged(Sent),
    /// It is to be held, for this reason.
    Over(String),
}

impl Ledger {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(budgets: &Budgets) -> Self {
        Self {
            budgets: budgets.clone(),
            day: 0,
            spent: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// A new day begins: the counters do, too, and what is long past is forgotten. Tells whether it does.
    pub fn turn(&mut self, now: i64) -> bool {
        let day = now.div_euclid(DAY);
        if day <= self.day {
            return false;
        }
        self.day = day;
        self.spent.clear();
        for known in self.known.values_mut() {
            known.retain(|_, last| day - *last <= REMEMBERED);
            forget_oldest(known);
        }
        self.known.retain(|_, known| !known.is_empty());
        true
    }

    /// Counts a message of an account, in lower case, if there is budget for it: the configuration's, or where there is one, its
    /// own.
    pub fn charge(&mut self, account: String, own: &OwnBudgets, recipients: &[String]) -> Charge {
        let sent = self.sent(account, own, recipients);
        match self.check(&sent, own) {
            Ok(()) => {
                self.note(&sent);
                Charge::Charged(sent)
            }
            Err(reason) => Charge::Over(reason),
        }
    }

    /// Why a message would be [`Charge::Over`], if it would be. Nothing is counted.
    #[must_use]
    pub fn foresee(
        &self,
        account: String,
        own: &OwnBudgets,
        recipients: &[String],
    ) -> Option<String> {
        self.check(&self.sent(account, own, recipients), own).err()
    }

    fn sent(&self, account: String, own: &OwnBudgets, recipients: &[String]) -> Sent {
        Sent {
            day: self.day,
            account,
            tenant: own.tenant.as_ref().map(|tenant| tenant.name.clone()),
            recipients: recipients.to_vec(),
        }
    }

    /// Takes in what was sent before.
    pub fn note(&mut self, sent: &Sent) {
        if sent.day == self.day {
            let message = self.cost(sent);
            for payer in payers(sent) {
                add(self.spent.entry(payer).or_default(), message);
            }
        }
        let known = self.known.entry(sent.account.clone()).or_default();
        for recipient in &sent.recipients {
            let last = known.entry(recipient.clone()).or_insert(sent.day);
            *last = sent.day.max(*last);
        }
        // Not each time: the oldest are looked for among all.
        if known.len() > 2 * MAX_KNOWN {
            forget_oldest(known);
        }
    }

    /// What somebody has sent today.
    #[must_use]
    pub fn spent(&self, payer: &Payer) -> Spent {
        self.spent.get(payer).copied().unwrap_or_default()
    }

    fn check(&self, sent: &Sent, own: &OwnBudgets) -> Result<(), String> {
        let message = self.cost(sent);
        let tenant = own.tenant.as_ref();
        let tenant = tenant.map_or_else(OwnBudget::default, |tenant| tenant.budget);
        for (payer, own) in payers(sent).zip([own.account, own.domain, tenant]) {
            let mut spent = self.spent(&payer);
            add(&mut spent, message);
            self.check_one(&payer, own, spent)?;
        }
        Ok(())
    }

    /// Whether somebody may have spent so much.
    fn check_one(&self, payer: &Payer, own: OwnBudget, spent: Spent) -> Result<(), String> {
        let (key, command, all): (_, _, &Budget) = match payer {
            Payer::Account(_) => ("account", "user", &self.budgets.account),
            Payer::Domain(_) => ("domain", "domain", &self.budgets.domain),
            Payer::Tenant(_) => ("tenant", "tenant", &self.budgets.tenant),
        };
        for (what, option, spent, own, all) in [
            (
                "messages",
                "messages",
                spent.messages,
                own.messages,
                all.messages,
            ),
            (
                "recipients",
                "recipients",
                spent.recipients,
                own.recipients,
                all.recipients,
            ),
            (
                "first_time_recipients",
                "first-time",
                spent.first_time_recipients,
                own.first_time_recipients,
                all.first_time_recipients,
            ),
        ] {
            let limit = own.unwrap_or(all);
            if limit != 0 && spent > u64::from(limit) {
                let rule = match own {
                    Some(_) => format!("rmailctl {command} budget --{option}"),
                    None => format!("relay.budgets.{key}.{what}"),
                };
                return Err(format!("{rule} allows {payer} no more than {limit} a day"));
            }
        }
        Ok(())
    }

    fn cost(&self, sent: &Sent) -> Spent {
        let known = self.known.get(&sent.account);
        let is_new = |one: &&String| known.is_none_or(|known| !known.contains_key(*one));
        Spent {
            messages: 1,
            recipients: sent.recipients.len() as u64,
            first_time_recipients: sent.recipients.iter().filter(is_new).count() as u64,
        }
    }

    /// All that must be remembered at the beginning of a day, as it is to be written down.
    #[must_use]
    pub fn summary(&self) -> Vec<Sent> {
        let mut lines = Vec::new();
        for (account, known) in &self.known {
            let mut by_day: HashMap<i64, Vec<String>> = HashMap::new();
            for (recipient, day) in known {
                by_day.entry(*day).or_default().push(recipient.clone());
            }
            for (day, recipients) in by_day {
                lines.extend(recipients.chunks(PER_LINE).map(|some| Sent {
                    day,
                    account: account.clone(),
                    tenant: None,
                    recipients: some.to_vec(),
                }));
            }
        }
        lines
    }
}

const fn add(spent: &mut Spent, message: Spent) {
    spent.messages = spent.messages.saturating_add(message.messages);
    spent.recipients = spent.recipients.saturating_add(message.recipients);
    spent.first_time_recipients = spent
        .first_time_recipients
        .saturating_add(message.first_time_recipients);
}

/// Whose budgets a message is paid from.
fn payers(sent: &Sent) -> impl Iterator<Item = Payer> {
    let account = sent.account.clone();
    let domain = account.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domain = Payer::Domain(domain.to_owned());
    let tenant = sent.tenant.clone().map(Payer::Tenant);
    [Payer::Account(account), domain].into_iter().chain(tenant)
}

fn forget_oldest(known: &mut HashMap<String, i64>) {
    if known.len() <= MAX_KNOWN {
        return;
    }
    let mut days: Vec<i64> = known.values().copied().collect();
    let surplus = days.len() - MAX_KNOWN;
    let (_, newest_to_go, _) = days.select_nth_unstable(surplus - 1);
    let newest_to_go = *newest_to_go;
    let mut left = surplus;
    known.retain(|_, day| {
        let goes = left > 0 && *day <= newest_to_go;
        left -= usize::from(goes);
        !goes
    });
}

/// The lines of a book.
///
/// # Errors
/// Never for these; serde's interface allows for it.
pub fn encode<T: Serialize>(sent: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    for one in sent {
        serde_json::to_writer(&mut out, one)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// What was written down, as far as it is whole; a crash tears at most one line.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> impl Iterator<Item = T> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use ipc::budget::TenantBudget;

    use super::*;

    const ALICE: &str = "alice@example.test";

    fn budget(messages: u32, recipients: u32, first_time_recipients: u32) -> Budget {
        Budget {
            messages,
            recipients,
            first_time_recipients,
        }
    }

    fn ledger(account: Budget, domain: Budget) -> Ledger {
        let tenant = Budget::default();
        ledger_of(Budgets {
            account,
            domain,
            tenant,
        })
    }

    fn ledger_of(budgets: Budgets) -> Ledger {
        let mut ledger = Ledger::new(&budgets);
        ledger.turn(100 * DAY);
        ledger
    }

    fn addresses(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|n| format!("r{n}@far.test")).collect()
    }

    fn goes(ledger: &mut Ledger, account: &str, numbers: std::ops::Range<usize>) -> bool {
        goes_for(ledger, account, &OwnBudgets::default(), numbers)
    }

    fn goes_for(
        ledger: &mut Ledger,
        account: &str,
        own: &OwnBudgets,
        numbers: std::ops::Range<usize>,
    ) -> bool {
        matches!(charge(ledger, account, own, numbers), Charge::Charged(_))
    }

    fn charge(
        ledger: &mut Ledger,
        account: &str,
        own: &OwnBudgets,
        numbers: std::ops::Range<usize>,
    ) -> Charge {
        ledger.charge(account.to_owned(), own, &addresses(numbers))
    }

    fn of_tenant(name: &str) -> OwnBudgets {
        OwnBudgets {
            tenant: Some(TenantBudget {
                name: name.into(),
                budget: OwnBudget::default(),
            }),
            ..OwnBudgets::default()
        }
    }

    #[test]
    fn each_budget_is_used_up_to_its_end_and_is_new_the_next_day() {
        for (budget, last, beyond) in [
            (budget(2, 0, 0), 1..2, 2..3),
            (budget(0, 3, 0), 1..3, 1..2),
            (budget(0, 0, 3), 1..3, 3..4),
        ] {
            let mut ledger = ledger(budget, Budget::default());
            assert!(goes(&mut ledger, ALICE, 0..1));
            assert!(goes(&mut ledger, ALICE, last));
            assert!(!goes(&mut ledger, ALICE, beyond.clone()));
            // What is held costs nothing, and is nobody else's concern.
            assert!(!goes(&mut ledger, ALICE, beyond.clone()));
            assert!(goes(&mut ledger, "bob@example.test", 0..2));
            assert!(!ledger.turn(101 * DAY - 1) && ledger.turn(101 * DAY));
            assert!(goes(&mut ledger, ALICE, beyond));
        }
    }

    #[test]
    fn what_is_foreseen_comes_and_costs_nothing() {
        let mut ledger = ledger(budget(1, 0, 0), Budget::default());
        let own = OwnBudgets::default();
        let foresee = |ledger: &Ledger| ledger.foresee(ALICE.into(), &own, &addresses(0..1));
        for _ in 0..3 {
            assert_eq!(foresee(&ledger), None);
        }
        assert!(goes(&mut ledger, ALICE, 0..1));
        let Charge::Over(reason) = charge(&mut ledger, ALICE, &own, 0..1) else {
            panic!("beyond the budget");
        };
        assert_eq!(foresee(&ledger), Some(reason));
        assert!(!goes(&mut ledger, ALICE, 0..1));
    }

    #[test]
    fn whom_one_has_written_to_is_no_first_time_recipient() {
        let mut ledger = ledger(budget(0, 0, 2), Budget::default());
        assert!(goes(&mut ledger, ALICE, 0..2));
        assert!(goes(&mut ledger, ALICE, 0..2));
        assert!(!goes(&mut ledger, ALICE, 1..3));
        ledger.turn(160 * DAY);
        assert!(goes(&mut ledger, ALICE, 0..2) && goes(&mut ledger, ALICE, 2..4));
        // Sixty days of silence are enough to be forgotten.
        ledger.turn(221 * DAY);
        assert!(goes(&mut ledger, ALICE, 0..2) && !goes(&mut ledger, ALICE, 2..3));
    }

    #[test]
    fn the_accounts_of_a_domain_share_its_budget() {
        let mut ledger = ledger(Budget::default(), budget(2, 0, 0));
        assert!(goes(&mut ledger, ALICE, 0..1));
        assert!(goes(&mut ledger, "bob@example.test", 0..1));
        let none = OwnBudgets::default();
        let over = charge(&mut ledger, "carol@example.test", &none, 0..1);
        let reason = "relay.budgets.domain.messages allows @example.test no more than 2 a day";
        assert_eq!(over, Charge::Over(reason.into()));
        assert!(goes(&mut ledger, "alice@other.test", 0..1));
    }

    #[test]
    fn a_tenant_has_one_budget_for_all_its_domains_and_no_other_tenant_pays() {
        let mut ledger = ledger_of(Budgets {
            account: Budget::default(),
            domain: Budget::default(),
            tenant: budget(0, 3, 0),
        });
        let (acme, other) = (of_tenant("acme"), of_tenant("other"));
        assert!(goes_for(&mut ledger, ALICE, &acme, 0..2));
        assert!(goes_for(&mut ledger, "bob@second.test", &acme, 0..1));
        let over = charge(&mut ledger, "carol@third.test", &acme, 0..1);
        let reason = "relay.budgets.tenant.recipients allows the tenant acme no more than 3 a day";
        assert_eq!(over, Charge::Over(reason.into()));
        // What a domain sends later counts for whom it belongs to then.
        assert!(goes_for(&mut ledger, ALICE, &other, 0..3));
        assert!(!goes_for(&mut ledger, ALICE, &other, 0..1));
        assert!(goes(&mut ledger, "dave@free.test", 0..9));
        let spent = ledger.spent(&Payer::Tenant("acme".into()));
        assert_eq!((spent.messages, spent.recipients), (2, 3));
    }

    /// What the operator says of the account, its domain or its tenant.
    fn own(whose: &str, budget: OwnBudget) -> OwnBudgets {
        let mut own = of_tenant("acme");
        match whose {
            "account" => own.account = budget,
            "domain" => own.domain = budget,
            _ => {
                let name = "acme".into();
                own.tenant = Some(TenantBudget { name, budget });
            }
        }
        own
    }

    #[test]
    fn what_the_operator_says_of_one_counts_instead_of_what_counts_for_all() {
        for (whose, command, name) in [
            ("account", "user", "alice@example.test"),
            ("domain", "domain", "@example.test"),
            ("tenant", "tenant", "the tenant acme"),
        ] {
            let mut budgets = Budgets {
                account: Budget::default(),
                ..Budgets::default()
            };
            match whose {
                "account" => budgets.account = budget(2, 4, 9),
                "domain" => budgets.domain = budget(2, 4, 9),
                _ => budgets.tenant = budget(2, 4, 9),
            }
            let own = |messages, recipients, first_time_recipients| {
                let budget = OwnBudget {
                    messages,
                    recipients,
                    first_time_recipients,
                };
                own(whose, budget)
            };
            let mut ledger = ledger_of(budgets);
            let of_all = own(None, None, None);
            for numbers in [0..0, 0..1] {
                assert!(goes_for(&mut ledger, ALICE, &of_all, numbers));
            }
            for (own, option, limit) in [
                (own(Some(2), None, None), "messages", 2),
                (own(Some(0), Some(1), None), "recipients", 1),
                (own(Some(0), Some(0), Some(1)), "first-time", 1),
            ] {
                let over = charge(&mut ledger, ALICE, &own, 1..2);
                let rule = format!("rmailctl {command} budget --{option}");
                let reason = format!("{rule} allows {name} no more than {limit} a day");
                assert_eq!(over, Charge::Over(reason));
            }
            // What is not named stays as it is for all.
            let more = own(Some(0), None, None);
            while goes_for(&mut ledger, ALICE, &more, 0..1) {}
            let over = charge(&mut ledger, ALICE, &more, 0..1);
            let reason =
                format!("relay.budgets.{whose}.recipients allows {name} no more than 4 a day");
            assert_eq!(over, Charge::Over(reason));
        }
    }

    #[test]
    fn what_was_written_down_makes_the_same_counters() {
        let new = || ledger(budget(0, 5, 3), Budget::default());
        let mut first = new();
        let mut written = Vec::new();
        for numbers in [0..2, 0..2] {
            let none = OwnBudgets::default();
            let Charge::Charged(sent) = charge(&mut first, ALICE, &none, numbers) else {
                panic!("over budget");
            };
            written.extend(encode(&[sent]).unwrap());
        }
        // A line that a crash tore.
        written.extend(b"{\"day\":100,\"acc");
        let mut second = new();
        decode(&written).for_each(|sent| second.note(&sent));
        assert!(!goes(&mut second, ALICE, 0..2) && goes(&mut second, ALICE, 2..3));
        second.turn(101 * DAY);
        let mut third = ledger(budget(0, 5, 3), Budget::default());
        third.turn(101 * DAY);
        let summary = encode(&second.summary()).unwrap();
        decode(&summary).for_each(|sent| third.note(&sent));
        assert!(goes(&mut third, ALICE, 0..3));
        assert!(!goes(&mut third, ALICE, 3..6));
    }

    #[test]
    fn what_is_remembered_of_an_account_is_bounded() {
        let mut ledger = ledger(Budget::default(), Budget::default());
        assert!(goes(&mut ledger, ALICE, 0..MAX_KNOWN));
        ledger.turn(101 * DAY);
        assert!(goes(&mut ledger, ALICE, MAX_KNOWN..MAX_KNOWN + 10));
        ledger.turn(102 * DAY);
        let known = &ledger.known[ALICE];
        assert_eq!(known.len(), MAX_KNOWN);
        assert_eq!(known.values().filter(|day| **day == 101).count(), 10);
    }
}
