//! `rmailctl store`

mod hashes;
mod sizes;
mod walk;

use std::io::{BufWriter, Write};
use std::path::Path;

use daemon::config::Config;
use ipc::control::{StoreControlAnswer, StoreControlRequest};
use ipc::tools::{Deviation, Outcome, Row, Scope, Work};
use serde_json::json;

pub(super) use self::walk::read_rows;
use self::walk::{Walk, in_words};
use crate::Error;
use crate::cli::StoreCommand;
use crate::operator::{Store, unexpected};

/// Runs the command.
///
/// # Errors
/// [`Error`]; [`Error::Findings`] if all was done and not all is well.
pub async fn run(config: &Path, command: StoreCommand) -> Result<(), Error> {
    let store = Store::of(&Config::read(config)?);
    match command {
        StoreCommand::Check { range, json } => {
            deviations(&store, Walk::new(Work::Check, range), json).await
        }
        StoreCommand::Repair {
            range,
            dry_run,
            json,
        } => {
            let work = if dry_run { Work::Check } else { Work::Repair };
            deviations(&store, Walk::new(work, range), json).await
        }
        StoreCommand::Rebuild { range } => {
            drop_caches(&store, Walk::new(Work::Rebuild, range)).await
        }
        StoreCommand::Stat {
            range,
            largest,
            json,
        } => sizes::show(&store, Walk::new(Work::Measure, range), largest, json).await,
        StoreCommand::Verify { range, against } => {
            hashes::show(&store, Walk::new(Work::Hash, range), against.as_deref()).await
        }
        StoreCommand::FsckReport { json } => show_recovery(&store, json).await,
    }
}

/// How many deviations there are of which sort.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    notes: u64,
    damage: u64,
    mended: u64,
}

impl Tally {
    fn add(&mut self, deviation: &Deviation) {
        *if deviation.outcome == Outcome::Mended {
            &mut self.mended
        } else if deviation.kind.is_note() {
            &mut self.notes
        } else {
            &mut self.damage
        } += 1;
    }

    /// Not all is well if there is damage that is not mended.
    fn verdict(self) -> Result<(), Error> {
        match self.damage {
            0 => Ok(()),
            1 => Err(Error::Findings("the store has 1 damage".into())),
            more => Err(Error::Findings(format!("the store has {more} damages"))),
        }
    }
}

async fn deviations(store: &Store, walk: Walk, json: bool) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut tally = Tally::default();
    let seen = walk
        .run(store, |piece| {
            for row in piece.rows {
                let deviation = deviation(row)?;
                tally.add(&deviation);
                if json {
                    writeln!(out, "{}", object(&deviation))?;
                } else {
                    writeln!(out, "{}", line(&deviation))?;
                }
            }
            Ok(out.flush()?)
        })
        .await?;
    let Tally {
        notes,
        damage,
        mended,
    } = tally;
    if json {
        let summary = json!({
            "users": seen.users, "mailboxes": seen.mailboxes, "messages": seen.messages, "bytes": seen.bytes,
            "notes": notes, "damage": damage, "mended": mended,
        });
        writeln!(out, "{}", json!({ "summary": summary }))?;
        out.flush()?;
    } else {
        let seen = in_words(&seen);
        writeln!(
            std::io::stderr(),
            "{seen}: {damage} damaged, {mended} mended, {notes} notes"
        )?;
    }
    tally.verdict()
}

/// Drops the text that is kept for searching in a domain. If it is cut off, it can be begun anew.
pub(super) async fn drop_text(store: &Store, domain: String) -> Result<(), Error> {
    drop_caches(store, Walk::over(Work::DropText, Scope::Domain(domain))).await
}

async fn drop_caches(store: &Store, walk: Walk) -> Result<(), Error> {
    let mut tally = Tally::default();
    let seen = walk
        .run(store, |piece| {
            for row in piece.rows {
                let deviation = deviation(row)?;
                tally.add(&deviation);
                writeln!(std::io::stdout(), "{}", line(&deviation))?;
            }
            Ok(())
        })
        .await?;
    writeln!(
        std::io::stderr(),
        "{} mailboxes, {} bytes of caches dropped",
        seen.mailboxes,
        seen.bytes
    )?;
    tally.verdict()
}

