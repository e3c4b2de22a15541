//! One message on its way out: which commands are unanswered, and what became of each recipient.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use mail::address::Address;

use super::{Envelope, Extensions, Outcome, Verdict};
use crate::data::Sender;
use crate::deliver_by::Late;
use crate::parameter::{MailParameters, RcptParameters};
use crate::reply::Reply;

// RFC 2920 §3.1: a group must not fill both windows while nobody reads; 50 × 900 octets do not.
const GROUP: usize = 50;

/// A command that was sent and not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    End,
}

/// What the machine does next for the transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More replies are due.
    Wait,
    /// Send these commands.
    Send(Vec<u8>),
    /// Send `DATA`.
    SendData,
    /// Ask the driver for the body.
    WantBody,
    /// All verdicts are in; `unclean` when the server still holds the envelope.
    Finish {
        /// `RSET` is due before the next message.
        unclean: bool,
    },
    /// All verdicts are in and the connection is of no use any more.
    FinishAndClose,
}

#[derive(Debug)]
struct Recipient {
    address: Address,
    parameters: RcptParameters,
    accepted: bool,
    verdict: Option<Verdict>,
}

#[derive(Debug)]
pub(super) struct Transaction {
    recipients: Vec<Recipient>,
    /// How many recipients were named to the server, or need not be.
    named: usize,
    /// The server knows the parameters of DSN.
    dsn: bool,
    sent: VecDeque<Sent>,
    body: Option<Sender>,
}

impl Transaction {
    /// Begins with `MAIL`, and `RSET` before it if the server holds an old envelope.
    pub(super) fn begin(envelope: Envelope, extensions: &Extensions, reset: bool) -> (Self, Step) {
        let mail = mail_command(&envelope, extensions);
        let parameters = envelope.recipient_parameters.into_iter();
        let parameters = parameters.chain(core::iter::repeat_with(RcptParameters::default));
        let mut transaction = Self {
            recipients: envelope
                .recipients
                .into_iter()
                .zip(parameters)
                .map(|(address, parameters)| Recipient::new(address, parameters))
                .collect(),
            named: 0,
            dsn: extensions.dsn,
            sent: VecDeque::new(),
            body: None,
        };
        match &mail {
            Err(verdict) => transaction.fail(verdict),
            Ok(_) if !extensions.smtputf8 => transaction.drop_non_ascii(),
            Ok(_) => {}
        }
        let step = match mail {
            Ok(mail) if transaction.has_open_recipients() => {
                let mut commands = String::new();
                if reset {
                    commands.push_str("RSET\r\n");
                    transaction.sent.push_back(Sent::Rset);
                }
                commands.push_str(&mail);
                transaction.sent.push_back(Sent::Mail);
                // RFC 2920 §3.1: MAIL and RCPT may be sent as one group, RSET too.
                if extensions.pipelining {
                    transaction.name_recipients(&mut commands, GROUP);
                }
                Step::Send(commands.into_bytes())
            }
            // Nothing was sent, so an old envelope still waits for its RSET.
            _ => Step::Finish { unclean: reset },
        };
        (transaction, step)
    }

    // A peer without SMTPUTF8 can still have the message for everybody else.
    fn drop_non_ascii(&mut self) {
        for recipient in &mut self.recipients {
            if !recipient.address.is_ascii() {
                recipient.verdict = Some(Verdict::local_no_smtputf8());
            }
        }
    }

    fn has_open_recipients(&self) -> bool {
        self.recipients.iter().any(|r| r.verdict.is_none())
    }

    // Appends RCPT for up to `count` more recipients.
    fn name_recipients(&mut self, commands: &mut String, count: usize) {
        let open = self.recipients.iter().enumerate().skip(self.named);
        let group = open.filter(|(_, r)| r.verdict.is_none()).take(count);
        for (n, recipient) in group {
            // Invariant: writing to a String cannot fail.
            let _ = write!(commands, "RCPT TO:<{}>", recipient.address);
            if self.dsn && !recipient.parameters.is_empty() {
                let _ = write!(commands, " {}", recipient.parameters);
            }
            commands.push_str("\r\n");
            self.sent.push_back(Sent::Rcpt(n));
            self.named = n + 1;
        }
    }

    /// Takes the reply to the oldest unanswered command.
    pub(super) fn hear(&mut self, reply: &Reply, extensions: &Extensions) -> Step {
        let Some(sent) = self.sent.pop_front() else {
            return self.hear_early(reply);
        };
        match sent {
            // The reply to RSET carries no news: MAIL tells whether it worked.
            Sent::Rset => {}
            Sent::Mail if reply.code() / 100 == 2 => {}
            Sent::Mail => self.fail(&Verdict::of(reply)),
            Sent::Rcpt(n) => self.hear_recipient(n, reply),
            Sent::Data if reply.code() == 354 => {
                self.body = Some(Sender::new());
                return Step::WantBody;
            }
            // A 2xx to DATA is nonsense; nothing was handed over.
            Sent::Data => {
                self.fail(&unless_delivered(reply));
                return Step::Finish { unclean: true };
            }
            Sent::End => {
                self.fail(&Verdict::of(reply));
                return Step::Finish { unclean: false };
            }
        }
        if self.sent.is_empty() {
            self.go_on(extensions)
        } else {
            Step::Wait
        }
    }

