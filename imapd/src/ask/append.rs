//! APPEND: messages on their way to deliverd, and what they are put together of.

use std::fs::File;
use std::time::Duration;

use daemon::channel::{Answered, CallError};
use ipc::delivery::MessageHandle;
use ipc::session::{SessionAnswer, SessionRequest, UidRanges, append_fits_in_frame};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::warn;

use super::{LONG_PATIENCE, MailSession, PATIENCE, nonsense, open_stream, single};

/// How long a piece of a message may take to be read by deliverd.
const WRITE_PATIENCE: Duration = Duration::from_mins(1);

/// Bytes of a message that deliverd need not hear of before they are here, at most.
pub const HELD: u64 = 12 * 1024;

/// A message on its way to deliverd.
#[derive(Debug)]
pub enum Upload {
    /// It goes in one piece when it is here.
    Held {
        /// Where to.
        mailbox: String,
        /// What is here.
        bytes: Vec<u8>,
    },
    /// Deliverd reads it as it comes.
    Opened(Opened),
}

/// A message that deliverd reads.
#[derive(Debug)]
pub struct Opened {
    handle: MessageHandle,
    stream: UnixStream,
    written: u64,
    broken: bool,
}

/// What an appended message is to be.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// System flags, bits of [`ipc::snapshot::flag`].
    pub flags: u8,
    /// Keywords by name.
    pub keywords: Vec<String>,
    /// INTERNALDATE in Unix seconds; now if absent.
    pub internal_date: Option<i64>,
}

impl MailSession {
    /// Opens a message of any mailbox; `None` if it is not there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open_named(
        &self,
        mailbox: String,
        uid_validity: Option<u32>,
        uid: u32,
    ) -> Result<Option<File>, CallError> {
        let request = SessionRequest::OpenNamed {
            mailbox,
            uid_validity,
            uid,
        };
        let opened = self.open_by(request).await?;
        Ok(opened.into_iter().next().map(|(_, file)| file))
    }

    /// Begins an APPEND.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open_append(&self, mailbox: String, size: u64) -> Result<Upload, CallError> {
        self.begin(mailbox, size).await.map(Upload::Opened)
    }

    async fn begin(&self, mailbox: String, size: u64) -> Result<Opened, CallError> {
        let request = SessionRequest::OpenAppend { mailbox, size };
        let Answered { answer, fds } = self.call(PATIENCE, request).await?;
        let SessionAnswer::AppendOpened(handle) = answer else {
            return Err(nonsense());
        };
        Ok(Opened {
            handle,
            stream: open_stream(single(fds)?)?,
            written: 0,
            broken: false,
        })
    }

    /// Says that a message will have more bytes than was said when it was opened.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn extend(&self, upload: &mut Upload, size: u64) -> Result<(), CallError> {
        match upload {
            Upload::Held { mailbox, bytes } => {
                let (mailbox, bytes) = (std::mem::take(mailbox), std::mem::take(bytes));
                let mut opened = self.begin(mailbox, size).await?;
                opened.write(&bytes).await;
                *upload = Upload::Opened(opened);
                Ok(())
            }
            Upload::Opened(Opened { handle, .. }) => {
                let message = *handle;
                self.order(SessionRequest::ExtendAppend { message, size })
                    .await
            }
        }
    }

    /// Makes an appended message durable and visible; then the message `replaces` of the selected mailbox goes. Returns UIDVALIDITY
    /// and UID.
    ///
    /// # Errors
    /// [`Refusal::NotFound`](ipc::Refusal::NotFound) if that is not there, otherwise a [`CallError`].
    pub async fn commit(
        &self,
        upload: Upload,
        wish: Wish,
        replaces: Option<u32>,
    ) -> Result<(u32, u32), CallError> {
        let Wish {
            flags,
            keywords,
            internal_date,
        } = wish;
        let request = match upload {
            Upload::Held { mailbox, bytes }
                if replaces.is_none() && append_fits_in_frame(&mailbox, &keywords, bytes.len()) =>
            {
                SessionRequest::Append {
                    mailbox,
                    bytes,
                    flags,
                    keywords,
                    internal_date,
                }
            }
            upload => {
                let ended = self.end(upload).await?;
                SessionRequest::CommitAppend {
                    message: ended.handle,
                    size: ended.written,
                    flags,
                    keywords,
                    internal_date,
                    replaces,
                }
            }
        };
        match self.call(LONG_PATIENCE, request).await?.answer {
            SessionAnswer::Appended { uid_validity, uid } => Ok((uid_validity, uid)),
            _ => Err(nonsense()),
        }
    }

    /// Has a message wait for others that are appended in the same moment.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn keep(&self, upload: Upload, wish: Wish) -> Result<(), CallError> {
        let ended = self.end(upload).await?;
        let request = SessionRequest::KeepAppend {
            message: ended.handle,
            size: ended.written,
            flags: wish.flags,
            keywords: wish.keywords,
            internal_date: wish.internal_date,
        };
        match self.call(LONG_PATIENCE, request).await?.answer {
            SessionAnswer::Done => Ok(()),
            _ => Err(nonsense()),
        }
    }

    /// Makes the messages that wait durable and visible, all or none. Returns UIDVALIDITY and UIDs.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn commit_kept(&self) -> Result<(u32, UidRanges), CallError> {
        let request = SessionRequest::CommitKept;
        match self.call(LONG_PATIENCE, request).await?.answer {
            SessionAnswer::KeptAppended { uid_validity, uids } => Ok((uid_validity, uids)),
            _ => Err(nonsense()),
        }
    }

    /// Forgets the messages that wait.
    pub async fn forget_kept(&self) {
        if let Err(error) = self.order(SessionRequest::ForgetKept).await {
            warn!(%error, "messages that wait for others were not forgotten; they go with the session");
        }
    }

    /// Ends the stream of a message, of which all bytes are there.
    async fn end(&self, upload: Upload) -> Result<Opened, CallError> {
        let mut opened = match upload {
            Upload::Opened(opened) => opened,
            Upload::Held { mailbox, bytes } => {
                let mut opened = self.begin(mailbox, bytes.len() as u64).await?;
                opened.write(&bytes).await;
                opened
            }
        };
        if opened.stream.shutdown().await.is_err() || opened.broken {
            self.abort(Upload::Opened(opened)).await;
            return Err(CallError::Unavailable);
        }
        Ok(opened)
    }

    /// Forgets an appended message.
    pub async fn abort(&self, upload: Upload) {
        let Upload::Opened(Opened {
            handle: message, ..
        }) = upload
        else {
            return;
        };
        drop(upload);
        if let Err(error) = self.order(SessionRequest::AbortAppend { message }).await {
            warn!(%error, "an unwanted message was not aborted; it will time out");
        }
    }
}

impl Upload {
    /// Carries a piece over; waits while deliverd is busy. A failure shows at the commit.
    pub async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Held { bytes: held, .. } => held.extend_from_slice(bytes),
            Self::Opened(opened) => opened.write(bytes).await,
        }
    }
}

impl Opened {
    async fn write(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        match timeout(WRITE_PATIENCE, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => self.written += bytes.len() as u64,
            Ok(Err(error)) => {
                warn!(%error, written = self.written, "the stream of a message broke");
                self.broken = true;
            }
            Err(_) => {
                warn!(written = self.written, "deliverd does not take a message");
                self.broken = true;
            }
        }
    }
}
