//! Facts in words.

use ipc::dns::{Found, Kind as RecordKind, Record};

use crate::ask::{Problem, Route};
use crate::guard::{Count, Kind};

/// How far a client is from a limit.
pub(crate) fn counted(kind: Kind, count: &Count) -> String {
    let what = match kind {
        Kind::Connection => "connections",
        Kind::Command => "commands",
        Kind::Recipient => "recipients",
        Kind::RefusedRecipient => "refused recipients",
    };
    let Count {
        by, done, limit, ..
    } = count;
    match count.window {
        Some(window) => {
            let seconds = window.as_secs();
            format!("{what} of {by} within {seconds} s: {done} of {limit}")
        }
        None => format!("{what} of {by} now: {done} of {limit}"),
    }
}

/// Where mail for an address goes.
pub(crate) fn route(address: &str, route: &Result<Route, Problem>) -> String {
    match route {
        Ok(Route::Ours { local, remote }) => {
            format!("{address} leads {}", ways(local, remote))
        }
        Ok(Route::Relayed) => {
            format!("{address} is in a domain we are a backup for: its mail goes out")
        }
        Ok(Route::Foreign) => format!("{address} is in no domain of ours"),
        Err(problem) => format!("{address}: {problem}"),
    }
}

/// To whom.
pub(crate) fn ways(here: &[String], elsewhere: &[String]) -> String {
    let mut ways = Vec::new();
    if !here.is_empty() {
        ways.push(format!("to {} here", here.join(", ")));
    }
    if !elsewhere.is_empty() {
        ways.push(format!("out to {}", elsewhere.join(", ")));
    }
    match ways.is_empty() {
        true => "to nobody".to_owned(),
        false => ways.join(" and "),
    }
}

/// What DNS says about a name.
pub(crate) fn looked_up(name: &str, kind: RecordKind, found: &Found) -> String {
    let kind = match kind {
        RecordKind::A => "A",
        RecordKind::Aaaa => "AAAA",
        RecordKind::Mx => "MX",
        RecordKind::Txt => "TXT",
        RecordKind::Ptr => "PTR",
    };
    let said = match found {
        Found::Records(records) => records.iter().map(record).collect::<Vec<_>>().join(", "),
        Found::NoData => "no such record".to_owned(),
        Found::NoSuchName => "no such name".to_owned(),
        Found::TooLarge => "more than is taken".to_owned(),
        Found::Fault => "no answer".to_owned(),
    };
    format!("DNS: {name} {kind}: {said}")
}

fn record(record: &Record) -> String {
    match record {
        Record::A(address) => address.to_string(),
        Record::Aaaa(address) => address.to_string(),
        Record::Mx {
            preference,
            exchange,
        } => format!("{preference} {exchange}"),
        Record::Txt(text) => format!("\"{}\"", text.escape_ascii()),
        Record::Ptr(name) => name.clone(),
    }
}
