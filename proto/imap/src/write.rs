//! Data the server sends: strict, so that only valid syntax leaves.

use alloc::vec::Vec;

use mail::date::{self, DateTime};

use crate::command::{FetchItem, Numbering, SectionName, StatusItem, StatusValue};
use crate::dialect::Dialect;
use crate::envelope::write_string;
use crate::flag::Flag;
use crate::sync::Extension;
use crate::{body, mailbox};

/// Writes a decimal number.
pub fn number(mut number: u64, out: &mut Vec<u8>) {
    // Without the memory `to_string` would take: a FETCH writes tens of thousands.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Writes a set of numbers, `1:3,5`.
pub fn ranges(ranges: &[(u32, u32)], out: &mut Vec<u8>) {
    for (index, &(start, end)) in ranges.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        number(u64::from(start), out);
        if end > start {
            out.push(b':');
            number(u64::from(end), out);
        }
    }
}

/// Writes `(\Seen kw)`, with `\*` if new keywords can be made.
pub fn flag_list(flags: &[Flag], more: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    for (index, flag) in flags.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        flag.write(out);
    }
    if more {
        out.extend_from_slice(if flags.is_empty() { b"\\*" } else { b" \\*" });
    }
    out.push(b')');
}

/// Writes a mailbox name, as the client reads it.
pub fn mailbox_name(name: &str, dialect: Dialect, out: &mut Vec<u8>) {
    if dialect.has_utf8_names() {
        return utf8_name(name, out);
    }
    let mut encoded = Vec::with_capacity(name.len());
    mailbox::encode(name, &mut encoded);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./&,+".contains(byte);
    let is_nil = encoded.eq_ignore_ascii_case(b"NIL");
    if !encoded.is_empty() && !is_nil && encoded.iter().all(plain) {
        out.extend_from_slice(&encoded);
    } else {
        write_string(&encoded, out);
    }
}

