//! rmailctl → smtpd: what would become of mail, found out by the rules that are in force, without anything becoming of it.
//!
//! ```text
//! Explain ─► ExplanationBegun + one end of a stream socket
//!   … the asker writes the message into it, if there is one, and shuts it down for writing …
//!   … at the same time it reads pieces from it, each a frame behind its length of four octets, up to Told::End …
//! ```
//! Closing the stream ends it.

use crate::edge::{Edge, Silence};
use crate::frame::{Decode, Encode};

/// How many recipients may be asked about at once, so that the longest addresses fit into a frame.
pub const MAX_RECIPIENTS: usize = 32;
/// Octets of a text in a piece, at most.
pub const MAX_TEXT: usize = 2048;

/// Octets of the parameters of a command, at most.
pub const MAX_PARAMETERS: usize = 1024;

/// Mail that might come.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Case {
    /// At which listener, by the name under which its socket is handed over: `smtp`, `submissions`.
    pub listener: String,
    /// IP address of the client.
    pub client: String,
    /// What the client calls itself.
    pub hello: String,
    /// MAIL FROM; empty for the null reverse-path.
    pub sender: String,
    /// RCPT TO, at most [`MAX_RECIPIENTS`].
    pub recipients: Vec<String>,
    /// Parameters of MAIL, in the words of the command, beside those that follow from the message.
    pub mail_parameters: String,
    /// Parameters of each RCPT.
    pub rcpt_parameters: String,
    /// Who logs in, with the right password.
    pub user: Option<String>,
    /// What is known of the message before it comes, if it comes.
    pub message: Option<Announced>,
    /// TLS is there, as if the client had started it.
    pub tls: bool,
    /// Filters are asked, who may learn from it.
    pub filters: bool,
}

/// What a client says of a message before it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Announced {
    /// Octets.
    pub size: u64,
    /// There is an octet above 127 in it.
    pub eight_bit: bool,
    /// There is UTF-8 in its header (RFC 6532).
    pub utf8_header: bool,
    /// It comes as one chunk (RFC 3030), not by DATA.
    pub chunked: bool,
}

/// The operator's question.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ExplainRequest {
    /// What would become of this? Answered `Busy` while enough others are being explained.
    Explain(Case),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ExplainAnswer {
    /// Comes with one descriptor, a connected stream socket.
    ExplanationBegun,
}

/// Where in a session something is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Stage {
    /// The client has connected.
    Connection,
    /// It has said what it calls itself.
    Hello,
    /// It has logged in.
    Login,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA, and the message.
    Message,
}

/// Something was decided.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Decision {
    /// Where.
    pub stage: Stage,
    /// What the client said; empty for a connection.
    pub said: String,
    /// The code of the reply; 0 where the connection ends without one.
    pub code: u16,
    /// The reply, without its code; lines end with `\n`, but for the last one.
    pub reply: String,
    /// The recipient it is about, as an address.
    pub recipient: Option<String>,
}

/// Something that a decision rests on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fact {
    /// What it is.
    pub text: String,
    /// The key of the configuration, or the command of rmailctl, that has it so; empty if none does.
    pub key: String,
}

/// What would become of the mail of a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Outcome {
    /// As given.
    pub recipient: String,
    /// The code of the last reply about it; 0 if it is not replied to.
    pub code: u16,
    /// In words.
    pub text: String,
}

/// A piece of what is found.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Told {
    /// In the order in which a session meets them.
    Decision(Decision),
    /// About the decision before it.
    Fact(Fact),
    /// Once for each recipient, after all decisions.
    Outcome(Outcome),
    /// That was all.
    End,
}

/// rmailctl asks smtpd.
#[derive(Debug)]
pub struct ExplainEdge;

impl Edge for ExplainEdge {
    type Request = ExplainRequest;
    type Answer = ExplainAnswer;
    type Event = Silence;
    const NAME: &'static str = "rmailctl-smtpd";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Context, frame};

    #[test]
    fn the_longest_case_and_the_longest_pieces_fit_into_a_frame() {
        let long = || "x".repeat(320);
        let call = Call {
            id: u64::MAX,
            deadline_ms: u32::MAX,
            context: Context::default(),
            request: ExplainRequest::Explain(Case {
                listener: long(),
                client: long(),
                hello: long(),
                sender: long(),
                recipients: vec![long(); MAX_RECIPIENTS],
                mail_parameters: "x".repeat(MAX_PARAMETERS),
                rcpt_parameters: "x".repeat(MAX_PARAMETERS),
                user: Some(long()),
                message: None,
                tls: true,
                filters: true,
            }),
        };
        assert!(frame::encode(&call).is_ok());
        let text = || "x".repeat(MAX_TEXT);
        let decision = Told::Decision(Decision {
            stage: Stage::Message,
            said: text(),
            code: 250,
            reply: text(),
            recipient: Some(text()),
        });
        assert!(frame::encode(&decision).is_ok());
    }
}
