//! The keys on disk, one file each, and what is known of them in memory.
//!
//! A file is written beside its place, flushed, renamed into it, and the directory is flushed: whenever keyd dies, each key is in the
//! state before or in the one after. docs/dkim.md has the table. Changes block on the disk and belong on a blocking thread.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use dkim::{KeyKind, SigningKey};
use ipc::keys::{KeyInfo, KeyState};
use sys::file::{self, OFlags};
use tracing::{error, info, warn};

use crate::key::{Key, Name, State, Whole};

/// Keys a domain may have that are not gone.
const MAX_KEYS: usize = 16;
/// Octets of a file; one with 4096 bits needs a fifth of it.
const MAX_FILE: u64 = 32 * 1024;
/// What the name of a file ends with while it is written.
const NEW: &str = ".new";
const LOCK: &str = ".lock";

/// All keys.
#[derive(Debug)]
pub struct Cabinet {
    directory: OwnedFd,
    /// Held for life: one keyd per directory.
    _lock: File,
    keys: RwLock<BTreeMap<Name, Drawer>>,
    /// Held by whoever changes something.
    changing: Mutex<()>,
}

/// What is kept of a file in memory.
#[derive(Debug, Clone)]
enum Drawer {
    Key(Arc<Entry>),
    /// Its file cannot be read as a key.
    Damaged,
}

/// A key that can be used.
#[derive(Debug)]
pub struct Entry {
    /// What is known of it.
    pub key: Key,
    opened: OnceLock<SigningKey>,
}

