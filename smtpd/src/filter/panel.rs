//! All filters of one transaction, in order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::config::{Filter, OnFailure, TRACE_SIZE};
use ipc::Context;
use milter::message::Message;
use milter::reply::{Change, Verdict};
use milter::{Client, Event};
use smtp::command::{BodyType, Mail};
use smtp::reply::Reply;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::talk::{Talk, Trouble};
use super::{Filters, Full, Held, words};
use crate::ask::Ask;

/// How long all filters together may take over one command, or over the text. RFC 5321 §4.5.3.2.6 lets clients wait ten
/// minutes for the reply to the text, and it has to be made durable in that time, too.
const LONGEST: Duration = Duration::from_mins(3);

/// Who brings a message, as filters are told.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Its address.
    pub(crate) address: IpAddr,
    /// What it called itself.
    pub(crate) hello: String,
    /// Protocol version and cipher suite.
    pub(crate) tls: Option<String>,
    /// Who logged in.
    pub(crate) account: Option<String>,
}

/// The filters that judge one transaction.
#[derive(Debug)]
pub(crate) struct Panel {
    filters: Arc<Filters>,
    seats: Vec<Seat>,
    macros: Vec<(&'static str, String)>,
    /// A filter wants the message taken and thrown away.
    discarded: bool,
}

#[derive(Debug)]
struct Seat {
    filter: Arc<Filter>,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    /// It judges.
    Open(Box<Talk>),
    /// It wants to hear no more, or is not to.
    Left,
    /// It does not work.
    Broken,
}

/// What became of a text.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is to be taken like this.
    Taken {
        /// The header with its empty line.
        header: Vec<u8>,
        /// The body.
        body: Vec<u8>,
        /// Changes to the envelope, in order.
        envelope: Vec<Change>,
    },
    /// It is to be taken and thrown away.
    Discarded,
}

