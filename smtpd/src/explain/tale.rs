//! What the operator is told, piece by piece.

use std::io;
use std::sync::Arc;

use ipc::explain::{Decision, Fact, Outcome, Stage, Told};
use ipc::frame;
use smtp::reply::Reply;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

use super::keys;
use super::notes::{Notes, shown};

/// A reply as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// 0 if the connection ended without one.
    pub(super) code: u16,
    /// Lines end with `\n`, but for the last one.
    pub(super) text: String,
}

impl Heard {
    /// The connection ends without a reply.
    pub(super) fn nothing(text: &str) -> Self {
        let (code, text) = (0, text.to_owned());
        Self { code, text }
    }

    /// What a client is told that is sent away.
    pub(super) fn of(reply: &Reply) -> Self {
        let bytes = reply.to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(|line| line.get(4..).unwrap_or_default());
        Self {
            code: reply.code(),
            text: lines.collect::<Vec<_>>().join("\n"),
        }
    }

    pub(super) const fn is_good(&self) -> bool {
        matches!(self.code, 200..400)
    }
}

/// The way to the operator.
#[derive(Debug)]
pub(super) struct Tale {
    sink: OwnedWriteHalf,
    /// What the desk notes.
    pub(super) notes: Arc<Notes>,
    /// What is found out about the sender, beside the session.
    pub(super) judged: Arc<Notes>,
}

impl Tale {
    pub(super) fn new(sink: OwnedWriteHalf, asks_filters: bool) -> Self {
        let (notes, judged) = (Arc::new(Notes::new(asks_filters)), Arc::default());
        Self {
            sink,
            notes,
            judged,
        }
    }

    /// A decision with what it rests on.
    pub(super) async fn decide(
        &mut self,
        stage: Stage,
        said: &str,
        heard: &Heard,
        recipient: Option<String>,
    ) -> io::Result<()> {
        self.tell(&Told::Decision(Decision {
            stage,
            said: shown(said),
            code: heard.code,
            reply: shown(&heard.text),
            recipient,
        }))
        .await?;
        let mut facts = self.notes.take_facts();
        if stage == Stage::Message {
            facts.extend(self.judged.take_facts());
        }
        let is_bad = !heard.is_good();
        if let Some(key) = keys::of(said, &heard.text).filter(|_| is_bad) {
            facts.push(Fact {
                text: "decided by".to_owned(),
                key: key.to_owned(),
            });
        }
        for fact in facts {
            self.tell(&Told::Fact(fact)).await?;
        }
        Ok(())
    }

    /// What becomes of a recipient's mail.
    pub(super) async fn end_with(
        &mut self,
        recipient: &str,
        code: u16,
        text: &str,
    ) -> io::Result<()> {
        self.tell(&Told::Outcome(Outcome {
            recipient: shown(recipient),
            code,
            text: shown(text),
        }))
        .await
    }

    /// That was all.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.tell(&Told::End).await?;
        self.sink.shutdown().await
    }

    async fn tell(&mut self, told: &Told) -> io::Result<()> {
        let bytes = frame::encode(told).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.sink.write_all(&length.to_le_bytes()).await?;
        self.sink.write_all(&bytes).await
    }
}
