//! `rmailctl user share`, `unshare`, `shares`: who may do what with a user's mailboxes.

use imap::acl::Rights as Letters;
use ipc::acl::{AclEntry, Rights, RightsChange};
use ipc::control::{StoreControlAnswer, StoreControlRequest};
use serde_json::json;

use crate::Error;
use crate::cli::{ShareOptions, SharesOptions, UnshareOptions};
use crate::operator::{Store, unexpected};

/// Gives rights instead of those before.
///
/// # Errors
/// [`Error`].
pub async fn share(store: &Store, options: ShareOptions) -> Result<(), Error> {
    let rights = Letters::parse(&options.rights).map_err(|letter| {
        Error::Usage(format!(
            "{letter:?} is no right; rights are the letters lrswipkxtea, c for kx and d for te"
        ))
    })?;
    let (address, mailbox, identifier) = (options.address, options.mailbox, options.with);
    change(store, address, mailbox, identifier, Rights(rights.0)).await
}

/// Takes them away.
///
/// # Errors
/// [`Error`].
pub async fn unshare(store: &Store, options: UnshareOptions) -> Result<(), Error> {
    let (address, mailbox, identifier) = (options.address, options.mailbox, options.with);
    change(store, address, mailbox, identifier, Rights::NONE).await
}

async fn change(
    store: &Store,
    address: String,
    mailbox: String,
    identifier: String,
    rights: Rights,
) -> Result<(), Error> {
    let what = format!("cannot change what {identifier} may do with {mailbox} of {address}");
    let request = StoreControlRequest::ChangeSharing {
        address,
        mailbox,
        identifier,
        change: RightsChange::Set(rights),
    };
    store.ask(what, request).await.map(drop)
}

/// Shows what a user shares, or has it noted anew.
///
/// # Errors
/// [`Error`].
pub async fn shares(store: &Store, options: SharesOptions) -> Result<(), Error> {
    let Some(address) = options.address else {
        return rebuild(store).await;
    };
    let (mut all, mut after) = (Vec::new(), None);
    while let Some((mailbox, entries)) = next(store, &address, after).await? {
        after = Some(mailbox.clone());
        all.push((mailbox, entries));
    }
    if options.json {
        let entry =
            |entry: &AclEntry| json!({"with": entry.identifier, "rights": entry.rights.letters()});
        let mailbox = |(mailbox, entries): &(String, Vec<AclEntry>)| {
            let entries: Vec<_> = entries.iter().map(entry).collect();
            json!({"mailbox": mailbox, "shared": entries})
        };
        let all: Vec<_> = all.iter().map(mailbox).collect();
        println!("{}", json!(all));
        return Ok(());
    }
    for (mailbox, entries) in &all {
        for entry in entries {
            println!(
                "{mailbox}\t{}\t{}",
                entry.identifier,
                entry.rights.letters()
            );
        }
    }
    Ok(())
}

async fn next(
    store: &Store,
    address: &str,
    after: Option<String>,
) -> Result<Option<(String, Vec<AclEntry>)>, Error> {
    let address = address.to_owned();
    let what = format!("cannot show what {address} shares");
    let request = StoreControlRequest::ShowSharing { address, after };
    match store.ask(what, request).await? {
        StoreControlAnswer::Sharing { mailbox, entries } => {
            Ok(mailbox.map(|mailbox| (mailbox, entries)))
        }
        answer => Err(unexpected(&answer)),
    }
}

async fn rebuild(store: &Store) -> Result<(), Error> {
    let (mut all, mut after) = (0_u64, None);
    loop {
        let request = StoreControlRequest::RegisterSharing { after };
        let what = "cannot note anew who shares something".to_owned();
        match store.ask(what, request).await? {
            StoreControlAnswer::SharingRegistered { users, next } => {
                all += u64::from(users);
                after = next;
            }
            answer => return Err(unexpected(&answer)),
        }
        if after.is_none() {
            println!("{all} users looked at");
            return Ok(());
        }
    }
}
