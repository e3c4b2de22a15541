//! Going through the queue, a piece at a time.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;

use ipc::control::{QueueControlAnswer, QueueControlRequest};
use ipc::queue_walk::{QueueFilter, QueueRow, QueueView};
use ipc::tools::unpack;

use crate::Error;
use crate::cli::{QueueRange, Selection};
use crate::operator::{Queue, unexpected};

/// A piece has a few hundred messages; what is longer is of another version.
const MOST: u64 = 64 << 20;

impl From<QueueRange> for QueueFilter {
    fn from(range: QueueRange) -> Self {
        Self {
            sender: range.sender.map(without_brackets),
            recipient: range.recipient.map(without_brackets),
            destination: range.destination,
            tenant: range.tenant,
            account: range.account,
            state: range.state.map(Into::into),
            older: range.older,
            younger: range.younger,
            larger: range.larger,
            smaller: range.smaller,
        }
    }
}

/// `<alice@example.org>` is as good as what is in it.
fn without_brackets(address: String) -> String {
    let inner = address
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'));
    inner.map(str::to_owned).unwrap_or(address)
}

impl Selection {
    /// Whether it says nothing at all.
    pub(super) fn is_nothing(&self) -> bool {
        let filter = QueueFilter::from(self.range.clone());
        self.queue_ids.is_empty() && !self.all && filter == QueueFilter::default()
    }
}

/// A walk under way.
pub(super) struct Walk<'a> {
    queue: &'a Queue,
    filter: QueueFilter,
    view: QueueView,
    after: Option<String>,
    is_over: bool,
    /// Messages looked at.
    pub(super) seen: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        queue: &'a Queue,
        filter: QueueFilter,
        view: QueueView,
        after: Option<String>,
    ) -> Self {
        Self {
            queue,
            filter,
            view,
            after,
            is_over: false,
            seen: 0,
        }
    }

    /// The next piece; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<QueueRow>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let request = QueueControlRequest::WalkQueue {
            filter: self.filter.clone(),
            view: self.view,
            after: self.after.clone(),
        };
        let what = "cannot go through the queue";
        let answered = self.queue.ask_for_files(what, request).await?;
        let QueueControlAnswer::QueueWalked { seen, rows, after } = answered.answer else {
            return Err(unexpected(&answered.answer));
        };
        self.seen += u64::from(seen);
        self.is_over = after.is_none();
        self.after = after;
        read_rows(answered.fds, rows).map(Some)
    }
}

/// The ids of all messages that are meant.
pub(in crate::cmd) async fn ids(
    queue: &Queue,
    filter: QueueFilter,
    mut each: impl FnMut(String),
) -> Result<(), Error> {
    let mut walk = Walk::new(queue, filter, QueueView::Ids, None);
    while let Some(rows) = walk.next().await? {
        for row in rows {
            match row {
                QueueRow::Id(id) => each(id),
                other => return Err(unexpected(&other)),
            }
        }
    }
    Ok(())
}

/// The rows in the file that came with an answer.
///
/// # Errors
/// When there are not that many, or they are of another version.
pub(super) fn read_rows(fds: Vec<OwnedFd>, count: u32) -> Result<Vec<QueueRow>, Error> {
    let mut packed = Vec::new();
    for fd in fds {
        // The file may be positioned where relayd ended writing it.
        let mut file = File::from(fd);
        file.rewind()?;
        file.take(MOST).read_to_end(&mut packed)?;
    }
    let rows: Vec<QueueRow> = unpack(&packed).map_err(|error| unexpected(&error))?;
    if rows.len() != usize::try_from(count).unwrap_or(usize::MAX) {
        return Err(unexpected(&"rows are missing"));
    }
    Ok(rows)
}
