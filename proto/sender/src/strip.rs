//! Takes `Authentication-Results` fields that claim to be ours out of a message that comes from elsewhere (RFC 8601 §5).

use alloc::string::String;
use alloc::vec::Vec;

const NAME: &[u8] = b"authentication-results";
/// Bytes in which a field has to say whose it is.
const MAX_HELD: usize = 4096;

/// A message on its way through.
#[derive(Debug, Clone)]
pub struct Strip {
    host: String,
    /// The beginning of a field, until it is known what becomes of it.
    held: Vec<u8>,
    state: State,
    removed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a line of the header; `Option` is what becomes of the field before, if the line goes on with it.
    Line(Option<Fate>),
    /// In the name of a field.
    Name,
    /// In a field whose owner is not known yet.
    Value,
    In(Fate),
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Gone,
    /// Not known yet.
    Open,
}

impl Strip {
    /// For the server that calls itself `host`.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self {
            host: host.into(),
            held: Vec::new(),
            state: State::Line(None),
            removed: 0,
        }
    }

    /// Takes a piece of the message and puts what remains of it behind `out`. The pieces may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.state == State::Body {
                out.extend_from_slice(rest);
                return;
            }
            self.take(byte, out);
            rest = tail;
        }
    }

    /// The message ends here; what was held is put behind `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Value | State::Line(Some(Fate::Open)) => self.decide(true, out),
            State::Name | State::Line(_) | State::In(_) | State::Body => {}
        }
        out.append(&mut self.held);
        self.state = State::Body;
    }

    /// Whether the header is over: what comes from now on stays as it is.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Body
    }

    /// How many fields were taken out.
    #[must_use]
    pub const fn removed(&self) -> usize {
        self.removed
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let State::Line(before) = self.state {
            self.state = match (before, byte) {
                (Some(Fate::Open), b' ' | b'\t') => State::Value,
                (Some(fate), b' ' | b'\t') => State::In(fate),
                (before, _) => {
                    if before == Some(Fate::Open) {
                        self.decide(true, out);
                    }
                    State::Name
                }
            };
        }
        match self.state {
            State::Name => self.take_name(byte, out),
            State::Value => {
                self.held.push(byte);
                if byte == b'\n' {
                    self.state = State::Line(Some(Fate::Open));
                } else if byte == b';' || self.held.len() > MAX_HELD {
                    self.decide(false, out);
                }
            }
            State::In(fate) => {
                if fate == Fate::Kept {
                    out.push(byte);
                }
                if byte == b'\n' {
                    self.state = State::Line(Some(fate));
                }
            }
            State::Line(_) | State::Body => {}
        }
    }

    fn take_name(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push(byte);
        let name = self.held.strip_suffix(b":").unwrap_or(&self.held);
        let is_whole = name.len() < self.held.len();
        let name = name.trim_ascii_end();
        // The empty line, or what is no field: the header is over.
        if byte == b'\n' {
            // Blanks are no end: others may see fields behind them.
            let is_empty = matches!(self.held.as_slice(), b"\n" | b"\r\n");
            out.append(&mut self.held);
            self.state = match is_empty {
                true => State::Body,
                false => State::Line(Some(Fate::Kept)),
            };
        } else if is_whole && name.eq_ignore_ascii_case(NAME) {
            self.state = State::Value;
        } else if !is_whole && could_be_name(&self.held) {
            // More is needed.
        } else {
            out.append(&mut self.held);
            self.state = State::In(Fate::Kept);
        }
    }

    // Whose field is it that is held? At its end, or when it is too long, what does not say so is not kept.
    fn decide(&mut self, is_end: bool, out: &mut Vec<u8>) {
        let value = self.held.iter().position(|byte| *byte == b':');
        let value = value.and_then(|colon| self.held.get(colon + 1..));
        let fate = match owner(value.unwrap_or_default(), is_end) {
            Owner::Open if !is_end && self.held.len() <= MAX_HELD => return,
            Owner::Open | Owner::Nobody => Fate::Gone,
            Owner::Host(host) if is_same(&host, &self.host) => Fate::Gone,
            Owner::Host(_) => Fate::Kept,
        };
        match fate {
            Fate::Kept | Fate::Open => out.append(&mut self.held),
            Fate::Gone => {
                self.held.clear();
                self.removed += 1;
            }
        }
        self.state = State::In(fate);
    }
}

fn could_be_name(held: &[u8]) -> bool {
    let word = held.trim_ascii_end();
    let is_start = NAME
        .get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word));
    // Space may stand before the colon only (RFC 5322 §4.5.8), or a carriage return before the end of the header.
    is_start
        && (word.len() == held.len() || word.len() == NAME.len() || word.is_empty())
        && held.len() <= MAX_HELD
}

fn is_same(host: &[u8], ours: &str) -> bool {
    let host = host.strip_suffix(b".").unwrap_or(host);
    host.eq_ignore_ascii_case(ours.as_bytes())
}

enum Owner {
    /// The text ends too early.
    Open,
    Host(Vec<u8>),
    Nobody,
}

