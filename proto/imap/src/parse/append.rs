//! Reads APPEND piece by piece: its text between the literals, as it comes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::append::{Head, Replaced, Step};
use crate::command::Numbering;
use crate::dialect::Dialect;

use super::cursor::{Cursor, Result, SyntaxError};
use super::{BadCommand, date_time, flag, mailbox, sequence_number, tagged};

/// Where the text of an APPEND goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    place: Place,
    dialect: Dialect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first message.
    Start,
    /// Behind a message.
    Between,
    /// Behind a literal that is a message.
    Message,
    /// The same, announced as one with a header in UTF-8.
    Utf8Message,
    /// In front of the first part of a message.
    First,
    /// Behind a part of a message.
    Part,
    /// Behind a literal that is such a part, announced as one in UTF-8.
    Utf8Part,
}

/// Reads an APPEND of a client that speaks `dialect` up to the first literal that is a message or a part of one.
///
/// # Errors
/// [`BadCommand`].
pub fn begin(
    dialect: Dialect,
    bytes: &[u8],
) -> core::result::Result<(Head, Vec<Step>, Reader), BadCommand> {
    let (tag, mut cursor) = tagged(bytes, dialect)?;
    let mut reader = Reader {
        place: Place::Start,
        dialect,
    };
    let mut read = || {
        let replaces = name(&mut cursor)?;
        let mailbox = mailbox(&mut cursor)?;
        let steps = reader.read(&mut cursor, true)?;
        Ok((replaces, mailbox, steps))
    };
    match read() {
        Ok((replaces, mailbox, steps)) => {
            let head = Head {
                tag,
                replaces,
                mailbox,
            };
            Ok((head, steps, reader))
        }
        Err(error) => Err(BadCommand {
            tag: Some(tag),
            error,
        }),
    }
}

/// Reads `APPEND `, `REPLACE 4 ` or `UID REPLACE 4 `.
fn name(cursor: &mut Cursor<'_>) -> Result<Option<Replaced>> {
    let mut name = cursor.word("expected a command")?;
    cursor.space()?;
    let mut by = Numbering::Sequence;
    if name == "UID" {
        by = Numbering::Uid;
        name = cursor.word("expected REPLACE")?;
        cursor.space()?;
    }
    match name.as_str() {
        "REPLACE" => replaced(by, cursor).map(Some),
        _ => Ok(None),
    }
}

// RFC 8508 §5: replace = "REPLACE" SP seq-number SP mailbox append-message.
pub(super) fn replaced(by: Numbering, cursor: &mut Cursor<'_>) -> Result<Replaced> {
    let number = sequence_number(cursor)?;
    cursor.space()?;
    Ok(Replaced { by, number })
}

/// Reads what stands behind the mailbox in an APPEND that has no message literal.
pub(super) fn without_literal(cursor: &mut Cursor<'_>) -> Result<Vec<Step>> {
    let mut reader = Reader {
        place: Place::Start,
        dialect: cursor.dialect(),
    };
    reader.read(cursor, false)
}

impl Reader {
    /// Reads what stands behind a literal, up to the next one or the end of the command.
    ///
    /// # Errors
    /// [`SyntaxError`]; the command is of no use then.
    pub fn go_on(
        &mut self,
        text: &[u8],
        literal_follows: bool,
    ) -> core::result::Result<Vec<Step>, SyntaxError> {
        self.read(&mut Cursor::new(text, self.dialect), literal_follows)
    }

