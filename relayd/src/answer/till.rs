//! Where accounts pay for what they send: counts it, and writes it down.

use std::io;
use std::sync::Arc;

use daemon::config::Budgets;
use ipc::Refusal;
use ipc::budget::{Payer, Spent};
use tokio::sync::{Mutex, MutexGuard};
use tracing::{error, info};

use super::allowances::Allowances;
use crate::ask::Ask;
use crate::budget::{self, Charge, Ledger, Sent};
use crate::clock;
use crate::desk::Desk;
use crate::queue::Book;
use crate::turns::Party;

/// The ledger and the queue whose file it is in.
#[derive(Debug)]
pub struct Till {
    desk: Arc<Desk>,
    allowances: Allowances,
    /// Held while a line is written, so that lines are in the order in which they were counted.
    ledger: Mutex<Ledger>,
}

impl Till {
    /// With what was written down before.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub async fn open(desk: Arc<Desk>, ask: Ask, budgets: &Budgets) -> io::Result<Self> {
        let bytes = desk.with_queue(|queue| queue.read_book(Book::Sent)).await?;
        let mut ledger = Ledger::new(budgets);
        ledger.turn(clock::now());
        let mut lines = 0_u64;
        for sent in budget::decode(&bytes) {
            ledger.note(&sent);
            lines += 1;
        }
        info!(lines, "read what accounts have sent");
        let ledger = Mutex::new(ledger);
        Ok(Self {
            desk,
            allowances: Allowances::new(ask),
            ledger,
        })
    }

    /// Counts a message. `Some` says why it is to be held; then it is not counted.
    ///
    /// # Errors
    /// [`Allowances::of`]
    pub async fn charge(
        &self,
        account: &str,
        recipients: &[String],
    ) -> Result<Option<String>, Refusal> {
        let account = account.to_lowercase();
        let own = self.allowances.of(&account).await?;
        let mut ledger = self.today().await;
        Ok(match ledger.charge(account, &own, recipients) {
            Charge::Charged(sent) => {
                match budget::encode(&[sent]) {
                    Ok(line) => self.write(line).await,
                    Err(error) => error!(%error, "bug: what an account has sent cannot be written"),
                }
                None
            }
            Charge::Over(reason) => Some(reason),
        })
    }

    /// Among whose mail that of an account has its turns.
    ///
    /// # Errors
    /// [`Allowances::of`]
    pub async fn party(&self, account: &str) -> Result<Party, Refusal> {
        let account = account.to_lowercase();
        let own = self.allowances.of(&account).await?;
        Ok(match (&own.tenant, account.rsplit_once('@')) {
            (Some(tenant), _) => Party::Tenant(tenant.name.clone()),
            (None, Some((_, domain))) => Party::Domain(domain.to_owned()),
            (None, None) => Party::Nobody,
        })
    }

    /// What these have sent today, in their order.
    pub async fn spent(&self, payers: &[Payer]) -> Vec<Spent> {
        let ledger = self.today().await;
        payers.iter().map(|payer| ledger.spent(payer)).collect()
    }

    /// Somebody's own budget has changed.
    pub fn forget_budgets(&self) {
        self.allowances.forget();
    }

    async fn today(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger.lock().await;
        if ledger.turn(clock::now()) {
            self.write_anew(&ledger.summary()).await;
        }
        ledger
    }

    /// Why a message would be held, if it would be. Nothing is counted.
    ///
    /// # Errors
    /// Whether there is budget cannot be found out.
    pub async fn foresee(
        &self,
        account: &str,
        recipients: &[String],
    ) -> Result<Option<String>, Refusal> {
        let account = account.to_lowercase();
        let own = self.allowances.of(&account).await?;
        Ok(self.today().await.foresee(account, &own, recipients))
    }

    // The mail goes out all the same: who fills the disk must not stop everybody's.
    async fn write(&self, lines: Vec<u8>) {
        let written = self
            .desk
            .with_queue(move |queue| queue.append_to_book(Book::Sent, &lines));
        if let Err(error) = written.await {
            error!(%error, "what an account has sent cannot be written down: after a restart it counts no more");
        }
    }

    async fn write_anew(&self, lines: &[Sent]) {
        let lines = budget::encode(lines).map_err(io::Error::from);
        let written = match lines {
            Ok(lines) => {
                self.desk
                    .with_queue(move |queue| queue.replace_book(Book::Sent, &lines))
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            error!(%error, "the file of what accounts have sent cannot be written anew: it grows until it can");
        }
    }
}
