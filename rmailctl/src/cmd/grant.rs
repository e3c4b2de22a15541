//! `rmailctl user grant`, `revoke`, `grants`: who may send as whom.

use ipc::control::{StoreControlAnswer, StoreControlRequest};
use serde_json::json;

use crate::Error;
use crate::operator::{Store, unexpected};

/// Lets a user send as an address.
///
/// # Errors
/// [`Error`].
pub async fn grant(store: &Store, account: String, sender: String) -> Result<(), Error> {
    let what = format!("cannot let {account} send as {sender}");
    let request = StoreControlRequest::GrantSender { account, sender };
    store.ask(what, request).await.map(drop)
}

/// Takes that back.
///
/// # Errors
/// [`Error`].
pub async fn revoke(store: &Store, account: String, sender: String) -> Result<(), Error> {
    let what = format!("cannot stop {account} from sending as {sender}");
    let request = StoreControlRequest::RevokeSender { account, sender };
    store.ask(what, request).await.map(drop)
}

/// Shows what was granted to a user.
///
/// # Errors
/// [`Error`].
pub async fn list(store: &Store, account: &str, as_json: bool) -> Result<(), Error> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let request = StoreControlRequest::ListGrants {
            account: account.to_owned(),
            skip: u32::try_from(all.len()).unwrap_or(u32::MAX),
        };
        let what = format!("cannot list what {account} may send as");
        match store.ask(what, request).await? {
            StoreControlAnswer::Grants { senders, more } => {
                all.extend(senders);
                if !more {
                    break;
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
    if as_json {
        println!("{}", json!(all));
    } else {
        all.iter().for_each(|sender| println!("{sender}"));
    }
    Ok(())
}
