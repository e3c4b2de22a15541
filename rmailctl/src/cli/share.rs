//! `rmailctl user share`, `unshare` and `shares`.

use clap::Args;

/// Whom a mailbox is shared with.
#[derive(Debug, Args)]
pub struct ShareOptions {
    /// The owner's address.
    pub address: String,
    /// The mailbox, like Work/2026.
    pub mailbox: String,
    /// A user of the same tenant (of the same domain, if that has no tenant), or anyone for all of them; with a dash in front to take
    /// rights away that an entry of anyone gives.
    #[arg(allow_hyphen_values = true)]
    pub with: String,
    /// Letters of RFC 4314, instead of those before: l list, r read, s keep seen, w other flags, i insert, p post, k make below, x delete
    /// and rename, t mark deleted, e expunge, a change rights. lrs reads, lrswite works with messages.
    pub rights: String,
}

/// Who is not to have rights any more.
#[derive(Debug, Args)]
pub struct UnshareOptions {
    /// The owner's address.
    pub address: String,
    /// The mailbox.
    pub mailbox: String,
    /// As rmailctl user shares says it.
    #[arg(allow_hyphen_values = true)]
    pub with: String,
}

/// What a user shares.
#[derive(Debug, Args)]
pub struct SharesOptions {
    /// The owner's address.
    #[arg(required_unless_present = "rebuild")]
    pub address: Option<String>,
    /// Show it as JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Look through the files of all users and note anew who shares something with whom: after acl.json files were copied or edited by
    /// hand.
    #[arg(long, conflicts_with_all = ["address", "json"])]
    pub rebuild: bool,
}
