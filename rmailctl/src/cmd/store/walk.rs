//! Going through the store piece by piece, saying how far it is, and where to go on when it is cut off.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use ipc::control::{StoreControlAnswer, StoreControlRequest};
use ipc::tools::{Row, Scope, Seen, Work, unpack};
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::cli::StoreRange;
use crate::operator::{Store, unexpected};

/// How often it is said how far it is.
const OFTEN: Duration = Duration::from_secs(1);
/// More bytes of rows than any piece has.
const MOST: u64 = 256 << 20;

/// What is done, and where.
pub(super) struct Walk {
    pub(super) work: Work,
    pub(super) scope: Scope,
    after: Option<String>,
    /// Whether the command can go on from a place.
    is_resumable: bool,
    progress: bool,
}

/// A piece of a walk.
pub(super) struct Piece {
    pub(super) rows: Vec<Row>,
    /// The scope as rows name it.
    pub(super) within: String,
}

impl Walk {
    pub(super) fn new(work: Work, range: StoreRange) -> Self {
        let scope = match (range.domain, range.user, range.mailbox) {
            (_, Some(user), Some(name)) => Scope::Mailbox { user, name },
            (_, Some(user), None) => Scope::User(user),
            (Some(domain), None, _) => Scope::Domain(domain),
            (None, None, _) => Scope::Everything,
        };
        Self {
            after: range.after,
            is_resumable: true,
            progress: range.progress || std::io::stderr().is_terminal(),
            ..Self::over(work, scope)
        }
    }

    /// A walk that another command needs, and that begins anew when that does.
    pub(super) fn over(work: Work, scope: Scope) -> Self {
        Self {
            work,
            scope,
            after: None,
            is_resumable: false,
            progress: std::io::stderr().is_terminal(),
        }
    }

    /// Goes through all of it; `each` takes the pieces in order. Gives what was seen.
    ///
    /// # Errors
    /// What deliverd or `each` says. Whatever cut it off, the place to go on from is told.
    pub(super) async fn run(
        mut self,
        store: &Store,
        mut each: impl FnMut(Piece) -> Result<(), Error>,
    ) -> Result<Seen, Error> {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut told = Instant::now();
        let mut seen = Seen::default();
        loop {
            let piece = tokio::select! {
                piece = self.piece(store, &mut seen) => piece,
                _ = interrupted.recv() => Err(Error::interrupted()),
                _ = terminated.recv() => Err(Error::interrupted()),
            };
            let (piece, after) = piece.map_err(|error| self.cut_off(error))?;
            each(piece).map_err(|error| self.cut_off(error))?;
            if after.is_none() {
                return Ok(seen);
            }
            self.after = after;
            if self.progress && told.elapsed() >= OFTEN {
                told = Instant::now();
                let place = self.after.as_deref().unwrap_or_default();
                // Who cannot be told needs no progress.
                let _ = writeln!(std::io::stderr(), "{}, at {place}", in_words(&seen));
            }
        }
    }

    async fn piece(
        &self,
        store: &Store,
        seen: &mut Seen,
    ) -> Result<(Piece, Option<String>), Error> {
        let request = StoreControlRequest::WalkStore {
            work: self.work,
            scope: self.scope.clone(),
            after: self.after.clone(),
        };
        let what = "cannot go through the store";
        let answered = store.ask_for_files(what, request).await?;
        let StoreControlAnswer::StoreWalked {
            seen: more,
            within,
            rows,
            after,
        } = answered.answer
        else {
            return Err(unexpected(&answered.answer));
        };
        seen.users += more.users;
        seen.mailboxes += more.mailboxes;
        seen.messages += more.messages;
        seen.bytes += more.bytes;
        seen.expunged_messages += more.expunged_messages;
        seen.expunged_bytes += more.expunged_bytes;
        let rows = read_rows(answered.fds, rows)?;
        Ok((Piece { rows, within }, after))
    }

    fn cut_off(&self, error: Error) -> Error {
        match &self.after {
            Some(place) if self.is_resumable => {
                // The error follows; this line is worth more on its own, to be copied.
                let _ = writeln!(std::io::stderr(), "go on with: --after '{place}'");
                error
            }
            _ => error,
        }
    }
}

/// The rows in the file that came with an answer.
///
/// # Errors
/// When there are not that many, or they are of another version.
pub(in crate::cmd) fn read_rows(
    fds: Vec<std::os::fd::OwnedFd>,
    count: u32,
) -> Result<Vec<Row>, Error> {
    let mut packed = Vec::new();
    for fd in fds {
        // The file may be positioned where deliverd ended writing it.
        let mut file = File::from(fd);
        std::io::Seek::rewind(&mut file)?;
        file.take(MOST).read_to_end(&mut packed)?;
    }
    let rows = unpack(&packed).map_err(|error| unexpected(&error))?;
    if rows.len() != usize::try_from(count).unwrap_or(usize::MAX) {
        return Err(unexpected(&"rows are missing"));
    }
    Ok(rows)
}

/// `3 users, 18 mailboxes, …`
pub(super) fn in_words(seen: &Seen) -> String {
    format!(
        "{} users, {} mailboxes, {} messages, {} bytes",
        seen.users, seen.mailboxes, seen.messages, seen.bytes
    )
}
