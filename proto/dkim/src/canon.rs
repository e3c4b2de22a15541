//! The forms in which header and body are signed (RFC 6376 §3.4).

use mail::header::Field;

/// How much a message may be touched on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Canon {
    /// Hardly at all.
    Simple,
    /// Blanks and folding may change.
    Relaxed,
}

/// Takes octets.
pub(crate) trait Sink {
    /// More of them.
    fn put(&mut self, octets: &[u8]);
}

impl Sink for aws_lc_rs::digest::Context {
    fn put(&mut self, octets: &[u8]) {
        self.update(octets);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// Writes a field of the header, with its last line end.
pub(crate) fn put_field(canon: Canon, header: &[u8], field: &Field<'_>, sink: &mut impl Sink) {
    put_bare(canon, header, field, [field.value, b""], sink);
    sink.put(b"\r\n");
}

/// Writes the field of a signature without the value of its `b=`, which lies at `hole`, and without its last line end.
// RFC 6376 §3.7: the field itself is hashed last, with an empty b= and without a trailing CRLF.
pub(crate) fn put_own(
    canon: Canon,
    header: &[u8],
    field: &Field<'_>,
    hole: &std::ops::Range<usize>,
    sink: &mut impl Sink,
) {
    let before = field.value.get(..hole.start).unwrap_or_default();
    let after = field.value.get(hole.end..).unwrap_or_default();
    put_bare(canon, header, field, [before, after], sink);
}

fn put_bare(
    canon: Canon,
    header: &[u8],
    field: &Field<'_>,
    value: [&[u8]; 2],
    sink: &mut impl Sink,
) {
    match canon {
        Canon::Simple => {
            // The value ends the field but for the line end, so the name with its colon is what is before it.
            let whole = header.get(field.start..field.end).unwrap_or_default();
            let colon = memchr::memchr(b':', whole).map_or(0, |found| found + 1);
            sink.put(whole.get(..colon).unwrap_or_default());
            value.into_iter().for_each(|part| sink.put(part));
        }
        Canon::Relaxed => {
            sink.put(&field.name.to_ascii_lowercase());
            sink.put(b":");
            sink.put(&relaxed_value(&value.concat()));
        }
    }
}

// RFC 6376 §3.4.2: lines are unfolded, runs of blanks become one space, and there are none around the value.
fn relaxed_value(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    let mut blank = false;
    for byte in value {
        match byte {
            b'\r' | b'\n' => {}
            b' ' | b'\t' => blank = true,
            _ => {
                if blank && !text.is_empty() {
                    text.push(b' ');
                }
                blank = false;
                text.push(*byte);
            }
        }
    }
    text
}

/// Brings a body into its form while it passes by. Only CR LF ends a line; a CR or LF alone is an octet like others.
#[derive(Debug)]
pub(crate) struct Body {
    canon: Canon,
    /// Line ends that count only if something follows.
    line_ends: u64,
    /// A blank that counts only if something follows on its line; never with [`Canon::Simple`].
    blank: bool,
    /// A CR was the last octet.
    cr: bool,
    /// Something has been written.
    begun: bool,
}

impl Body {
    pub(crate) fn new(canon: Canon) -> Self {
        Self {
            canon,
            line_ends: 0,
            blank: false,
            cr: false,
            begun: false,
        }
    }

    /// Takes more of the body.
    pub(crate) fn feed(&mut self, mut input: &[u8], sink: &mut impl Sink) {
        if self.cr && !input.is_empty() {
            self.cr = false;
            match input {
                [b'\n', rest @ ..] => {
                    self.end_line();
                    input = rest;
                }
                _ => self.put(b"\r", sink),
            }
        }
        while !input.is_empty() {
            let run = self.run(input);
            let (octets, rest) = input.split_at(run);
            if !octets.is_empty() {
                self.put(octets, sink);
            }
            input = self.special(rest, sink);
        }
    }

    /// How many octets at the beginning of `input` are written as they are.
    fn run(&self, input: &[u8]) -> usize {
        match self.canon {
            Canon::Simple => memchr::memchr(b'\r', input),
            Canon::Relaxed => memchr::memchr3(b'\r', b' ', b'\t', input),
        }
        .unwrap_or(input.len())
    }

    /// Takes a blank, a line end or a CR at the beginning of `input`, and returns the rest.
    fn special<'a>(&mut self, input: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        match input {
            [] => input,
            [b'\r'] => {
                self.cr = true;
                &[]
            }
            [b'\r', b'\n', rest @ ..] => {
                self.end_line();
                rest
            }
            [b'\r', rest @ ..] => {
                self.put(b"\r", sink);
                rest
            }
            [_, rest @ ..] => {
                self.blank = true;
                rest
            }
        }
    }

