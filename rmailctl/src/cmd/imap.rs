//! `rmailctl user imap`: which extensions of IMAP a user's clients are offered.

use imap::capability::{all_switchable, switchable};
use ipc::control::{StoreControlAnswer, StoreControlRequest};
use serde_json::json;

use crate::Error;
use crate::cli::ImapOptions;
use crate::operator::{Store, unexpected};

/// Switches extensions off, or shows which are.
///
/// # Errors
/// [`Error`].
pub async fn run(store: &Store, options: ImapOptions) -> Result<(), Error> {
    let address = options.address;
    if options.all || !options.without.is_empty() {
        let names = options.without.iter();
        let names = names.map(known).collect::<Result<_, _>>()?;
        let what = format!("cannot change what clients of {address} are offered");
        let request = StoreControlRequest::SetImapWithout { address, names };
        return store.ask(what, request).await.map(drop);
    }
    let what = format!("cannot show what clients of {address} are offered");
    let request = StoreControlRequest::ShowImapWithout { address };
    let names = match store.ask(what, request).await? {
        StoreControlAnswer::ImapWithout(names) => names,
        answer => return Err(unexpected(&answer)),
    };
    if options.json {
        println!("{}", json!(names));
    } else {
        names.iter().for_each(|name| println!("{name}"));
    }
    Ok(())
}

/// The name as imapd knows it.
fn known(name: &String) -> Result<String, Error> {
    let known = switchable(name).map(str::to_owned);
    known.ok_or_else(|| {
        let all: Vec<&str> = all_switchable().collect();
        let all = all.join(" ");
        Error::Usage(format!(
            "{name} is no extension of IMAP that can be switched off; there are {all}"
        ))
    })
}
