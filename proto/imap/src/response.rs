//! Status responses: OK, NO, BAD, BYE, with their codes and words.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::flag::Flag;
use crate::write::{self, Object};

/// How something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Done.
    Ok,
    /// Not done.
    No,
    /// Not understood, or not now.
    Bad,
    /// The connection ends.
    Bye,
}

/// What the words of a status response cannot tell a program.
// RFC 3501 §7.1, RFC 4315 §3, RFC 4978 §3, RFC 5267 §4.3.1, RFC 5464 §4, RFC 5465 §8, RFC 5530 §3, RFC 6154 §3, RFC 7162 §7, RFC 7889 §5, RFC 9585 §4, RFC 9586 §3, RFC 9738 §3.1, RFC 10022.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code<'a> {
    /// ALREADYEXISTS
    AlreadyExists,
    /// APPENDUID: UIDVALIDITY and UIDs of the new messages.
    AppendUid(u32, &'a [(u32, u32)]),
    /// BADURL: what cannot be resolved (RFC 4469 §4).
    BadUrl(&'a str),
    /// AUTHENTICATIONFAILED
    AuthenticationFailed,
    /// BADCHARSET, with those we know.
    BadCharset,
    /// BADEVENT, with those we know (RFC 5465 §8).
    BadEvent,
    /// CANNOT
    Cannot,
    /// CAPABILITY
    Capability(&'a str),
    /// CLIENTBUG
    ClientBug,
    /// CLOSED: what follows is about the mailbox that is selected now.
    Closed,
    /// COMPRESSIONACTIVE
    CompressionActive,
    /// COPYUID
    CopyUid {
        /// UIDVALIDITY of the target.
        uid_validity: u32,
        /// Old UIDs.
        source: &'a [(u32, u32)],
        /// New UIDs.
        target: &'a [(u32, u32)],
    },
    /// EXPUNGEISSUED
    ExpungeIssued,
    /// HIGHESTMODSEQ
    HighestModSeq(u64),
    /// INPROGRESS, with the tag of the command; how far it is, is not known.
    InProgress(&'a str),
    /// LIMIT
    Limit,
    /// MAILBOXID (RFC 8474 §4.2)
    MailboxId(u128),
    /// MESSAGELIMIT (RFC 9738 §3.1): a command is about no more messages, and the lowest UID of those it was about, or would be.
    MessageLimit(u32, Option<u32>),
    /// METADATA LONGENTRIES: values were left out, the longest of so many bytes.
    MetadataLongEntries(u64),
    /// METADATA MAXSIZE: values have at most so many bytes.
    MetadataMaxSize(u64),
    /// METADATA TOOMANY: no more can be kept.
    MetadataTooMany,
    /// MODIFIED: these messages changed meanwhile and were left alone.
    Modified(&'a [(u32, u32)]),
    /// NONEXISTENT
    NonExistent,
    /// NOPERM
    NoPerm,
    /// NOUPDATE: what this search found is not kept up to date (RFC 5267 §4.3.1).
    NoUpdate(&'a str),
    /// NOTIFICATIONOVERFLOW: nothing that was asked for with NOTIFY is told any more (RFC 5465 §5).
    NotificationOverflow,
    /// OVERQUOTA
    OverQuota,
    /// PERMANENTFLAGS
    PermanentFlags {
        /// What can be set.
        flags: &'a [Flag],
        /// Whether new keywords can be made.
        more: bool,
    },
    /// PRIVACYREQUIRED
    PrivacyRequired,
    /// READ-ONLY
    ReadOnly,
    /// READ-WRITE
    ReadWrite,
    /// SERVERBUG
    ServerBug,
    /// TOOBIG
    TooBig,
    /// TOOFEW: a batch has more messages (RFC 10022).
    TooFew,
    /// TOOMANY: so many batches are not told at once.
    TooMany,
    /// TRYCREATE
    TryCreate,
    /// UIDNEXT
    UidNext(u32),
    /// UIDREQUIRED (RFC 9586 §3)
    UidRequired,
    /// UIDVALIDITY
    UidValidity(u32),
    /// UNAVAILABLE
    Unavailable,
    /// UNKNOWN-CTE (RFC 3516 §4.3)
    UnknownCte,
    /// UNSEEN
    Unseen(u32),
    /// USEATTR
    UseAttribute,
}

/// Bytes of a URL that are told back at most.
const MAX_URL: usize = 1000;

/// Writes a tagged response.
pub fn tagged(tag: &str, kind: Kind, code: Option<&Code<'_>>, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(tag.as_bytes());
    finish(kind, code, text, out);
}

/// Writes an untagged response.
pub fn untagged(kind: Kind, code: Option<&Code<'_>>, text: &str, out: &mut Vec<u8>) {
    out.push(b'*');
    finish(kind, code, text, out);
}

/// Writes a continuation request.
// RFC 3501 §7.5. Some clients want the blank even where no text follows.
pub fn continuation(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"+ ");
    write_text(text, out);
    out.extend_from_slice(b"\r\n");
}

fn finish(kind: Kind, code: Option<&Code<'_>>, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(match kind {
        Kind::Ok => b" OK ",
        Kind::No => b" NO ",
        Kind::Bad => b" BAD ",
        Kind::Bye => b" BYE ",
    });
    if let Some(code) = code {
        out.push(b'[');
        code.write(out);
        out.extend_from_slice(b"] ");
    }
    write_text(text, out);
    out.extend_from_slice(b"\r\n");
}

// RFC 3501 §9: text is one or more characters of US-ASCII, never CR, LF or NUL.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let printable = |letter: char| {
        if (' '..='~').contains(&letter) {
            u8::try_from(letter).unwrap_or(b'?')
        } else {
            b'?'
        }
    };
    out.extend(text.chars().map(printable));
}

