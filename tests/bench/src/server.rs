//! A mail server as the workloads see it.

use std::net::SocketAddr;

use system_tests::options::PASSWORD;

use crate::imap::Imap;

/// A mailbox that is filled before anything is measured.
#[derive(Debug, Clone)]
pub(crate) struct Filled {
    pub(crate) name: String,
    pub(crate) messages: u32,
    /// Bytes of each.
    pub(crate) size: usize,
}

/// The account whose mailboxes are filled.
pub(crate) const READER: &str = "alice@example.test";

/// The n-th of the accounts that get mail.
pub(crate) fn account(number: usize) -> String {
    format!("u{number:04}@example.test")
}

/// Something that speaks IMAP.
pub(crate) trait MailServer {
    /// As it stands in the tables.
    fn name(&self) -> &'static str;
    /// Where it listens.
    fn imap(&self) -> SocketAddr;
    /// The process that is above all others of it.
    fn pid(&self) -> u32;
    /// Ends all processes.
    fn stop(&mut self);
    /// Starts them again.
    fn start(&mut self);
    /// Removes what can be made again from the messages, while it is stopped. False if messages need it to be found.
    fn forget_indexes(&self) -> bool;

    /// A connection of that account.
    fn log_in(&self, user: &str) -> Imap {
        Imap::log_in(self.imap(), user, PASSWORD)
    }
}

/// Removes files and directories below `directory` whose name the question says yes to.
pub(crate) fn remove_below(directory: &std::path::Path, is_unwanted: &dyn Fn(&str) -> bool) {
    for entry in std::fs::read_dir(directory).expect("a directory of the server") {
        let entry = entry.expect("the server is stopped");
        let (path, name) = (entry.path(), entry.file_name());
        let is_directory = entry.file_type().expect("it is there").is_dir();
        if !is_unwanted(&name.to_string_lossy()) {
            if is_directory && !is_full_of_mail(&name.to_string_lossy()) {
                remove_below(&path, is_unwanted);
            }
        } else if is_directory {
            std::fs::remove_dir_all(path).expect("the server is stopped");
        } else {
            std::fs::remove_file(path).expect("the server is stopped");
        }
    }
}

/// Directories in which there is nothing but messages need no looking through.
fn is_full_of_mail(name: &str) -> bool {
    matches!(name, "cur" | "new" | "tmp") || name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_goes() {
        let directory = tempfile::tempdir().unwrap();
        for path in [
            ".cache/0000",
            "INBOX/.cache/index",
            "INBOX/0000/mail",
            "kept/file",
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        remove_below(directory.path(), &|name| name == ".cache");
        let there = |path: &str| directory.path().join(path).exists();
        assert!(there("INBOX/0000/mail") && there("kept/file"));
        assert!(!there(".cache") && !there("INBOX/.cache"));
    }
}
