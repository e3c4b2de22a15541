//! The reports about mail in a domain's name, as a [`Kind`].

use daemon::config::AggregateReports;
use ipc::Refusal;
use ipc::observation::Observation;
use mail::address::Address;

use super::kind::{Kind, Meta};
use super::period::Bucket;
use super::register::Register;
use super::row::{self, Published, Row};
use super::target::{NoAnswer, Target, targets};
use super::{letter, xml};
use crate::dns::Dns;
use crate::queue::Book;

/// DMARC aggregate reports.
#[derive(Debug)]
pub struct Dmarc;

impl Kind for Dmarc {
    type Published = Published;
    type Row = Row;

    const NAME: &'static str = "DMARC";
    const IS_TLS_WAIVED: bool = false;

    fn is_on(rules: &AggregateReports) -> bool {
        rules.enabled
    }

    fn book(begin: i64) -> Book {
        Book::Observed(begin)
    }

    fn topic(domain: &str) -> String {
        domain.to_owned()
    }

    async fn targets(dns: &Dns, domain: &str) -> Result<Vec<Target>, NoAnswer> {
        targets(dns, domain).await
    }

    fn document(meta: &Meta, published: &Published, bucket: &Bucket<Published, Row>) -> String {
        xml::document(meta, published, bucket)
    }

    fn letter(meta: &Meta, report: &[u8], addressee: &Address, now: i64) -> Vec<u8> {
        letter::build(meta, report, addressee, now)
    }
}

impl Register<Dmarc> {
    /// Counts a message.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what cannot be, else as [`Register::count`].
    pub async fn note(&self, observation: Observation) -> Result<(), Refusal> {
        if !self.is_on() {
            return Ok(());
        }
        let (domain, published, row) = row::read(observation)?;
        self.count(&domain, published, row).await
    }
}
