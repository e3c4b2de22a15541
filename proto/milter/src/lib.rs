//! The milter protocol, version 6, as the mail server speaks it: what a filter is told, and what it wants.
//!
//! Source: Sendmail's `libmilter/docs` and its header `mfdef.h`; there is no RFC. A filter is believed only so far: what it
//! sends is bounded and checked, and anything that is no answer to what it was told is a [`Fault`].
//!
//! [`session`] is the machine for one transaction with one filter, [`message`] what a filter's changes are made to.
#![no_std]

extern crate alloc;

mod command;
mod fault;
mod frame;
pub mod message;
pub mod reply;
pub mod session;
mod terms;

pub use command::{Client, Event};
pub use fault::Fault;
