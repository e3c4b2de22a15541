//! rmailctl → deliverd and rmailctl → relayd: the operator's orders, over sockets only the operator can open.

mod queue;

pub use queue::{
    QueueControlAnswer, QueueControlEdge, QueueControlRequest, QueuedMessage, QueuedRecipient,
};

use crate::acl::{AclEntry, RightsChange};
use crate::budget::{BudgetChange, OwnBudget, Payer};
use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};
use crate::quota::{LimitChange, Limits, Usage};
use crate::refusal::Refusal;
use crate::routing::{AddressRules, Duty, RulesChange, TraceStep};
use crate::secret::Secret;
use crate::tools::{ExpungedRange, JournalState, Recovery, Scope, Seen, Work};

/// How many locks one page holds at most: an address has no more than 320 octets or so.
pub const BANS_PER_FRAME: usize = 32;

/// How many reports one page holds at most.
pub const REPORTS_PER_FRAME: usize = 24;

/// How many entries one page of a listing holds at most.
pub const ENTRIES_PER_FRAME: usize = 16;

/// How an alias is matched. Exact ones come first, then regular expressions in their order, then the catch-all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum AliasKind {
    /// `pattern` is a local part, compared without case.
    Exact,
    /// `pattern` is a regular expression that must match the whole local part; targets may use `$1`.
    Regex,
    /// Everything else in the domain; `pattern` is empty.
    CatchAll,
}

/// An alias of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Alias {
    /// The domain it belongs to.
    pub domain: String,
    /// How it is matched.
    pub kind: AliasKind,
    /// What is matched.
    pub pattern: String,
    /// Where the mail goes: full addresses, local or foreign.
    pub targets: Vec<String>,
}

/// A user as listed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UserInfo {
    /// Canonical address.
    pub address: String,
    /// What the user may store.
    pub limits: Limits,
    /// Stored now.
    pub usage: Usage,
    /// What the operator lets the user send.
    pub budget: OwnBudget,
}

/// A domain as listed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DomainInfo {
    /// Domain name.
    pub name: String,
    /// The tenant it belongs to.
    pub tenant: Option<String>,
    /// What all its users together may store.
    pub limits: Limits,
    /// Stored now.
    pub usage: Usage,
    /// How its addresses are read.
    pub rules: AddressRules,
    /// What the operator lets all its users together send.
    pub budget: OwnBudget,
}

/// A tenant as listed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TenantInfo {
    /// Its name.
    pub name: String,
    /// How many domains it has.
    pub domains: u64,
    /// What all users of its domains together may store.
    pub limits: Limits,
    /// Stored now.
    pub usage: Usage,
    /// Whether the text of its users' messages is kept for searching.
    pub search_text: bool,
    /// What the operator lets all users of its domains together send.
    pub budget: OwnBudget,
}

/// Somebody whose logins are not heard, because too many failed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ban {
    /// The network they come from: a /24 or a /64.
    pub network: String,
    /// Logins as whom; `None` for anybody.
    pub account: Option<String>,
    /// Failures that led to it.
    pub failures: u32,
    /// The how manieth it is.
    pub times: u32,
    /// Unix seconds of its beginning.
    pub since: i64,
    /// Unix seconds of its end.
    pub until: i64,
}

