//! `rmailctl reports`

use std::path::Path;

use daemon::config::Config;
use ipc::Refusal;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::reports::{ReportKind, ReportRow, ReportSummary, TlsReportRow};
use mail::date::format_rfc3339;
use serde_json::{Value, json};

use crate::Error;
use crate::cli::ReportsCommand;
use crate::operator::{Queue, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`].
pub async fn run(config: &Path, command: ReportsCommand) -> Result<(), Error> {
    let config = Config::read(config)?;
    if !config.authentication.aggregate_reports.is_any() {
        return Err(Error::Failed(
            "no reports are made; authentication.aggregate_reports.enabled switches those about mail on, and authentication.aggregate_reports.tls \
             those about TLS".into(),
        ));
    }
    let queue = Queue::of(&config);
    match command {
        ReportsCommand::List { all, json } => list(&queue, all, json).await,
        ReportsCommand::Show { domain, json } => show(&queue, &domain.to_lowercase(), json).await,
        ReportsCommand::Send => send(&queue).await,
    }
}

const KINDS: [ReportKind; 2] = [ReportKind::Dmarc, ReportKind::Tls];

async fn list(queue: &Queue, all: bool, json: bool) -> Result<(), Error> {
    let mut lines = Vec::new();
    for kind in KINDS {
        let mut after = None;
        while let Some(page) = page(queue, kind, &mut after, all).await? {
            match json {
                true => lines.extend(page.iter().map(|one| summary(kind, one))),
                false => page.iter().for_each(|one| println!("{}", line(kind, one))),
            }
        }
    }
    if json {
        println!("{}", json!(lines));
    }
    Ok(())
}

async fn show(queue: &Queue, domain: &str, json: bool) -> Result<(), Error> {
    let (mut shown, mut to) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let (mut reports, mut after) = (Vec::new(), None);
        while let Some(page) = page(queue, kind, &mut after, true).await? {
            reports.extend(page.into_iter().filter(|one| one.domain == domain));
        }
        for report in &reports {
            if !json {
                println!("{}", line(kind, report));
            }
            let rows = rows(queue, kind, report).await?;
            if json {
                let mut one = summary(kind, report);
                one["listed"] = rows.iter().map(|(_, row)| row.clone()).collect();
                shown.push(one);
            } else {
                rows.iter().for_each(|(words, _)| println!("    {words}"));
            }
        }
        let targets = match reports.is_empty() {
            true => None,
            false => Some(targets(queue, kind, domain).await?),
        };
        if let Some(targets) = targets.as_ref().filter(|_| !json) {
            println!("{}", whither(kind, targets.as_deref()));
        }
        to.push(targets);
    }
    if to.iter().all(Option::is_none) {
        return Err(Error::Failed(format!(
            "nothing was counted of {domain} in the last days: it publishes no record that asks for reports, or no mail came in its name \
             or went there (rmailctl reports list --all)"
        )));
    }
    if json {
        let [dmarc, tls] = [&to[0], &to[1]].map(|one| one.as_ref().and_then(Option::as_ref));
        println!(
            "{}",
            json!({"domain": domain, "reports": shown, "to": dmarc, "tls_to": tls})
        );
    }
    Ok(())
}

fn whither(kind: ReportKind, targets: Option<&[String]>) -> String {
    let what = match kind {
        ReportKind::Dmarc => "they",
        ReportKind::Tls => "those about TLS",
    };
    match (targets, kind) {
        (None, _) => format!(
            "who takes {} is not known: DNS gives no answer at the moment",
            match kind {
                ReportKind::Dmarc => "them",
                ReportKind::Tls => what,
            }
        ),
        (Some([]), ReportKind::Dmarc) => {
            "nobody takes them: no address that its rua names is there and agrees".into()
        }
        (Some([]), ReportKind::Tls) => {
            format!("nobody takes {what}: its rua at _smtp._tls names no mailto: address")
        }
        (Some(targets), _) => format!("{what} go to {}", targets.join(", ")),
    }
}

/// Who takes reports about a domain; `None` while DNS does not answer.
async fn targets(
    queue: &Queue,
    kind: ReportKind,
    domain: &str,
) -> Result<Option<Vec<String>>, Error> {
    let domain = domain.to_owned();
    let request = QueueControlRequest::FindReportTargets { kind, domain };
    match queue.ask("cannot find who takes reports", request).await {
        Ok(QueueControlAnswer::ReportTargets { targets }) => Ok(Some(targets)),
        Ok(answer) => Err(unexpected(&answer)),
        Err(Error::Refused {
            refusal: Refusal::Busy,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The next page, if there is one.
async fn page(
    queue: &Queue,
    kind: ReportKind,
    after: &mut Option<(i64, String)>,
    all: bool,
) -> Result<Option<Vec<ReportSummary>>, Error> {
    let request = QueueControlRequest::ListReports {
        kind,
        after: after.clone(),
        all,
    };
    match queue.ask("cannot list the reports", request).await? {
        QueueControlAnswer::Reports { reports, .. } => {
            let last = reports.last();
            *after = last.map(|one| (one.begin, one.domain.clone()));
            Ok(last.is_some().then_some(reports))
        }
        answer => Err(unexpected(&answer)),
    }
}

/// The rows of a report, in words and as JSON.
async fn rows(
    queue: &Queue,
    kind: ReportKind,
    report: &ReportSummary,
) -> Result<Vec<(String, Value)>, Error> {
    let mut all = Vec::new();
    loop {
        let request = QueueControlRequest::ShowReport {
            kind,
            begin: report.begin,
            domain: report.domain.clone(),
            skip: u32::try_from(all.len()).unwrap_or(u32::MAX),
        };
        let more = match queue.ask("cannot show a report", request).await? {
            QueueControlAnswer::ReportRows { rows, more } => {
                all.extend(rows.iter().map(|one| (words(one), row(one))));
                more
            }
            QueueControlAnswer::TlsReportRows { rows, more } => {
                all.extend(rows.iter().map(|one| (tls_words(one), tls_row(one))));
                more
            }
            answer => return Err(unexpected(&answer)),
        };
        if !more {
            return Ok(all);
        }
    }
}

async fn send(queue: &Queue) -> Result<(), Error> {
    let request = QueueControlRequest::SendReports;
    match queue.ask("cannot send the reports", request).await? {
        QueueControlAnswer::ReportsDue { reports } => {
            println!(
                "{reports} reports are being made; `rmailctl reports list --all` shows what becomes of them"
            );
            Ok(())
        }
        answer => Err(unexpected(&answer)),
    }
}

const fn name(kind: ReportKind) -> (&'static str, &'static str) {
    match kind {
        ReportKind::Dmarc => ("dmarc", "messages"),
        ReportKind::Tls => ("tls", "connections"),
    }
}

fn line(kind: ReportKind, report: &ReportSummary) -> String {
    let (kind, things) = name(kind);
    let begin = format_rfc3339(report.begin);
    let end = report.end.map_or("running".into(), format_rfc3339);
    let ReportSummary {
        domain,
        messages,
        rows,
        unlisted,
        last,
        ..
    } = report;
    let due = match report.is_done {
        true => "done".to_owned(),
        false => format!("due {}", format_rfc3339(report.due)),
    };
    format!(
        "{begin}\t{end}\t{kind}\t{domain}\t{messages} {things}\t{rows} rows\t{unlisted} unlisted\t{due}\t{last}"
    )
}

fn words(row: &ReportRow) -> String {
    let ReportRow {
        count,
        source,
        header_from,
        envelope_from,
        disposition,
        dkim_aligned,
        spf_aligned,
        reason,
        ..
    } = row;
    let signatures = row.dkim.iter();
    let signatures: String = signatures
        .map(|(domain, selector, result)| format!(" dkim={result} ({domain}, {selector})"))
        .collect();
    let (domain, spf) = &row.spf;
    let reason = match reason.as_str() {
        "" => String::new(),
        reason => format!(" because of {reason}"),
    };
    format!(
        "{count} from {source}: From {header_from}, MAIL FROM <{envelope_from}>, {disposition}{reason}; aligned: dkim={dkim_aligned} \
         spf={spf_aligned};{signatures} spf={spf} ({domain})"
    )
}

fn summary(kind: ReportKind, report: &ReportSummary) -> Value {
    json!({
        "kind": name(kind).0,
        "begin": report.begin, "end": report.end, "domain": report.domain, "messages": report.messages, "rows": report.rows,
        "unlisted": report.unlisted, "due": report.due, "done": report.is_done, "last": report.last,
    })
}

fn row(row: &ReportRow) -> Value {
    let signature = |(domain, selector, result): &(String, String, String)| json!({"domain": domain, "selector": selector, "result": result});
    json!({
        "count": row.count, "source": row.source, "header_from": row.header_from, "envelope_from": row.envelope_from,
        "envelope_to": row.envelope_to, "disposition": row.disposition, "reason": row.reason, "dkim_aligned": row.dkim_aligned,
        "spf_aligned": row.spf_aligned, "dkim": row.dkim.iter().map(signature).collect::<Value>(),
        "spf": {"domain": row.spf.0, "result": row.spf.1},
    })
}

fn tls_words(row: &TlsReportRow) -> String {
    let TlsReportRow {
        count,
        policy,
        result,
        from,
        host,
        to,
        reason,
        ..
    } = row;
    if result.is_empty() {
        return format!("{count} secure ({policy})");
    }
    let way = match (host.as_str(), from.as_str()) {
        ("", _) => String::new(),
        (host, "") => format!(" at {host}"),
        (host, from) => format!(" from {from} to {host} ({to})"),
    };
    format!("{count} failed{way} ({policy}): {result}: {reason}")
}

fn tls_row(row: &TlsReportRow) -> Value {
    json!({
        "count": row.count, "policy": row.policy, "policy_string": row.lines, "mx_host": row.hosts, "result": row.result,
        "from": row.from, "host": row.host, "to": row.to, "reason": row.reason,
    })
}
