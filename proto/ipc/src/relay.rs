//! relayd → deliverd: mail for users here, such as delivery reports, what accounts may send, and whose domains are.

use crate::budget::OwnBudgets;
use crate::delivery::{DeliveryAnswer, DeliveryRequest};
use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};

/// Orders of relayd to deliverd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RelayRequest {
    /// Local delivery.
    Delivery(DeliveryRequest),
    /// What may this account, its domain and its tenant send?
    ShowBudgets {
        /// Its address.
        account: String,
    },
    /// Whose is this domain?
    ShowTenant {
        /// Its name.
        domain: String,
    },
}

/// What deliverd answers to a [`RelayRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RelayAnswer {
    /// To [`RelayRequest::Delivery`].
    Delivery(DeliveryAnswer),
    /// To [`RelayRequest::ShowBudgets`].
    Budgets(OwnBudgets),
    /// To [`RelayRequest::ShowTenant`]: a tenant's, or nobody's in particular, as are domains that are none of ours.
    Tenant(Option<String>),
}

/// relayd asks deliverd.
#[derive(Debug)]
pub struct DeliveryEdge;

impl Edge for DeliveryEdge {
    type Request = RelayRequest;
    type Answer = RelayAnswer;
    type Event = Silence;
    const NAME: &'static str = "relayd-deliverd";
}
