//! What a refusal from behind means to the client: a code, an enhanced code, and what to do.

use std::net::IpAddr;

use ipc::Refusal;
use mail::address::{Domain, ForwardPath};
use smtp::reply::Reply;

use crate::guard::Kind;

/// Nobody behind us could be asked, or it broke while we spoke.
pub(crate) fn unavailable() -> Reply {
    // RFC 3463 §3.4: X.3.0 other or undefined mail system status.
    Reply::new(
        451,
        (4, 3, 0),
        "mail system temporarily unavailable, try again later",
    )
}

/// A client has done too much of something.
pub(crate) fn too_much(kind: Kind) -> Reply {
    match kind {
        Kind::Connection => Reply::new(421, (4, 7, 0), "too many connections, try again later"),
        Kind::Command => Reply::new(
            421,
            (4, 7, 0),
            "too many commands from your network, try again later",
        ),
        Kind::Recipient => Reply::new(
            450,
            (4, 7, 1),
            "too many recipients from your network, try again later",
        ),
        Kind::RefusedRecipient => Reply::new(
            450,
            (4, 7, 1),
            "too many recipients of yours do not exist here, try again later",
        ),
    }
}

/// A client has too many connections, or began too many.
pub(crate) fn too_many_connections(hostname: &Domain) -> Reply {
    let text = format!("{hostname} too many connections from your address, try again later");
    Reply::new(421, (4, 7, 0), &text)
}

/// An account has too many connections.
pub(crate) fn account_busy() -> Reply {
    // RFC 4954 §6: 454 temporary authentication failure.
    Reply::new(
        454,
        (4, 7, 0),
        "too many connections of this account, close some",
    )
}

/// The client, or the sender's domain, is on lists of those whose mail is not wanted.
pub(crate) fn listed(path: &ForwardPath, zone: &str, reason: &str) -> Reply {
    let text = match reason {
        "" => format!("<{path}>: refused because of {zone}"),
        reason => format!("<{path}>: refused because of {zone}: {reason}"),
    };
    Reply::new(550, (5, 7, 1), &text)
}

/// A stranger's mail.
pub(crate) fn put_off(path: &ForwardPath, wait: u64) -> Reply {
    let text = format!("<{path}>: greylisted, try again in {wait} seconds");
    Reply::new(450, (4, 7, 1), &text)
}

/// A proxy names an account that may not send, or is none.
pub(crate) fn account_unknown(account: &str, refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::SenderNotAllowed | Refusal::NoSuchUser | Refusal::NoSuchDomain => {
            Reply::new(550, (5, 7, 1), &format!("{account} is no account here"))
        }
        other => refused(other),
    }
}

/// The client talked before it was greeted.
pub(crate) fn talked_first() -> Reply {
    // RFC 7504 §3: 521 as a greeting, and the connection is closed.
    Reply::new(
        521,
        (5, 5, 1),
        "you spoke before you were greeted, wait for the 220",
    )
}

/// Mail from strangers to strangers.
pub(crate) fn relay_not_permitted(path: &ForwardPath) -> Reply {
    let text = format!("<{path}>: relay not permitted, log in on the submission port");
    Reply::new(550, (5, 7, 1), &text)
}

/// The recipient is refused.
pub(crate) fn recipient_refused(path: &ForwardPath, refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::NoSuchUser => Reply::new(550, (5, 1, 1), &format!("<{path}>: no such user here")),
        Refusal::NoSuchDomain => relay_not_permitted(path),
        Refusal::OverQuota => Reply::new(452, (4, 2, 2), &format!("<{path}>: mailbox full")),
        Refusal::MessageTooLarge => Reply::new(
            552,
            (5, 2, 3),
            &format!("<{path}>: message too large for the mailbox"),
        ),
        other => refused(other),
    }
}

/// A binary message would have to go where relayd cannot take it.
pub(crate) fn binary_not_relayed(path: &ForwardPath) -> Reply {
    // RFC 3463 §3.7: X.6.3 conversion required but not supported.
    let text =
        format!("<{path}>: binary messages are taken for users here only, use BODY=8BITMIME");
    Reply::new(554, (5, 6, 3), &text)
}

/// A recipient who could have had the message, had it not been for another one.
pub(crate) fn not_alone(path: &ForwardPath) -> Reply {
    let text =
        format!("<{path}>: not delivered because of another recipient of this message, try again");
    Reply::new(451, (4, 3, 0), &text)
}

/// A recipient whose copy goes out under another sender than those of the recipients before it.
pub(crate) fn send_alone(path: &ForwardPath) -> Reply {
    let text = format!("<{path}>: send this recipient's copy as another message");
    Reply::new(452, (4, 5, 3), &text)
}

/// The sender is refused.
pub(crate) fn sender_refused(sender: &str, account: &str, refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::SenderNotAllowed | Refusal::NoSuchUser | Refusal::NoSuchDomain => {
            let text = format!("<{sender}>: not an address of {account}, use one of your own");
            Reply::new(553, (5, 7, 1), &text)
        }
        other => refused(other),
    }
}

