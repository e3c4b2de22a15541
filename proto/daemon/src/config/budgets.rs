//! The `relay.budgets` section: how much mail accounts may send to other servers in a day.

use serde::{Deserialize, Serialize};

/// The `relay.budgets` section, for all who have no budget of their own (`rmailctl user budget`, `domain budget`, `tenant budget`). Mail
/// beyond a budget is held in the queue until the operator releases it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Of each account.
    pub account: Budget,
    /// Of all accounts of a domain together.
    pub domain: Budget,
    /// Of all accounts of a tenant's domains together.
    pub tenant: Budget,
}

/// What may be sent from midnight to midnight, UTC; 0 sets no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Messages.
    pub messages: u32,
    /// Recipients at other servers, each counted for each message.
    pub recipients: u32,
    /// Recipients whom the account has not written to in the last sixty days: a stolen password is used for many of them.
    pub first_time_recipients: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        let account = Budget {
            messages: 0,
            recipients: 2000,
            first_time_recipients: 500,
        };
        Self {
            account,
            domain: Budget::default(),
            tenant: Budget::default(),
        }
    }
}
