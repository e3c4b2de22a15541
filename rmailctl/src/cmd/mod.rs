//! One file per command that orders the running system about.

pub mod alias;
pub mod domain;
pub mod queue;
pub mod status;
pub mod user;
