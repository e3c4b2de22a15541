//! What this server can do, as CAPABILITY says it.

use alloc::format;
use alloc::string::String;

/// What a client may do about logging in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Nothing before STARTTLS.
    AfterTls,
    /// Log in, with or without STARTTLS first.
    NowOrAfterTls,
    /// Log in.
    Now,
    /// The same, also with a login that is bound to the TLS session.
    NowAndBound,
}

/// The capabilities before login.
// RFC 3501 §6.2.3: LOGINDISABLED where LOGIN would be refused; §7.2.1: IMAP4rev1 is always listed.
#[must_use]
pub const fn before_login(login: Login) -> &'static str {
    match login {
        Login::AfterTls => "IMAP4rev1 LITERAL+ ID ENABLE STARTTLS LOGINDISABLED",
        Login::NowOrAfterTls => {
            "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE STARTTLS AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN"
        }
        Login::Now => {
            "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN"
        }
        Login::NowAndBound => {
            "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN"
        }
    }
}

/// The capabilities after login, where no message is larger than `append_limit` bytes.
#[must_use]
pub fn after_login(append_limit: u32) -> String {
    const LIST: &str = concat!(
        "IMAP4rev1",
        " LITERAL+",
        " ID",
        " ENABLE",
        " NAMESPACE",
        " IDLE",
        " UNSELECT",
        " UIDPLUS",
        " MOVE",
        " CHILDREN",
        " SPECIAL-USE",
        " CREATE-SPECIAL-USE",
        " LIST-EXTENDED",
        " LIST-STATUS",
        " STATUS=SIZE",
        " QUOTA",
        " QUOTA=RES-STORAGE",
        " QUOTA=RES-MESSAGE",
        " QUOTA=RES-MAILBOX",
        " OBJECTID",
        " SAVEDATE",
        " BINARY",
        " CONDSTORE",
        " QRESYNC",
        " ESEARCH",
        " SEARCHRES",
        " WITHIN",
        " PARTIAL",
        " SORT",
        " SORT=DISPLAY",
        " ESORT",
        " THREAD=ORDEREDSUBJECT",
        " THREAD=REFERENCES",
        " THREAD=REFS",
        " COMPRESS=DEFLATE",
        " UNAUTHENTICATE",
        " INPROGRESS",
    );
    // RFC 7889 §2: with a number it is the same for all mailboxes.
    format!("{LIST} APPENDLIMIT={append_limit}")
}
