//! Words every mail protocol shares: addresses, headers, MIME, mailbox names.
#![no_std]

extern crate alloc;

pub mod address;
pub mod content;
pub mod date;
pub mod decode;
pub mod encode;
pub mod header;
mod lexer;
pub mod mailbox_list;
pub mod message_id;
pub mod mime;
pub mod parameter;
