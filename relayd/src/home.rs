//! Brings mail to users here that was held for a while (RFC 4865); other mail for them never comes to relayd.

use std::io;

use daemon::channel::CallError;
use ipc::Refusal;
use mail::address::Address;
use smtp::client::{Envelope, Outcome};
use smtp::received::return_path;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::ask::Ask;
use crate::attempt::Finding;

/// Has deliverd deliver to each recipient by itself, so that none waits because of another. The findings come in the order of
/// the envelope's recipients.
pub async fn deliver(
    ask: &Ask,
    envelope: &Envelope,
    body: impl Fn() -> io::Result<std::fs::File>,
) -> Vec<Finding> {
    // RFC 5321 §4.4: final delivery puts the reverse-path on top.
    let path = return_path(&envelope.sender);
    let size = path.len() as u64 + envelope.size;
    let mut findings = Vec::with_capacity(envelope.recipients.len());
    for recipient in &envelope.recipients {
        findings.push(match body() {
            Ok(file) => {
                let message = path.as_bytes().chain(File::from_std(file));
                finding(
                    ask.deliver(&[recipient.to_string()], message, size).await,
                    recipient,
                )
            }
            Err(error) => {
                tracing::error!(%error, "a queued body cannot be read");
                Finding::ours("4.3.0", "the queued message cannot be read".into())
            }
        });
    }
    findings
}

fn finding(delivered: Result<(), CallError>, recipient: &Address) -> Finding {
    let error = match delivered {
        Ok(()) => {
            let text = format!("delivered to {recipient}");
            return Finding {
                outcome: Outcome::Delivered,
                ..Finding::ours("2.1.5", text)
            };
        }
        Err(error) => error,
    };
    let status = match (&error, error.is_temporary()) {
        (CallError::Refused(Refusal::NoSuchUser), _) => "5.1.1",
        (CallError::Refused(Refusal::OverQuota), true) => "4.2.2",
        (_, true) => "4.3.0",
        (_, false) => "5.3.0",
    };
    Finding::ours(status, error.to_string())
}
