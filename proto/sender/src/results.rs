//! The `Authentication-Results` field (RFC 8601).

use alloc::string::String;

/// Bytes of a field; what would be more is left out.
pub const MAX_SIZE: usize = 2048;
/// Bytes of a value in it.
const MAX_VALUE: usize = 320;

/// A field in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    text: String,
    is_empty: bool,
}

impl Field {
    /// Begins the field of the server `host`.
    #[must_use]
    pub fn new(host: &str) -> Self {
        let mut text = String::from("Authentication-Results: ");
        push_value(&mut text, host);
        Self {
            text,
            is_empty: true,
        }
    }

    /// Adds what `method` found, with a comment and with properties (`smtp.mailfrom`, `header.d`).
    pub fn add(
        &mut self,
        method: &str,
        verdict: &str,
        comment: Option<&str>,
        properties: &[(&str, &str)],
    ) {
        let start = self.text.len();
        self.text.push_str(";\r\n\t");
        self.text.push_str(method);
        self.text.push('=');
        self.text.push_str(verdict);
        if let Some(comment) = comment {
            self.text.push_str(" (");
            let plain = |c: &char| matches!(c, ' '..='~') && !matches!(c, '(' | ')' | '\\');
            self.text
                .extend(comment.chars().filter(plain).take(MAX_VALUE));
            self.text.push(')');
        }
        for (name, value) in properties {
            self.text.push_str("\r\n\t ");
            self.text.push_str(name);
            self.text.push('=');
            push_value(&mut self.text, value);
        }
        match self.text.len() > MAX_SIZE - ";\r\n\tnone\r\n".len() {
            true => self.text.truncate(start),
            false => self.is_empty = false,
        }
    }

    /// The whole field, with its last line end.
    #[must_use]
    pub fn finish(mut self) -> String {
        // RFC 8601 §2.2: `no-result`.
        self.text
            .push_str(if self.is_empty { "; none\r\n" } else { "\r\n" });
        self.text
    }
}

// A token, an address of tokens, or a quoted string (RFC 8601 §2.2): ASCII, whatever it was.
fn push_value(text: &mut String, value: &str) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~@".contains(&byte);
    let value = value
        .get(..value.floor_char_boundary(MAX_VALUE))
        .unwrap_or_default();
    if !value.is_empty() && value.bytes().all(is_plain) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_what_was_found() {
        let mut field = Field::new("mx.example.org");
        field.add("spf", "pass", None, &[("smtp.mailfrom", "bob@example.com")]);
        field.add(
            "dmarc",
            "fail",
            Some("p=reject"),
            &[("header.from", "example.net")],
        );
        assert_eq!(
            field.finish(),
            "Authentication-Results: mx.example.org;\r\n\tspf=pass\r\n\t smtp.mailfrom=bob@example.com;\r\n\t\
             dmarc=fail (p=reject)\r\n\t header.from=example.net\r\n"
        );
        assert_eq!(
            Field::new("mx.example.org").finish(),
            "Authentication-Results: mx.example.org; none\r\n"
        );
    }

    #[test]
    fn no_value_forges_anything() {
        let mut field = Field::new("mx.example.org");
        field.add(
            "spf",
            "none",
            Some("a) b\r\nX: y (\\"),
            &[("smtp.helo", "x; dmarc=pass\r\nX: y\"\\"), ("a.b", "")],
        );
        let text = field.finish();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("(a bX: y )"), "{text}");
        assert!(
            text.contains("smtp.helo=\"x; dmarc=pass??X: y\\\"\\\\\""),
            "{text}"
        );
        assert!(text.contains("a.b=\"\""));
    }

    #[test]
    fn no_value_and_no_comment_is_longer_than_it_may_be() {
        for character in ["x", "ä", "\""] {
            let long = character.repeat(MAX_VALUE);
            let mut field = Field::new("mx.example.org");
            field.add(
                "spf",
                "none",
                Some(&"Z".repeat(MAX_VALUE + 1)),
                &[("smtp.helo", &(long + "end"))],
            );
            let text = field.finish();
            assert!(!text.contains("end"), "{text}");
            assert_eq!(text.matches('Z').count(), MAX_VALUE, "{text}");
            let value = text.split_once("helo=").unwrap().1;
            // Quotes, and backslashes before what would end them.
            assert!(value.len() <= 2 * MAX_VALUE + 4, "{value}");
        }
    }

    #[test]
    fn a_field_does_not_grow_without_end() {
        let mut field = Field::new("mx.example.org");
        for _ in 0..100 {
            field.add("dkim", "fail", None, &[("header.d", &"x".repeat(1000))]);
        }
        let text = field.finish();
        assert!(
            text.len() <= MAX_SIZE && text.ends_with("x\r\n"),
            "{}",
            text.len()
        );
    }
}
