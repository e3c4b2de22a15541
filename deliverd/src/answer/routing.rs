//! How addresses are read and where they lead, as the operator sees and changes it.

use ipc::Refusal;
use ipc::control::StoreControlAnswer;
use ipc::frame::MAX_FRAME;
use ipc::routing::{RulesChange, STEPS_PER_FRAME};
use tracing::info;

use super::House;
use crate::accounts::address;
use crate::store::Owner;

/// What stands around an answer in its frame, generously.
const ENVELOPE: usize = 64;

pub(super) fn set_rules(house: &House, name: &str, change: &RulesChange) -> Result<(), Refusal> {
    let _alone = house.alone();
    let rules = house.accounts.set_rules(name, change)?;
    info!(domain = name, ?rules, "how addresses are read was changed");
    Ok(())
}

/// A page of the steps from an address. They are taken anew for each page: a trace is short, and nothing has to be remembered.
pub(super) fn trace(house: &House, text: &str, skip: u32) -> Result<StoreControlAnswer, Refusal> {
    let (mut steps, refusal) = house.accounts.trace(&address(text)?)?;
    steps.drain(..steps.len().min(usize::try_from(skip).unwrap_or(usize::MAX)));
    let mut more = steps.len() > STEPS_PER_FRAME;
    steps.truncate(STEPS_PER_FRAME);
    let is_too_long = |steps: &Vec<_>| {
        ipc::frame::encode(steps).map_or(true, |bytes| bytes.len() > MAX_FRAME - ENVELOPE)
    };
    while steps.len() > 1 && is_too_long(&steps) {
        steps.pop();
        more = true;
    }
    Ok(StoreControlAnswer::Trace {
        steps,
        more,
        refusal,
    })
}

pub(super) fn list_grants(
    house: &House,
    owner: &Owner,
    skip: u32,
) -> Result<StoreControlAnswer, Refusal> {
    let page = house.accounts.grants(owner, skip)?;
    Ok(StoreControlAnswer::Grants {
        senders: page.entries.iter().map(Owner::address).collect(),
        more: page.more,
    })
}
