//! The SMTP server and client machines, without sockets.
//!
//! Both machines work alike: `feed` them what happened ([`server::Input`], [`client::Input`]),
//! then take what is to be done with `next` until it returns `None`. They hold no socket, clock or
//! randomness: same input, same actions, however the bytes were split on the way.
//!
//! A newcomer reads [`server`] for mail coming in and [`client`] for mail going out; [`mod@line`] and
//! [`data`] are the two places that decide where a line and a message end.
#![no_std]

extern crate alloc;

pub mod auth;
pub mod client;
pub mod command;
pub mod data;
pub mod date;
pub mod deliver_by;
pub mod hold;
pub mod line;
pub mod original;
pub mod parameter;
pub mod received;
pub mod reply;
pub mod server;
pub mod xclient;
pub mod xtext;
