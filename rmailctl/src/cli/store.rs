//! `rmailctl store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What of the store a command is about; all of it if nothing is given.
#[derive(Debug, Args)]
pub struct StoreRange {
    /// Only users of this domain.
    #[arg(long, conflicts_with = "user")]
    pub domain: Option<String>,
    /// Only this user.
    #[arg(long, value_name = "ADDRESS")]
    pub user: Option<String>,
    /// Only this mailbox of the user.
    #[arg(long, value_name = "NAME", requires = "user")]
    pub mailbox: Option<String>,
    /// Go on behind this place, which an interrupted command has named.
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// Say how far it is, also where standard error is no terminal.
    #[arg(long)]
    pub progress: bool,
}

/// `rmailctl store …`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Tell what is not as it should be, a line each, and what a repair would do. Changes nothing.
    ///
    /// The exit status is 0 if there is nothing but notes, 1 if there is damage, and 64 or more if it could not be done.
    Check {
        /// Where.
        #[command(flatten)]
        range: StoreRange,
        /// A JSON object a line, a summary in the last.
        #[arg(long)]
        json: bool,
    },
    /// Mend what can be mended. No message is deleted: doubtful files get a new UID or are moved to .aside/ in the store.
    ///
    /// The exit status is 0 if nothing but notes is left, 1 if damage remains, and 64 or more if it could not be done.
    Repair {
        /// Where.
        #[command(flatten)]
        range: StoreRange,
        /// Change nothing: the same as check.
        #[arg(long)]
        dry_run: bool,
        /// A JSON object a line, a summary in the last.
        #[arg(long)]
        json: bool,
    },
    /// Drop caches and have the mailboxes in use read anew from their files; others are at their next use.
    ///
    /// The exit status is 0 if all were dropped, 1 if not, and 64 or more if it could not be done.
    Rebuild {
        /// Where.
        #[command(flatten)]
        range: StoreRange,
    },
    /// Count users, mailboxes, messages and bytes, and show the journal and the largest mailboxes.
    Stat {
        /// Where.
        #[command(flatten)]
        range: StoreRange,
        /// How many of the largest mailboxes to show.
        #[arg(long, value_name = "N", default_value_t = 10)]
        largest: usize,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Read every message from the disk and print its SHA-256, size, mailbox, UIDVALIDITY and UID, separated by tabs.
    ///
    /// The exit status is 0 if all could be read and nothing has changed or is missing, 1 if not, and 64 or more if it could not
    /// be done.
    Verify {
        /// Where.
        #[command(flatten)]
        range: StoreRange,
        /// Instead of the list print what differs from this one, made by an earlier verify: changed, missing, new.
        #[arg(long, value_name = "FILE", conflicts_with = "after")]
        against: Option<PathBuf>,
    },
    /// Show what deliverd did at its last start after a crash.
    FsckReport {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}
