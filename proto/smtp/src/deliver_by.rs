//! Mail that is of use until a certain time only (RFC 2852).

use core::fmt;

/// By when, and what else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverBy {
    /// So many seconds from when the message comes; less than 1 with [`Late::Notify`] only.
    pub seconds: i64,
    /// What becomes of a message that is late.
    pub late: Late,
    /// The sender is told of each server that hands it on.
    pub trace: bool,
}

/// What becomes of a message that is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It is tried on, and the sender is told.
    Notify,
    /// It comes back.
    Return,
}

impl DeliverBy {
    // RFC 2852 §4: by-time ";" by-mode [by-trace]; a time that has passed makes no sense with "R".
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, mode) = text.split_once(';')?;
        let (late, trace) = match mode.to_ascii_uppercase().as_str() {
            "N" => (Late::Notify, false),
            "NT" => (Late::Notify, true),
            "R" => (Late::Return, false),
            "RT" => (Late::Return, true),
            _ => return None,
        };
        let digits = time.strip_prefix(['-', '+']).unwrap_or(time);
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        let number: i64 = digits
            .parse()
            .ok()
            .filter(|_| is_number && digits.len() <= 9)?;
        let seconds = if time.starts_with('-') {
            -number
        } else {
            number
        };
        (seconds > 0 || late == Late::Notify).then_some(Self {
            seconds,
            late,
            trace,
        })
    }

    /// The Unix second of it for a message that came then.
    #[must_use]
    pub fn deadline(self, queued: i64) -> i64 {
        queued.saturating_add(self.seconds)
    }

    /// The same as a server hears it `elapsed` seconds later; `None` when the message must not go on any more.
    #[must_use]
    pub fn after(self, elapsed: i64) -> Option<Self> {
        let seconds = self
            .seconds
            .saturating_sub(elapsed)
            .clamp(-999_999_999, 999_999_999);
        (seconds > 0 || self.late == Late::Notify).then_some(Self { seconds, ..self })
    }
}

/// As the value of `BY`.
impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = match self.late {
            Late::Notify => "N",
            Late::Return => "R",
        };
        let trace = if self.trace { "T" } else { "" };
        write!(f, "{};{late}{trace}", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn times_and_modes_go_there_and_back() {
        for (text, written) in [
            ("120;R", "120;R"),
            ("+120;rt", "120;RT"),
            ("-5;N", "-5;N"),
            ("0;NT", "0;NT"),
            ("999999999;N", "999999999;N"),
        ] {
            assert_eq!(DeliverBy::parse(text).unwrap().to_string(), written);
        }
        for text in [
            "",
            "120",
            "120;",
            "120;X",
            "120;TR",
            "0;R",
            "-1;R",
            "1000000000;N",
            "+;N",
            "--1;N",
            "1 ;N",
        ] {
            assert_eq!(DeliverBy::parse(text), None, "{text}");
        }
    }

    #[test]
    fn time_that_passes_is_taken_off() {
        let by = |text| DeliverBy::parse(text).unwrap();
        assert_eq!(by("120;R").deadline(1000), 1120);
        assert_eq!(by("120;R").after(20), Some(by("100;R")));
        assert_eq!(by("120;R").after(120), None);
        assert_eq!(by("120;N").after(130), Some(by("-10;N")));
    }
}
