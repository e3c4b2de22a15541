//! One file per command that orders the running system about.

pub mod alias;
pub mod audit;
pub mod ban;
pub mod budget;
pub mod dkim;
pub mod domain;
pub mod explain;
pub mod expunged;
pub mod grant;
pub mod imap;
pub mod queue;
pub mod quota;
pub mod relay;
pub mod reports;
pub mod share;
pub mod status;
pub mod store;
pub mod tenant;
pub mod trace;
pub mod user;