async fn show_recovery(store: &Store, json: bool) -> Result<(), Error> {
    let what = "cannot show the last recovery";
    let answered = store
        .ask_for_files(what, StoreControlRequest::ShowRecovery)
        .await?;
    let (summary, rows) = match answered.answer {
        StoreControlAnswer::Recovery { summary, rows } => (summary, read_rows(answered.fds, rows)?),
        answer => return Err(unexpected(&answer)),
    };
    let mut out = BufWriter::new(std::io::stdout());
    let first: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Recovered(one) => Some(one),
            Row::Deviation(_) | Row::Size(_) | Row::Hash(_) | Row::Expunged(_) => None,
        })
        .collect();
    let Some(summary) = summary else {
        let none = if json {
            "null"
        } else {
            "no recovery is known of"
        };
        writeln!(out, "{none}")?;
        return Ok(out.flush()?);
    };
    if json {
        let first: Vec<_> = first
            .iter()
            .map(|one| json!({"path": one.path, "uid": one.uid, "what": one.what}))
            .collect();
        let report = json!({
            "time": summary.time, "mailboxes": summary.mailboxes, "messages": summary.messages,
            "restored": summary.restored, "replaced": summary.replaced, "set_aside": summary.set_aside,
            "lost_mailboxes": summary.lost_mailboxes, "first": first,
        });
        writeln!(out, "{report}")?;
        return Ok(out.flush()?);
    }
    writeln!(
        out,
        "at {} (Unix time) the journal had something about {} messages in {} mailboxes",
        summary.time, summary.messages, summary.mailboxes
    )?;
    writeln!(
        out,
        "{} restored, {} incomplete ones replaced, {} files set aside, {} mailboxes no longer there",
        summary.restored, summary.replaced, summary.set_aside, summary.lost_mailboxes
    )?;
    for one in first {
        writeln!(
            out,
            "{}\t{}\t{}",
            one.what,
            one.path.escape_debug(),
            one.uid
        )?;
    }
    Ok(out.flush()?)
}

/// The deviation in a row of a walk that tells nothing else.
fn deviation(row: Row) -> Result<Deviation, Error> {
    match row {
        Row::Deviation(deviation) => Ok(deviation),
        row @ (Row::Size(_) | Row::Hash(_) | Row::Recovered(_) | Row::Expunged(_)) => {
            Err(unexpected(&row))
        }
    }
}

const fn severity(deviation: &Deviation) -> &'static str {
    if deviation.kind.is_note() {
        "note"
    } else {
        "damage"
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Found => "found",
        Outcome::Mended => "mended",
        Outcome::Remains => "remains",
    }
}

/// Severity, kind, path, what is known about it, and what is done, separated by tabs.
fn line(deviation: &Deviation) -> String {
    let remedy = deviation.remedy.words();
    let done = match deviation.outcome {
        Outcome::Found => format!("repair: {remedy}"),
        Outcome::Mended => format!("mended: {remedy}"),
        Outcome::Remains => "remains".to_owned(),
    };
    let (severity, kind) = (severity(deviation), deviation.kind.word());
    let (path, detail) = (&deviation.path, &deviation.detail);
    format!("{severity}\t{kind}\t{path}\t{detail}\t{done}")
}

fn object(deviation: &Deviation) -> serde_json::Value {
    json!({
        "severity": severity(deviation), "kind": deviation.kind.word(), "path": deviation.path, "detail": deviation.detail,
        "remedy": deviation.remedy.words(), "outcome": outcome(deviation.outcome),
    })
}

#[cfg(test)]
mod tests {
    use ipc::tools::{Kind, Remedy};

    use super::*;

    fn one(kind: Kind, outcome: Outcome) -> Deviation {
        Deviation {
            path: "domains/a.test".into(),
            kind,
            detail: "0755".into(),
            remedy: Remedy::SetMode,
            outcome,
        }
    }

    #[test]
    fn a_deviation_is_a_line() {
        let text = line(&one(Kind::Mode, Outcome::Found));
        let expected = "damage\tmode\tdomains/a.test\t0755\trepair: permissions are set";
        assert_eq!(text, expected);
    }

    #[test]
    fn only_damage_that_is_left_is_a_finding() {
        let mut tally = Tally::default();
        tally.add(&one(Kind::Mode, Outcome::Mended));
        tally.add(&one(Kind::RemovedUser, Outcome::Remains));
        assert!(tally.verdict().is_ok());
        tally.add(&one(Kind::Mode, Outcome::Remains));
        let findings = tally.verdict().unwrap_err();
        assert_eq!(findings.exit_code(), std::process::ExitCode::from(1));
    }
}
