//! `rmailctl user imap`.

use clap::Args;

/// Which extensions of IMAP a user's clients are offered.
#[derive(Debug, Args)]
pub struct ImapOptions {
    /// The address.
    pub address: String,
    /// Offer all but these, and what is of no use without them, like QRESYNC,COMPRESS=DEFLATE.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "all"
    )]
    pub without: Vec<String>,
    /// Offer all.
    #[arg(long)]
    pub all: bool,
    /// Show them as a JSON array instead of text.
    #[arg(long, conflicts_with_all = ["without", "all"])]
    pub json: bool,
}
