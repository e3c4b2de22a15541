//! What the operator lets somebody send.

use ipc::Refusal;
use ipc::budget::{BudgetChange, Payer};
use tracing::info;

use super::House;

pub(super) fn change(house: &House, whose: &Payer, change: BudgetChange) -> Result<(), Refusal> {
    house.accounts.change_budget(whose, change)?;
    info!(%whose, ?change, "budget changed");
    Ok(())
}
