//! What the operator asks of relayd: the queue, reports, and how things are.

use crate::budget::{Payer, Spent};
use crate::demands::TlsDemands;
use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};
use crate::queue_walk::{HistoryPlace, QueueFilter, QueueView};
use crate::reports::{ReportKind, ReportRow, ReportSummary, TlsReportRow};

/// A recipient that is still waiting.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct QueuedRecipient {
    /// The address.
    pub address: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Unix seconds of the next attempt.
    pub next_attempt: i64,
    /// The last answer or fault, cut to 200 bytes; empty before the first attempt.
    pub last_error: String,
}

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct QueuedMessage {
    /// Queue id.
    pub queue_id: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub reverse_path: String,
    /// Bytes.
    pub size: u64,
    /// Unix seconds it was queued.
    pub queued: i64,
    /// Recipients that are not done, at most 8 of them; `waiting` has the full count.
    pub recipients: Vec<QueuedRecipient>,
    /// How many recipients are not done.
    pub waiting: u32,
    /// Why it is held, cut to 200 bytes; empty if it is not.
    pub hold: String,
}

/// The operator's orders to relayd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueControlRequest {
    /// A page (one to three messages) of the queue, ordered by queue id.
    ListQueue {
        /// Ids up to this one were seen.
        after: Option<String>,
    },
    /// Try now.
    RetryMessage {
        /// Queue id; `None` for all.
        queue_id: Option<String>,
    },
    /// A piece of a walk over the queue, ordered by queue id; [`QueueControlAnswer::QueueWalked`] says it.
    WalkQueue {
        /// Which messages.
        filter: QueueFilter,
        /// What is wanted of them.
        view: QueueView,
        /// Ids up to this one were seen.
        after: Option<String>,
    },
    /// All about a message, answered like a piece of a walk.
    ShowMessage {
        /// Queue id.
        queue_id: String,
        /// Its header, too.
        headers: bool,
    },
    /// Give a message up: its sender gets a report.
    BounceMessage {
        /// Queue id.
        queue_id: String,
    },
    /// Have a message go to a server instead of to those of its recipients' domains.
    RerouteMessage {
        /// Queue id.
        queue_id: String,
        /// `host` or `host:port`; `None` undoes it.
        server: Option<String>,
    },
    /// A piece of what happened, the oldest first; [`QueueControlAnswer::History`] says it.
    ReadHistory {
        /// From there on; from the beginning if not given.
        from: Option<HistoryPlace>,
        /// Only what has this text, whatever its case.
        about: Option<String>,
    },
    /// Take a message out of the queue without a report.
    RemoveMessage {
        /// Queue id.
        queue_id: String,
    },
    /// Keep a message where it is until it is released.
    HoldMessage {
        /// Queue id.
        queue_id: String,
    },
    /// Let a message go that is held.
    ReleaseMessage {
        /// Queue id.
        queue_id: String,
    },
    /// The same for all messages of an account.
    ReleaseAccount {
        /// Who submitted them.
        account: String,
    },
    /// What have these sent today?
    ShowSpent {
        /// At most [`super::ENTRIES_PER_FRAME`].
        payers: Vec<Payer>,
    },
    /// Somebody's budget was changed at deliverd: ask there again.
    ForgetBudgets,
    /// How is relayd?
    ShowStatus,
    /// A page of the aggregate reports, the oldest first.
    ListReports {
        /// Which.
        kind: ReportKind,
        /// Those up to this one were seen: [`ReportSummary::begin`] and [`ReportSummary::domain`].
        after: Option<(i64, String)>,
        /// Those about which nothing more is to be done, too.
        all: bool,
    },
    /// A page of the rows of a report.
    ShowReport {
        /// Which.
        kind: ReportKind,
        /// [`ReportSummary::begin`]
        begin: i64,
        /// [`ReportSummary::domain`]
        domain: String,
        /// How many rows were seen.
        skip: u32,
    },
    /// Who takes reports about a domain? DNS is asked.
    FindReportTargets {
        /// Which.
        kind: ReportKind,
        /// The domain.
        domain: String,
    },
    /// How much TLS is asked of the servers of a domain, and why? DNS is asked.
    ShowTls {
        /// The domain.
        domain: String,
    },
    /// End the running period of the reports of all kinds, and send about all that have ended, now.
    SendReports,
}

/// What relayd answers to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum QueueControlAnswer {
    /// A page of the queue.
    Queue {
        /// Ordered by queue id.
        messages: Vec<QueuedMessage>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// A piece of a walk. If there are rows, they come in a sealed memory file; see [`crate::tools::unpack`].
    QueueWalked {
        /// Messages that were looked at.
        seen: u32,
        /// How many rows there are, each a [`crate::queue_walk::QueueRow`].
        rows: u32,
        /// Ask again behind this message; `None` at the end.
        after: Option<String>,
    },
    /// Nobody waits for it any more.
    Bounced,
    /// It goes there.
    Rerouted,
    /// A piece of what happened, with rows as in [`Self::QueueWalked`].
    History {
        /// How many rows there are.
        rows: u32,
        /// What comes next is there.
        next: HistoryPlace,
        /// There was more when it was read.
        more: bool,
    },
    /// Messages that were made due.
    Retried {
        /// How many.
        messages: u64,
    },
    /// Done and on disk.
    Removed,
    /// It waits.
    Held,
    /// Messages that were held and are not any more.
    Released {
        /// How many.
        messages: u64,
    },
    /// To [`QueueControlRequest::ShowSpent`], in its order.
    Spent(Vec<Spent>),
    /// To [`QueueControlRequest::ForgetBudgets`].
    BudgetsForgotten,
    /// State of relayd.
    Status {
        /// Package version.
        version: String,
        /// Seconds since its start.
        uptime: u64,
        /// Messages in the queue.
        queued: u64,
        /// Recipients delivered since its start.
        delivered: u64,
        /// Recipients that failed for good since its start.
        failed: u64,
    },
    /// A page of the reports, at most [`super::REPORTS_PER_FRAME`].
    Reports {
        /// Ordered by their beginning and domain.
        reports: Vec<ReportSummary>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Rows of a report, in the order in which they came.
    ReportRows {
        /// As many as fit into a frame.
        rows: Vec<ReportRow>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// The same of a report about TLS.
    TlsReportRows {
        /// As many as fit into a frame.
        rows: Vec<TlsReportRow>,
        /// Ask again behind the last one.
        more: bool,
    },
    /// Addresses that take reports about a domain.
    ReportTargets {
        /// At most a handful.
        targets: Vec<String>,
    },
    /// To [`QueueControlRequest::ShowTls`].
    TlsDemands(Box<TlsDemands>),
    /// Reports that are being made now.
    ReportsDue {
        /// How many.
        reports: u64,
    },
}

/// rmailctl asks relayd.
#[derive(Debug)]
pub struct QueueControlEdge;

impl Edge for QueueControlEdge {
    type Request = QueueControlRequest;
    type Answer = QueueControlAnswer;
    type Event = Silence;
    const NAME: &'static str = "rmailctl-relayd";
}
