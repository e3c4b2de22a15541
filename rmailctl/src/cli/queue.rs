//! `rmailctl queue`.

use clap::{Args, Subcommand, ValueEnum};
use ipc::queue_walk::QueueState;

/// Which messages of the queue a command is about; all that is given must be so.
#[derive(Debug, Clone, Default, Args)]
pub struct QueueRange {
    /// Only from this sender: an address, @DOMAIN, or "" for the null reverse-path.
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// Only for this recipient, if it is not done: an address, or @DOMAIN.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// Only what is to go to this domain, to this server if it was rerouted there, or "here".
    #[arg(long, value_name = "DOMAIN")]
    pub destination: Option<String>,
    /// Only mail of this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only what this account has submitted.
    #[arg(long)]
    pub account: Option<String>,
    /// Only what stands so.
    #[arg(long, value_enum)]
    pub state: Option<StateName>,
    /// Only what is in the queue for so long: 90, 15m, 2h, 3d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub older: Option<u64>,
    /// Only what is in the queue for less than that.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub younger: Option<u64>,
    /// Only what has so many bytes or more: 500, 20k, 5m.
    #[arg(long, value_name = "SIZE", value_parser = octets)]
    pub larger: Option<u64>,
    /// Only what has fewer bytes.
    #[arg(long, value_name = "SIZE", value_parser = octets)]
    pub smaller: Option<u64>,
}

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateName {
    /// Not tried yet.
    New,
    /// Its sender wants it to wait, and it still does.
    Scheduled,
    /// Tried, and to be tried again.
    Deferred,
    /// Held until it is released.
    Held,
    /// In quarantine.
    Quarantined,
    /// Over, and its sender is still to be told.
    Reporting,
}

impl From<StateName> for QueueState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::New => Self::New,
            StateName::Scheduled => Self::Scheduled,
            StateName::Deferred => Self::Deferred,
            StateName::Held => Self::Held,
            StateName::Quarantined => Self::Quarantined,
            StateName::Reporting => Self::Reporting,
        }
    }
}

/// The messages that are to be changed.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Queue ids.
    #[arg(conflicts_with_all = ["all", "sender", "recipient", "destination", "tenant", "account", "state", "older", "younger", "larger", "smaller"])]
    pub queue_ids: Vec<String>,
    /// Instead of ids: which.
    #[command(flatten)]
    pub range: QueueRange,
    /// Every message there is.
    #[arg(long)]
    pub all: bool,
    /// Change nothing: print the ids of what would be changed.
    #[arg(long)]
    pub dry_run: bool,
}

/// `rmailctl queue …`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Show what waits.
    List {
        /// Which messages.
        #[command(flatten)]
        range: QueueRange,
        /// Show no more than so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Go on behind this message.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a message: its envelope, and of each recipient where it stands and what was answered last.
    Show {
        /// The queue id.
        queue_id: String,
        /// Its header, too.
        #[arg(long)]
        headers: bool,
        /// A JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Try messages now; all if nothing else is said.
    Retry(Selection),
    /// Try everything now that is not held, and whoever could not be reached, too.
    Flush,
    /// Keep messages in the queue until they are released.
    Hold(Selection),
    /// Let messages go that are held; what was beyond a budget does not count for it.
    Release(Selection),
    /// Take messages out of the queue without a report to their senders.
    Remove {
        /// Which.
        #[command(flatten)]
        selection: Selection,
        /// Do not ask whether that is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Give messages up: their senders get a report for each recipient that does not have them.
    Bounce {
        /// Which.
        #[command(flatten)]
        selection: Selection,
        /// Do not ask whether that is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Have messages go to a server of your choice instead of to those of their recipients' domains, now and whenever they are tried again.
    Reroute {
        /// HOST, HOST:PORT, or "mx" to undo it.
        server: String,
        /// Which.
        #[command(flatten)]
        selection: Selection,
    },
    /// Show what waits for each destination and tenant, the most first; on a terminal again and again.
    Top {
        /// Which messages.
        #[command(flatten)]
        range: QueueRange,
        /// What makes a line.
        #[arg(long, value_enum, default_value_t = TopBy::Both)]
        by: TopBy,
        /// How many lines.
        #[arg(long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Only once, also on a terminal.
        #[arg(long)]
        once: bool,
        /// A JSON array, once, with all lines.
        #[arg(long)]
        json: bool,
    },
    /// Show what happened, a line each: when, which message, its sender, and what; of the days that relay.history keeps.
    History {
        /// Only lines with this queue id, address, or other text, whatever its case; everything if not given.
        about: Option<String>,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// What makes a line of `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopBy {
    /// A tenant, or a domain that belongs to none, and a destination.
    Both,
    /// A destination.
    Destination,
    /// A tenant, or a domain that belongs to none.
    Tenant,
}

/// `90`, `15m`, `2h`, `3d`.
fn seconds(text: &str) -> Result<u64, String> {
    number(text, &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)])
        .ok_or_else(|| "a time is a number of seconds, or one with m, h or d behind it".into())
}

/// `500`, `20k`, `5m`.
fn octets(text: &str) -> Result<u64, String> {
    number(text, &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)])
        .ok_or_else(|| "a size is a number of bytes, or one with k, m or g behind it".into())
}

fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let unit = units
        .iter()
        .find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor)));
    let (digits, factor) = unit.unwrap_or((&text, 1));
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("2H"), Ok(7200));
        assert_eq!(seconds("3d"), Ok(3 * 86_400));
        assert_eq!(octets("20k"), Ok(20_480));
        assert_eq!(octets("5M"), Ok(5 << 20));
        for wrong in ["", "x", "-1", "1w", "99999999999999999999d", "m"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert!(octets("18446744073709551615g").is_err());
    }
}