/// Why keys were not changed, or not given.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is none of that name.
    #[error("the domain has no key of this name; rmailctl dkim list shows those there are")]
    NotFound,
    /// There is one already, or was.
    #[error("the domain has, or had, a key of this name: choose another selector")]
    Exists,
    /// Its state does not allow it.
    #[error("{0}")]
    WrongState(&'static str),
    /// There are enough.
    #[error("the domain has {MAX_KEYS} keys already: remove some with rmailctl dkim remove")]
    TooMany,
    /// A key of the domain cannot be read.
    #[error("a key of the domain is damaged; rmailctl dkim list shows which")]
    Damaged,
    /// The library makes no key.
    #[error("no key could be made")]
    Library,
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl Cabinet {
    /// Opens the directory, making it if its parent exists, and brings to its end what was begun when keyd died.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when another keyd has it.
    pub fn open(path: &Path, now: i64) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        match std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = file::open_directory(path)?;
        let flags = OFlags::CREATE | OFlags::RDWR;
        let lock = file::open_beneath(directory.as_fd(), Path::new(LOCK), flags, 0o600)?;
        let lock = File::from(lock);
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                "another keyd works on these keys; stop it first",
            ),
            std::fs::TryLockError::Error(error) => error,
        })?;
        let cabinet = Self {
            directory,
            _lock: lock,
            keys: RwLock::default(),
            changing: Mutex::default(),
        };
        cabinet.read_all()?;
        cabinet.settle(now)?;
        Ok(cabinet)
    }

    fn read_all(&self) -> io::Result<()> {
        let mut keys = BTreeMap::new();
        for entry in file::list_anew(self.directory.as_fd())? {
            let text = entry.name.to_string_lossy();
            if text.ends_with(NEW) {
                file::unlink(self.directory.as_fd(), &entry.name)?;
            } else if let Some(name) = Name::of_file(&text) {
                let drawer = match self.read(&name) {
                    Ok(whole) => Drawer::Key(Entry::of(&whole)),
                    Err(Fault::Disk(error)) => return Err(error),
                    Err(_) => {
                        error!(%name, "the file of a key is damaged: mail of its domain waits until the file is restored, or the key removed with rmailctl dkim remove");
                        Drawer::Damaged
                    }
                };
                keys.insert(name, drawer);
            } else if text != LOCK {
                warn!(file = %text, "a file that is no key lies among the keys");
            }
        }
        info!(keys = keys.len(), "keys read");
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// keyd died after a key had begun to sign and before the one it replaces was retired.
    fn settle(&self, now: i64) -> io::Result<()> {
        let signing: Vec<Key> = self.all();
        let signing = signing.iter().filter(|key| key.state == State::Signing);
        for key in signing.clone() {
            let is_newer = |other: &&Key| {
                let age = |key: &Key| (key.since, key.created, key.name.clone());
                other.is_like(key) && age(other) > age(key)
            };
            if signing.clone().any(|other| is_newer(&other)) {
                let turned = self.turn(&key.name, State::Retired, now);
                turned.map_err(|fault| io::Error::other(fault.to_string()))?;
            }
        }
        Ok(())
    }

    /// What is known of all keys that can be used, by domain and selector.
    #[must_use]
    pub fn all(&self) -> Vec<Key> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let entry = |drawer: &Drawer| match drawer {
            Drawer::Key(entry) => Some(entry.key.clone()),
            Drawer::Damaged => None,
        };
        keys.values().filter_map(entry).collect()
    }

    /// What others may know of the keys behind `after`, at most `most`, and whether there are more.
    #[must_use]
    pub fn page(
        &self,
        domain: Option<&str>,
        after: Option<&Name>,
        most: usize,
    ) -> (Vec<KeyInfo>, bool) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let shown = keys.iter().filter(|(name, _)| {
            domain.is_none_or(|domain| name.domain == domain)
                && after.is_none_or(|after| *name > after)
        });
        let mut page: Vec<_> = shown
            .take(most + 1)
            .map(|(name, drawer)| match drawer {
                Drawer::Key(entry) => entry.key.info(),
                Drawer::Damaged => KeyInfo {
                    domain: name.domain.clone(),
                    selector: name.selector.clone(),
                    kind: String::new(),
                    state: KeyState::Damaged,
                    created: 0,
                    since: 0,
                    record: String::new(),
                },
            })
            .collect();
        let more = page.len() > most;
        page.truncate(most);
        (page, more)
    }

    /// The keys that sign for a domain.
    ///
    /// # Errors
    /// [`Fault::Damaged`]: which keys the domain has is not known, and mail that should be signed must not go out without.
    pub fn signing(&self, domain: &str) -> Result<Vec<Arc<Entry>>, Fault> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let first = Name {
            domain: domain.to_owned(),
            selector: String::new(),
        };
        let mut signing = Vec::new();
        let of_domain = keys.range(first..);
        for (_, drawer) in of_domain.take_while(|(name, _)| name.domain == domain) {
            match drawer {
                Drawer::Damaged => return Err(Fault::Damaged),
                Drawer::Key(entry) if entry.key.state == State::Signing => {
                    signing.push(Arc::clone(entry));
                }
                Drawer::Key(_) => {}
            }
        }
        Ok(signing)
    }

    /// What signs. The file is read the first time.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open_key<'a>(&self, entry: &'a Entry) -> Result<&'a SigningKey, Fault> {
        if let Some(key) = entry.opened.get() {
            return Ok(key);
        }
        let whole = self.read(&entry.key.name)?;
        let key = whole.signing_key().map_err(|_| Fault::Damaged)?;
        Ok(entry.opened.get_or_init(|| key))
    }

    /// Makes a key, which waits. Without a selector one is made up.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn create(
        &self,
        domain: &str,
        selector: Option<&str>,
        kind: KeyKind,
        now: i64,
    ) -> Result<Key, Fault> {
        let _changing = self.lock();
        let name = match selector {
            Some(selector) => Name::new(domain, selector),
            None => self.new_name(domain, kind, now),
        };
        let name = name.map_err(|bad| io::Error::new(io::ErrorKind::InvalidInput, bad))?;
        if self.known(&name).is_some() {
            return Err(Fault::Exists);
        }
        let all = self.all();
        let of_domain = all
            .iter()
            .filter(|key| key.name.domain == name.domain && key.state != State::Gone);
        if of_domain.count() >= MAX_KEYS {
            return Err(Fault::TooMany);
        }
        let whole = Whole::generate(name, kind, now).map_err(|_| Fault::Library)?;
        self.write(&whole)?;
        info!(name = %whole.key.name, kind = kind.as_str(), "a key was made; it signs once its record is in DNS");
        Ok(whole.key)
    }

    /// `r20260131` and, if there is such a key, `r20260131-2` and so on.
    fn new_name(&self, domain: &str, kind: KeyKind, now: i64) -> Result<Name, crate::key::BadName> {
        let letter = match kind {
            KeyKind::Ed25519 => 'e',
            KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => 'r',
        };
        let day: String = mail::date::format_rfc3339(now)
            .chars()
            .take(10)
            .filter(char::is_ascii_digit)
            .collect();
        let mut name = Name::new(domain, &format!("{letter}{day}"))?;
        let mut number = 2_u32;
        while self.known(&name).is_some() {
            name = Name::new(domain, &format!("{letter}{day}-{number}"))?;
            number += 1;
        }
        Ok(name)
    }

    /// Has a key sign, and retires the one whose place it takes.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn activate(&self, name: &Name, now: i64) -> Result<Vec<Key>, Fault> {
        let _changing = self.lock();
        self.begin_to_sign(name, now)
    }

    /// The same for a key whose record was seen, if it waits for that.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn note_seen(&self, name: &Name, now: i64) -> Result<(), Fault> {
        let _changing = self.lock();
        match self.known(name) {
            Some(Drawer::Key(entry)) if entry.key.state == State::Pending => {
                self.begin_to_sign(name, now).map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The new one first: between the two the domain has two that sign, and after a crash the older one is retired.
    fn begin_to_sign(&self, name: &Name, now: i64) -> Result<Vec<Key>, Fault> {
        let key = self.usable(name)?;
        match key.state {
            State::Pending | State::Retired => {}
            State::Signing => return Err(Fault::WrongState("the key signs already")),
            State::Gone => {
                return Err(Fault::WrongState(
                    "the private key was destroyed: make another one with rmailctl dkim create",
                ));
            }
        }
        let mut changed = vec![self.turn(name, State::Signing, now)?];
        for other in self.all() {
            if other.state == State::Signing && other.name != *name && other.is_like(&key) {
                changed.push(self.turn(&other.name, State::Retired, now)?);
            }
        }
        Ok(changed)
    }

    /// Has a key sign no more.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn retire(&self, name: &Name, now: i64) -> Result<Key, Fault> {
        let _changing = self.lock();
        match self.usable(name)?.state {
            State::Signing => self.turn(name, State::Retired, now),
            State::Pending | State::Retired | State::Gone => Err(Fault::WrongState(
                "the key does not sign; rmailctl dkim remove removes it",
            )),
        }
    }

    /// Destroys the private part of a key that is retired, and keeps its name.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn destroy(&self, name: &Name, now: i64) -> Result<(), Fault> {
        let _changing = self.lock();
        match self.usable(name)?.state {
            State::Retired => self.turn(name, State::Gone, now).map(drop),
            State::Pending | State::Signing | State::Gone => Ok(()),
        }
    }

    /// Removes a key that does not sign.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn remove(&self, name: &Name) -> Result<(), Fault> {
        let _changing = self.lock();
        match self.known(name) {
            None => return Err(Fault::NotFound),
            Some(Drawer::Key(entry)) if entry.key.state == State::Signing => {
                return Err(Fault::WrongState(
                    "the key signs: retire it first, and leave its record in DNS until its mail has been read",
                ));
            }
            Some(_) => {}
        }
        file::unlink(self.directory.as_fd(), OsStr::new(&name.file()))?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.remove(name);
        drop(keys);
        file::sync_directory(&self.directory)?;
        info!(%name, "a key was removed");
        Ok(())
    }

    fn turn(&self, name: &Name, state: State, now: i64) -> Result<Key, Fault> {
        let whole = self.read(name)?.turned(state, now);
        self.write(&whole)?;
        info!(%name, ?state, "the state of a key has changed");
        Ok(whole.key)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, name: &Name) -> Option<Drawer> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(name).cloned()
    }

    fn usable(&self, name: &Name) -> Result<Key, Fault> {
        match self.known(name) {
            None => Err(Fault::NotFound),
            Some(Drawer::Damaged) => Err(Fault::Damaged),
            Some(Drawer::Key(entry)) => Ok(entry.key.clone()),
        }
    }

    fn read(&self, name: &Name) -> Result<Whole, Fault> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = file::open_beneath(self.directory.as_fd(), Path::new(&name.file()), flags, 0)?;
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(Fault::Damaged);
        }
        let mut text = zeroize::Zeroizing::new(Vec::new());
        file.take(MAX_FILE).read_to_end(&mut text)?;
        Whole::read(name.clone(), &text).map_err(|_| Fault::Damaged)
    }

    fn write(&self, whole: &Whole) -> Result<(), Fault> {
        let text = whole.write().map(zeroize::Zeroizing::new);
        let text = text.map_err(io::Error::from)?;
        let (name, directory) = (whole.key.name.file(), self.directory.as_fd());
        let new = format!("{name}{NEW}");
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY;
        // 1. The bytes, where nobody looks for them.
        let placed = file::open_beneath(directory, Path::new(&new), flags, 0o600)
            .map(File::from)
            .and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            })
            // 2. Their place.
            .and_then(|()| file::rename(directory, OsStr::new(&new), directory, OsStr::new(&name)));
        if let Err(error) = placed {
            // What stays of it is removed at the next start.
            let _ = file::unlink(directory, OsStr::new(&new));
            return Err(error.into());
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(whole.key.name.clone(), Drawer::Key(Entry::of(whole)));
        drop(keys);
        // 3. That it has it. A failed flush is final: after a crash it may be as it was before.
        file::sync_directory(&self.directory)?;
        Ok(())
    }
}

impl Entry {
    fn of(whole: &Whole) -> Arc<Self> {
        Arc::new(Self {
            key: whole.key.clone(),
            opened: OnceLock::new(),
        })
    }

    /// Whether its file has been read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opened.get().is_some()
    }
}

#[cfg(test)]
mod tests;
