//! Who is locked out: shown to the operator, and lifted.

use ipc::Refusal;
use ipc::control::{BANS_PER_FRAME, Ban, StoreControlAnswer};
use tracing::info;

use super::House;
use crate::accounts::{self, Key, Network, address};
use crate::store::Owner;

/// A page of the locks there are, ordered.
pub(super) fn list(house: &House, skip: u32) -> StoreControlAnswer {
    let all = house.doorman.bans();
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let page: Vec<Ban> = all
        .iter()
        .skip(skip)
        .take(BANS_PER_FRAME)
        .map(show)
        .collect();
    let more = skip.saturating_add(page.len()) < all.len();
    StoreControlAnswer::Bans { bans: page, more }
}

fn show(ban: &accounts::Ban) -> Ban {
    Ban {
        network: ban.key.network.to_string(),
        account: ban.key.account.clone(),
        failures: ban.failures,
        times: ban.times,
        since: ban.since,
        until: ban.until,
    }
}

/// Hears an account, or everybody in a network, again.
pub(super) fn lift(house: &House, what: &str) -> Result<(), Refusal> {
    let lifted = if what.contains('@') {
        let account = Owner::of(&address(what)?).address();
        house
            .doorman
            .lift(|key: &Key| key.account.as_ref() == Some(&account))?
    } else {
        let network = Network::parse(what).ok_or_else(|| {
            Refusal::Invalid(format!(
                "\"{}\" is neither an account nor an IP address nor a network as `rmailctl ban list` shows it",
                what.escape_debug()
            ))
        })?;
        house.doorman.lift(|key: &Key| key.network == network)?
    };
    if lifted == 0 {
        return Err(Refusal::NotFound);
    }
    info!(what, lifted, "locks lifted");
    Ok(())
}
