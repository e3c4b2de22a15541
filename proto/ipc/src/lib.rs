//! What the processes say to each other: one typed enum per edge, packed into small packets.
//!
//! Asking goes one way (`rmailctl, smtpd, imapd, apid → relayd → deliverd, keyd`). Whoever answers doubts whoever asks, so text
//! crosses an edge as plain strings and is parsed into its type again on the other side. What may be larger than a frame,
//! message bodies and mailbox snapshots, travels as descriptors beside it; a message for users here that fits is in it.
//!
//! | edge | module | who asks | who answers |
//! |---|---|---|---|
//! | [`smtp::SmtpEdge`] | [`smtp`] | smtpd | deliverd |
//! | [`relay::DeliveryEdge`] | [`relay`], [`delivery`] | relayd | deliverd |
//! | [`imap::ImapEdge`] | [`imap`] | imapd | deliverd |
//! | [`session::SessionEdge`] | [`session`] | holder of a mail session descriptor | deliverd |
//! | [`api::ApiEdge`] | [`api`] | apid | deliverd |
//! | [`queue::QueueEdge`] | [`queue`] | smtpd | relayd |
//! | [`control::StoreControlEdge`], [`control::QueueControlEdge`] | [`control`] | rmailctl | deliverd, relayd |
//! | [`signing::SigningEdge`] | [`signing`] | relayd | keyd |
//! | [`keys::KeyControlEdge`] | [`keys`] | rmailctl | keyd |
//! | [`explain::ExplainEdge`] | [`explain`] | rmailctl | smtpd |

pub mod acl;
pub mod api;
pub mod budget;
pub mod cache;
pub mod call;
pub mod control;
pub mod delivery;
pub mod demands;
pub mod dns;
pub mod edge;
pub mod explain;
pub mod frame;
pub mod greylist;
pub mod hello;
pub mod imap;
pub mod keys;
pub mod login;
pub mod metadata;
pub mod observation;
pub mod queue;
pub mod queue_walk;
pub mod quota;
pub mod refusal;
pub mod relay;
pub mod reports;
pub mod routing;
pub mod secret;
pub mod session;
pub mod signing;
pub mod smtp;
pub mod snapshot;
pub mod tools;

pub use call::{Call, Context, Return};
pub use edge::Edge;
pub use refusal::Refusal;
pub use secret::Secret;
