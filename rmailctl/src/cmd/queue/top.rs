//! `rmailctl queue top`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc::queue_walk::{QueueFilter, QueueRow, QueueView, SumRow};
use serde_json::json;
use tokio::time::sleep;

use super::list::party;
use super::walk::Walk;
use crate::Error;
use crate::cli::{QueueRange, TopBy};
use crate::operator::{Queue, unexpected};

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(2);
/// Octets shown of a reply.
const REPLY: usize = 60;

pub(super) async fn run(
    queue: &Queue,
    range: QueueRange,
    by: TopBy,
    lines: usize,
    once: bool,
    as_json: bool,
) -> Result<(), Error> {
    let filter = QueueFilter::from(range);
    let is_live = !once && !as_json && std::io::stdout().is_terminal();
    loop {
        let sums = look(queue, &filter, by).await?;
        let mut out = std::io::stdout().lock();
        if as_json {
            let rows: Vec<_> = sums.iter().map(object).collect();
            writeln!(out, "{}", json!(rows))?;
            return Ok(());
        }
        if is_live {
            // ECMA-48: to the upper left corner, and all below it is erased.
            write!(out, "\x1b[H\x1b[2J")?;
        }
        show(&mut out, &sums, lines)?;
        out.flush()?;
        drop(out);
        if !is_live {
            return Ok(());
        }
        sleep(REFRESH).await;
    }
}

/// All sums, the most messages first.
async fn look(queue: &Queue, filter: &QueueFilter, by: TopBy) -> Result<Vec<SumRow>, Error> {
    let mut sums: BTreeMap<(String, String), SumRow> = BTreeMap::new();
    let mut walk = Walk::new(queue, filter.clone(), QueueView::Sums, None);
    while let Some(rows) = walk.next().await? {
        for row in rows {
            let QueueRow::Sum(mut sum) = row else {
                return Err(unexpected(&row));
            };
            let key = match by {
                TopBy::Both => (party(&sum.party), sum.destination.clone()),
                TopBy::Destination => (String::new(), sum.destination.clone()),
                TopBy::Tenant => {
                    sum.destination.clear();
                    (party(&sum.party), String::new())
                }
            };
            match sums.get_mut(&key) {
                Some(known) => add(known, sum),
                None => {
                    sums.insert(key, sum);
                }
            }
        }
    }
    let mut sums: Vec<_> = sums
        .into_iter()
        .map(|((party, _), sum)| (party, sum))
        .collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.messages));
    Ok(sums
        .into_iter()
        .map(|(of, mut sum)| {
            if of.is_empty() {
                sum.party = ipc::queue_walk::QueueParty::Nobody;
            }
            sum
        })
        .collect())
}

fn add(known: &mut SumRow, sum: SumRow) {
    known.messages += sum.messages;
    known.bytes = known.bytes.saturating_add(sum.bytes);
    known.in_work += sum.in_work;
    known.deferred += sum.deferred;
    known.held += sum.held;
    known.oldest = known.oldest.min(sum.oldest);
    if !sum.reply.is_empty() {
        known.reply = sum.reply;
    }
}

fn object(sum: &SumRow) -> serde_json::Value {
    json!({
        "of": party(&sum.party), "destination": sum.destination, "messages": sum.messages, "bytes": sum.bytes, "in_work": sum.in_work,
        "deferred": sum.deferred, "held": sum.held, "oldest": sum.oldest, "last_error": sum.reply,
    })
}

fn show(out: &mut impl Write, sums: &[SumRow], lines: usize) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let all = |each: fn(&SumRow) -> u64| sums.iter().map(each).sum::<u64>();
    writeln!(
        out,
        "{} for {} lines: {} in work, {} deferred, {} held, {} bytes",
        all(|sum| sum.messages),
        sums.len(),
        all(|sum| sum.in_work),
        all(|sum| sum.deferred),
        all(|sum| sum.held),
        all(|sum| sum.bytes)
    )?;
    writeln!(
        out,
        "{:>9} {:>7} {:>9} {:>7} {:>7}  {:24} {:32} LAST ANSWER",
        "MESSAGES", "IN WORK", "DEFERRED", "HELD", "OLDEST", "OF", "DESTINATION"
    )?;
    for sum in sums.iter().take(lines) {
        // It is a stranger's, and the terminal is the operator's.
        let plain = |c: char| if c.is_control() { '?' } else { c };
        let reply: String = sum.reply.chars().map(plain).take(REPLY).collect();
        writeln!(
            out,
            "{:>9} {:>7} {:>9} {:>7} {:>7}  {:24} {:32} {reply}",
            sum.messages,
            sum.in_work,
            sum.deferred,
            sum.held,
            age(now.saturating_sub(sum.oldest)),
            party(&sum.party),
            sum.destination
        )?;
    }
    Ok(())
}

/// `59s`, `59m`, `47h`, `9d`.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{}s", seconds.max(0)),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn an_age_is_short() {
        let ages = [-5, 59, 60, 3599, 7200, 172_799, 172_800].map(age);
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "2h", "47h", "2d"]);
    }
}
