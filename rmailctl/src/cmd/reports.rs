//! `rmailctl reports`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{PendingReport, QueueControlAnswer, QueueControlRequest};
use mail::date::format_rfc3339;
use serde_json::json;

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
        ReportsCommand::List { json } => list(&queue, json).await,
        ReportsCommand::Send => send(&queue).await,
    }
}

async fn list(queue: &Queue, json: bool) -> Result<(), Error> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let request = QueueControlRequest::ListReports { after };
        let answer = queue.ask("cannot list the reports", request).await?;
        let QueueControlAnswer::Reports { reports, more } = answer else {
            return Err(unexpected(&answer));
        };
        after = reports.last().map(|one| (one.begin, one.domain.clone()));
        match json {
            true => rows.extend(reports.iter().map(row)),
            false => reports.iter().for_each(show),
        }
        if !more || after.is_none() {
            break;
        }
    }
    if json {
        println!("{}", json!(rows));
    }
    Ok(())
}

async fn send(queue: &Queue) -> Result<(), Error> {
    let request = QueueControlRequest::SendReports;
    match queue.ask("cannot send the reports", request).await? {
        QueueControlAnswer::ReportsDue { reports } => {
            println!(
                "{reports} reports are being made; `rmailctl queue list` shows those on their way"
            );
            Ok(())
        }
        answer => Err(unexpected(&answer)),
    }
}

fn show(report: &PendingReport) {
    let begin = format_rfc3339(report.begin);
    let end = report.end.map_or("running".into(), format_rfc3339);
    let PendingReport {
        domain,
        messages,
        rows,
        unlisted,
        ..
    } = report;
    println!("{begin}\t{end}\t{domain}\t{messages} messages\t{rows} rows\t{unlisted} unlisted");
}

fn row(report: &PendingReport) -> serde_json::Value {
    json!({
        "begin": report.begin, "end": report.end, "domain": report.domain, "messages": report.messages, "rows": report.rows,
        "unlisted": report.unlisted,
    })
}
