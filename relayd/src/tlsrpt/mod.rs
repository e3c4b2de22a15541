//! TLS reports (RFC 8460): domains are told each day how TLS with their servers went. What is the same for all reports is in
//! [`crate::aggregate`].
//!
//! An attempt says what came of a connection's TLS, and what was demanded of it → [`ledger`] asks whether the domain wants to know, and has
//! it counted as a [`row`] → at midnight, UTC, the period ends → [`record`] finds who takes the report, [`json`] writes it down, and
//! [`letter`] makes a mail of it, which goes into the queue like any other. Neither DANE nor MTA-STS holds that one up, and it is not
//! reported.

pub mod json;
pub mod ledger;
pub mod letter;
pub mod recent;
pub mod record;
pub mod row;

use daemon::config::AggregateReports;
use mail::address::Address;

use crate::aggregate::kind::{Kind, Meta};
use crate::aggregate::period::Bucket;
use crate::aggregate::target::{NoAnswer, Target};
use crate::dns::Dns;
use crate::queue::Book;

/// Reports about TLS.
#[derive(Debug)]
pub struct TlsRpt;

impl Kind for TlsRpt {
    /// Nothing counts but that the domain wants reports.
    type Published = ();
    type Row = row::Row;

    const NAME: &'static str = "TLS";
    /// RFC 8460 §3: they are delivered whatever is wrong with TLS.
    const IS_TLS_WAIVED: bool = true;

    fn is_on(rules: &AggregateReports) -> bool {
        rules.tls
    }

    fn book(begin: i64) -> Book {
        Book::Sessions(begin)
    }

    fn topic(domain: &str) -> String {
        format!("tls!{domain}")
    }

    async fn targets(dns: &Dns, domain: &str) -> Result<Vec<Target>, NoAnswer> {
        record::targets(dns, domain).await
    }

    fn document(meta: &Meta, (): &(), bucket: &Bucket<(), row::Row>) -> String {
        json::document(meta, &bucket.list())
    }

    fn letter(meta: &Meta, report: &[u8], addressee: &Address, now: i64) -> Vec<u8> {
        letter::build(meta, report, addressee, now)
    }
}
