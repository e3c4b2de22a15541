//! The first words of a message, for a list of messages (RFC 8970): of the text its reader would see first, decoded, HTML without
//! its marks.
//!
//! Work is linear in what is looked at, at most [`LOOKED_AT`] bytes of a message. Nothing in it is believed to be well made, and
//! what comes out is plain text: no control characters, none that cannot be seen or change the direction of writing.

use mail::content::Disposition;
use mail::header;
use mail::mime::{Message, Part, Structure};

use crate::search_text::part_text;

/// Letters shown at most.
// RFC 8970 §3.1: no more than 200 should be.
pub const LETTERS: usize = 200;
/// Encoded bytes looked at in one message.
pub const LOOKED_AT: usize = 256 * 1024;
/// Encoded bytes looked at in one part.
const OF_A_PART: usize = 64 * 1024;
/// Parts looked at until there is one that says something.
const PARTS: usize = 8;

/// The preview of a message; empty if there is nothing to be shown, as where all of it is encrypted.
#[must_use]
pub fn of(message: &Message<'_>) -> String {
    let mut left = LOOKED_AT;
    for part in shown(message).take(PARTS) {
        let mut most = left.min(OF_A_PART);
        left -= most;
        let text = part_text(message, part, &mut most);
        left += most;
        let mut preview = Preview::default();
        match part.content_type.subtype.as_str() {
            "html" => html(&text, &mut preview),
            _ => plain(&text, &mut preview),
        }
        if !preview.text.is_empty() {
            return preview.text;
        }
    }
    String::new()
}

/// The texts a reader would see, in order; of an HTML text that there is in plain too, that comes first.
fn shown<'m>(message: &'m Message<'_>) -> impl Iterator<Item = &'m Part> {
    let is_shown = |part: &&Part| {
        part.structure == Structure::Leaf
            && (part.content_type.is("text", "plain") || part.content_type.is("text", "html"))
            && !is_inside(message, part)
            && !is_attached(message, part)
    };
    let parts = message.parts().iter().filter(is_shown);
    parts.map(move |part| plain_sibling(message, part).unwrap_or(part))
}

/// Whether a part is in a message inside of this one.
fn is_inside(message: &Message<'_>, part: &Part) -> bool {
    let parent = |part: &Part| part.parent.and_then(|parent| message.parts().get(parent));
    let mut above = std::iter::successors(parent(part), |part| parent(part));
    above.any(|part| part.structure == Structure::Message)
}

fn is_attached(message: &Message<'_>, part: &Part) -> bool {
    let field = header::find(message.header(part), "Content-Disposition");
    let disposition = field.and_then(|field| Disposition::parse(field.value));
    disposition.is_some_and(|disposition| disposition.kind == "attachment")
}

fn plain_sibling<'m>(message: &'m Message<'_>, part: &Part) -> Option<&'m Part> {
    let parent = message.parts().get(part.parent?)?;
    let is_html = part.content_type.is("text", "html");
    if !is_html || !parent.content_type.is("multipart", "alternative") {
        return None;
    }
    let mut siblings = message.children(parent).take(PARTS);
    siblings.find(|part| part.content_type.is("text", "plain"))
}

/// What is shown so far.
#[derive(Default)]
struct Preview {
    text: String,
    letters: usize,
    /// Whether a blank comes before the next letter.
    is_blank: bool,
}

impl Preview {
    /// Adds a letter; false if there is no room for more.
    fn push(&mut self, letter: char) -> bool {
        if letter.is_whitespace() {
            self.is_blank = true;
            return true;
        }
        if is_unseen(letter) {
            return true;
        }
        let blank = usize::from(self.is_blank && self.letters > 0);
        if self.letters + blank + 1 > LETTERS {
            return false;
        }
        if blank > 0 {
            self.text.push(' ');
        }
        self.is_blank = false;
        self.text.push(letter);
        self.letters += blank + 1;
        true
    }

    fn push_all(&mut self, text: &str) -> bool {
        text.chars().all(|letter| self.push(letter))
    }
}

/// Letters that take no room, or turn the direction of writing.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// What somebody else wrote, and what stands below the letter, says little of it: they are shown only where there is nothing else.
fn plain(text: &str, preview: &mut Preview) {
    for line in text.lines() {
        // RFC 3676 §4.3: the line before a signature.
        if line.trim_end() == "--" && preview.letters > 0 {
            return;
        }
        if line.starts_with('>') {
            continue;
        }
        if !preview.push_all(line) {
            return;
        }
        preview.is_blank = true;
    }
    if preview.letters == 0 {
        preview.push_all(text);
    }
}

