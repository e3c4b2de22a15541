//! What one kind of reports has of its own: what is counted, who takes it, how it is written down.

use std::fmt::Debug;

use daemon::config::AggregateReports;
use mail::address::Address;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::period::Bucket;
use super::target::{NoAnswer, Target};
use crate::dns::Dns;
use crate::queue::Book;

/// What a report says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Whose it is.
    pub organization: String,
    /// To whom to write about it.
    pub email: String,
    /// Where there is more to be had.
    pub contact: Option<String>,
    /// The same whenever the report is made again.
    pub id: String,
    /// Unix seconds of the period.
    pub begin: i64,
    /// Its end; what comes then is in the next one.
    pub end: i64,
    /// About which domain.
    pub domain: String,
    /// How much is in none of its rows, for want of room.
    pub unlisted: u64,
}

/// A kind of reports.
pub trait Kind: Debug + Send + Sync + Sized + 'static {
    /// What a domain publishes about it. What was seen last counts.
    type Published: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync;
    /// All that is told of a message or a connection.
    type Row: Debug + Clone + Serialize + DeserializeOwned + Send + Sync;

    /// For the log.
    const NAME: &'static str;
    /// Its mails are worth more than their secrecy.
    const IS_TLS_WAIVED: bool;

    /// Whether the configuration wants them.
    fn is_on(rules: &AggregateReports) -> bool;

    /// Where a period is written down.
    fn book(begin: i64) -> Book;

    /// What makes the name of a report differ from those of other kinds about the same domain.
    fn topic(domain: &str) -> String;

    /// Who takes reports about a domain; nobody if it wants none.
    fn targets(
        dns: &Dns,
        domain: &str,
    ) -> impl Future<Output = Result<Vec<Target>, NoAnswer>> + Send;

    /// The report.
    fn document(
        meta: &Meta,
        published: &Self::Published,
        bucket: &Bucket<Self::Published, Self::Row>,
    ) -> String;

    /// The mail in which the compressed report travels, without Return-Path. `now` are Unix seconds.
    fn letter(meta: &Meta, report: &[u8], addressee: &Address, now: i64) -> Vec<u8>;
}
