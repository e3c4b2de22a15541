//! A queued message as its journal tells it: who is still waiting, who has it, who will never have it.

use mail::address::{Address, Domain, ReversePath};

use smtp::deliver_by::Late;
use smtp::parameter::{MailParameters, RcptParameters};

use crate::detour::Detour;
use crate::tls::Wish;
use crate::turns::Rank;

use super::journal::{
    Attempted, Fate, Header, Outcome, PARTICULAR_VERSION, Particular, Record, Standing, VERSION,
};

/// The state of a message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message as it came.
    pub header: Header,
    /// Who is told when it fails.
    pub reverse_path: ReversePath,
    /// What its sender wants.
    pub parameters: MailParameters,
    /// In the order of [`Header::recipients`].
    pub recipients: Vec<Recipient>,
    /// Why it is held, if it is: nothing is due then.
    pub hold: Option<String>,
    /// It is held since it came, and only for a time.
    pub in_quarantine: bool,
    /// Under which it goes to other servers.
    pub onward: ReversePath,
    /// Where it goes instead of to its recipients' domains.
    pub route: Option<Detour>,
}

/// One recipient.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The address.
    pub address: Address,
    /// What the sender wants for it.
    pub parameters: RcptParameters,
    /// What was to be done when the message came.
    pub standing: Standing,
    /// Where it stands.
    pub state: State,
    /// Attempts so far.
    pub attempts: u32,
    /// What the last attempt brought.
    pub last: Option<Outcome>,
    /// The sender was told that it has to wait.
    pub warned: bool,
}

/// Where a recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Due at this Unix second.
    Waiting(i64),
    /// Done, and there is nothing to tell.
    Delivered,
    /// Done, and the sender is to be told.
    Succeeded,
    /// Given up, and the sender is to be told.
    Failed,
    /// Over, and the sender was told, or does not want to be.
    Reported,
}

impl Message {
    /// Builds the state from a journal's records; `None` when they do not begin with a message that makes sense.
    #[must_use]
    pub fn replay(records: &[Record]) -> Option<Self> {
        let (Record::Message(header), rest) = records.split_first()? else {
            return None;
        };
        let is_known = matches!(header.version, VERSION | PARTICULAR_VERSION);
        if !is_known || header.recipients.is_empty() {
            return None;
        }
        let parameters = MailParameters::parse(&header.parameters).ok()?;
        let release = release(&parameters, header.queued);
        let quarantine = header.quarantine.as_ref();
        let onward = quarantine.and_then(|quarantine| quarantine.onward.as_ref());
        let onward = onward.unwrap_or(&header.reverse_path);
        let recipient = |text: &String| {
            Address::parse(text).ok().map(|address| Recipient {
                address,
                parameters: RcptParameters::default(),
                standing: Standing::Waiting,
                state: State::Waiting(release),
                attempts: 0,
                last: None,
                warned: false,
            })
        };
        let mut message = Self {
            header: Header::clone(header),
            reverse_path: ReversePath::parse(&header.reverse_path).ok()?,
            parameters,
            recipients: header
                .recipients
                .iter()
                .map(recipient)
                .collect::<Option<_>>()?,
            hold: header.hold.clone(),
            in_quarantine: quarantine.is_some() && header.hold.is_some(),
            onward: ReversePath::parse(onward).ok()?,
            route: None,
        };
        for particular in &header.particulars {
            message.specify(particular)?;
        }
        rest.iter().for_each(|record| message.apply(record));
        Some(message)
    }

    /// What its sender wants of TLS. REQUIRETLS goes before the header (RFC 8689 §4.1).
    #[must_use]
    pub const fn tls_wish(&self) -> Wish {
        match (self.parameters.require_tls, self.header.tls_waived) {
            (true, _) => Wish::Required,
            (false, true) => Wish::Waived,
            (false, false) => Wish::AsDemanded,
        }
    }

    fn specify(&mut self, particular: &Particular) -> Option<()> {
        let place = usize::try_from(particular.recipient).ok()?;
        let recipient = self.recipients.get_mut(place)?;
        recipient.parameters = RcptParameters::parse(&particular.parameters).ok()?;
        recipient.standing = particular.standing;
        match particular.standing {
            Standing::Waiting | Standing::Here => {}
            Standing::Delivered | Standing::Expanded => recipient.state = State::Succeeded,
        }
        Some(())
    }

