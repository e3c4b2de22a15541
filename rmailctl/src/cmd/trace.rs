//! `rmailctl alias test`: the way from an address to whoever gets its mail.

use ipc::Refusal;
use ipc::control::{AliasKind, StoreControlAnswer, StoreControlRequest};
use ipc::routing::{Found, TraceStep};
use serde_json::{Value, json};

use crate::Error;
use crate::operator::{Store, unexpected};

/// Asks for all steps and shows them.
///
/// # Errors
/// [`Error::Findings`] if mail for the address is refused.
pub async fn run(store: &Store, address: &str, as_json: bool) -> Result<(), Error> {
    let (all, refusal) = steps(store, address).await?;
    if as_json {
        println!("{}", whole(address, &all, refusal.as_ref()));
    } else {
        all.iter().for_each(|step| println!("{}", line(step)));
    }
    match refusal {
        None => Ok(()),
        Some(refusal) => Err(Error::Findings(format!(
            "mail for {address} is refused: {refusal}{}",
            advice(&refusal)
        ))),
    }
}

/// All steps, and why mail for the address is refused, if it is.
///
/// # Errors
/// When they cannot be asked for, or it is no address.
pub(super) async fn steps(
    store: &Store,
    address: &str,
) -> Result<(Vec<TraceStep>, Option<Refusal>), Error> {
    let mut all: Vec<TraceStep> = Vec::new();
    loop {
        let request = StoreControlRequest::TraceAddress {
            address: address.to_owned(),
            skip: u32::try_from(all.len()).unwrap_or(u32::MAX),
        };
        let what = format!("cannot follow {address}");
        match store.ask(what, request).await? {
            StoreControlAnswer::Trace {
                steps,
                more,
                refusal,
            } => {
                all.extend(steps);
                if !more {
                    return Ok((all, refusal));
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}

fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoSuchUser => "; add a user or an alias of that name",
        Refusal::NoSuchDomain => {
            "; only who has logged in may send there. To take its mail: rmailctl domain add"
        }
        Refusal::TooManyRecipients => "; let fewer aliases stand behind or beside one another",
        _ => "",
    }
}

/// A step in words.
pub(super) fn line(step: &TraceStep) -> String {
    let indent = "  ".repeat(usize::try_from(step.depth).unwrap_or(0));
    format!("{indent}{}: {}", step.address, words(&step.found))
}

fn words(found: &Found) -> String {
    match found {
        Found::User(address) => format!("goes to the user {address}"),
        Found::Alias {
            kind,
            pattern,
            targets,
        } => {
            let alias = match kind {
                AliasKind::Exact => format!("the alias {pattern}"),
                AliasKind::Regex => format!("the regular expression {pattern}"),
                AliasKind::CatchAll => "the catch-all".into(),
            };
            format!("{alias} leads to {}", targets.join(" "))
        }
        Found::Role(address) => {
            format!("no user or alias, but every domain has it; {address} stands in")
        }
        Found::Rewritten(address) => {
            format!("stands for the sender {address}, whose mail was passed on from here")
        }
        Found::Elsewhere => "goes out to the servers of that domain".into(),
        Found::Backup => "goes out to the better mail servers of that domain".into(),
        Found::Loop => "was met before, so it ends here".into(),
        Found::Nobody => "no user, no alias".into(),
        Found::NoAddress => "is no address, so it is passed over".into(),
        Found::TooFar => "too many aliases stand behind or beside one another".into(),
    }
}

fn whole(address: &str, steps: &[TraceStep], refusal: Option<&Refusal>) -> Value {
    json!({
        "address": address,
        "refused": refusal.map(ToString::to_string),
        "steps": steps.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(step: &TraceStep) -> Value {
    let mut row = json!({"depth": step.depth, "address": step.address});
    let (rule, pattern, to): (_, Option<&String>, Option<Vec<&String>>) = match &step.found {
        Found::User(address) => ("user", None, Some(vec![address])),
        Found::Alias {
            kind,
            pattern,
            targets,
        } => {
            let rule = match kind {
                AliasKind::Exact => "exact",
                AliasKind::Regex => "regex",
                AliasKind::CatchAll => "catch-all",
            };
            (rule, Some(pattern), Some(targets.iter().collect()))
        }
        Found::Role(address) => ("role", None, Some(vec![address])),
        Found::Rewritten(address) => ("rewritten", None, Some(vec![address])),
        Found::Elsewhere => ("elsewhere", None, None),
        Found::Backup => ("backup-mx", None, None),
        Found::Loop => ("loop", None, None),
        Found::Nobody => ("nobody", None, None),
        Found::NoAddress => ("no-address", None, None),
        Found::TooFar => ("too-far", None, None),
    };
    row["rule"] = json!(rule);
    if let Some(pattern) = pattern {
        row["pattern"] = json!(pattern);
    }
    if let Some(to) = to {
        row["to"] = json!(to);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_line_with_the_rule_that_matched() {
        let step = TraceStep {
            depth: 2,
            address: "info-x@a.example".into(),
            found: Found::Alias {
                kind: AliasKind::Regex,
                pattern: "info-(.*)".into(),
                targets: vec!["x@b.example".into(), "y@c.example".into()],
            },
        };
        assert_eq!(
            line(&step),
            "    info-x@a.example: the regular expression info-(.*) leads to x@b.example y@c.example"
        );
        assert_eq!(
            row(&step),
            json!({"depth": 2, "address": "info-x@a.example", "rule": "regex", "pattern": "info-(.*)",
                "to": ["x@b.example", "y@c.example"]})
        );
    }
}
