//! Every reply the server makes by itself; each tells the client what to do.

use alloc::format;

use mail::address::{Domain, ForwardPath};

use super::header::HeaderFault;
use crate::command::CommandError;
use crate::data::DataFault;
use crate::hold::HoldLimit;
use crate::line::LineError;
use crate::reply::Reply;

// RFC 3463 §3 and RFC 5248 give the enhanced codes their meaning.

pub(super) fn bad_command(error: &CommandError) -> Reply {
    match error {
        CommandError::Unknown => Reply::new(500, (5, 5, 1), "command not recognized, try HELP"),
        CommandError::NotImplemented => Reply::new(502, (5, 5, 1), "command not implemented"),
        CommandError::Bdat => Reply::new(501, (5, 5, 4), "syntax: BDAT octets [LAST], closing"),
        CommandError::Http => Reply::new(421, (4, 7, 0), "this is a mail server, not a web server"),
        CommandError::NotUtf8 => Reply::new(501, (5, 5, 2), "the command is not valid UTF-8"),
        CommandError::Syntax(usage) => Reply::new(501, (5, 5, 4), &format!("syntax: {usage}")),
        CommandError::Address(error) => {
            Reply::new(501, (5, 1, 3), &format!("bad address: {error}"))
        }
        CommandError::BadParameter(key) => {
            let text = format!("parameter {key} has a bad value or comes twice");
            Reply::new(501, (5, 5, 4), &text)
        }
        CommandError::UnknownParameter => not_offered(),
        CommandError::UnknownMechanism => Reply::new(
            504,
            (5, 5, 4),
            "mechanism not supported, use one that EHLO offers",
        ),
    }
}

/// RFC 5321 §4.1.1.11: a parameter that `EHLO` did not name.
pub(super) fn not_offered() -> Reply {
    let text = "parameter not recognized, use what EHLO offers";
    Reply::new(555, (5, 5, 4), text)
}

pub(super) fn held_too_long(limit: HoldLimit) -> Reply {
    let text = format!(
        "messages are held for no longer than {} seconds",
        limit.seconds
    );
    Reply::new(501, (5, 5, 4), &text)
}

pub(super) fn bad_line(error: LineError) -> Reply {
    match error {
        LineError::TooLong => Reply::new(500, (5, 5, 6), "line too long, closing"),
        LineError::BareCr | LineError::BareLf | LineError::Nul => {
            Reply::new(521, (5, 5, 2), &format!("{error}, closing"))
        }
    }
}

pub(super) fn bad_data(fault: DataFault) -> Reply {
    let text = format!("the message holds {fault}, which mail must not");
    Reply::new(554, (5, 6, 0), &text)
}

pub(super) fn bad_header(fault: HeaderFault) -> Reply {
    match fault {
        HeaderFault::Octets(limit) => {
            let text = format!("the header of the message is larger than {limit} octets");
            Reply::new(552, (5, 3, 4), &text)
        }
        HeaderFault::Fields(limit) => {
            let text = format!("the header of the message has more than {limit} fields");
            Reply::new(552, (5, 3, 4), &text)
        }
        HeaderFault::Hops(limit) => {
            let text = format!("routing loop: more than {limit} Received fields");
            Reply::new(554, (5, 4, 6), &text)
        }
    }
}

pub(super) fn too_large(limit: u64) -> Reply {
    Reply::new(
        552,
        (5, 3, 4),
        &format!("message larger than {limit} octets"),
    )
}

pub(super) fn too_many_recipients(limit: usize) -> Reply {
    let text = format!("no more than {limit} recipients, send the rest as another message");
    Reply::new(452, (4, 5, 3), &text)
}

pub(super) fn out_of_order(text: &str) -> Reply {
    Reply::new(503, (5, 5, 1), text)
}

pub(super) fn starttls_first() -> Reply {
    Reply::new(530, (5, 7, 0), "Must issue a STARTTLS command first")
}

pub(super) fn encryption_required() -> Reply {
    let text = "Encryption required for AUTH, issue STARTTLS first";
    Reply::new(538, (5, 7, 11), text)
}

pub(super) fn authentication_required() -> Reply {
    Reply::new(530, (5, 7, 0), "Authentication required, use AUTH")
}

pub(super) fn auth_elsewhere() -> Reply {
    let text = "AUTH is not available here, use port 587 or 465";
    Reply::new(502, (5, 5, 1), text)
}

pub(super) fn needs_smtputf8() -> Reply {
    let text = "address is not ASCII, say SMTPUTF8 in MAIL";
    Reply::new(553, (5, 6, 7), text)
}

