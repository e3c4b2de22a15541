//! relayd → deliverd: delivery reports into the INBOX of their sender.

use crate::delivery::{DeliveryAnswer, DeliveryRequest};
use crate::edge::{Edge, Silence};

/// relayd asks deliverd only to deliver.
#[derive(Debug)]
pub struct DeliveryEdge;

impl Edge for DeliveryEdge {
    type Request = DeliveryRequest;
    type Answer = DeliveryAnswer;
    type Event = Silence;
    const NAME: &'static str = "relayd-deliverd";
}