impl Panel {
    /// Tells all filters of the client and its sender; `None` where there are none.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(crate) async fn begin(
        filters: &Arc<Filters>,
        ask: &Ask,
        context: Context,
        visitor: &Visitor,
        mail: &Mail,
    ) -> Result<Option<Self>, Reply> {
        if filters.list.is_empty() {
            return Ok(None);
        }
        let deadline = Instant::now() + LONGEST;
        let mut panel = Self {
            filters: Arc::clone(filters),
            seats: Vec::new(),
            macros: macros(filters, visitor, mail),
            discarded: false,
        };
        for filter in &filters.list {
            let begun = Talk::begin(ask, context, filter, &filters.means, deadline).await;
            let mut seat = Seat {
                filter: Arc::clone(filter),
                standing: Standing::Left,
            };
            match begun {
                Ok(talk) => seat.standing = Standing::Open(Box::new(talk)),
                Err(trouble) => seat.fail(&trouble),
            }
            panel.seats.push(seat);
        }
        let client = Client {
            name: format!("[{}]", visitor.address),
            address: visitor.address,
        };
        let parameters = parameters(mail);
        let sender = mail.sender.to_string();
        for event in [
            Event::Connect(&client),
            Event::Helo(&visitor.hello),
            Event::Mail(&sender, &parameters),
        ] {
            panel.tell(event, deadline).await?;
        }
        Ok(Some(panel))
    }

    /// Tells all of a recipient that was granted.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(crate) async fn recipient(&mut self, path: &str) -> Result<(), Reply> {
        self.define("{rcpt_addr}", path.to_owned());
        self.tell(Event::Rcpt(path, &[]), Instant::now() + LONGEST)
            .await
    }

    /// Tells all that the text is to come, and that the message is known by this id; `None` when none of them wants to see
    /// the text.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(crate) async fn data(&mut self, id: String) -> Result<Option<Held>, Reply> {
        self.define("i", id);
        self.tell(Event::Data, Instant::now() + LONGEST).await?;
        let open = self.seats.iter().filter(|seat| seat.is_open());
        let limits = open.map(|seat| seat.filter.max_message_size.value());
        let limit = limits.max().or_else(|| self.discarded.then_some(0));
        // Our own trace is held, too, and not shown to anybody: who is too large is known for sure when all is there.
        let limit = limit.map(|limit| limit.saturating_add(TRACE_SIZE));
        Ok(limit.map(|limit| Held::new(&self.filters.means, limit)))
    }

    /// What becomes of a message that cannot be held: where it is let pass by all filters, `None`.
    pub(crate) fn overflow(&self, full: Full) -> Option<Reply> {
        let open = self.seats.iter().filter(|seat| seat.is_open());
        let is_strict = |seat: &Seat| seat.filter.on_failure != OnFailure::Accept;
        match full {
            // It has more than each of them wants to see.
            Full::Message => open.into_iter().find_map(Seat::oversize),
            // However strict they are: that is no fault of the message.
            Full::Memory if open.into_iter().any(is_strict) => {
                warn!("no memory to hold a message for filters: raise smtp.filter_memory");
                words::failure(OnFailure::TempFail)
            }
            Full::Memory => {
                warn!(
                    "no memory to hold a message for filters, it passes by: raise smtp.filter_memory"
                );
                None
            }
        }
    }

    /// Whether the message is to be thrown away.
    pub(crate) const fn discards(&self) -> bool {
        self.discarded
    }

    /// Shows the text to all, each with the changes of those before it.
    ///
    /// # Errors
    /// What the client is to be told.
    pub(crate) async fn judge(mut self, text: Vec<u8>) -> Result<Outcome, Reply> {
        let deadline = Instant::now() + LONGEST;
        let mut message = Message::parse(text);
        let mut envelope = Vec::new();
        for seat in &mut self.seats {
            if self.discarded {
                break;
            }
            let Some(verdict) = seat.show(&message, &self.macros, deadline).await else {
                continue;
            };
            self.discarded |= seat.take(&verdict?)?;
            if let Standing::Open(talk) = &mut seat.standing {
                let changes = talk.take_changes();
                if !changes.is_empty() {
                    debug!(
                        filter = seat.filter.name,
                        changes = changes.len(),
                        "changes a message"
                    );
                }
                message.change(&changes, talk.keeps_leading_space());
                envelope.extend(changes.into_iter().filter(is_of_envelope));
            }
        }
        if self.discarded {
            return Ok(Outcome::Discarded);
        }
        let (header, body) = message.into_parts();
        Ok(Outcome::Taken {
            header,
            body,
            envelope,
        })
    }

    // To each in turn; the first that refuses decides.
    async fn tell(&mut self, event: Event<'_>, deadline: Instant) -> Result<(), Reply> {
        for seat in &mut self.seats {
            if self.discarded {
                return Ok(());
            }
            let verdict = seat.tell(event, &self.macros, deadline).await?;
            self.discarded |= seat.take(&verdict)?;
            if matches!(verdict, Verdict::Accept) {
                seat.standing = Standing::Left;
            }
        }
        Ok(())
    }

    fn define(&mut self, name: &'static str, value: String) {
        self.macros.retain(|(other, _)| *other != name);
        self.macros.push((name, value));
    }
}

