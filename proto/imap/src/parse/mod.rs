//! Reads commands. What is not exactly right is refused with words that say what was expected, and where.

mod acl;
pub mod append;
mod batches;
mod cursor;
mod fetch;
mod list;
mod metadata;
mod multisearch;
mod notify;
mod quota;
mod search;
mod sort;
mod sync;

use alloc::string::String;
use alloc::vec::Vec;

use crate::append::Replaced;
use crate::body::Section;
use crate::command::{Command, Numbering, Request, StoreMode};
use crate::dialect::Dialect;
use crate::flag::{Flag, MAX_KEYWORD, Use};
use crate::mailbox::{self, DELIMITER};
use crate::sasl::{Credentials, MAX_CREDENTIAL, Password};
use crate::sequence::{Number, SequenceSet};

use self::cursor::{Cursor, Result};

pub use self::cursor::SyntaxError;
pub(crate) use self::cursor::is_atom_char;

/// Longer patterns of LIST match no name anyway, or say the same as a shorter one.
const MAX_PATTERN: usize = 1000;

/// A command that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCommand {
    /// Its tag, if that much could be read.
    pub tag: Option<String>,
    /// What is wrong.
    pub error: SyntaxError,
}

/// Reads a command as [`crate::fragment::Fragment::Command`] brings it, of a client that has switched nothing on.
///
/// # Errors
/// [`BadCommand`].
pub fn request(bytes: &[u8]) -> core::result::Result<Request, BadCommand> {
    request_in(Dialect::REV1, bytes)
}

/// The same, of a client that speaks `dialect`.
///
/// # Errors
/// [`BadCommand`].
pub fn request_in(dialect: Dialect, bytes: &[u8]) -> core::result::Result<Request, BadCommand> {
    let (tag, mut cursor) = tagged(bytes, dialect)?;
    match command(&mut cursor).and_then(|command| cursor.end().map(|()| command)) {
        Ok(command) => Ok(Request { tag, command }),
        Err(error) => Err(BadCommand {
            tag: Some(tag),
            error,
        }),
    }
}

/// Reads a section like `1.2.HEADER`; `None` for what is none.
pub(crate) fn section(text: &[u8]) -> Option<Section> {
    fetch::section_of_url(text)
}

/// The tag of a command that was not read whole.
#[must_use]
pub fn tag(bytes: &[u8]) -> Option<String> {
    tagged(bytes, Dialect::REV1).ok().map(|(tag, _)| tag)
}

fn tagged(
    bytes: &[u8],
    dialect: Dialect,
) -> core::result::Result<(String, Cursor<'_>), BadCommand> {
    let mut cursor = Cursor::new(bytes, dialect);
    let tag = cursor
        .tag()
        .and_then(|tag| cursor.space().map(|()| String::from(tag)));
    match tag {
        Ok(tag) => Ok((tag, cursor)),
        Err(error) => Err(BadCommand { tag: None, error }),
    }
}

fn date_time(cursor: &mut Cursor<'_>) -> Result<i64> {
    let text = cursor.string("expected a date")?;
    match mail::date::parse_imap(&text) {
        Some(date) => Ok(date.unix),
        None => cursor.fail("expected a date like \"17-Jul-1996 02:44:25 -0700\""),
    }
}

fn command(cursor: &mut Cursor<'_>) -> Result<Command> {
    let start = cursor.clone();
    let name = cursor.word("expected a command")?;
    Ok(match name.as_str() {
        "CAPABILITY" => Command::Capability,
        "NOOP" => Command::Noop,
        "LOGOUT" => Command::Logout,
        "STARTTLS" => Command::StartTls,
        "NAMESPACE" => Command::Namespace,
        "CHECK" => Command::Check,
        "CLOSE" => Command::Close,
        "UNSELECT" => Command::Unselect,
        "EXPUNGE" => Command::Expunge(None),
        "IDLE" => Command::Idle,
        "UNAUTHENTICATE" => Command::Unauthenticate,
        "COMPRESS" | "ID" | "LOGIN" | "AUTHENTICATE" | "ENABLE" | "SELECT" | "EXAMINE"
        | "CREATE" | "DELETE" | "RENAME" | "SUBSCRIBE" | "UNSUBSCRIBE" | "LIST" | "LSUB"
        | "STATUS" | "SEARCH" | "SORT" | "THREAD" | "FETCH" | "STORE" | "COPY" | "MOVE" | "UID"
        | "GETMETADATA" | "SETMETADATA" | "APPEND" | "REPLACE" | "GETQUOTA" | "GETQUOTAROOT"
        | "SETQUOTA" | "NOTIFY" | "UIDBATCHES" | "CANCELUPDATE" | "ESEARCH" | "SETACL"
        | "DELETEACL" | "GETACL" | "LISTRIGHTS" | "MYRIGHTS" => {
            cursor.space()?;
            return with_arguments(&name, cursor);
        }
        _ => return start.fail("unknown command"),
    })
}

