//! What a person does to the files of a mailbox.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::dice::Dice;
use super::super::{MailboxName, message_file};
use super::OWNERS;
use super::letter;
use super::state::{Folder, Letter, What};

/// Where a mailbox is in the store's directory.
pub(super) fn place(user: usize, name: &str) -> PathBuf {
    let (local, domain) = OWNERS[user];
    let name = MailboxName::parse(name).unwrap().file_name();
    format!("mailstore/domains/{domain}/users/{local}/mailboxes/{name}").into()
}

/// Renames, removes or adds a message, in the files and in the model. The files must be as the model says.
pub(super) fn edit(mailbox: &Path, folder: &mut Folder, number: u64, dice: &mut Dice) {
    let uids: Vec<u32> = folder.known.keys().copied().collect();
    if uids.is_empty() || dice.once_in(3) {
        add(mailbox, folder, number);
        return;
    }
    let uid = dice.choose(&uids);
    let letter = folder.known[&uid].clone();
    let file = mailbox.join(file_name(uid, letter.flags));
    if dice.once_in(2) {
        fs::remove_file(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        folder.apply(What::Gone(vec![uid]));
    } else {
        let flags = u8::try_from(dice.below(32)).unwrap();
        fs::rename(&file, mailbox.join(file_name(uid, flags)))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        folder.apply(What::Marked(vec![(uid, flags, letter.keywords)]));
    }
}

/// Puts a message into a mailbox under a name that says nothing.
pub(super) fn add(mailbox: &Path, folder: &mut Folder, number: u64) {
    write(mailbox, folder, &format!("hello {number}.eml"), number);
}

/// Puts a message with a UID into a mailbox.
pub(super) fn add_as(mailbox: &Path, folder: &mut Folder, uid: u32, number: u64) {
    write(mailbox, folder, &message_file::file_name(uid, 0), number);
}

fn write(mailbox: &Path, folder: &mut Folder, name: &str, number: u64) {
    let shard = mailbox.join(message_file::shard_name(0));
    let hidden = shard.join(".new");
    fs::write(&hidden, letter::bytes_of(number)).unwrap();
    fs::rename(&hidden, shard.join(name)).unwrap();
    folder.apply(What::Arrived(Letter::new(number)));
}

/// After a clean stop a person sees with `ls` exactly what clients saw.
pub(super) fn must_show(mailbox: &Path, folder: &Folder) {
    let expected: BTreeSet<PathBuf> = folder
        .known
        .iter()
        .map(|(uid, letter)| file_name(*uid, letter.flags))
        .collect();
    let mut found = BTreeSet::new();
    for shard in fs::read_dir(mailbox).unwrap().map(Result::unwrap) {
        let is_hidden = shard.file_name().to_string_lossy().starts_with('.');
        if is_hidden || !shard.file_type().unwrap().is_dir() {
            continue;
        }
        for file in fs::read_dir(shard.path()).unwrap().map(Result::unwrap) {
            found.insert(Path::new(&shard.file_name()).join(file.file_name()));
        }
    }
    assert_eq!(
        found,
        expected,
        "files (left) and model differ in {}",
        mailbox.display()
    );
}

fn file_name(uid: u32, flags: u8) -> PathBuf {
    let shard = message_file::shard_name(message_file::shard_of(uid));
    Path::new(&shard).join(message_file::file_name(uid, flags))
}