impl Seat {
    const fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Open(_))
    }

    fn fail(&mut self, trouble: &Trouble) {
        let policy = self.filter.on_failure;
        warn!(filter = self.filter.name, %trouble, ?policy, "a filter does not work");
        self.standing = Standing::Broken;
    }

    /// What is said of a message that is too large for it; `None` where that passes by.
    fn oversize(&self) -> Option<Reply> {
        let Filter {
            name,
            oversize,
            max_message_size,
            ..
        } = &*self.filter;
        let limit = max_message_size.value();
        info!(
            filter = name,
            max_message_size = limit,
            ?oversize,
            "a message is larger than the filter is shown"
        );
        words::oversize(*oversize, limit)
    }

    /// What is said while it does not work; passing it by is to say [`Verdict::Continue`].
    fn excuse(&self) -> Result<Verdict, Reply> {
        words::failure(self.filter.on_failure).map_or(Ok(Verdict::Continue), Err)
    }

    async fn tell(
        &mut self,
        event: Event<'_>,
        macros: &[(&'static str, String)],
        deadline: Instant,
    ) -> Result<Verdict, Reply> {
        let told = match &mut self.standing {
            Standing::Open(talk) => talk.tell(event, macros, deadline).await,
            Standing::Left => return Ok(Verdict::Continue),
            Standing::Broken => return self.excuse(),
        };
        match told {
            Ok(verdict) => Ok(verdict),
            Err(trouble) => {
                self.fail(&trouble);
                self.excuse()
            }
        }
    }

    /// The whole text; `None` when it does not judge it.
    async fn show(
        &mut self,
        message: &Message,
        macros: &[(&'static str, String)],
        deadline: Instant,
    ) -> Option<Result<Verdict, Reply>> {
        match self.standing {
            Standing::Open(_) => {}
            Standing::Left => return None,
            Standing::Broken => return Some(self.excuse()),
        }
        if message.size() as u64 > self.filter.max_message_size.value() {
            self.standing = Standing::Left;
            return self.oversize().map(Err);
        }
        for (name, value) in message.fields() {
            match self
                .tell(Event::Header(&name, &value), macros, deadline)
                .await
            {
                Ok(Verdict::Continue) => {}
                decided => return Some(decided),
            }
        }
        let pieces = message.body().chunks(Event::PIECE).map(Event::Body);
        let events = [Event::EndOfHeader].into_iter().chain(pieces);
        for event in events.chain([Event::End]) {
            match self.tell(event, macros, deadline).await {
                Ok(Verdict::Continue) => {}
                decided => return Some(decided),
            }
        }
        Some(Ok(Verdict::Continue))
    }

    /// Whether the message is to be thrown away.
    fn take(&self, verdict: &Verdict) -> Result<bool, Reply> {
        if let Some(reply) = words::refusal(verdict) {
            info!(filter = self.filter.name, %reply, "refused by a filter");
            return Err(reply);
        }
        let discards = *verdict == Verdict::Discard;
        if discards {
            info!(
                filter = self.filter.name,
                "a filter wants a message thrown away"
            );
        }
        Ok(discards)
    }
}

const fn is_of_envelope(change: &Change) -> bool {
    match change {
        Change::Sender(_) | Change::AddRecipient(_) | Change::DeleteRecipient(_) => true,
        Change::AddHeader(_)
        | Change::InsertHeader(..)
        | Change::ChangeHeader(..)
        | Change::Body(_) => false,
    }
}

/// What filters know from the beginning, under the names Sendmail gave it.
fn macros(filters: &Filters, visitor: &Visitor, mail: &Mail) -> Vec<(&'static str, String)> {
    let mut macros = vec![
        ("j", filters.hostname.clone()),
        ("v", concat!("rmail ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("{daemon_name}", filters.listener.to_owned()),
        ("{client_addr}", visitor.address.to_string()),
        ("{mail_addr}", mail.sender.to_string()),
    ];
    if let Some((version, cipher)) = visitor.tls.as_ref().and_then(|tls| tls.split_once(' ')) {
        macros.push(("{tls_version}", version.to_owned()));
        macros.push(("{cipher}", cipher.to_owned()));
    }
    if let Some(account) = &visitor.account {
        // Filters look whether there was a login, not how.
        macros.push(("{auth_type}", "AUTH".to_owned()));
        macros.push(("{auth_authen}", account.clone()));
    }
    macros
}

/// What MAIL said beside the sender.
fn parameters(mail: &Mail) -> Vec<String> {
    let size = mail.size.map(|size| format!("SIZE={size}"));
    let body = match mail.body {
        BodyType::SevenBit => None,
        BodyType::EightBit => Some("BODY=8BITMIME".to_owned()),
        BodyType::Binary => Some("BODY=BINARYMIME".to_owned()),
    };
    let utf8 = mail.smtputf8.then(|| "SMTPUTF8".to_owned());
    [size, body, utf8].into_iter().flatten().collect()
}