/// The operator's orders to deliverd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum StoreControlRequest {
    /// Take mail for a domain.
    AddDomain {
        /// Domain name.
        name: String,
        /// The tenant it shall belong to.
        tenant: Option<String>,
        /// What we are for it.
        duty: Duty,
    },
    /// Give a domain to a tenant, or to none.
    AssignDomain {
        /// Domain name.
        name: String,
        /// The tenant.
        tenant: Option<String>,
    },
    /// Change what a domain may store.
    LimitDomain {
        /// Domain name.
        name: String,
        /// What changes.
        limits: LimitChange,
    },
    /// Change how a domain's addresses are read.
    SetDomainRules {
        /// Domain name.
        name: String,
        /// What changes.
        rules: RulesChange,
    },
    /// One page of the domains.
    ListDomains {
        /// Names up to this one were seen.
        after: Option<String>,
    },
    /// Stop taking mail for a domain; refused while it has users.
    RemoveDomain {
        /// Domain name.
        name: String,
    },
    /// Make a tenant: somebody whose domains share limits.
    AddTenant {
        /// Its name.
        name: String,
        /// What it may store.
        limits: Limits,
    },
    /// One page of the tenants.
    ListTenants {
        /// Names up to this one were seen.
        after: Option<String>,
    },
    /// Change what a tenant may store.
    LimitTenant {
        /// Its name.
        name: String,
        /// What changes.
        limits: LimitChange,
    },
    /// Say whether the text of a tenant's messages is kept for searching. What is kept already goes with
    /// [`Work::DropText`].
    KeepSearchText {
        /// The tenant's name.
        name: String,
        /// Whether it is kept.
        keep: bool,
    },
    /// Remove a tenant; refused while it has domains.
    RemoveTenant {
        /// Its name.
        name: String,
    },
    /// Make a user with its INBOX and the usual special-use mailboxes.
    AddUser {
        /// Full address; its domain must exist.
        address: String,
        /// At least 8 bytes.
        password: Secret,
        /// What the user may store; bytes are those of the configuration if absent.
        limits: LimitChange,
    },
    /// Change what a user may store.
    LimitUser {
        /// Full address.
        address: String,
        /// What changes.
        limits: LimitChange,
    },
    /// Do not offer these extensions of IMAP to a user's clients, instead of those before; counts from the next login.
    SetImapWithout {
        /// Full address.
        address: String,
        /// As CAPABILITY names them; at most [`crate::imap::MAX_WITHOUT`].
        names: Vec<String>,
    },
    /// Which extensions of IMAP are not offered to a user's clients.
    ShowImapWithout {
        /// Full address.
        address: String,
    },
    /// The next mailbox of a user that others have rights to.
    ShowSharing {
        /// Full address.
        address: String,
        /// Name of the one before; `None` for the first.
        after: Option<String>,
    },
    /// Change what others may do with a mailbox of a user.
    ChangeSharing {
        /// Full address.
        address: String,
        /// Name of the mailbox.
        mailbox: String,
        /// As in [`crate::session::SessionRequest::ChangeAcl`].
        identifier: String,
        /// How.
        change: RightsChange,
    },
    /// Look through the files of a page of users, and note who is given rights by them.
    RegisterSharing {
        /// Users up to this address are done; `None` for the first page.
        after: Option<String>,
    },
    /// One page of the users.
    ListUsers {
        /// Only this domain.
        domain: Option<String>,
        /// Addresses up to this one were seen.
        after: Option<String>,
    },
    /// One user.
    ShowUser {
        /// Full address.
        address: String,
    },
    /// Remove a user's account. The mail stays on disk, under a name no new user can get by accident.
    RemoveUser {
        /// Full address.
        address: String,
    },
    /// Give a user a new password.
    SetPassword {
        /// Full address.
        address: String,
        /// At least 8 bytes.
        password: Secret,
    },
    /// Add an alias; a regular expression goes behind those there are.
    AddAlias(Alias),
    /// One page of a domain's aliases in matching order.
    ListAliases {
        /// Domain name.
        domain: String,
        /// How many entries were seen.
        skip: u32,
    },
    /// Remove an alias.
    RemoveAlias {
        /// Domain name.
        domain: String,
        /// How it is matched.
        kind: AliasKind,
        /// What is matched.
        pattern: String,
    },
    /// One page of those whose logins are not heard.
    ListBans {
        /// How many entries were seen.
        skip: u32,
    },
    /// Hear somebody again.
    LiftBan {
        /// An account, an IP address, or a network as listed.
        what: String,
    },
    /// A page of the steps from an address to whoever gets its mail.
    TraceAddress {
        /// The address.
        address: String,
        /// How many steps were seen.
        skip: u32,
    },
    /// Let a user send as an address that is neither its own nor an alias of it.
    GrantSender {
        /// Full address of the user.
        account: String,
        /// The address it may send as.
        sender: String,
    },
    /// Take that back.
    RevokeSender {
        /// Full address of the user.
        account: String,
        /// The address.
        sender: String,
    },
    /// A page of what was granted to a user.
    ListGrants {
        /// Full address of the user.
        account: String,
        /// How many entries were seen.
        skip: u32,
    },
    /// Change what somebody may send to other servers in a day.
    ChangeBudget {
        /// Who.
        whose: Payer,
        /// What changes.
        change: BudgetChange,
    },
    /// What may somebody send, where it is not what the configuration says?
    ShowBudget {
        /// Who.
        whose: Payer,
    },
    /// How is deliverd?
    ShowStatus,
    /// A piece of a walk over the store, small enough to keep nobody waiting.
    WalkStore {
        /// What is done.
        work: Work,
        /// Where.
        scope: Scope,
        /// Everything up to this place was seen; [`StoreControlAnswer::StoreWalked`] says it.
        after: Option<String>,
    },
    /// How is the journal?
    ShowJournal,
    /// What did the recovery after the last crash do?
    ShowRecovery,
    /// A piece of what a user expunged and can have back.
    ListExpunged {
        /// Full address.
        address: String,
        /// Which messages.
        range: ExpungedRange,
        /// Everything up to this place was seen; [`StoreControlAnswer::Expunged`] says it.
        after: Option<String>,
    },
    /// Give a piece of that back to the mailboxes it was in. What was removed from one mailbox on one day comes back in batches of at
    /// most a thousand messages, each wholly or not at all.
    Undelete {
        /// Full address.
        address: String,
        /// Which messages.
        range: ExpungedRange,
        /// Everything up to this place was given back; [`StoreControlAnswer::Undeleted`] says it.
        after: Option<String>,
    },
}