    fn end_line(&mut self) {
        self.blank = false;
        self.line_ends += 1;
    }

    fn put(&mut self, octets: &[u8], sink: &mut impl Sink) {
        self.begun = true;
        for _ in 0..self.line_ends {
            sink.put(b"\r\n");
        }
        self.line_ends = 0;
        if self.blank {
            self.blank = false;
            sink.put(b" ");
        }
        sink.put(octets);
    }

    /// The end of the body.
    // RFC 6376 §3.4.3: empty lines at the end count for one CRLF, as does no body at all; §3.4.4: relaxed, a body of
    // nothing but empty lines is no body, and no body is nothing.
    pub(crate) fn end(mut self, sink: &mut impl Sink) {
        if self.cr {
            self.cr = false;
            self.put(b"\r", sink);
        }
        if self.begun || self.canon == Canon::Simple {
            sink.put(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n";

    fn header(canon: Canon, header: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for field in mail::header::fields(header) {
            put_field(canon, header, &field, &mut text);
        }
        text
    }

    fn body(canon: Canon, body: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        let mut form = Body::new(canon);
        form.feed(body, &mut whole);
        form.end(&mut whole);
        let mut bytewise = Vec::new();
        let mut form = Body::new(canon);
        for byte in body.chunks(1) {
            form.feed(byte, &mut bytewise);
        }
        form.end(&mut bytewise);
        assert_eq!(whole, bytewise);
        whole
    }

    fn example_body() -> &'static [u8] {
        &EXAMPLE[mail::header::body_start(EXAMPLE)..]
    }

    /// RFC 6376 §3.4.5.
    #[test]
    fn the_example_in_relaxed_form() {
        assert_eq!(header(Canon::Relaxed, EXAMPLE), b"a:X\r\nb:Y Z\r\n");
        assert_eq!(body(Canon::Relaxed, example_body()), b" C\r\nD E\r\n");
    }

    /// RFC 6376 §3.4.5.
    #[test]
    fn the_example_in_simple_form() {
        assert_eq!(
            header(Canon::Simple, EXAMPLE),
            b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
        );
        assert_eq!(body(Canon::Simple, example_body()), b" C \r\nD \t E\r\n");
    }

    #[test]
    fn lines_of_blanks_at_the_end_are_empty_lines_when_relaxed() {
        for (given, relaxed, simple) in [
            (&b""[..], &b""[..], &b"\r\n"[..]),
            (b"\r\n", b"", b"\r\n"),
            (b" \r\n", b"", b" \r\n"),
            (b" \t", b"", b" \t\r\n"),
            (b"\r\n\t\r\n \r\n\r\n", b"", b"\r\n\t\r\n \r\n"),
            (b"hello\r\n \t\r\n", b"hello\r\n", b"hello\r\n \t\r\n"),
            (b"hello", b"hello\r\n", b"hello\r\n"),
            (b"hello \t", b"hello\r\n", b"hello \t\r\n"),
        ] {
            assert_eq!(body(Canon::Relaxed, given), relaxed, "{given:?}");
            assert_eq!(body(Canon::Simple, given), simple, "{given:?}");
        }
    }

    #[test]
    fn a_cr_or_lf_alone_ends_no_line() {
        for given in [&b"a\rb\nc\r\r\nd\r"[..], b"\r\r", b"\n"] {
            let expected = [given, b"\r\n"].concat();
            assert_eq!(body(Canon::Simple, given), expected);
            assert_eq!(body(Canon::Relaxed, given), expected);
        }
    }
}
