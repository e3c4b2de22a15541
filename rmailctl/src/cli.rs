//! The command line.

mod dkim;
mod explain;
mod imap;
mod queue;
mod share;
mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::dkim::{DkimCommand, KeyKind};
pub use self::explain::{ExplainOptions, ListenerName};
pub use self::imap::ImapOptions;
pub use self::queue::{QueueCommand, QueueRange, Selection, StateName, TopBy};
pub use self::share::{ShareOptions, SharesOptions, UnshareOptions};
pub use self::store::{StoreCommand, StoreRange};

/// The admin's tool of the rmail mail system.
#[derive(Debug, Parser)]
#[command(name = "rmailctl", version, propagate_version = true)]
pub struct Cli {
    /// The configuration of the system to work on.
    #[arg(long, global = true, value_name = "FILE", default_value = daemon::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What rmailctl can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first configuration, make the directories, a certificate for development, a domain and a user.
    Init(InitOptions),
    /// Check the configuration, or show what the supervisor makes of it.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Domains that mail is taken for.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Tenants, whose domains share limits.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Users and their passwords.
    #[command(subcommand)]
    User(UserCommand),
    /// Aliases: exact ones, regular expressions, and the catch-all of a domain.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Who is not let in for a while, because too many logins failed.
    #[command(subcommand)]
    Ban(BanCommand),
    /// Keys that sign the mail of a domain (DKIM).
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// Mail that waits to be sent out.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// The way to other servers.
    #[command(subcommand)]
    Relay(RelayCommand),
    /// What domains are to be told about mail in their name (DMARC aggregate reports) and about TLS with their servers (TLS reports).
    #[command(subcommand)]
    Reports(ReportsCommand),
    /// Find out what would become of a mail, by the rules in force and without anything becoming of it.
    Explain(ExplainOptions),
    /// The mail store: look for damage and mend it, count, and hash, all while mail goes on.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Whether every outgoing message that was taken is in the queue or has ended, as relayd's history and queue say; each one of which that is
    /// not so is named.
    ///
    /// The exit status is 0 if all is well, 1 if there are differences, and 64 or more if it could not be done.
    Audit {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// How the daemons are.
    Status {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Run the whole system in a temporary home, as an ordinary user, and show a mail's way through it.
    Demo(DemoOptions),
}

/// `rmailctl init`.
#[derive(Debug, Args)]
pub struct InitOptions {
    /// The name this server greets with; the machine's full name if not given.
    #[arg(long)]
    pub hostname: Option<String>,
    /// The first domain; the host name without its first label if not given.
    #[arg(long)]
    pub domain: Option<String>,
    /// Local part of the first user.
    #[arg(long, default_value = "postmaster")]
    pub user: String,
    /// Read the first user's password from standard input; otherwise one is made up and shown once.
    #[arg(long)]
    pub password_stdin: bool,
    /// Parent of store and queue.
    #[arg(long, default_value = "/var/lib/rmail")]
    pub mail_root: PathBuf,
    /// Directory of the sockets between the daemons.
    #[arg(long, default_value = "/run/rmail")]
    pub run_dir: PathBuf,
    /// First of seven consecutive ports to use instead of the well-known ones, for a system that is not started as root.
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
}

/// `rmailctl config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration as the daemons would, and say what is wrong with it.
    Check {
        /// The file; that of --config if not given.
        file: Option<PathBuf>,
    },
    /// Print the launch plan that rmaild reads.
    Plan {
        /// The file.
        file: PathBuf,
        /// The supervisor is root: give each daemon the user the configuration names.
        #[arg(long)]
        separate: bool,
    },
}

/// `rmailctl domain …`.
#[derive(Debug, Subcommand)]
pub enum DomainCommand {
    /// Take mail for a domain.
    Add {
        /// The domain.
        domain: String,
        /// Who gets the mail for its postmaster, which every domain must take (RFC 5321 §4.5.1).
        #[arg(long, value_name = "ADDRESS")]
        postmaster: Option<String>,
        /// The tenant it belongs to.
        #[arg(long)]
        tenant: Option<String>,
        /// Only take its mail to pass it on to its better mail servers: for anybody, or for those only whom an alias of the domain
        /// names, like: rmailctl alias add DOMAIN exact info info@DOMAIN.
        #[arg(long, value_name = "FOR")]
        backup_mx: Option<Backup>,
    },
    /// Change how the addresses of a domain are read. In any case an address that is named as it stands comes first, and a postmaster
    /// is meant in any letter case.
    #[command(group = clap::ArgGroup::new("rule").required(true).multiple(true).args(["subaddress", "dots", "case", "backup_mx"]))]
    Set {
        /// The domain.
        domain: String,
        /// What separates a tag that does not count, as in alice+news: one of + - _ = # ~, or "off".
        #[arg(long, value_name = "SEPARATOR", allow_hyphen_values = true)]
        subaddress: Option<String>,
        /// Whether dots matter; without them a.lice is alice.
        #[arg(long, value_name = "SWITCH")]
        dots: Option<Switch>,
        /// Whether letter case matters: then Alice is another address than alice, for aliases and their regular expressions too. Users
        /// are named and log in by small letters all the same, and that spelling is their address.
        #[arg(long, value_name = "SWITCH")]
        case: Option<Switch>,
        /// For whom its mail is only passed on to its better mail servers; "off" if it stays here.
        #[arg(long, value_name = "FOR")]
        backup_mx: Option<Backup>,
    },
    /// Show the domains with what their users store.
    List {
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Change what all users of a domain together may store.
    Quota {
        /// The domain.
        domain: String,
        /// The limits that change.
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Change what all users of a domain together may send to other servers from midnight to midnight (UTC), or show it and what was sent today.
    ///
    /// What is not given stays. Mail beyond it is held: rmailctl queue list says why, rmailctl queue release lets it go.
    Budget {
        /// The domain.
        domain: String,
        /// What changes.
        #[command(flatten)]
        budget: BudgetOptions,
        /// Show it as one JSON object instead of text.
        #[arg(long, conflicts_with = "change")]
        json: bool,
    },
    /// Give a domain to a tenant.
    Assign {
        /// The domain.
        domain: String,
        /// The tenant; none if not given.
        tenant: Option<String>,
    },
    /// Stop taking mail for a domain that has no users.
    Remove {
        /// The domain.
        domain: String,
    },
}

/// For whom a backup takes mail, if it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backup {
    /// For every address of the domain.
    Anybody,
    /// For those that an alias of the domain names, and its postmaster.
    Listed,
    /// Mail stays here.
    Off,
}

/// `rmailctl tenant …`.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant.
    Add {
        /// Its name: letters, digits, "-", "_" and ".".
        tenant: String,
        /// What it may store.
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Show the tenants with what their users store.
    List {
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Change what all users of a tenant's domains together may store.
    Quota {
        /// The tenant.
        tenant: String,
        /// The limits that change.
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Change what all users of a tenant's domains together may send to other servers from midnight to midnight (UTC), or show it and what was sent today.
    ///
    /// What is not given stays. Mail beyond it is held: rmailctl queue list says why, rmailctl queue release lets it go.
    Budget {
        /// The tenant.
        tenant: String,
        /// What changes.
        #[command(flatten)]
        budget: BudgetOptions,
        /// Show it as one JSON object instead of text.
        #[arg(long, conflicts_with = "change")]
        json: bool,
    },
    /// Say whether the text of a tenant's messages is kept, compressed, for searching. Without it a search reads every message.
    Search {
        /// The tenant.
        tenant: String,
        /// "off" also drops what is kept.
        keep: Switch,
    },
    /// Remove a tenant that has no domains.
    Remove {
        /// The tenant.
        tenant: String,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// What may be stored.
#[derive(Debug, Args)]
pub struct LimitOptions {
    /// Bytes that may be stored, with an optional K, M or G; 0 for no limit.
    #[arg(long = "quota", value_name = "BYTES")]
    pub bytes: Option<String>,
    /// Messages that may be stored; 0 for no limit.
    #[arg(long, value_name = "MESSAGES")]
    pub max_messages: Option<u64>,
}

/// What may be sent to other servers in a day, where it is not to be what `relay.budgets` says; 0 for no limit.
#[derive(Debug, Args)]
#[group(id = "change", multiple = true)]
pub struct BudgetOptions {
    /// Messages a day.
    #[arg(long, value_name = "N")]
    pub messages: Option<u32>,
    /// Recipients a day, each counted for each message.
    #[arg(long, value_name = "N")]
    pub recipients: Option<u32>,
    /// Recipients a day whom the account has not written to in the last sixty days.
    #[arg(long, value_name = "N")]
    pub first_time: Option<u32>,
    /// All three as `relay.budgets` says.
    #[arg(long, conflicts_with_all = ["messages", "recipients", "first_time"])]
    pub default: bool,
}

/// `rmailctl user …`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user with its mailboxes.
    Add {
        /// The address.
        address: String,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
        /// What the user may store; bytes are those of the configuration if not given.
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Change what a user may store.
    Quota {
        /// The address.
        address: String,
        /// The limits that change.
        #[command(flatten)]
        limits: LimitOptions,
    },
    /// Change what a user may send to other servers from midnight to midnight (UTC), or show it and what was sent today.
    ///
    /// What is not given stays. Mail beyond it is held: rmailctl queue list says why, rmailctl queue release lets it go.
    Budget {
        /// The address.
        address: String,
        /// What changes.
        #[command(flatten)]
        budget: BudgetOptions,
        /// Show it as one JSON object instead of text.
        #[arg(long, conflicts_with = "change")]
        json: bool,
    },
    /// Do not offer extensions of IMAP to a user whose client cannot cope with them, or show which are not; counts from the next login.
    Imap(ImapOptions),
    /// Let other users work with a mailbox of a user; they see it below "Other Users".
    Share(ShareOptions),
    /// End that.
    Unshare(UnshareOptions),
    /// Show which mailboxes a user shares with whom.
    Shares(SharesOptions),
    /// Show the users.
    List {
        /// Only of this domain.
        domain: Option<String>,
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Remove a user; its mail stays on disk under another name.
    Remove {
        /// The address.
        address: String,
    },
    /// Show what a user expunged and can have back: day, mailbox, UIDVALIDITY, UID, size and flags, separated by tabs.
    Expunged {
        /// The address.
        address: String,
        /// Which messages; all if not given.
        #[command(flatten)]
        options: ExpungedOptions,
        /// A JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Give a user back what it expunged, in the mailboxes it was in, with new UIDs.
    ///
    /// What was removed from one mailbox on one day comes in batches of at most a thousand messages, each wholly or, if it does not
    /// fit into the quota, not at all. It can be asked for again when it was interrupted.
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["all", "mailbox", "since"]))]
    Undelete {
        /// The address.
        address: String,
        /// Everything.
        #[arg(long, conflicts_with_all = ["mailbox", "since", "uid"])]
        all: bool,
        /// Which messages.
        #[command(flatten)]
        options: ExpungedOptions,
    },
    /// Let a user send as an address that is neither its own nor an alias of it.
    Grant {
        /// The user.
        account: String,
        /// The address; it may be another user's, or elsewhere.
        sender: String,
    },
    /// Take that back.
    Revoke {
        /// The user.
        account: String,
        /// The address.
        sender: String,
    },
    /// Show what was granted to a user.
    Grants {
        /// The user.
        account: String,
        /// A JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Give a user a new password.
    Passwd {
        /// The address.
        address: String,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
}

/// Which of the messages a user expunged.
#[derive(Debug, Args)]
pub struct ExpungedOptions {
    /// Only those that were in this mailbox, by the name it had.
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// Only those that were removed on this day or later, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub since: Option<String>,
    /// Only those that had these UIDs in the mailbox, like 41,50:60.
    #[arg(long, value_name = "UIDS", requires = "mailbox")]
    pub uid: Option<String>,
}

/// How an alias is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AliasForm {
    /// The local part, as the domain's rules compare it: in any letter case unless rmailctl domain set --case says otherwise.
    Exact,
    /// A regular expression for the whole local part; targets may use $1.
    Regex,
    /// Everything that nothing else in the domain matches.
    CatchAll,
}

/// `rmailctl alias …`.
#[derive(Debug, Subcommand)]
pub enum AliasCommand {
    /// Add an alias. Exact ones come first, then regular expressions in the order they were added, then the catch-all.
    Add {
        /// The domain it belongs to.
        domain: String,
        /// How it is matched.
        #[arg(value_enum)]
        form: AliasForm,
        /// The pattern (not for catch-all), then one or more target addresses.
        #[arg(required = true, value_name = "PATTERN|TARGET")]
        words: Vec<String>,
    },
    /// Show a domain's aliases in the order they are matched.
    List {
        /// The domain.
        domain: String,
    },
    /// Show the way from an address to whoever gets its mail: a line for each step, with the rule that matched.
    ///
    /// The exit status is 0 if mail for the address is taken, 1 if not, and 64 or more if that could not be found out.
    Test {
        /// The address.
        address: String,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Remove an alias.
    Remove {
        /// The domain.
        domain: String,
        /// How it is matched.
        #[arg(value_enum)]
        form: AliasForm,
        /// The pattern; not for catch-all.
        pattern: Option<String>,
    },
}

/// `rmailctl ban …`.
#[derive(Debug, Subcommand)]
pub enum BanCommand {
    /// Show who: network, account (* for all), the reason, and when it ends, separated by tabs.
    List {
        /// A JSON array instead of text, with times in Unix seconds.
        #[arg(long)]
        json: bool,
    },
    /// Let an account in again from everywhere, or everybody from a network, and forget what failed there.
    Lift {
        /// The account, an IP address, or the network as `list` shows it.
        #[arg(value_name = "ADDRESS|NETWORK")]
        what: String,
    },
}

/// `rmailctl relay …`.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Show how much TLS is asked of the servers of a domain, and why: what DNSSEC, TLSA records, MTA-STS and relay.domains say, and how it
    /// went on the last connections since relayd started. DNS is asked, and a policy fetched that is new.
    Tls {
        /// The domain.
        domain: String,
        /// A JSON object instead of text, with times in Unix seconds.
        #[arg(long)]
        json: bool,
    },
}

/// `rmailctl reports …`.
#[derive(Debug, Subcommand)]
pub enum ReportsCommand {
    /// Show what was not sent yet: beginning and end of the period, kind (dmarc or tls), domain, messages or connections, rows, how many are
    /// only counted, for want of room, when the report is made or tried again, and what came of it last; separated by tabs.
    List {
        /// What was sent, too, for two days after the end of its period.
        #[arg(long)]
        all: bool,
        /// A JSON array instead of text, with times in Unix seconds.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is told a domain: for each period a line as in list --all, its rows below, and who takes reports about the domain
    /// (DNS is asked).
    Show {
        /// The domain that is told.
        domain: String,
        /// A JSON object instead of text, with times in Unix seconds.
        #[arg(long)]
        json: bool,
    },
    /// End the running period and send all reports now, instead of in the hours after midnight, UTC.
    Send,
}

/// `rmailctl demo`.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// End after the round trip; status 0 only if all of it happened.
    #[arg(long, conflicts_with = "json")]
    pub once: bool,
    /// Print one JSON object with ports, users and paths when everything is ready, then stay up silently.
    #[arg(long)]
    pub json: bool,
    /// The domain.
    #[arg(long, default_value = "example.test")]
    pub domain: String,
    /// Make this many users, user1 …; alice and bob if not given.
    #[arg(long, value_name = "N")]
    pub users: Option<u32>,
    /// Their password; made up if not given.
    #[arg(long)]
    pub password: Option<String>,
    /// Send all mail for other domains there instead of to the demo's own outside world.
    #[arg(long, value_name = "HOST:PORT")]
    pub smarthost: Option<String>,
    /// Keep the home in this directory instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// First of seven consecutive ports; free ones are found if not given.
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
    /// No limits per address and no bans, for load tools.
    #[arg(long)]
    pub no_limits: bool,
}
