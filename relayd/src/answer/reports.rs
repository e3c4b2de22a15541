//! What the operator may ask about reports of all kinds.

use std::sync::Arc;

use ipc::Refusal;
use ipc::control::QueueControlAnswer;
use ipc::reports::{ReportKind, ReportRow, ReportSummary, TlsReportRow, rows_in_frame};
use mail::address::Domain;

use crate::aggregate::dmarc::Dmarc;
use crate::aggregate::kind::Kind;
use crate::aggregate::register::Register;
use crate::dns::Dns;
use crate::tlsrpt::TlsRpt;

/// All that is reported to domains.
#[derive(Debug)]
pub struct Reports {
    /// About mail in their name.
    pub dmarc: Arc<Register<Dmarc>>,
    /// About TLS with their servers.
    pub tls: Arc<Register<TlsRpt>>,
    /// Asks who takes reports.
    pub dns: Dns,
}

impl Reports {
    pub(super) async fn list(
        &self,
        kind: ReportKind,
        after: Option<(i64, String)>,
        all: bool,
    ) -> QueueControlAnswer {
        let (reports, more): (Vec<ReportSummary>, bool) = match kind {
            ReportKind::Dmarc => self.dmarc.list(after, all).await,
            ReportKind::Tls => self.tls.list(after, all).await,
        };
        QueueControlAnswer::Reports { reports, more }
    }

    pub(super) async fn show(
        &self,
        kind: ReportKind,
        begin: i64,
        domain: &str,
        skip: u32,
    ) -> Result<QueueControlAnswer, Refusal> {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(match kind {
            ReportKind::Dmarc => {
                let rows = self.dmarc.rows(begin, domain, skip).await?.into_iter();
                let mut rows: Vec<ReportRow> = rows.map(|(row, count)| row.told(count)).collect();
                let (all, fit) = (rows.len(), rows_in_frame(&rows));
                rows.truncate(fit);
                let more = fit < all;
                QueueControlAnswer::ReportRows { rows, more }
            }
            ReportKind::Tls => {
                let rows = self.tls.rows(begin, domain, skip).await?.into_iter();
                let mut rows: Vec<TlsReportRow> =
                    rows.map(|(row, count)| row.told(count)).collect();
                let (all, fit) = (rows.len(), rows_in_frame(&rows));
                rows.truncate(fit);
                let more = fit < all;
                QueueControlAnswer::TlsReportRows { rows, more }
            }
        })
    }

    pub(super) async fn find_targets(
        &self,
        kind: ReportKind,
        domain: &str,
    ) -> Result<QueueControlAnswer, Refusal> {
        let domain = Domain::parse(domain)
            .map_err(|error| Refusal::Invalid(format!("that is no domain: {error}")))?;
        let found = match kind {
            ReportKind::Dmarc => Dmarc::targets(&self.dns, domain.as_str()).await,
            ReportKind::Tls => TlsRpt::targets(&self.dns, domain.as_str()).await,
        };
        // Whoever asks can ask again.
        let found = found.map_err(|_| Refusal::Busy)?;
        let targets = found.iter().map(|one| one.address.to_string()).collect();
        Ok(QueueControlAnswer::ReportTargets { targets })
    }

    pub(super) async fn send(&self) -> QueueControlAnswer {
        let reports = self.dmarc.hurry().await + self.tls.hurry().await;
        QueueControlAnswer::ReportsDue { reports }
    }
}