fn with_arguments(name: &str, cursor: &mut Cursor<'_>) -> Result<Command> {
    Ok(match name {
        "COMPRESS" if cursor.accept_word("DEFLATE") => Command::Compress,
        "COMPRESS" => return cursor.fail("expected DEFLATE"),
        "ID" => id(cursor)?,
        "LOGIN" => login(cursor)?,
        "AUTHENTICATE" => authenticate(cursor)?,
        "ENABLE" => Command::Enable(sync::enable(cursor)?),
        "SELECT" | "EXAMINE" => {
            let (mailbox, asked) = mailbox_as_asked(cursor)?;
            let (condstore, resync) = sync::select(cursor)?;
            Command::Select {
                mailbox,
                asked,
                read_only: name == "EXAMINE",
                condstore,
                resync,
            }
        }
        "CREATE" => create(cursor)?,
        "DELETE" => Command::Delete(mailbox(cursor)?),
        "RENAME" => {
            let from = mailbox(cursor)?;
            cursor.space()?;
            let to = without_delimiter(mailbox(cursor)?);
            Command::Rename { from, to }
        }
        "SUBSCRIBE" => Command::Subscribe(mailbox(cursor)?),
        "UNSUBSCRIBE" => Command::Unsubscribe(mailbox(cursor)?),
        "LIST" => Command::List(list::list(cursor)?),
        "LSUB" => {
            let reference = mailbox(cursor)?;
            cursor.space()?;
            let pattern = pattern(cursor)?;
            Command::Lsub { reference, pattern }
        }
        "STATUS" => list::status(cursor)?,
        "UIDBATCHES" => batches::uid_batches(cursor)?,
        "CANCELUPDATE" => search::cancel_update(cursor)?,
        "ESEARCH" => multisearch::esearch(cursor)?,
        "NOTIFY" => Command::Notify(notify::notify(cursor)?),
        "GETMETADATA" => metadata::get(cursor)?,
        "SETMETADATA" => metadata::set(cursor)?,
        "GETQUOTA" => quota::get(cursor)?,
        "GETQUOTAROOT" => quota::get_root(cursor)?,
        "SETQUOTA" => quota::set(cursor)?,
        "SETACL" | "DELETEACL" | "GETACL" | "LISTRIGHTS" | "MYRIGHTS" => {
            acl::command(name, cursor)?
        }
        // An APPEND without a message literal has to be put together of what is here.
        "APPEND" => append_without_literal(None, cursor)?,
        "REPLACE" => replace(Numbering::Sequence, cursor)?,
        "UID" => return uid(cursor),
        name => return numbered(name, Numbering::Sequence, cursor),
    })
}

// RFC 3501 §6.4.8; RFC 4315 §2.1, UID EXPUNGE.
fn uid(cursor: &mut Cursor<'_>) -> Result<Command> {
    let start = cursor.clone();
    let name = cursor.word("expected a command behind UID")?;
    if !matches!(
        name.as_str(),
        "EXPUNGE" | "SEARCH" | "SORT" | "THREAD" | "FETCH" | "STORE" | "COPY" | "MOVE" | "REPLACE"
    ) {
        return start.fail(
            "UID goes with COPY, EXPUNGE, FETCH, MOVE, REPLACE, SEARCH, SORT, STORE and THREAD",
        );
    }
    cursor.space()?;
    if name == "EXPUNGE" {
        return Ok(Command::Expunge(Some(sequence_set(cursor)?)));
    }
    if name == "REPLACE" {
        return replace(Numbering::Uid, cursor);
    }
    numbered(&name, Numbering::Uid, cursor)
}

fn replace(by: Numbering, cursor: &mut Cursor<'_>) -> Result<Command> {
    let replaced = append::replaced(by, cursor)?;
    append_without_literal(Some(replaced), cursor)
}

fn append_without_literal(replaces: Option<Replaced>, cursor: &mut Cursor<'_>) -> Result<Command> {
    let mailbox = mailbox(cursor)?;
    let steps = append::without_literal(cursor)?;
    Ok(Command::Append {
        replaces,
        mailbox,
        steps,
    })
}