pub(super) fn no_proxy() -> Reply {
    Reply::new(550, (5, 7, 0), "XCLIENT is not for you")
}

pub(super) fn no_logins_by_proxy() -> Reply {
    Reply::new(550, (5, 7, 0), "LOGIN is not for you here")
}

pub(super) fn sender_ok() -> Reply {
    Reply::new(250, (2, 1, 0), "sender ok")
}

pub(super) fn recipient_ok(path: &ForwardPath) -> Reply {
    Reply::new(250, (2, 1, 5), &format!("<{path}> ok"))
}

pub(super) fn chunk_taken(size: u64) -> Reply {
    Reply::new(250, (2, 0, 0), &format!("{size} octets taken"))
}

pub(super) fn no_binary() -> Reply {
    Reply::new(501, (5, 5, 4), "BODY=BINARYMIME is not offered here")
}

/// The message for one recipient of several.
pub(super) fn accepted_for(path: &ForwardPath, id: &str) -> Reply {
    Reply::new(250, (2, 1, 5), &format!("<{path}> accepted as {id}"))
}

pub(super) fn wrong_hello(due: &str) -> Reply {
    // RFC 2033 §4.1: LMTP answers HELO and EHLO with 500.
    Reply::new(
        500,
        (5, 5, 1),
        &format!("command not recognized, say {due}"),
    )
}

pub(super) fn start_data() -> Reply {
    Reply::bare(354, "send the message, end with <CRLF>.<CRLF>")
}

pub(super) fn accepted(id: &str) -> Reply {
    Reply::new(250, (2, 0, 0), &format!("accepted as {id}"))
}

pub(super) fn ok() -> Reply {
    Reply::new(250, (2, 0, 0), "ok")
}

pub(super) fn cannot_verify() -> Reply {
    let text = "cannot verify an address, send mail to find out";
    Reply::new(252, (2, 5, 2), text)
}

pub(super) fn help() -> Reply {
    Reply::new(
        214,
        (2, 0, 0),
        "EHLO HELO LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP STARTTLS AUTH",
    )
    .line("see RFC 5321")
}

pub(super) fn ready_for_tls() -> Reply {
    Reply::new(220, (2, 0, 0), "Ready to start TLS")
}

pub(super) fn goodbye(hostname: &Domain) -> Reply {
    Reply::new(221, (2, 0, 0), &format!("{hostname} closing connection"))
}

pub(super) fn authenticated() -> Reply {
    Reply::new(235, (2, 7, 0), "Authentication successful")
}

pub(super) fn bad_credentials() -> Reply {
    Reply::new(535, (5, 7, 8), "wrong user name or password")
}

pub(super) fn other_identity() -> Reply {
    Reply::new(535, (5, 7, 8), "acting as another user is not permitted")
}

pub(super) fn mechanism_impossible(mechanism: sasl::Mechanism) -> Reply {
    let text = match mechanism {
        sasl::Mechanism::External => {
            "EXTERNAL needs a client certificate that this server trusts, none was shown"
        }
        _ => "this mechanism is not possible on this connection, use one that EHLO offers",
    };
    Reply::new(504, (5, 5, 4), text)
}

pub(super) fn auth_cancelled() -> Reply {
    Reply::new(501, (5, 7, 0), "authentication cancelled")
}

pub(super) fn bad_response() -> Reply {
    Reply::new(
        501,
        (5, 5, 2),
        "response is not what the mechanism prescribes",
    )
}

pub(super) fn too_many_logins() -> Reply {
    Reply::new(421, (4, 7, 0), "too many failed logins, closing")
}

pub(super) fn too_many_errors() -> Reply {
    Reply::new(421, (4, 7, 0), "too many errors, closing")
}

pub(super) fn too_many_idle() -> Reply {
    Reply::new(
        421,
        (4, 7, 0),
        "too many commands without a message, closing",
    )
}

pub(super) fn too_many_messages() -> Reply {
    let text = "too many messages on this connection, connect again";
    Reply::new(421, (4, 7, 0), text)
}

pub(super) fn timeout(hostname: &Domain) -> Reply {
    Reply::new(421, (4, 4, 2), &format!("{hostname} timed out, closing"))
}

pub(super) fn shutting_down(hostname: &Domain) -> Reply {
    Reply::new(
        421,
        (4, 3, 2),
        &format!("{hostname} is shutting down, try again later"),
    )
}

pub(super) fn local_fault() -> Reply {
    Reply::new(451, (4, 3, 0), "local fault, try again later")
}