    fn hear_recipient(&mut self, n: usize, reply: &Reply) {
        let Some(recipient) = self.recipients.get_mut(n) else {
            return;
        };
        // After a refused MAIL the recipient has its verdict already; its 503 tells nothing.
        if recipient.verdict.is_some() {
            return;
        }
        if reply.is_positive() {
            recipient.accepted = true;
        } else {
            recipient.verdict = Some(Verdict::of_recipient(reply));
        }
    }

    // All commands are answered: name more recipients, or send DATA, or stop.
    fn go_on(&mut self, extensions: &Extensions) -> Step {
        let mut commands = String::new();
        let count = if extensions.pipelining { GROUP } else { 1 };
        self.name_recipients(&mut commands, count);
        if !commands.is_empty() {
            return Step::Send(commands.into_bytes());
        }
        if self
            .recipients
            .iter()
            .any(|r| r.accepted && r.verdict.is_none())
        {
            self.sent.push_back(Sent::Data);
            return Step::SendData;
        }
        Step::Finish { unclean: true }
    }

    // A server that answers before the end of data has not taken the message, and the rest of the
    // body would be read as commands.
    fn hear_early(&mut self, reply: &Reply) -> Step {
        self.fail(&unless_delivered(reply));
        Step::FinishAndClose
    }

    /// The next piece of the body as it goes over the wire; empty when none was asked for.
    pub(super) fn stuff(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(chunk.len() + chunk.len() / 32);
        if let Some(body) = &mut self.body {
            body.feed(chunk, &mut bytes);
        }
        bytes
    }

    /// The end of data as it goes over the wire; empty when no body was asked for.
    pub(super) fn stuff_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(mut body) = self.body.take() {
            body.finish(&mut bytes);
            self.sent.push_back(Sent::End);
        }
        bytes
    }

    /// Gives this verdict to all recipients that have none.
    pub(super) fn fail(&mut self, verdict: &Verdict) {
        for recipient in &mut self.recipients {
            recipient.verdict.get_or_insert_with(|| verdict.clone());
        }
    }

    /// Each recipient with its verdict.
    pub(super) fn results(self) -> Vec<(Address, Verdict)> {
        let results = self.recipients.into_iter().map(|recipient| {
            let verdict = recipient.verdict.unwrap_or_else(Verdict::local_lost);
            (recipient.address, verdict)
        });
        results.collect()
    }
}

impl Recipient {
    fn new(address: Address, parameters: RcptParameters) -> Self {
        Self {
            address,
            parameters,
            accepted: false,
            verdict: None,
        }
    }
}

// The meaning of a reply where even a 2xx means that the message was not taken.
fn unless_delivered(reply: &Reply) -> Verdict {
    let mut verdict = Verdict::of(reply);
    if verdict.outcome == Outcome::Delivered {
        verdict.outcome = Outcome::Temporary;
    }
    verdict
}

// What this server understands of what the sender wants.
fn known(parameters: &MailParameters, extensions: &Extensions) -> MailParameters {
    let envelope_id = parameters.envelope_id.clone();
    MailParameters {
        ret: parameters.ret.filter(|_| extensions.dsn),
        envelope_id: envelope_id.filter(|_| extensions.dsn),
        require_tls: parameters.require_tls && extensions.require_tls,
        priority: parameters.priority.filter(|_| extensions.priority),
        // We have held it.
        hold: None,
        by: parameters.by.filter(|_| extensions.deliver_by),
    }
}

// MAIL with what this server understands, or why it is useless to try.
fn mail_command(envelope: &Envelope, extensions: &Extensions) -> Result<String, Verdict> {
    if let Some(limit) = extensions.max_size.filter(|limit| envelope.size > *limit) {
        return Err(Verdict::local_too_large(limit));
    }
    if envelope.parameters.require_tls && !extensions.require_tls {
        return Err(Verdict::local_no_require_tls());
    }
    // RFC 2852 §4.1: what may be late must not go where nobody would bring it back.
    if let Some(by) = envelope.parameters.by.filter(|by| by.late == Late::Return) {
        if !extensions.deliver_by {
            return Err(Verdict::local_no_deliver_by());
        }
        if extensions
            .shortest
            .is_some_and(|shortest| by.seconds < shortest)
        {
            return Err(Verdict::local_too_late());
        }
    }
    let needs_utf8 = envelope.smtputf8 || !envelope.sender.is_ascii();
    if needs_utf8 && !extensions.smtputf8 {
        return Err(Verdict::local_no_smtputf8());
    }
    let mut command = alloc::format!("MAIL FROM:<{}>", envelope.sender);
    if extensions.size {
        // Invariant: writing to a String cannot fail.
        let _ = write!(command, " SIZE={}", envelope.size);
    }
    // RFC 6152 §3 (deviation): to a server without 8BITMIME the message goes as it is, since
    // re-coding would break signatures and such servers pass eight bits in practice.
    if envelope.eight_bit && extensions.eight_bit_mime {
        command.push_str(" BODY=8BITMIME");
    }
    // RFC 6531 §3.4: the parameter says that the message or an address needs it.
    let any_utf8 = needs_utf8 || envelope.recipients.iter().any(|r| !r.is_ascii());
    if any_utf8 && extensions.smtputf8 {
        command.push_str(" SMTPUTF8");
    }
    let known = known(&envelope.parameters, extensions);
    if known != MailParameters::default() {
        let _ = write!(command, " {known}");
    }
    command.push_str("\r\n");
    Ok(command)
}
