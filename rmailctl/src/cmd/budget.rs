//! What somebody may send to other servers in a day, and what they have: `rmailctl user|domain|tenant budget`, and a column of the
//! listings.

use daemon::config::{Budget, Config};
use ipc::budget::{BudgetChange, OwnBudget, Payer, Spent};
use ipc::control::{
    ENTRIES_PER_FRAME, QueueControlAnswer, QueueControlRequest, StoreControlAnswer,
    StoreControlRequest,
};
use serde_json::{Value, json};

use crate::Error;
use crate::cli::BudgetOptions;
use crate::operator::{Queue, Store, unexpected};

impl BudgetOptions {
    /// What is to change, if anything is.
    const fn change(&self) -> Option<BudgetChange> {
        let set = OwnBudget {
            messages: self.messages,
            recipients: self.recipients,
            first_time_recipients: self.first_time,
        };
        match set {
            _ if self.default => Some(BudgetChange::Reset),
            OwnBudget {
                messages: None,
                recipients: None,
                first_time_recipients: None,
            } => None,
            set => Some(BudgetChange::Set(set)),
        }
    }
}

/// Changes a budget, or shows it.
///
/// # Errors
/// [`Error`].
pub async fn run(
    config: &Config,
    whose: Payer,
    options: BudgetOptions,
    json: bool,
) -> Result<(), Error> {
    let store = Store::of(config);
    if let Some(change) = options.change() {
        let what = format!("cannot change the budget of {whose}");
        let request = StoreControlRequest::ChangeBudget { whose, change };
        store.ask(what, request).await?;
        return tell_relayd(config).await;
    }
    let what = format!("cannot show the budget of {whose}");
    let request = StoreControlRequest::ShowBudget {
        whose: whose.clone(),
    };
    let own = match store.ask(what, request).await? {
        StoreControlAnswer::Budget(own) => own,
        answer => return Err(unexpected(&answer)),
    };
    let all = of_all(config, &whose);
    let spent = spent(config, vec![whose]).await?;
    let figures = Figures::of(own, all, spent.first().copied());
    if json {
        println!("{}", figures.row());
    } else {
        for figure in &figures.0 {
            let set = match figure.is_own {
                true => "set for this one",
                false => "as relay.budgets says",
            };
            println!("{}\t{}\t{set}", figure.name, figure.text());
        }
    }
    Ok(())
}

/// Has relayd ask deliverd again for what it remembers of budgets. A relayd that is not running does so when it starts.
///
/// # Errors
/// [`Error`].
pub async fn tell_relayd(config: &Config) -> Result<(), Error> {
    let what = "the change is made, but relayd learns of it only within a minute";
    let queue = Queue::of(config);
    match queue.ask(what, QueueControlRequest::ForgetBudgets).await {
        Ok(_) | Err(Error::Away { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What these have sent today, in their order; says so and gives nothing when relayd is not running.
///
/// # Errors
/// [`Error`].
pub async fn spent(config: &Config, payers: Vec<Payer>) -> Result<Vec<Spent>, Error> {
    let queue = Queue::of(config);
    let mut all = Vec::with_capacity(payers.len());
    for page in payers.chunks(ENTRIES_PER_FRAME) {
        let request = QueueControlRequest::ShowSpent {
            payers: page.to_vec(),
        };
        match queue.ask("cannot tell what was sent today", request).await {
            Ok(QueueControlAnswer::Spent(page)) => all.extend(page),
            Ok(answer) => return Err(unexpected(&answer)),
            Err(error @ Error::Away { .. }) => {
                eprintln!("what was sent today is not shown: {error}");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A budget as it counts, and what is used of it.
#[derive(Debug)]
pub struct Figures([Figure; 3]);

#[derive(Debug)]
struct Figure {
    name: &'static str,
    used: Option<u64>,
    /// 0 for no limit.
    limit: u32,
    is_own: bool,
}

impl Figures {
    /// The budget of somebody.
    #[must_use]
    pub fn of(own: OwnBudget, all: &Budget, spent: Option<Spent>) -> Self {
        let figure = |name, own: Option<u32>, all, used: fn(Spent) -> u64| Figure {
            name,
            used: spent.map(used),
            limit: own.unwrap_or(all),
            is_own: own.is_some(),
        };
        Self([
            figure("messages", own.messages, all.messages, |spent| {
                spent.messages
            }),
            figure("recipients", own.recipients, all.recipients, |spent| {
                spent.recipients
            }),
            figure(
                "first-time",
                own.first_time_recipients,
                all.first_time_recipients,
                |spent| spent.first_time_recipients,
            ),
        ])
    }

    /// A column of a listing.
    #[must_use]
    pub fn text(&self) -> String {
        let parts = self.0.iter();
        let parts = parts.map(|figure| format!("{} {}", figure.text(), figure.name));
        format!("sent today {}", parts.collect::<Vec<_>>().join(", "))
    }

    /// The same for programs; 0 is no limit.
    #[must_use]
    pub fn row(&self) -> Value {
        let figure = |figure: &Figure| {
            let value = json!({"used": figure.used, "limit": figure.limit, "own": figure.is_own});
            (figure.name.replace('-', "_"), value)
        };
        Value::Object(self.0.iter().map(figure).collect())
    }
}

impl Figure {
    fn text(&self) -> String {
        let used = self.used.map_or("?".to_owned(), |used| used.to_string());
        match self.limit {
            0 => used,
            limit => format!("{used} of {limit}"),
        }
    }
}

/// What the configuration allows all like this one.
#[must_use]
pub const fn of_all<'a>(config: &'a Config, whose: &Payer) -> &'a Budget {
    let budgets = &config.relay.budgets;
    match whose {
        Payer::Account(_) => &budgets.account,
        Payer::Domain(_) => &budgets.domain,
        Payer::Tenant(_) => &budgets.tenant,
    }
}
