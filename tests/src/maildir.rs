//! Looking at the store from outside, as an admin with `ls` would: the files are the truth.

use std::path::{Path, PathBuf};

/// What is in each of the files of a directory; nothing where there is none.
#[must_use]
pub fn files(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(listing) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    listing
        .filter_map(|entry| std::fs::read(entry.ok()?.path()).ok())
        .collect()
}

/// The files of one account.
#[derive(Debug, Clone)]
pub struct Account {
    root: PathBuf,
}

/// One message file, `0000/00000041_AFS.eml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageFile {
    /// The number in its name.
    pub uid: u32,
    /// The letters in its name.
    pub flags: String,
    /// Where it is.
    pub path: PathBuf,
}

impl MessageFile {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Shard and name, `0000/00000041_AFS.eml`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut parts = self.path.iter().rev().map(|part| part.to_string_lossy());
        let (name, shard) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        format!("{shard}/{name}")
    }
}

impl Account {
    /// The account of `address` in the store at `store`.
    #[must_use]
    pub fn in_store(store: &Path, address: &str) -> Self {
        let (user, domain) = address.split_once('@').expect("an address");
        Self {
            root: store.join("domains").join(domain).join("users").join(user),
        }
    }

    /// The directory of a mailbox; `name` is the directory's own name, percent-encoded.
    #[must_use]
    pub fn mailbox(&self, name: &str) -> PathBuf {
        self.root.join("mailboxes").join(name)
    }

    /// All messages of a mailbox by UID. A name that is not of the documented form fails the test.
    #[must_use]
    pub fn messages(&self, mailbox: &str) -> Vec<MessageFile> {
        let mut found = Vec::new();
        for shard in entries(&self.mailbox(mailbox)) {
            let name = file_name(&shard);
            if name.starts_with('.') || !shard.is_dir() {
                continue;
            }
            assert!(is_shard(&name), "{} is no shard", shard.display());
            for file in entries(&shard) {
                if !file_name(&file).starts_with('.') {
                    found.push(message_file(&name, file));
                }
            }
        }
        found.sort();
        found
    }
}

/// What is below a directory; nothing if there is none, or if it went away meanwhile.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn is_shard(name: &str) -> bool {
    name.len() >= 4 && name.bytes().all(|b| b.is_ascii_digit())
}

fn message_file(shard: &str, path: PathBuf) -> MessageFile {
    let name = file_name(&path);
    let parsed = name
        .strip_suffix(".eml")
        .and_then(|stem| stem.split_once('_'))
        .and_then(|(digits, flags)| {
            let uid: u32 = digits.parse().ok()?;
            let sorted = flags.bytes().zip(flags.bytes().skip(1)).all(|(a, b)| a < b);
            let good = digits.len() >= 8 && flags.bytes().all(|b| b"ADFST".contains(&b)) && sorted;
            (good && shard == format!("{:04}", uid / 1000)).then(|| (uid, flags.to_owned()))
        });
    let (uid, flags) =
        parsed.unwrap_or_else(|| panic!("{} is not named as documented", path.display()));
    MessageFile { uid, flags, path }
}

/// The body of a message: what follows the first empty line.
#[must_use]
pub fn body(message: &[u8]) -> &[u8] {
    message
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(&[], |at| &message[at + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documented_name_is_read() {
        let file = message_file(
            "0001",
            PathBuf::from("/x/0001/00001000_SF.eml".replace("SF", "FS")),
        );
        assert_eq!(
            (file.uid, file.flags.as_str(), file.name()),
            (1000, "FS", "0001/00001000_FS.eml".into())
        );
    }

    #[test]
    #[should_panic(expected = "not named as documented")]
    fn a_message_in_the_wrong_shard_is_noticed() {
        message_file("0000", PathBuf::from("/x/0000/00001000_.eml"));
    }

    #[test]
    fn the_body_begins_after_the_empty_line() {
        assert_eq!(body(b"A: b\r\n\r\nhello\r\n\r\n"), b"hello\r\n\r\n");
    }
}