    /// Takes one more record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Message(_) => {}
            Record::Attempted(attempted) => self.apply_attempt(attempted),
            // Who holds it wants it to stay.
            Record::Held(reason) => {
                self.hold = Some(reason.clone());
                self.in_quarantine = false;
            }
            Record::Released => {
                self.hold = None;
                self.in_quarantine = false;
            }
            // What cannot be understood goes its usual way.
            Record::Rerouted(server) => self.route = server.as_deref().and_then(Detour::parse),
            Record::Reported(recipients) => {
                for index in recipients {
                    if let Some(recipient) = self.recipients.get_mut(*index as usize) {
                        recipient.state = State::Reported;
                    }
                }
            }
            Record::Warned(recipients) => {
                for index in recipients {
                    if let Some(recipient) = self.recipients.get_mut(*index as usize) {
                        recipient.warned = true;
                    }
                }
            }
        }
    }

    fn apply_attempt(&mut self, attempted: &Attempted) {
        for outcome in &attempted.results {
            if let Some(recipient) = self.recipients.get_mut(outcome.recipient as usize) {
                recipient.attempts += 1;
                recipient.state = match outcome.fate {
                    Fate::Delivered => State::Delivered,
                    Fate::Relayed => State::Succeeded,
                    Fate::Deferred { next } => State::Waiting(next),
                    Fate::Failed if recipient.parameters.notify().failure => State::Failed,
                    Fate::Failed => State::Reported,
                };
                recipient.last = Some(outcome.clone());
            }
        }
    }

    /// Which of the mail that is due goes first.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.header.rank(&self.parameters)
    }

    /// Recipients that wait, with their places.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, &Recipient)> {
        let waiting =
            |(_, recipient): &(usize, &Recipient)| matches!(recipient.state, State::Waiting(_));
        self.recipients.iter().enumerate().filter(waiting)
    }

    /// Recipients the sender is still to be told about, with their places.
    pub fn unreported(&self) -> impl Iterator<Item = (usize, &Recipient)> {
        self.recipients
            .iter()
            .enumerate()
            .filter(|(_, recipient)| matches!(recipient.state, State::Failed | State::Succeeded))
    }

    /// Recipients of whom the sender wants to be told when they have to wait, and was not told yet.
    pub fn unwarned(&self) -> impl Iterator<Item = (usize, &Recipient)> {
        let is_sent = self.reverse_path != ReversePath::Null;
        // Of what came into quarantine its sender, who may be anybody, hears nothing as long as it is held.
        let is_secret = self.header.quarantine.is_some() && self.hold.is_some();
        self.waiting().filter(move |(_, recipient)| {
            is_sent && !is_secret && !recipient.warned && recipient.parameters.notify().delay
        })
    }

    /// When the sender is to be told that the message has to wait, who is told `after` so many seconds, if ever, and when it
    /// is late.
    #[must_use]
    pub fn warning_due(&self, after: Option<i64>) -> Option<i64> {
        let due = after.zip(self.released_unwarned());
        let due = due.map(|(after, released)| released.saturating_add(after));
        due.into_iter().chain(self.late_at()).min()
    }

    /// When the message was released, if its sender is to be told when it has to wait, and has not been.
    #[must_use]
    pub fn released_unwarned(&self) -> Option<i64> {
        let released = release(&self.parameters, self.header.queued);
        self.unwarned().next().map(|_| released)
    }

    /// When a message is late of which the sender then wants to be told (RFC 2852), and has not been.
    #[must_use]
    pub fn late_at(&self) -> Option<i64> {
        let by = self.parameters.by.filter(|by| by.late == Late::Notify)?;
        self.unwarned()
            .next()
            .map(|_| by.deadline(self.header.queued))
    }

    /// When a message that is late comes back (RFC 2852).
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        let by = self.parameters.by.filter(|by| by.late == Late::Return)?;
        Some(by.deadline(self.header.queued))
    }

    /// What a server hears `now` of what the sender wants; `None` when the message is too late to go on.
    #[must_use]
    pub fn parameters_at(&self, now: i64) -> Option<MailParameters> {
        let elapsed = now.saturating_sub(self.header.queued);
        let mut parameters = self.parameters.clone();
        if let Some(by) = parameters.by {
            parameters.by = Some(by.after(elapsed)?);
        }
        Some(parameters)
    }

    /// When the first waiting recipient is due; of what is held, none ever is.
    #[must_use]
    pub fn next_due(&self) -> Option<i64> {
        if self.hold.is_some() {
            return Some(i64::MAX);
        }
        let due = |(_, recipient): (usize, &Recipient)| match recipient.state {
            State::Waiting(next) => Some(next),
            State::Delivered | State::Succeeded | State::Failed | State::Reported => None,
        };
        self.waiting().filter_map(due).min()
    }

    /// Those who are due at `now`; if the operator is `hurried` all who wait, but none before the message is released, and none
    /// while it is held.
    fn due(&self, now: i64, hurried: bool) -> impl Iterator<Item = &Recipient> {
        // What nobody holds back may go even if it came by a clock that was ahead.
        let hold = self.parameters.hold;
        let released = hold.is_none_or(|hold| hold.release(self.header.queued) <= now);
        self.waiting()
            .map(|(_, recipient)| recipient)
            .filter(move |recipient| {
                let due = matches!(recipient.state, State::Waiting(next) if next <= now);
                released && self.hold.is_none() && (due || hurried)
            })
    }

    /// Whether a user here is due.
    #[must_use]
    pub fn is_due_here(&self, now: i64, hurried: bool) -> bool {
        self.due(now, hurried)
            .any(|recipient| recipient.standing == Standing::Here)
    }

    /// The domains of recipients elsewhere that are due, each once.
    #[must_use]
    pub fn due_domains(&self, now: i64, hurried: bool) -> Vec<Domain> {
        let mut domains: Vec<Domain> = Vec::new();
        for recipient in self.due(now, hurried) {
            let domain = recipient.address.domain();
            if recipient.standing != Standing::Here && !domains.contains(domain) {
                domains.push(domain.clone());
            }
        }
        domains
    }
}

/// When a message with these parameters that came then may go anywhere, Unix seconds.
pub(crate) fn release(parameters: &MailParameters, queued: i64) -> i64 {
    parameters.hold.map_or(queued, |hold| hold.release(queued))
}