    // RFC 3502 §6.3.11, append = "APPEND" SP mailbox 1*append-message; RFC 4469 §5, append-data and cat-part, to both of which
    // RFC 6855 §4 adds "UTF8" SP "(" literal8 ")".
    fn read(&mut self, cursor: &mut Cursor<'_>, literal_follows: bool) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        loop {
            match self.place {
                Place::Utf8Message => {
                    cursor.expect(b')', "expected ) behind the literal")?;
                    self.place = Place::Message;
                }
                Place::Utf8Part => {
                    cursor.expect(b')', "expected ) behind the literal")?;
                    self.place = Place::Part;
                }
                Place::Message => {
                    steps.push(Step::End);
                    self.place = Place::Between;
                }
                Place::Between if cursor.is_at_end() && !literal_follows => return Ok(steps),
                Place::Start | Place::Between => {
                    steps.push(options(cursor)?);
                    if cursor.accept_word("CATENATE ") {
                        cursor.expect(b'(', "expected (")?;
                        steps.push(Step::Catenate);
                        self.place = Place::First;
                    } else if self.utf8(cursor)? {
                        steps.push(utf8_literal(cursor, literal_follows)?);
                        self.place = Place::Utf8Message;
                        return Ok(steps);
                    } else if cursor.is_at_end() && literal_follows {
                        steps.push(Step::Literal);
                        self.place = Place::Message;
                        return Ok(steps);
                    } else {
                        return cursor.fail("expected flags, a date or the message as a literal");
                    }
                }
                Place::Part if cursor.accept(b')') => {
                    steps.push(Step::End);
                    self.place = Place::Between;
                }
                Place::First | Place::Part => {
                    if self.place == Place::Part {
                        cursor.expect(b' ', "expected a space or )")?;
                    }
                    self.place = Place::Part;
                    if cursor.accept_word("URL ") {
                        steps.push(Step::Url(url(cursor)?));
                    } else if self.utf8(cursor)? {
                        steps.push(utf8_literal(cursor, literal_follows)?);
                        self.place = Place::Utf8Part;
                        return Ok(steps);
                    } else if !cursor.accept_word("TEXT ") {
                        return cursor.fail("expected TEXT or URL");
                    } else if cursor.is_at_end() && literal_follows {
                        steps.push(Step::Literal);
                        return Ok(steps);
                    } else {
                        return cursor.fail("expected a literal behind TEXT");
                    }
                }
            }
        }
    }

    fn utf8(&self, cursor: &mut Cursor<'_>) -> Result<bool> {
        let is_utf8 = cursor.accept_word("UTF8 (");
        if is_utf8 && !self.dialect.utf8 {
            return cursor.fail("ENABLE UTF8=ACCEPT first");
        }
        Ok(is_utf8)
    }
}

fn utf8_literal(cursor: &Cursor<'_>, literal_follows: bool) -> Result<Step> {
    if cursor.is_at_end() && literal_follows {
        return Ok(Step::Utf8Literal);
    }
    cursor.fail("expected a literal behind UTF8 (")
}

/// What a message is to be: SP [flag-list SP] [date-time SP], with the blank behind.
fn options(cursor: &mut Cursor<'_>) -> Result<Step> {
    cursor.space()?;
    let mut flags = Vec::new();
    if cursor.peek() == Some(b'(') {
        flags = cursor.list(flag)?;
        cursor.space()?;
    }
    let mut internal_date = None;
    if cursor.peek() == Some(b'"') {
        internal_date = Some(date_time(cursor)?);
        cursor.space()?;
    }
    Ok(Step::Begin {
        flags,
        internal_date,
    })
}

