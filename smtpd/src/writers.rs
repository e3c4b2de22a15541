//! Who must be one of us when one of us sends a message: all whom its header names as authors and senders.

use std::collections::BTreeSet;

use mail::address::Address;
use smtp::reply::Reply;
use smtp::server::{Agents, Author, Summary};

use crate::words;

/// The addresses to be asked about, each once, with the field for the reply.
///
/// # Errors
/// What the client is told of a header that does not name them clearly: another reader may find others in it.
pub(crate) fn named(summary: &Summary) -> Result<Vec<(&'static str, &Address)>, Reply> {
    let Agents::Named {
        addresses: agents,
        has_sender,
    } = &summary.agents
    else {
        return Err(words::agent_unclear());
    };
    let authors = match &summary.author {
        Author::Absent | Author::Unclear => return Err(words::author_unclear()),
        Author::One(only) => std::slice::from_ref(only),
        Author::Several(_) if !has_sender => return Err(words::sender_missing()),
        Author::Several(all) => all,
    };
    let authors = authors.iter().map(|one| ("From", one));
    let agents = agents.iter().map(|one| ("Sender or Resent", one));
    let mut seen = BTreeSet::new();
    Ok(authors
        .chain(agents)
        .filter(|(_, one)| seen.insert(*one))
        .collect())
}
