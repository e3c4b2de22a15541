//! Whether a message is from whom it says: SPF ([`spf`]), DMARC ([`dmarc`]) and iprev ([`iprev`]), and the
//! `Authentication-Results` field that says so ([`results`], [`strip`], and of others [`attested`]).
//!
//! The three checks work alike: `next` says which question DNS is to be asked, `answer` takes what it said, until `next` gives the
//! verdict. They hold no socket, clock or randomness: same answers, same verdict. Each asks only so much, whatever it is told.
#![no_std]

extern crate alloc;

pub mod attested;
pub mod dmarc;
pub mod dns;
pub mod iprev;
pub mod results;
pub mod spf;
pub mod strip;