fn url(cursor: &mut Cursor<'_>) -> Result<String> {
    let url = cursor.astring("expected a URL")?;
    // What is not ASCII is no URL (RFC 3986 §2), as whoever resolves it will say.
    Ok(String::from_utf8_lossy(&url).to_string())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::command::Command;
    use crate::sequence::Number;

    fn message(flags: usize) -> impl Fn(&Step) -> bool {
        move |step| matches!(step, Step::Begin { flags: found, .. } if found.len() == flags)
    }

    #[test]
    fn messages_and_their_parts_come_as_steps() {
        let (head, steps, mut reader) = begin(
            Dialect::REV1,
            b"a APPEND inbox (\\Seen $x) \"17-Jul-1996 02:44:25 -0700\" ",
        )
        .unwrap();
        assert_eq!((&*head.tag, &*head.mailbox), ("a", "INBOX"));
        assert!(message(2)(&steps[0]) && steps[1..] == [Step::Literal]);
        let steps = reader.go_on(b" (\\Seen) CATENATE (URL /x TEXT ", true);
        let steps = steps.unwrap();
        assert!(steps[0] == Step::End && message(1)(&steps[1]));
        assert_eq!(
            steps[2..],
            [Step::Catenate, Step::Url("/x".into()), Step::Literal]
        );
        let steps = reader.go_on(b" URL \"/y\" TEXT ", true).unwrap();
        assert_eq!(steps, [Step::Url("/y".into()), Step::Literal]);
        let steps = reader.go_on(b") ", true).unwrap();
        assert!(steps[0] == Step::End && message(0)(&steps[1]) && steps[2] == Step::Literal);
        assert_eq!(reader.go_on(b"", false), Ok(vec![Step::End]));
    }

    fn whole(text: &str) -> core::result::Result<Command, BadCommand> {
        crate::parse::request(text.as_bytes()).map(|request| request.command)
    }

    #[test]
    fn a_replace_says_which_message_goes() {
        let replaces = |text: &str| begin(Dialect::REV1, text.as_bytes()).unwrap().0.replaces;
        let four = |by| Replaced {
            by,
            number: Number::Value(4),
        };
        let found = replaces("a replace 4 x (\\Draft) ");
        assert_eq!(found, Some(four(Numbering::Sequence)));
        assert_eq!(replaces("a UID REPLACE 4 x "), Some(four(Numbering::Uid)));
        assert_eq!(replaces("a APPEND x "), None);
        for text in [
            "a REPLACE x y ",
            "a REPLACE 0 x ",
            "a REPLACE 1:2 x ",
            "a UID REPLACE 1 ",
        ] {
            assert!(begin(Dialect::REV1, text.as_bytes()).is_err(), "{text}");
        }
        assert!(whole("a REPLACE 4 x CATENATE (URL /x)").is_ok());
        assert!(whole("a REPLACE 4 x").is_err());
    }

    #[test]
    fn an_append_of_urls_needs_no_literal() {
        let Ok(Command::Append { steps, .. }) = whole("a APPEND x CATENATE (URL /x)") else {
            panic!("no append");
        };
        assert_eq!(
            steps[1..],
            [Step::Catenate, Step::Url("/x".into()), Step::End]
        );
    }

    // RFC 6855 §4.
    #[test]
    fn a_literal_in_utf_8_stands_in_parentheses_and_has_to_be_switched_on() {
        let utf8 = Dialect {
            utf8: true,
            ..Dialect::REV1
        };
        for (text, end) in [
            ("a APPEND x utf8 (", ")"),
            ("a APPEND x CATENATE (UTF8 (", "))"),
        ] {
            assert!(begin(Dialect::REV1, text.as_bytes()).is_err(), "{text}");
            let (_, steps, reader) = begin(utf8, text.as_bytes()).unwrap();
            assert_eq!(steps.last(), Some(&Step::Utf8Literal));
            let go_on = |text: &str| reader.clone().go_on(text.as_bytes(), false);
            assert_eq!(go_on(end), Ok(vec![Step::End]), "{text}");
            assert!(go_on("").is_err() && go_on(&end[1..]).is_err(), "{text}");
        }
        assert!(begin(utf8, b"a APPEND x UTF8 (x ").is_err());
    }

    #[test]
    fn what_is_no_append_is_refused_wherever_it_ends() {
        for text in [
            "a APPEND",
            "a APPEND x",
            "a APPEND x ",
            "a APPEND x CATENATE ()",
            "a APPEND x CATENATE (URL /x",
            "a APPEND x CATENATE (URL /x) ",
            "a APPEND x CATENATE (TEXT x)",
        ] {
            assert!(whole(text).is_err(), "{text}");
        }
        for text in [
            "a APPEND x",
            "a APPEND x y ",
            "a APPEND x (y ",
            "a APPEND x CATENATE (URL /x ",
            "a APPEND x CATENATE (TEXT",
            "a APPEND x CATENATE (TEXT x",
            "a APPEND x CATENATE (URL /x)y ",
        ] {
            assert!(begin(Dialect::REV1, text.as_bytes()).is_err(), "{text}");
        }
        let (_, _, reader) = begin(Dialect::REV1, b"a APPEND x ").unwrap();
        for (text, literal_follows) in [(" ", false), ("", true), (")", false), (" x", false)] {
            let mut reader = reader.clone();
            let read = reader.go_on(text.as_bytes(), literal_follows);
            assert!(read.is_err(), "{text}");
        }
    }
}