/// What deliverd answers to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum StoreControlAnswer {
    /// Done and on disk.
    Done,
    /// A page of domains.
    Domains {
        /// Ordered by name.
        domains: Vec<DomainInfo>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// A page of tenants.
    Tenants {
        /// Ordered by name.
        tenants: Vec<TenantInfo>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// A page of users.
    Users {
        /// Ordered by address.
        users: Vec<UserInfo>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// To [`StoreControlRequest::ShowUser`].
    User(UserInfo),
    /// To [`StoreControlRequest::ShowImapWithout`].
    ImapWithout(Vec<String>),
    /// To [`StoreControlRequest::ShowSharing`]; without a name there is none left.
    Sharing {
        /// Name of the mailbox.
        mailbox: Option<String>,
        /// Who may do what.
        entries: Vec<AclEntry>,
    },
    /// To [`StoreControlRequest::RegisterSharing`].
    SharingRegistered {
        /// How many users were looked at.
        users: u32,
        /// The last of them, if there are more.
        next: Option<String>,
    },
    /// A page of aliases.
    Aliases {
        /// In matching order.
        aliases: Vec<Alias>,
        /// Ask again with a larger `skip`.
        more: bool,
    },
    /// A page of locks.
    Bans {
        /// Ordered by network and account.
        bans: Vec<Ban>,
        /// Ask again with a larger `skip`.
        more: bool,
    },
    /// A page of steps.
    Trace {
        /// In the order in which they are taken.
        steps: Vec<TraceStep>,
        /// Ask again with a larger `skip`.
        more: bool,
        /// Why mail for the address would be refused; `None` if it would be taken.
        refusal: Option<Refusal>,
    },
    /// To [`StoreControlRequest::ShowBudget`].
    Budget(OwnBudget),
    /// A page of addresses a user may send as.
    Grants {
        /// Ordered by domain and local part.
        senders: Vec<String>,
        /// Ask again with a larger `skip`.
        more: bool,
    },
    /// State of deliverd.
    Status {
        /// Package version.
        version: String,
        /// Seconds since its start.
        uptime: u64,
        /// Number of domains.
        domains: u64,
        /// Number of users.
        users: u64,
        /// Mail sessions open now.
        sessions: u64,
        /// Messages delivered and appended since its start.
        stored: u64,
    },
    /// A piece of a walk. If there are rows, they come in a sealed memory file; see [`crate::tools::unpack`].
    StoreWalked {
        /// What was looked at in this piece.
        seen: Seen,
        /// The place that holds all of the scope, as [`crate::tools::MailboxSize::mailbox`] names it; empty for everything.
        within: String,
        /// How many rows there are.
        rows: u32,
        /// Ask again behind this place; `None` at the end.
        after: Option<String>,
    },
    /// State of the journal.
    Journal(JournalState),
    /// What the last recovery did, with rows as in [`Self::StoreWalked`]; `None` if there was none since the file was deleted.
    Recovery {
        /// In numbers.
        summary: Option<Recovery>,
        /// How many rows there are: not more than the first hundred things it did.
        rows: u32,
    },
    /// A piece of what can be had back, with rows as in [`Self::StoreWalked`].
    Expunged {
        /// How many rows there are.
        rows: u32,
        /// Ask again behind this place; `None` at the end.
        after: Option<String>,
    },
    /// A piece of what was asked for is back, durably.
    Undeleted {
        /// Messages.
        messages: u64,
        /// Their bytes.
        bytes: u64,
        /// Ask again behind this place; `None` at the end.
        after: Option<String>,
    },
}

/// rmailctl asks deliverd.
#[derive(Debug)]
pub struct StoreControlEdge;

impl Edge for StoreControlEdge {
    type Request = StoreControlRequest;
    type Answer = StoreControlAnswer;
    type Event = Silence;
    const NAME: &'static str = "rmailctl-deliverd";
}
