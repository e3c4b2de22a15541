//! `rmailctl reports`

use std::path::Path;

use daemon::config::Config;
use ipc::Refusal;
use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::reports::{ReportRow, ReportSummary};
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
    if !config.authentication.aggregate_reports.enabled {
        return Err(Error::Failed(
            "no reports are made; authentication.aggregate_reports.enabled switches them on".into(),
        ));
    }
    let queue = Queue::of(&config);
    match command {
        ReportsCommand::List { all, json } => list(&queue, all, json).await,
        ReportsCommand::Show { domain, json } => show(&queue, &domain.to_lowercase(), json).await,
        ReportsCommand::Send => send(&queue).await,
    }
}

async fn list(queue: &Queue, all: bool, json: bool) -> Result<(), Error> {
    let (mut lines, mut after) = (Vec::new(), None);
    while let Some(page) = page(queue, &mut after, all).await? {
        match json {
            true => lines.extend(page.iter().map(summary)),
            false => page.iter().for_each(|one| println!("{}", line(one))),
        }
    }
    if json {
        println!("{}", json!(lines));
    }
    Ok(())
}

async fn show(queue: &Queue, domain: &str, json: bool) -> Result<(), Error> {
    let (mut reports, mut after) = (Vec::new(), None);
    while let Some(page) = page(queue, &mut after, true).await? {
        reports.extend(page.into_iter().filter(|one| one.domain == domain));
    }
    if reports.is_empty() {
        return Err(Error::Failed(format!(
            "nothing was counted of {domain} in the last days: it publishes no policy with rua, or no mail came in its name \
             (rmailctl reports list --all)"
        )));
    }
    let mut shown = Vec::new();
    for report in &reports {
        if !json {
            println!("{}", line(report));
        }
        let rows = rows(queue, report).await?;
        match json {
            true => {
                let mut one = summary(report);
                one["listed"] = rows.iter().map(row).collect();
                shown.push(one);
            }
            false => rows.iter().for_each(|row| println!("    {}", words(row))),
        }
    }
    let request = QueueControlRequest::FindReportTargets {
        domain: domain.to_owned(),
    };
    let found = queue.ask("cannot find who takes reports", request).await;
    let targets = match found {
        Ok(QueueControlAnswer::ReportTargets { targets }) => Some(targets),
        Ok(answer) => return Err(unexpected(&answer)),
        // DNS does not answer.
        Err(Error::Refused {
            refusal: Refusal::Busy,
            ..
        }) => None,
        Err(error) => return Err(error),
    };
    if json {
        println!(
            "{}",
            json!({"domain": domain, "reports": shown, "to": targets})
        );
        return Ok(());
    }
    match targets.as_deref() {
        None => println!("who takes them is not known: DNS gives no answer at the moment"),
        Some([]) => {
            println!("nobody takes them: no address that its rua names is there and agrees")
        }
        Some(targets) => println!("they go to {}", targets.join(", ")),
    }
    Ok(())
}

/// The next page, if there is one.
async fn page(
    queue: &Queue,
    after: &mut Option<(i64, String)>,
    all: bool,
) -> Result<Option<Vec<ReportSummary>>, Error> {
    let request = QueueControlRequest::ListReports {
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

async fn rows(queue: &Queue, report: &ReportSummary) -> Result<Vec<ReportRow>, Error> {
    let mut all: Vec<ReportRow> = Vec::new();
    loop {
        let request = QueueControlRequest::ShowReport {
            begin: report.begin,
            domain: report.domain.clone(),
            skip: u32::try_from(all.len()).unwrap_or(u32::MAX),
        };
        match queue.ask("cannot show a report", request).await? {
            QueueControlAnswer::ReportRows { rows, more } => {
                all.extend(rows);
                if !more {
                    return Ok(all);
                }
            }
            answer => return Err(unexpected(&answer)),
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

fn line(report: &ReportSummary) -> String {
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
        "{begin}\t{end}\t{domain}\t{messages} messages\t{rows} rows\t{unlisted} unlisted\t{due}\t{last}"
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

fn summary(report: &ReportSummary) -> Value {
    json!({
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
