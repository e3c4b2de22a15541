//! `rmailctl status`

use std::path::Path;

use daemon::config::Config;
use ipc::control::{
    QueueControlAnswer, QueueControlRequest, StoreControlAnswer, StoreControlRequest,
};
use serde_json::{Value, json};

use crate::Error;
use crate::operator::{Queue, Store, unexpected};

/// Asks both daemons that know something, and reads the supervisor's pid files.
///
/// # Errors
/// When a daemon does not answer.
pub async fn run(config: &Path, as_json: bool) -> Result<(), Error> {
    let config = Config::read(config)?;
    let store = match Store::of(&config)
        .ask("cannot show the status", StoreControlRequest::ShowStatus)
        .await?
    {
        StoreControlAnswer::Status {
            version,
            uptime,
            domains,
            users,
            sessions,
            stored,
        } => json!({
            "version": version, "uptime": uptime, "domains": domains, "users": users, "sessions": sessions, "stored": stored,
        }),
        answer => return Err(unexpected(&answer)),
    };
    let queue = match Queue::of(&config)
        .ask("cannot show the status", QueueControlRequest::ShowStatus)
        .await?
    {
        QueueControlAnswer::Status {
            version,
            uptime,
            queued,
            delivered,
            failed,
        } => json!({
            "version": version, "uptime": uptime, "queued": queued, "delivered": delivered, "failed": failed,
        }),
        answer => return Err(unexpected(&answer)),
    };
    let pids: serde_json::Map<String, Value> =
        ["keyd", "deliverd", "relayd", "smtpd", "imapd", "apid"]
            .into_iter()
            .filter_map(|name| {
                let text = std::fs::read_to_string(config.run_dir.join("pids").join(name)).ok()?;
                Some((name.to_owned(), json!(text.trim().parse::<u32>().ok()?)))
            })
            .collect();
    let status = json!({"deliverd": store, "relayd": queue, "pids": pids});
    if as_json {
        println!("{status}");
    } else {
        show(&status);
    }
    Ok(())
}

fn show(status: &Value) {
    for daemon in ["deliverd", "relayd"] {
        let fields = status[daemon].as_object().into_iter().flatten();
        let line: Vec<_> = fields
            .map(|(name, value)| {
                format!(
                    "{name} {}",
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                )
            })
            .collect();
        println!("{daemon}: {}", line.join(", "));
    }
    let pids = status["pids"].as_object().into_iter().flatten();
    let line: Vec<_> = pids.map(|(name, pid)| format!("{name} {pid}")).collect();
    println!("processes: {}", line.join(", "));
}