fn numbered(name: &str, by: Numbering, cursor: &mut Cursor<'_>) -> Result<Command> {
    match name {
        "SEARCH" => return search::arguments(by, cursor),
        "SORT" => return sort::sort(by, cursor),
        "THREAD" => return sort::thread(by, cursor),
        _ => {}
    }
    let set = sequence_set(cursor)?;
    cursor.space()?;
    Ok(match name {
        "FETCH" => {
            let items = fetch::items(cursor)?;
            let modifiers = fetch::modifiers(cursor, by)?;
            Command::Fetch {
                by,
                set,
                items,
                changed_since: modifiers.changed_since,
                partial: modifiers.partial,
            }
        }
        "STORE" => return store(by, set, cursor),
        "COPY" => Command::Copy {
            by,
            set,
            to: mailbox(cursor)?,
        },
        _ => Command::Move {
            by,
            set,
            to: mailbox(cursor)?,
        },
    })
}

// RFC 2971 §3.1: id = "ID" SP ("NIL" / "(" pairs of string and nstring ")").
fn id(cursor: &mut Cursor<'_>) -> Result<Command> {
    if !cursor.accept_word("NIL") {
        cursor.list(|cursor| {
            if !cursor.accept_word("NIL") {
                cursor.string("expected a string")?;
            }
            Ok(())
        })?;
    }
    Ok(Command::Id)
}

fn login(cursor: &mut Cursor<'_>) -> Result<Command> {
    let user = cursor.text("expected a user name")?;
    cursor.space()?;
    let password = cursor.astring("expected a password")?.into_owned();
    if user.len() > MAX_CREDENTIAL || password.len() > MAX_CREDENTIAL {
        return cursor.fail("user name or password too long");
    }
    Ok(Command::Login(Credentials {
        user,
        password: Password::new(password),
    }))
}

// RFC 4959 §3: a single "=" stands for an initial response of no bytes.
fn authenticate(cursor: &mut Cursor<'_>) -> Result<Command> {
    let mechanism = cursor
        .atom("expected a SASL mechanism")?
        .to_ascii_uppercase();
    let mut initial = None;
    if cursor.accept(b' ') {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        let response = cursor.take_while(is_base64);
        if response.is_empty() {
            return cursor.fail("expected base64");
        }
        let response = if response == b"=" { b"" } else { response };
        initial = Some(response.to_vec());
    }
    Ok(Command::Authenticate { mechanism, initial })
}

// RFC 6154 §3: CREATE name (USE (\Sent)).
fn create(cursor: &mut Cursor<'_>) -> Result<Command> {
    // RFC 3501 §6.3.3: a trailing delimiter says that children will be made; it is no part of the name.
    let (mailbox, asked) = mailbox_as_asked(cursor)?;
    let mailbox = without_delimiter(mailbox);
    let mut special_use = None;
    if cursor.accept(b' ') {
        cursor.expect(b'(', "expected (USE (…))")?;
        if !cursor.accept_word("USE ") {
            return cursor.fail("expected USE");
        }
        let mut uses = cursor.list(|cursor| {
            cursor.expect(b'\\', "expected a use like \\Sent")?;
            let name = cursor.atom("expected a use like \\Sent")?;
            match Use::parse(name.as_bytes()) {
                Some(known) => Ok(known),
                None => cursor.fail("uses are \\Archive \\Drafts \\Junk \\Sent \\Trash"),
            }
        })?;
        cursor.expect(b')', "expected )")?;
        special_use = uses.pop();
        if !uses.is_empty() {
            return cursor.fail("a mailbox has one use");
        }
    }
    Ok(Command::Create {
        mailbox,
        asked: asked.map(without_delimiter),
        special_use,
    })
}

fn without_delimiter(mut mailbox: String) -> String {
    if mailbox.len() > 1 && mailbox.ends_with(DELIMITER) {
        mailbox.pop();
    }
    mailbox
}

