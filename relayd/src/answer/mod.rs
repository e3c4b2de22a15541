//! Everything relayd answers, and who may ask it: smtpd brings mail ([`intake`]), asks DNS ([`lookup`]) and wants connections to
//! filters ([`filters`]); the operator looks and acts ([`operator`]).

pub mod allowances;
mod authorship;
mod demands;
pub mod filters;
mod history;
pub mod intake;
pub mod lookup;
pub mod operator;
mod orders;
pub mod reports;
pub mod till;
mod walk;
pub mod welcome;