// RFC 8601 §2.2: [CFWS] authserv-id; the id is a token or a quoted string.
fn owner(value: &[u8], is_end: bool) -> Owner {
    let Some(mut rest) = skip_comments(value) else {
        return Owner::Open;
    };
    let mut host = Vec::new();
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let mut bytes = quoted.iter();
        loop {
            match bytes.next() {
                None => return Owner::Open,
                Some(b'"') => return Owner::Host(host),
                Some(b'\\') => host.extend(bytes.next()),
                // A quoted string may be folded.
                Some(b'\r' | b'\n') => {}
                Some(byte) => host.push(*byte),
            }
        }
    }
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b';' | b'(' if host.is_empty() => return Owner::Nobody,
            b';' | b'(' => return Owner::Host(host),
            _ if is_blank(byte) => return Owner::Host(host),
            _ => host.push(byte),
        }
        rest = tail;
    }
    match (is_end, host.is_empty()) {
        (false, _) => Owner::Open,
        (true, true) => Owner::Nobody,
        (true, false) => Owner::Host(host),
    }
}

// Somebody may take any control character for white space.
const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_control()
}

// What stands behind white space and comments; `None` when a comment does not end.
fn skip_comments(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    let mut depth = 0_usize;
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => {
                rest = tail.get(1..)?;
                continue;
            }
            _ if depth > 0 || is_blank(byte) => {}
            _ => return Some(rest),
        }
        rest = tail;
    }
    (depth == 0).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// What is left, the same however it is cut.
    fn strip(message: &str) -> String {
        let mut results = Vec::new();
        for size in [1, 2, 3, 7, 1000] {
            let (mut strip, mut out) = (Strip::new("mx.example.org"), Vec::new());
            for piece in message.as_bytes().chunks(size) {
                strip.feed(piece, &mut out);
            }
            strip.finish(&mut out);
            results.push(String::from_utf8(out).unwrap());
        }
        results.dedup();
        assert_eq!(results.len(), 1, "{results:?}");
        results.remove(0)
    }

    #[test]
    fn fields_that_claim_to_be_ours_go() {
        for forged in [
            "Authentication-Results: mx.example.org; spf=pass\r\n",
            "authentication-results:MX.Example.ORG 1; spf=pass\r\n",
            "Authentication-Results \t: mx.example.org.;\r\n spf=pass\r\n\tdkim=pass\r\n",
            "Authentication-Results:\r\n\t(a \\) (b); c)\r\n mx.example.org\r\n ; spf=pass\r\n",
            "Authentication-Results: \"mx.ex\\ample.org\"; spf=pass\r\n",
            "Authentication-Results: mx.example.org(x); none\r\n",
            "Authentication-Results: mx.example.org\r\n",
            "Authentication-Results:\u{b}mx.example.org\u{c}\r\n",
            "Authentication-Results: ; spf=pass\r\n",
            "Authentication-Results:\r\n",
            "Authentication-Results: (never ends\r\n",
            "Authentication-Results: \"never ends; spf=pass\r\n",
        ] {
            let message = format!("A: b\r\n{forged}C: d\r\n e\r\n\r\n{forged}");
            assert_eq!(
                strip(&message),
                format!("A: b\r\nC: d\r\n e\r\n\r\n{forged}"),
                "{forged}"
            );
            for blank in [" \r\n", "\r\r\n", "\t\r\r\n"] {
                let message = format!("{blank}{forged}\r\n");
                assert_eq!(strip(&message), format!("{blank}\r\n"), "{forged}");
            }
            let message = format!("{forged}{forged}\r\nbody\r\n");
            assert_eq!(strip(&message), "\r\nbody\r\n", "{forged}");
            assert_eq!(strip(forged), "", "{forged}");
        }
        let long = format!(
            "Authentication-Results: ({})\r\n mx.example.org; x\r\n",
            "x".repeat(5000)
        );
        assert_eq!(strip(&format!("{long}A: b\r\n\r\n")), "A: b\r\n\r\n");
    }

    #[test]
    fn other_fields_stay_as_they_are() {
        for field in [
            "Authentication-Results: mx.example.com; spf=pass\r\n",
            "Authentication-Results: example.org; spf=pass\r\n\tdkim=pass\r\n",
            "Authentication-Results:\r\n\tmx.example.org.evil.test;\r\n\tnone\r\n",
            "Authentication-Results: x (mx.example.org); mx.example.org\r\n",
            "X-Authentication-Results: mx.example.org; spf=pass\r\n",
            "ARC-Authentication-Results: i=1; mx.example.org; spf=pass\r\n",
            "Authentication-Results-X: mx.example.org; spf=pass\r\n",
            "Authentication: mx.example.org\r\n",
            "Auth\r\n",
            "Received: from x\r\n\tby y\r\n",
        ] {
            let message = format!("{field}A: b\r\n{field}\r\nbody");
            assert_eq!(strip(&message), message);
            assert_eq!(strip(field), field);
        }
        for message in [
            "",
            "\r\n",
            "a",
            "\r",
            "Authentication-Results",
            "Authentication-Results  ",
        ] {
            assert_eq!(strip(message), message);
        }
    }
}
