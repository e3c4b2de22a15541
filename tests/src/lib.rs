//! Whole-system tests: the real binaries against programs we did not write.
//!
//! A test starts a [`System`] (its own directory, its own ports, its own `rmaild`), talks to it with foreign programs
//! ([`program`], [`python`], [`postfix`], [`dns`], [`filter`]) or with the two small clients here ([`smtp`], [`imap`]), and looks at
//! the files it left ([`maildir`]). Everything runs on loopback addresses and stops with the test.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test harness fails loudly and at once; it is never linked into a daemon"
)]

pub mod certificate;
pub mod dns;
pub mod dovecot;
pub mod filter;
pub mod foreign;
pub mod imap;
pub mod load;
pub mod maildir;
pub mod mx;
pub mod nuisance;
pub mod options;
pub mod patience;
pub mod policies;
pub mod postfix;
pub mod postsrsd;
pub mod program;
pub mod python;
pub mod sink;
pub mod smtp;
pub mod system;
pub mod terminal;
pub mod zones;

pub use options::Options;
pub use system::System;

/// Ends the test early, with a reason in its output, when a condition of this machine is not met.
#[macro_export]
macro_rules! skip_unless {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            eprintln!("SKIPPED: {}", format!($($reason)+));
            return;
        }
    };
}

/// Ends the test early when one of these programs is not installed.
#[macro_export]
macro_rules! skip_without {
    ($($program:expr),+ $(,)?) => {
        $(
            if $crate::program::find($program).is_none() {
                eprintln!("SKIPPED: {} is not installed; tests/PACKAGES names the Debian packages", $program);
                return;
            }
        )+
    };
}
