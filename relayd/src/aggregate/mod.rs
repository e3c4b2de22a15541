//! Aggregate reports: domains are told each day what was seen of them. What all kinds have in common, and DMARC's (RFC 9990, RFC 7489 §7.2),
//! about mail that came in a domain's name; those about TLS are in [`crate::tlsrpt`].
//!
//! smtpd says what it found → [`row`] checks it → [`register`] counts it in the running [`period`], which is also a file of lines in the
//! queue directory → at midnight, UTC, the period ends → [`courier`] makes a report for each domain when its time has come: [`target`]
//! finds who takes it, [`xml`] writes it down, [`letter`] makes a mail of it, which goes into the queue like any other.

pub mod courier;
pub mod dmarc;
pub mod kind;
pub mod letter;
pub mod period;
pub mod register;
pub mod row;
pub mod target;
pub mod xml;
