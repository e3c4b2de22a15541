//! relayd → rmailctl: what domains are, or were, told about mail in their name (RFC 9990), and about TLS with their servers (RFC 8460). Part
//! of [`crate::control`].

use crate::frame::{Decode, Encode, MAX_FRAME};

/// Octets of [`ReportSummary::last`], at most.
pub const MAX_LAST: usize = 200;

/// About what domains are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ReportKind {
    /// Mail that came in their name.
    Dmarc,
    /// TLS with their servers.
    Tls,
}

/// What is reported to a domain of a period.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportSummary {
    /// Unix seconds of the beginning of the period.
    pub begin: i64,
    /// Unix seconds of its end, if it has ended.
    pub end: Option<i64>,
    /// The domain that is told.
    pub domain: String,
    /// Messages, or connections.
    pub messages: u64,
    /// Rows they make.
    pub rows: u64,
    /// Those of them for which there was no room, so that only their number is told.
    pub unlisted: u64,
    /// Unix seconds when it is made, or tried again.
    pub due: i64,
    /// Nothing more is to be done about it.
    pub is_done: bool,
    /// What came of it when it was tried last; empty if it was not tried since relayd started.
    pub last: String,
}

/// Messages of which all that is told is the same. The words are those of the report.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportRow {
    /// Messages.
    pub count: u64,
    /// The client's address.
    pub source: String,
    /// Domain of the author.
    pub header_from: String,
    /// Domain of MAIL FROM; empty for the null reverse-path.
    pub envelope_from: String,
    /// Domain of the recipients.
    pub envelope_to: String,
    /// What became of them.
    pub disposition: String,
    /// Why the policy was not followed, if it was not.
    pub reason: String,
    /// Whether a good signature is aligned: `pass` or `fail`.
    pub dkim_aligned: String,
    /// The same of SPF.
    pub spf_aligned: String,
    /// Domain, selector and result of each signature.
    pub dkim: Vec<(String, String, String)>,
    /// Domain and result.
    pub spf: (String, String),
}

/// Connections of which all that is told is the same. The words are those of the report.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TlsReportRow {
    /// Connections.
    pub count: u64,
    /// What was demanded: `tlsa`, `sts` or `no-policy-found`.
    pub policy: String,
    /// Its text.
    pub lines: Vec<String>,
    /// The servers that it names.
    pub hosts: Vec<String>,
    /// How they failed; empty if they did not.
    pub result: String,
    /// Our address, if there was a connection.
    pub from: String,
    /// The name of the server; empty if it is not about one.
    pub host: String,
    /// Its address, if there was a connection.
    pub to: String,
    /// More about the failure.
    pub reason: String,
}

/// What stands around a page in its frame, generously.
const AROUND: usize = 128;
/// What stands before each text in a frame.
const LENGTH: usize = 8;

/// A row of a page.
pub trait Row {
    /// What it takes of a frame, at most.
    fn octets(&self) -> usize;
}

impl Row for TlsReportRow {
    fn octets(&self) -> usize {
        let Self {
            policy,
            result,
            from,
            host,
            to,
            reason,
            ..
        } = self;
        let texts = [policy, result, from, host, to, reason].into_iter();
        let all = texts.chain(&self.lines).chain(&self.hosts);
        all.map(|text| LENGTH + text.len()).sum::<usize>() + 3 * LENGTH
    }
}

impl Row for ReportRow {
    fn octets(&self) -> usize {
        let texts = [
            &self.source,
            &self.header_from,
            &self.envelope_from,
            &self.envelope_to,
            &self.disposition,
            &self.reason,
            &self.dkim_aligned,
            &self.spf_aligned,
            &self.spf.0,
            &self.spf.1,
        ];
        let signatures = self.dkim.iter().flat_map(|(a, b, c)| [a, b, c]);
        let all = texts.into_iter().chain(signatures);
        all.map(|text| LENGTH + text.len()).sum::<usize>() + 2 * LENGTH
    }
}

/// How many of these rows fit into a frame, from the first on.
#[must_use]
pub fn rows_in_frame(rows: &[impl Row]) -> usize {
    let mut left = MAX_FRAME - AROUND;
    let fits = rows.iter().take_while(|row| {
        let rest = left.checked_sub(row.octets());
        left = rest.unwrap_or(0);
        rest.is_some()
    });
    fits.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{QueueControlAnswer, REPORTS_PER_FRAME};
    use crate::observation::{MAX_SIGNATURES, MAX_TEXT};
    use crate::{Refusal, Return, frame};

    type Answer = Return<QueueControlAnswer, crate::edge::Silence>;

    fn fits(answer: QueueControlAnswer) -> bool {
        let result: Result<_, Refusal> = Ok(answer);
        let id = u64::MAX;
        frame::encode(&Answer::Answer { id, result }).is_ok()
    }

    fn row(length: usize, signatures: usize) -> ReportRow {
        let text = || "x".repeat(length);
        ReportRow {
            count: u64::MAX,
            source: text(),
            header_from: text(),
            envelope_from: text(),
            envelope_to: text(),
            disposition: text(),
            reason: text(),
            dkim_aligned: text(),
            spf_aligned: text(),
            dkim: vec![(text(), text(), text()); signatures],
            spf: (text(), text()),
        }
    }

    #[test]
    fn the_longest_page_fits_into_a_frame() {
        let one = ReportSummary {
            begin: i64::MIN,
            end: Some(i64::MIN),
            domain: "x".repeat(253),
            messages: u64::MAX,
            rows: u64::MAX,
            unlisted: u64::MAX,
            due: i64::MIN,
            is_done: true,
            last: "x".repeat(MAX_LAST),
        };
        let reports = vec![one; REPORTS_PER_FRAME];
        assert!(fits(QueueControlAnswer::Reports {
            reports,
            more: true
        }));
    }

    #[test]
    fn as_many_rows_as_are_said_to_fit_do_and_there_is_always_one() {
        for (length, signatures) in [(0, 0), (7, 2), (40, 1), (MAX_TEXT, MAX_SIGNATURES)] {
            let rows = vec![row(length, signatures); 1000];
            let count = rows_in_frame(&rows);
            assert!(count > 0, "{length}");
            let rows = rows[..count].to_vec();
            assert!(fits(QueueControlAnswer::ReportRows { rows, more: true }));
        }
        assert_eq!(rows_in_frame(&[] as &[ReportRow]), 0);
    }

    #[test]
    fn the_same_holds_for_rows_about_tls() {
        for (length, lines) in [(0, 0), (20, 3), (400, 16)] {
            let text = || "x".repeat(length);
            let row = TlsReportRow {
                count: u64::MAX,
                policy: text(),
                lines: vec![text(); lines],
                hosts: vec!["x".repeat(255); lines],
                result: text(),
                from: text(),
                host: text(),
                to: text(),
                reason: text(),
            };
            let rows = vec![row; 1000];
            let count = rows_in_frame(&rows);
            assert!(count > 0, "{length}");
            let rows = rows[..count].to_vec();
            assert!(fits(QueueControlAnswer::TlsReportRows { rows, more: true }));
        }
    }
}