impl Code<'_> {
    /// Writes it, without its brackets.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut number = |name: &str, number: u32| {
            out.extend_from_slice(name.as_bytes());
            out.push(b' ');
            out.extend_from_slice(number.to_string().as_bytes());
        };
        match self {
            Self::UidNext(uid) => number("UIDNEXT", *uid),
            Self::UidValidity(validity) => number("UIDVALIDITY", *validity),
            Self::Unseen(sequence) => number("UNSEEN", *sequence),
            Self::AppendUid(validity, uids) => {
                number("APPENDUID", *validity);
                write::ranges(uids, out.push_blank());
            }
            Self::MessageLimit(most, lowest) => {
                number("MESSAGELIMIT", *most);
                if let Some(lowest) = lowest {
                    write::number(u64::from(*lowest), out.push_blank());
                }
            }
            Self::BadUrl(url) => {
                // RFC 4469 §5: anything but "]"; its examples have quotes.
                out.extend_from_slice(b"BADURL \"");
                let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\]".contains(&byte);
                let plain = |byte| if is_plain(byte) { byte } else { b'?' };
                out.extend(url.bytes().take(MAX_URL).map(plain));
                out.push(b'"');
            }
            Self::CopyUid {
                uid_validity,
                source,
                target,
            } => {
                number("COPYUID", *uid_validity);
                write::ranges(source, out.push_blank());
                write::ranges(target, out.push_blank());
            }
            Self::HighestModSeq(modseq) => {
                out.extend_from_slice(b"HIGHESTMODSEQ ");
                write::number(*modseq, out);
            }
            Self::MailboxId(id) => {
                out.extend_from_slice(b"MAILBOXID ");
                write::object_id(Object::Mailbox, *id, out);
            }
            Self::MetadataLongEntries(size) => {
                out.extend_from_slice(b"METADATA LONGENTRIES ");
                write::number(*size, out);
            }
            Self::MetadataMaxSize(size) => {
                out.extend_from_slice(b"METADATA MAXSIZE ");
                write::number(*size, out);
            }
            Self::Modified(set) => {
                out.extend_from_slice(b"MODIFIED ");
                write::ranges(set, out);
            }
            Self::InProgress(tag) => {
                // A tag has no character that would need a backslash (RFC 3501 §9).
                out.extend_from_slice(b"INPROGRESS (\"");
                out.extend_from_slice(tag.as_bytes());
                out.extend_from_slice(b"\" NIL NIL)");
            }
            Self::NoUpdate(tag) => {
                out.extend_from_slice(b"NOUPDATE \"");
                out.extend_from_slice(tag.as_bytes());
                out.push(b'"');
            }
            Self::PermanentFlags { flags, more } => {
                out.extend_from_slice(b"PERMANENTFLAGS ");
                write::flag_list(flags, *more, out);
            }
            Self::Capability(list) => {
                out.extend_from_slice(b"CAPABILITY ");
                out.extend_from_slice(list.as_bytes());
            }
            word => out.extend_from_slice(word.word().as_bytes()),
        }
    }

    /// Codes that are nothing but a word.
    const fn word(&self) -> &'static str {
        match self {
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Self::BadCharset => "BADCHARSET (US-ASCII UTF-8)",
            Self::BadEvent => {
                "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"
            }
            Self::Cannot => "CANNOT",
            Self::ClientBug => "CLIENTBUG",
            Self::Closed => "CLOSED",
            Self::CompressionActive => "COMPRESSIONACTIVE",
            Self::ExpungeIssued => "EXPUNGEISSUED",
            Self::Limit => "LIMIT",
            Self::MetadataTooMany => "METADATA TOOMANY",
            Self::NonExistent => "NONEXISTENT",
            Self::NoPerm => "NOPERM",
            Self::NotificationOverflow => "NOTIFICATIONOVERFLOW",
            Self::OverQuota => "OVERQUOTA",
            Self::PrivacyRequired => "PRIVACYREQUIRED",
            Self::ReadOnly => "READ-ONLY",
            Self::ReadWrite => "READ-WRITE",
            Self::ServerBug => "SERVERBUG",
            Self::TooBig => "TOOBIG",
            Self::TooFew => "TOOFEW",
            Self::TooMany => "TOOMANY",
            Self::TryCreate => "TRYCREATE",
            Self::UidRequired => "UIDREQUIRED",
            Self::Unavailable => "UNAVAILABLE",
            Self::UnknownCte => "UNKNOWN-CTE",
            Self::UseAttribute => "USEATTR",
            Self::AppendUid(..)
            | Self::BadUrl(_)
            | Self::Capability(_)
            | Self::CopyUid { .. }
            | Self::HighestModSeq(_)
            | Self::InProgress(_)
            | Self::MailboxId(_)
            | Self::MessageLimit(..)
            | Self::MetadataLongEntries(_)
            | Self::MetadataMaxSize(_)
            | Self::Modified(_)
            | Self::NoUpdate(_)
            | Self::PermanentFlags { .. }
            | Self::UidNext(_)
            | Self::UidValidity(_)
            | Self::Unseen(_) => "",
        }
    }
}

trait PushBlank {
    fn push_blank(&mut self) -> &mut Self;
}

impl PushBlank for Vec<u8> {
    fn push_blank(&mut self) -> &mut Self {
        self.push(b' ');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn written(kind: Kind, code: Option<Code<'_>>, text: &str) -> String {
        let mut out = Vec::new();
        tagged("a1", kind, code.as_ref(), text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_is_one_line_whatever_the_text() {
        assert_eq!(
            written(Kind::No, Some(Code::TryCreate), "no\r\na2 OK ü\0"),
            "a1 NO [TRYCREATE] no??a2 OK ??\r\n"
        );
    }

    #[test]
    fn codes_of_uidplus_are_written_as_sets() {
        let code = Code::CopyUid {
            uid_validity: 7,
            source: &[(1, 3), (5, 5)],
            target: &[(10, 13)],
        };
        assert_eq!(
            written(Kind::Ok, Some(code), "copied"),
            "a1 OK [COPYUID 7 1:3,5 10:13] copied\r\n"
        );
        assert_eq!(
            written(Kind::Ok, Some(Code::AppendUid(7, &[(9, 9)])), "appended"),
            "a1 OK [APPENDUID 7 9] appended\r\n"
        );
    }
}