// RFC 3501 §6.4.6: store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / flags).
fn store(by: Numbering, set: SequenceSet, cursor: &mut Cursor<'_>) -> Result<Command> {
    let unchanged_since = sync::store(cursor)?;
    let mode = if cursor.accept(b'+') {
        StoreMode::Add
    } else if cursor.accept(b'-') {
        StoreMode::Remove
    } else {
        StoreMode::Replace
    };
    let item = cursor.clone();
    let silent = match cursor.word("expected FLAGS, +FLAGS or -FLAGS")?.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return item.fail("expected FLAGS, +FLAGS or -FLAGS"),
    };
    cursor.space()?;
    let flags = if cursor.peek() == Some(b'(') {
        cursor.list(flag)?
    } else {
        let mut flags = alloc::vec![flag(cursor)?];
        while cursor.accept(b' ') {
            flags.push(flag(cursor)?);
        }
        flags
    };
    Ok(Command::Store {
        by,
        set,
        unchanged_since,
        mode,
        silent,
        flags,
    })
}

fn flag(cursor: &mut Cursor<'_>) -> Result<Flag> {
    let start = cursor.clone();
    if !cursor.accept(b'\\') {
        let keyword = cursor.atom("expected a flag")?;
        if keyword.len() > MAX_KEYWORD {
            return start.fail("the keyword is too long");
        }
        return Ok(Flag::Keyword(keyword.into()));
    }
    let name = cursor.atom("expected a flag")?.to_ascii_uppercase();
    Ok(match name.as_str() {
        "ANSWERED" => Flag::Answered,
        "DELETED" => Flag::Deleted,
        "DRAFT" => Flag::Draft,
        "FLAGGED" => Flag::Flagged,
        "SEEN" => Flag::Seen,
        // RFC 3501 §2.3.2: clients cannot set \Recent; other names are reserved.
        _ => {
            return start
                .fail("system flags are \\Answered \\Deleted \\Draft \\Flagged and \\Seen");
        }
    })
}

fn mailbox(cursor: &mut Cursor<'_>) -> Result<String> {
    let text = cursor.astring("expected a mailbox name")?;
    named(&text, cursor)
}

/// The name of a mailbox, and the one that the client wrote if that is not in Normalization Form C.
fn mailbox_as_asked(cursor: &mut Cursor<'_>) -> Result<(String, Option<String>)> {
    let text = cursor.astring("expected a mailbox name")?;
    let name = named(&text, cursor)?;
    let asked = written_name(&text, cursor)?;
    let is_other = !mailbox::is_normalized(&asked);
    Ok((name, is_other.then_some(asked)))
}

// RFC 3501 §9: list-mailbox has wildcards even where it is no string.
fn pattern(cursor: &mut Cursor<'_>) -> Result<String> {
    let is_list_char = |byte: u8| is_atom_char(byte) || b"%*]".contains(&byte);
    let pattern = if matches!(cursor.peek(), Some(b'"' | b'{')) {
        mailbox(cursor)?
    } else {
        match cursor.take_while(is_list_char) {
            b"" => return cursor.fail("expected a mailbox name or pattern"),
            text => named(text, cursor)?,
        }
    };
    // Matching costs its length for every letter of every name.
    if pattern.len() > MAX_PATTERN {
        return cursor.fail("the pattern is too long");
    }
    Ok(pattern)
}

fn named(text: &[u8], cursor: &Cursor<'_>) -> Result<String> {
    written_name(text, cursor).map(mailbox::normalize)
}

fn written_name(text: &[u8], cursor: &Cursor<'_>) -> Result<String> {
    if cursor.dialect().has_utf8_names() {
        return match mailbox::decode_utf8(text) {
            Some(name) => Ok(name),
            None => cursor.fail("the mailbox name is not in UTF-8, or holds line ends"),
        };
    }
    match mailbox::decode(text) {
        Some(name) => Ok(name),
        None => cursor.fail("the mailbox name is not in modified UTF-7 (& is written &-)"),
    }
}

// RFC 5182 §3: sequence-set =/ "$".
fn sequence_set(cursor: &mut Cursor<'_>) -> Result<SequenceSet> {
    if cursor.accept(b'$') {
        return Ok(SequenceSet::Saved);
    }
    let mut ranges = Vec::new();
    loop {
        let start = sequence_number(cursor)?;
        let end = if cursor.accept(b':') {
            sequence_number(cursor)?
        } else {
            start
        };
        ranges.push((start, end));
        if !cursor.accept(b',') {
            return Ok(SequenceSet::Named(ranges));
        }
    }
}

fn sequence_number(cursor: &mut Cursor<'_>) -> Result<Number> {
    if cursor.accept(b'*') {
        return Ok(Number::Last);
    }
    match cursor.peek() {
        Some(byte) if byte.is_ascii_digit() => cursor.nonzero().map(Number::Value),
        _ => cursor.fail("expected message numbers like 1:5,7"),
    }
}

#[cfg(test)]
mod tests;