/// Elements of which nothing is shown.
const HIDDEN: [&str; 7] = [
    "head", "style", "script", "title", "template", "noscript", "svg",
];

fn html(text: &str, preview: &mut Preview) {
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let is_full = match letter {
            '<' if is_mark(rest) => {
                let (is_apart, behind) = mark(rest);
                preview.is_blank |= is_apart;
                rest = behind;
                continue;
            }
            '&' => {
                let (letter, behind) = reference(rest);
                rest = behind;
                !preview.push(letter)
            }
            letter => {
                rest = &rest[letter.len_utf8()..];
                !preview.push(letter)
            }
        };
        if is_full {
            return;
        }
    }
}

/// Whether this is no mere letter.
fn is_mark(text: &str) -> bool {
    let next = text.as_bytes().get(1);
    next.is_some_and(|next| next.is_ascii_alphabetic() || b"/!?".contains(next))
}

/// Steps over a tag, a comment, or an element of which nothing is shown. Also says whether what follows is apart from what went before.
fn mark(text: &str) -> (bool, &str) {
    let behind = |end: &str| {
        let at = text.find(end);
        at.map_or("", |at| &text[at + end.len()..])
    };
    if text.starts_with("<!--") {
        return (false, behind("-->"));
    }
    let inner = &text[1..];
    let is_name = |letter: &char| letter.is_ascii_alphanumeric();
    let start = inner.strip_prefix('/').unwrap_or(inner);
    let name: String = start.chars().take_while(is_name).take(16).collect();
    let name = name.to_ascii_lowercase();
    let behind = end_of_tag(inner);
    if !inner.starts_with('/') && HIDDEN.contains(&name.as_str()) {
        return (true, behind_element(behind, &name));
    }
    let is_inline = matches!(
        name.as_str(),
        "a" | "abbr"
            | "b"
            | "bdi"
            | "bdo"
            | "big"
            | "cite"
            | "code"
            | "em"
            | "font"
            | "i"
            | "ins"
            | "kbd"
            | "mark"
            | "o"
            | "q"
            | "s"
            | "small"
            | "span"
            | "strong"
            | "sub"
            | "sup"
            | "tt"
            | "u"
            | "wbr"
    );
    (!is_inline, behind)
}

/// What stands behind a tag. In quotes it may hold what looks like its end.
fn end_of_tag(text: &str) -> &str {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return &text[at + 1..],
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    ""
}

/// What stands behind the end of an element.
fn behind_element<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        let found = rest.as_bytes().get(..name.len());
        if found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes())) {
            return end_of_tag(rest);
        }
    }
    ""
}

/// Longer references to characters there are none that are written in mail.
const REFERENCE: usize = 10;

/// Reads `&amp;`, `&#228;` or `&#xe4;`; what is none of them is an ampersand.
fn reference(text: &str) -> (char, &str) {
    let inner = &text[1..];
    let mut ends = inner.char_indices().take(REFERENCE);
    let end = ends.find(|(_, letter)| *letter == ';').map(|(at, _)| at);
    let Some((name, behind)) = end.map(|end| (&inner[..end], &inner[end + 1..])) else {
        return ('&', inner);
    };
    let number = |digits: &str, radix| {
        let number = u32::from_str_radix(digits, radix).ok()?;
        Some(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER))
    };
    let letter = match name.strip_prefix('#') {
        Some(digits) => match digits.strip_prefix(['x', 'X']) {
            Some(digits) => number(digits, 16),
            None => number(digits, 10),
        },
        None => named(name),
    };
    letter.map_or(('&', inner), |letter| (letter, behind))
}