// RFC 6855 §3, RFC 9051 §9: QUOTED-CHAR =/ UTF8-2 / UTF8-3 / UTF8-4.
fn utf8_name(name: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./&,+".contains(&byte);
    if !name.is_empty() && !name.eq_ignore_ascii_case("NIL") && name.bytes().all(plain) {
        out.extend_from_slice(name.as_bytes());
        return;
    }
    if name.contains(['\0', '\r', '\n']) {
        // No mailbox has such a name, but what leaves is one line whatever comes.
        return write_string(name.as_bytes(), out);
    }
    out.push(b'"');
    for byte in name.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Writes `* 5 EXISTS` and its like.
pub fn message_data(count: u32, word: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ");
    number(u64::from(count), out);
    out.push(b' ');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes `* FLAGS (…)`.
pub fn flags(flags: &[Flag], out: &mut Vec<u8>) {
    out.extend_from_slice(b"* FLAGS ");
    flag_list(flags, false, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `* CAPABILITY …`.
pub fn capability(list: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* CAPABILITY ");
    out.extend_from_slice(list.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes `* ID (…)` (RFC 2971 §3.2).
pub fn id(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ID (\"name\" ");
    write_string(name.as_bytes(), out);
    out.extend_from_slice(b")\r\n");
}

/// Writes the user's own namespace, and that of other users if there is something in it (RFC 2342 §5).
pub fn namespace(others: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* NAMESPACE ((\"\" \"/\")) ");
    match others {
        Some(others) => {
            out.extend_from_slice(b"((");
            write_string(others.as_bytes(), out);
            out.extend_from_slice(b" \"/\"))");
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.extend_from_slice(b" NIL\r\n");
}

/// Writes `* ENABLED …` (RFC 5161 §3.2).
pub fn enabled(extensions: &[Extension], out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ENABLED");
    for extension in extensions {
        out.extend_from_slice(match extension {
            Extension::CondStore => b" CONDSTORE",
            Extension::QResync => b" QRESYNC",
            Extension::Utf8Accept => b" UTF8=ACCEPT",
            Extension::Rev2 => b" IMAP4rev2",
            Extension::UidOnly => b" UIDONLY",
        });
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `* VANISHED 41,43:116` for messages that just went, or `* VANISHED (EARLIER) …` for those of which the client has no
/// sequence numbers any more (RFC 7162 §3.2.10). Nothing if there are none.
pub fn vanished(earlier: bool, uids: &[(u32, u32)], out: &mut Vec<u8>) {
    if uids.is_empty() {
        return;
    }
    out.extend_from_slice(match earlier {
        true => b"* VANISHED (EARLIER) ",
        false => b"* VANISHED ",
    });
    ranges(uids, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes `(917162500)`, the value of MODSEQ.
pub fn modseq(modseq: u64, out: &mut Vec<u8>) {
    out.push(b'(');
    number(modseq, out);
    out.push(b')');
}

/// A line of LIST or LSUB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listed<'a> {
    /// With their backslashes.
    pub attributes: &'a [&'a str],
    /// Which mailbox, or level of the hierarchy.
    pub name: &'a str,
    /// Which selections of LIST a name below this one is of that is not listed itself (RFC 5258 §3.5).
    pub below: &'a [&'a str],
    /// The name under which the client knows it (RFC 9051 §6.3.9.7).
    pub old_name: Option<&'a str>,
}

/// Writes a line of LIST or LSUB; `word` says which.
pub fn list(word: &str, listed: &Listed<'_>, dialect: Dialect, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b" (");
    out.extend_from_slice(listed.attributes.join(" ").as_bytes());
    out.extend_from_slice(b") \"/\" ");
    mailbox_name(listed.name, dialect, out);
    if !listed.below.is_empty() {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"");
        out.extend_from_slice(listed.below.join("\" \"").as_bytes());
        out.extend_from_slice(b"\"))");
    }
    if let Some(old_name) = listed.old_name {
        out.extend_from_slice(b" (\"OLDNAME\" (");
        mailbox_name(old_name, dialect, out);
        out.extend_from_slice(b"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// What an id of RFC 8474 is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// MAILBOXID
    Mailbox,
    /// EMAILID
    Email,
    /// THREADID
    Thread,
}

/// Writes an id in parentheses. Those of different kinds never look alike.
// RFC 8474 §7: objectid = 1*255(ALPHA / DIGIT / "_" / "-").
pub fn object_id(object: Object, id: u128, out: &mut Vec<u8>) {
    out.push(b'(');
    out.push(match object {
        Object::Mailbox => b'F',
        Object::Email => b'M',
        Object::Thread => b'T',
    });
    for byte in id.to_be_bytes() {
        for digit in [byte >> 4, byte & 15] {
            out.push(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
    out.push(b')');
}

/// Reads an id that [`object_id`] wrote, without the parentheses; `None` for what it never writes.
#[must_use]
pub fn parse_object_id(object: Object, text: &str) -> Option<u128> {
    let mut written = Vec::new();
    let id = u128::from_str_radix(text.get(1..)?, 16).ok()?;
    object_id(object, id, &mut written);
    (written.get(1..written.len() - 1) == Some(text.as_bytes())).then_some(id)
}

/// Writes `* STATUS name (…)`.
pub fn status(
    name: &str,
    dialect: Dialect,
    items: &[StatusItem],
    value: impl Fn(StatusItem) -> StatusValue,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"* STATUS ");
    mailbox_name(name, dialect, out);
    out.extend_from_slice(b" (");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(match item {
            StatusItem::Messages => b"MESSAGES ",
            StatusItem::Recent => b"RECENT ",
            StatusItem::UidNext => b"UIDNEXT ",
            StatusItem::UidValidity => b"UIDVALIDITY ",
            StatusItem::Unseen => b"UNSEEN ",
            StatusItem::HighestModSeq => b"HIGHESTMODSEQ ",
            StatusItem::Size => b"SIZE ",
            StatusItem::Deleted => b"DELETED ",
            StatusItem::DeletedStorage => b"DELETED-STORAGE ",
            StatusItem::MailboxId => b"MAILBOXID ",
            StatusItem::AppendLimit => b"APPENDLIMIT ",
        });
        match value(*item) {
            StatusValue::Number(value) => number(value, out),
            StatusValue::Id(value) => object_id(Object::Mailbox, value, out),
        }
    }
    out.extend_from_slice(b")\r\n");
}

/// Writes `* SEARCH 2 5`, or with another `word` what SORT found, with `(MODSEQ 917162500)` where the client asks for it (RFC 7162
/// §3.1.5).
pub fn found(word: &str, found: &[u32], highest_modseq: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ");
    out.extend_from_slice(word.as_bytes());
    for &one in found {
        out.push(b' ');
        number(u64::from(one), out);
    }
    if let Some(highest) = highest_modseq {
        out.extend_from_slice(b" (MODSEQ ");
        number(highest, out);
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `* UIDBATCHES (TAG "a") 99695:20351,20350:1` (RFC 10022), the largest UIDs first.
pub fn uid_batches(tag: &str, batches: &[(u32, u32)], out: &mut Vec<u8>) {
    // A tag has no character that would need a backslash (RFC 3501 §9).
    out.extend_from_slice(b"* UIDBATCHES (TAG \"");
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(b"\")");
    for (index, (high, low)) in batches.iter().enumerate() {
        out.push(if index == 0 { b' ' } else { b',' });
        number(u64::from(*high), out);
        out.push(b':');
        number(u64::from(*low), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the beginning of `* 7 FETCH (…)`, or of `* 41 UIDFETCH (…)` (RFC 9586 §3.3); items follow, each after [`fetch_name`].
pub fn fetch_begin(by: Numbering, message: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* ");
    number(u64::from(message), out);
    out.extend_from_slice(match by {
        Numbering::Sequence => b" FETCH (",
        Numbering::Uid => b" UIDFETCH (",
    });
}

/// Ends what [`fetch_begin`] began.
pub fn fetch_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b")\r\n");
}

/// Writes the name of an item and the blank behind it.
pub fn fetch_name(item: &FetchItem, out: &mut Vec<u8>) {
    let word: &[u8] = match item {
        FetchItem::Envelope => b"ENVELOPE ",
        FetchItem::Flags => b"FLAGS ",
        FetchItem::InternalDate => b"INTERNALDATE ",
        FetchItem::Size => b"RFC822.SIZE ",
        FetchItem::Uid => b"UID ",
        FetchItem::ModSeq => b"MODSEQ ",
        FetchItem::EmailId => b"EMAILID ",
        FetchItem::ThreadId => b"THREADID ",
        FetchItem::SaveDate => b"SAVEDATE ",
        FetchItem::Preview { .. } => b"PREVIEW ",
        FetchItem::Body => b"BODY ",
        FetchItem::BodyStructure => b"BODYSTRUCTURE ",
        FetchItem::Section { name, .. } => match name {
            SectionName::Body => b"BODY[",
            SectionName::Rfc822 => b"RFC822 ",
            SectionName::Rfc822Header => b"RFC822.HEADER ",
            SectionName::Rfc822Text => b"RFC822.TEXT ",
        },
        FetchItem::Binary { .. } => b"BINARY[",
        FetchItem::BinarySize { .. } => b"BINARY.SIZE[",
    };
    out.extend_from_slice(word);
    let partial = match item {
        FetchItem::Section {
            name: SectionName::Body,
            section,
            partial,
            ..
        } => {
            section.write(out);
            partial.as_ref()
        }
        FetchItem::Binary { part, partial, .. } => {
            body::write_part(part, out);
            partial.as_ref()
        }
        FetchItem::BinarySize { part } => {
            body::write_part(part, out);
            None
        }
        _ => return,
    };
    out.push(b']');
    // RFC 3501 §7.4.2: only the origin comes back.
    if let Some(partial) = partial {
        out.push(b'<');
        number(partial.origin, out);
        out.push(b'>');
    }
    out.push(b' ');
}

/// Writes an INTERNALDATE, in UTC.
pub fn internal_date(unix: i64, out: &mut Vec<u8>) {
    let date = DateTime {
        unix,
        offset_minutes: 0,
    };
    out.push(b'"');
    date::write_imap(date, out);
    out.push(b'"');
}

/// Writes the announcement of a literal; exactly `size` bytes must follow.
pub fn literal_begin(size: u64, out: &mut Vec<u8>) {
    out.push(b'{');
    number(size, out);
    out.extend_from_slice(b"}\r\n");
}

/// The same, of a literal that may hold NUL (RFC 3516 §4.3).
pub fn literal8_begin(size: u64, out: &mut Vec<u8>) {
    out.push(b'~');
    literal_begin(size, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn mailbox_names_are_quoted_where_they_must_be() {
        let name = |name: &str| written(|out| mailbox_name(name, Dialect::REV1, out));
        assert_eq!(name("INBOX"), "INBOX");
        assert_eq!(name("a b"), "\"a b\"");
        assert_eq!(name("a\"\\"), "\"a\\\"\\\\\"");
        assert_eq!(name("nil"), "\"nil\"");
        assert_eq!(name(""), "\"\"");
        assert_eq!(name("x)\r\n* BYE"), "\"x)&AA0ACg-* BYE\"");
    }

    #[test]
    fn who_reads_utf8_gets_names_in_it() {
        for (utf8, rev2) in [(true, false), (false, true)] {
            let dialect = Dialect {
                utf8,
                rev2,
                ..Dialect::REV1
            };
            let name = |name: &str| written(|out| mailbox_name(name, dialect, out));
            assert_eq!(name("INBOX"), "INBOX");
            assert_eq!(name("R&D"), "R&D");
            assert_eq!(name("Entwürfe \"\\"), "\"Entwürfe \\\"\\\\\"");
            assert_eq!(name("nil"), "\"nil\"");
            assert_eq!(name(""), "\"\"");
            assert_eq!(name("x)\r\n* BYE"), "{9}\r\nx)\r\n* BYE");
        }
    }

    #[test]
    fn numbers_have_all_their_digits_and_no_more() {
        for (value, text) in [
            (0, "0"),
            (9, "9"),
            (10, "10"),
            (4_294_967_295, "4294967295"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(written(|out| number(value, out)), text);
        }
    }

    #[test]
    fn batches_go_down() {
        let line = |batches: &[(u32, u32)]| written(|out| uid_batches("A143", batches, out));
        assert_eq!(
            line(&[
                (215_295, 99_696),
                (99_695, 20_351),
                (20_350, 7830),
                (7829, 1)
            ]),
            "* UIDBATCHES (TAG \"A143\") 215295:99696,99695:20351,20350:7830,7829:1\r\n"
        );
        assert_eq!(line(&[(1, 1)]), "* UIDBATCHES (TAG \"A143\") 1:1\r\n");
        assert_eq!(line(&[]), "* UIDBATCHES (TAG \"A143\")\r\n");
    }

    #[test]
    fn lists_and_searches_are_lines() {
        assert_eq!(
            written(|out| {
                let listed = Listed {
                    attributes: &["\\HasNoChildren", "\\Sent"],
                    name: "Sent",
                    ..Listed::default()
                };
                list("LIST", &listed, Dialect::REV1, out);
            }),
            "* LIST (\\HasNoChildren \\Sent) \"/\" Sent\r\n"
        );
        assert_eq!(written(|out| found("SORT", &[], None, out)), "* SORT\r\n");
        assert_eq!(
            written(|out| found("SEARCH", &[2, 5], Some(917_162_500), out)),
            "* SEARCH 2 5 (MODSEQ 917162500)\r\n"
        );
        assert_eq!(
            written(|out| vanished(true, &[(41, 41), (43, 116)], out)),
            "* VANISHED (EARLIER) 41,43:116\r\n"
        );
        assert_eq!(written(|out| vanished(false, &[], out)), "");
        assert_eq!(
            written(|out| enabled(&[Extension::CondStore, Extension::QResync], out)),
            "* ENABLED CONDSTORE QRESYNC\r\n"
        );
        assert_eq!(
            written(|out| flag_list(&[Flag::Seen, Flag::Keyword("$x".into())], true, out)),
            "(\\Seen $x \\*)"
        );
        assert_eq!(
            written(|out| internal_date(0, out)),
            "\" 1-Jan-1970 00:00:00 +0000\""
        );
    }
}
