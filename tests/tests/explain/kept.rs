//! What there is of mail in the files, before and after somebody asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use system_tests::System;

/// What there is of mail: in mailboxes and in the queue, with what is kept beside it.
pub(crate) fn kept(system: &System) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let root = system.home().mail_root();
    for directory in ["store/mailstore/domains", "queue"] {
        look(&root.join(directory), &mut found);
    }
    found.retain(|path, _| {
        let is_message = path.extension().is_some_and(|extension| extension == "eml");
        // relayd tries what is in the queue meanwhile, and these two tell of all messages.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_of_all = name.starts_with(".log-") || name.starts_with(".history-");
        is_message || path.starts_with(root.join("queue")) && !is_of_all
    });
    found
}

fn look(directory: &Path, found: &mut BTreeMap<PathBuf, u64>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            look(&entry.path(), found);
        } else if kind.is_file() {
            let path = entry.path();
            // relayd tries what is in the queue meanwhile, and writes down what came of it.
            let is_journal = path.extension().is_some_and(|extension| extension == "env");
            let size = if is_journal {
                0
            } else {
                entry.metadata().unwrap().len()
            };
            found.insert(path, size);
        }
    }
}