/// The characters that are often written by name.
fn named(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" | "ensp" | "emsp" | "thinsp" => ' ',
        "shy" | "zwnj" | "zwj" => '\u{ad}',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        "egrave" => 'è',
        "agrave" => 'à',
        "ccedil" => 'ç',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "bull" => '•',
        "middot" => '·',
        "euro" => '€',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(message: &str) -> String {
        of(&Message::walk(message.as_bytes()))
    }

    fn text(kind: &str, text: &str) -> String {
        preview(&format!(
            "Content-Type: text/{kind}; charset=utf-8\r\n\r\n{text}"
        ))
    }

    #[test]
    fn text_is_decoded_and_its_blanks_are_joined() {
        let message = "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\r\n  Gr=FC=DFe\r\n\r\nan=20alle\r\n";
        assert_eq!(preview(message), "Grüße an alle");
        let message = "Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n";
        assert_eq!(preview(message), "Hello");
        assert_eq!(preview("Subject: none\r\n\r\n"), "");
    }

    #[test]
    fn no_more_is_shown_than_may_be_and_letters_are_counted_not_bytes() {
        assert_eq!(text("plain", &"ä".repeat(1000)), "ä".repeat(LETTERS));
        assert_eq!(text("plain", &"a ".repeat(1000)).len(), LETTERS - 1);
    }

    #[test]
    fn quotes_and_signatures_are_left_out_where_there_is_something_else() {
        assert_eq!(
            text("plain", "> asked\r\nanswered\r\n-- \r\nme\r\n"),
            "answered"
        );
        assert_eq!(text("plain", "> asked\r\n"), "> asked");
    }

    #[test]
    fn what_cannot_be_seen_or_turns_the_text_around_is_left_out() {
        let odd = "a\u{200b}b\u{202e}c\u{0}d\u{1b}[31m\u{feff}\u{e0041}e";
        assert_eq!(text("plain", odd), "abcd[31me");
        assert_eq!(text("html", "&#8238;a&zwnj;&#x200f;b&#0;"), "ab");
    }

    #[test]
    fn html_is_reduced_to_its_text() {
        let page = "<!DOCTYPE html><html><head><title>no</title><style>p { a > b }</style></head><body><!-- no > -->\
            <p title=\"a > b\">Dear<b>est</b> <i>J&uuml;rgen</i>,</p><br/>1 &lt; 2 &amp;&nbsp;&#51;&#x21; &unknown; & <script>if (a</b) no</script>\
            <td>x</td><td>y</td></body></html>";
        assert_eq!(
            text("html", page),
            "Dearest Jürgen, 1 < 2 & 3! &unknown; & x y"
        );
        assert_eq!(text("html", "a < b <3"), "a < b <3");
        for unfinished in [
            "a<!-- no",
            "a<p title=\"",
            "a<style>no",
            "a<script>no</scrip",
        ] {
            assert_eq!(text("html", unfinished), "a", "{unfinished}");
        }
    }

    #[test]
    fn the_text_a_reader_sees_first_is_shown() {
        let part =
            |kind: &str, text: &str| format!("--b\r\nContent-Type: {kind}\r\n\r\n{text}\r\n");
        let message = |kind: &str, parts: &[String]| {
            let head = format!("Content-Type: multipart/{kind}; boundary=b\r\n\r\n");
            preview(&[head, parts.concat(), "--b--\r\n".into()].concat())
        };
        let attached =
            "--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nfile\r\n";
        let both = [part("text/html", "<p>html"), part("text/plain", "plain")];
        assert_eq!(message("alternative", &both), "plain");
        assert_eq!(message("mixed", &both), "html");
        let mixed = [
            attached.to_owned(),
            part("text/plain", " \r\n"),
            part("text/html", "html"),
        ];
        assert_eq!(message("mixed", &mixed), "html");
        let forwarded = [
            part("message/rfc822", "Subject: x\r\n\r\ninside"),
            part("text/plain", "outside"),
        ];
        assert_eq!(message("mixed", &forwarded), "outside");
        let encrypted = [
            part("application/pgp-encrypted", "Version: 1"),
            part("application/octet-stream", "x"),
        ];
        assert_eq!(message("encrypted", &encrypted), "");
    }

    #[test]
    fn what_says_nothing_for_long_is_not_looked_through() {
        let part = |text: &str| format!("--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n");
        let first_word_behind = |before: &str, times: usize| {
            let parts = part(before).repeat(times) + &part("word");
            preview(&format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n"
            ))
        };
        assert_eq!(first_word_behind("", PARTS - 1), "word");
        assert_eq!(first_word_behind("", PARTS), "");
        let blanks = " ".repeat(OF_A_PART);
        assert_eq!(text("plain", &format!("{}word", &blanks[5..])), "word");
        assert_eq!(text("plain", &format!("{blanks}word")), "");
        let parts = LOOKED_AT / OF_A_PART;
        assert_eq!(first_word_behind(&blanks, parts - 1), "word");
        assert_eq!(first_word_behind(&blanks, parts), "");
    }

    #[test]
    fn hostile_text_takes_no_longer_than_its_length() {
        for piece in [
            "<",
            "<!--",
            "<p \"",
            "<style>",
            "</",
            "&",
            "&#",
            "<style></",
            "<svg></sv",
        ] {
            let page = piece.repeat(1_000_000 / piece.len());
            assert!(text("html", &page).chars().count() <= LETTERS);
        }
        let parts = "--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n".repeat(9_000);
        let message = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n");
        assert_eq!(preview(&message), "");
    }
}