/// The header does not say clearly who wrote the message.
pub(crate) fn author_unclear() -> Reply {
    let text = "the header must have exactly one From field, with addresses and no groups in it";
    Reply::new(550, (5, 7, 1), text)
}

/// Several wrote it, and nobody says who sends it.
pub(crate) fn sender_missing() -> Reply {
    // RFC 5322 §3.6.2: with more than one author there must be a Sender field.
    let text = "a From field with several addresses needs a Sender field with one of your own";
    Reply::new(550, (5, 7, 1), text)
}

/// The header does not say clearly who sends the message.
pub(crate) fn agent_unclear() -> Reply {
    let text = "the header may have one Sender field with one address, and Resent-From and Resent-Sender fields with addresses only";
    Reply::new(550, (5, 7, 1), text)
}

/// Somebody is named in the header as author or sender who is somebody else.
pub(crate) fn writer_refused(
    field: &str,
    address: &str,
    account: &str,
    refusal: &Refusal,
) -> Reply {
    match refusal {
        Refusal::SenderNotAllowed | Refusal::NoSuchUser | Refusal::NoSuchDomain => {
            let text = format!(
                "<{address}> in the {field} field is not an address of {account}, use one of your own or ask your admin for it"
            );
            Reply::new(550, (5, 7, 1), &text)
        }
        other => refused(other),
    }
}

/// The author's domain wants what is not its own refused or put aside.
pub(crate) fn dmarc_failed(author: &str, policy: &str) -> Reply {
    // RFC 7372 §3.3: X.7.26 multiple authentication checks failed.
    let text = format!("neither SPF nor DKIM speaks for {author}, whose DMARC policy is {policy}");
    Reply::new(550, (5, 7, 26), &text)
}

/// The client may not send in the name of that domain.
pub(crate) fn spf_failed(client: IpAddr, domain: &str, explanation: Option<&str>) -> Reply {
    // RFC 7372 §3.2: X.7.23 SPF validation failed; RFC 7208 §6.2 wants it said whose words these are.
    let text = match explanation {
        Some(words) => {
            format!("{client} may not send mail of {domain} (SPF); {domain} explains: {words}")
        }
        None => format!("{client} may not send mail of {domain} (SPF)"),
    };
    Reply::new(550, (5, 7, 23), &text)
}

/// No signature is good, and some are bad.
pub(crate) fn dkim_failed() -> Reply {
    // RFC 7372 §3.1: X.7.20 no passing DKIM signature found.
    Reply::new(550, (5, 7, 20), "no DKIM signature of this message is good")
}

/// DNS does not say what has to be known.
pub(crate) fn unanswered() -> Reply {
    // RFC 3463 §3.5: X.4.3 directory server failure.
    Reply::new(
        451,
        (4, 4, 3),
        "DNS does not answer for the sender's domain, try again later",
    )
}

/// The login is refused for another reason than the password.
pub(crate) fn login_refused(refusal: &Refusal) -> Reply {
    // RFC 4954 §6: 454 temporary authentication failure.
    match refusal {
        Refusal::TooManyFailures => {
            Reply::new(454, (4, 7, 0), "too many failed logins, try again later")
        }
        // RFC 4954 §4: what the mechanism does not allow is a failed login.
        Refusal::Invalid(text) => Reply::new(535, (5, 7, 8), text),
        _ => Reply::new(
            454,
            (4, 7, 0),
            "temporary authentication failure, try again later",
        ),
    }
}

/// A message, or anything else, is refused.
pub(crate) fn refused(refusal: &Refusal) -> Reply {
    let text = refusal.to_string();
    match refusal {
        Refusal::OverQuota => Reply::new(452, (4, 2, 2), "mailbox full, try again later"),
        Refusal::DiskFull => Reply::new(452, (4, 3, 1), "out of disk space, try again later"),
        Refusal::QuarantineFull => Reply::new(
            452,
            (4, 3, 1),
            "no room to keep this message until it is looked at, try again later",
        ),
        Refusal::MessageTooLarge => Reply::new(552, (5, 3, 4), &text),
        Refusal::TooManyRecipients => Reply::new(
            452,
            (4, 5, 3),
            "too many recipients, send the rest as another message",
        ),
        Refusal::RelayDisabled => Reply::new(
            550,
            (5, 7, 1),
            "sending to other servers is switched off here",
        ),
        Refusal::SenderNotAllowed => Reply::new(553, (5, 7, 1), &text),
        Refusal::Busy => Reply::new(451, (4, 3, 2), "too busy, try again later"),
        Refusal::ShuttingDown => Reply::new(451, (4, 3, 2), "restarting, try again later"),
        // Whoever is at fault, the mail must not be lost for it.
        _ => unavailable(),
    }
}
