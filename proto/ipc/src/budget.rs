//! How much mail may be sent to other servers in a day: by an account, by all of a domain, by all of a tenant.
//!
//! The configuration says it for all alike; the operator says it for one of them. deliverd keeps what the operator said, relayd
//! counts.

use std::fmt;

use crate::frame::{Decode, Encode};

/// From whose budget mail is paid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Payer {
    /// An account, by its canonical address.
    Account(String),
    /// All accounts of a domain together.
    Domain(String),
    /// All accounts of a tenant's domains together.
    Tenant(String),
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(address) => f.write_str(address),
            Self::Domain(name) => write!(f, "@{name}"),
            Self::Tenant(name) => write!(f, "the tenant {name}"),
        }
    }
}

/// What the operator allows one payer, from midnight to midnight (UTC). 0 sets no limit; what is absent is as the configuration
/// says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct OwnBudget {
    /// Messages.
    pub messages: Option<u32>,
    /// Recipients at other servers.
    pub recipients: Option<u32>,
    /// Recipients whom the account has not written to lately.
    pub first_time_recipients: Option<u32>,
}

/// What becomes of a payer's own budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum BudgetChange {
    /// What is absent stays as it is.
    Set(OwnBudget),
    /// It has none any more.
    Reset,
}

/// What deliverd knows of all who pay for an account's mail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct OwnBudgets {
    /// The account's.
    pub account: OwnBudget,
    /// Its domain's.
    pub domain: OwnBudget,
    /// Its tenant's, if it has one.
    pub tenant: Option<TenantBudget>,
}

/// A tenant and its own budget.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TenantBudget {
    /// Its name.
    pub name: String,
    /// What the operator allows it.
    pub budget: OwnBudget,
}

/// What a payer has sent to other servers since midnight (UTC).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Spent {
    /// Messages.
    pub messages: u64,
    /// Recipients, each counted for each message.
    pub recipients: u64,
    /// Recipients whom the account had not written to lately.
    pub first_time_recipients: u64,
}
