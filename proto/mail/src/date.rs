//! Reads and writes the dates of mail: RFC 5322's `Date:` and IMAP's date-time.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::lexer::Lexer;

const DAY: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// A moment, and the zone of the clock it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateTime {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix: i64,
    /// How far that clock is ahead of UTC.
    pub offset_minutes: i16,
}

impl DateTime {
    /// The days since 1970-01-01 on that clock, the time of day disregarded.
    #[must_use]
    pub fn local_day(self) -> i64 {
        self.local_seconds().div_euclid(DAY)
    }

    fn local_seconds(self) -> i64 {
        self.unix
            .saturating_add(i64::from(self.offset_minutes) * 60)
    }
}

/// Reads the value of a `Date:` field, folded or not.
// RFC 5322 §3.3, with the obsolete forms of §4.3.
#[must_use]
pub fn parse_rfc5322(value: &[u8]) -> Option<DateTime> {
    let mut lexer = Lexer::new(value);
    if !word(&mut lexer).is_empty() {
        lexer.skip_blanks();
        lexer.accept(b',');
    }
    let day = number(&mut lexer, 2)?.0;
    let month = month(word(&mut lexer))?;
    let (year, digits) = number(&mut lexer, 4)?;
    // RFC 5322 §4.3: two digits below 50 mean 20xx, other two or three digits count from 1900.
    let year = match digits {
        4 => year,
        2 if year < 50 => year + 2000,
        2 | 3 => year + 1900,
        _ => return None,
    };
    let hour = number(&mut lexer, 2)?.0;
    separator(&mut lexer, b':').then_some(())?;
    let minute = number(&mut lexer, 2)?.0;
    let second = if separator(&mut lexer, b':') {
        number(&mut lexer, 2)?.0
    } else {
        0
    };
    let offset_minutes = zone(&mut lexer)?;
    moment(
        day_number(year, month, day)?,
        [hour, minute, second],
        offset_minutes,
    )
}

/// Reads the inside of IMAP's date-time: `17-Jul-1996 02:44:25 -0700`; the day may be ` 1` or `01`.
// RFC 3501 §9: date-time = date-day-fixed "-" date-month "-" date-year SP time SP zone.
#[must_use]
pub fn parse_imap(text: &[u8]) -> Option<DateTime> {
    let fixed: &[u8; 26] = text.try_into().ok()?;
    let punctuation = [
        (2, b'-'),
        (6, b'-'),
        (11, b' '),
        (14, b':'),
        (17, b':'),
        (20, b' '),
    ];
    if punctuation
        .iter()
        .any(|&(place, byte)| fixed[place] != byte)
    {
        return None;
    }
    let day_text = if fixed[0] == b' ' {
        &fixed[1..2]
    } else {
        &fixed[..2]
    };
    let day = day_number(
        digits(&fixed[7..11])?,
        month(&fixed[3..6])?,
        digits(day_text)?,
    )?;
    let time = [
        digits(&fixed[12..14])?,
        digits(&fixed[15..17])?,
        digits(&fixed[18..20])?,
    ];
    moment(day, time, numeric_zone(fixed[21], &fixed[22..])?)
}

/// Reads IMAP's date of SEARCH, `1-Feb-1994` without quotes, as days since 1970-01-01.
// RFC 3501 §9: date-text = date-day "-" date-month "-" date-year.
#[must_use]
pub fn parse_imap_day(text: &[u8]) -> Option<i64> {
    let mut pieces = text.split(|&byte| byte == b'-');
    let day = pieces.next().filter(|day| day.len() <= 2)?;
    let month = month(pieces.next()?)?;
    let year = pieces.next().filter(|year| year.len() == 4)?;
    if pieces.next().is_some() {
        return None;
    }
    day_number(digits(year)?, month, digits(day)?)
}

/// Writes a date for `Date:` and `Received:`, `Wed, 17 Jul 1996 02:44:25 -0700`.
// RFC 5322 §3.3.
#[must_use]
pub fn format_rfc5322(date: DateTime) -> String {
    let clock = Clock::of(date);
    let weekday = WEEKDAYS[(date.local_day() + 4).rem_euclid(7) as usize];
    let month = MONTHS[clock.month];
    format!(
        "{weekday}, {} {month} {:04} {}",
        clock.day,
        clock.year,
        clock.time_and_zone(date)
    )
}

/// Writes IMAP's date-time without its quotes, `17-Jul-1996 02:44:25 -0700`.
// RFC 3501 §9: date-day-fixed has a blank before a single digit.
pub fn write_imap(date: DateTime, out: &mut Vec<u8>) {
    // Without `format!`: a FETCH writes tens of thousands.
    let clock = Clock::of(date);
    let [tens, ones] = two_digits(clock.day);
    out.extend_from_slice(&[if tens == b'0' { b' ' } else { tens }, ones, b'-']);
    out.extend_from_slice(MONTHS[clock.month].as_bytes());
    out.push(b'-');
    match clock.year {
        year @ 0..=9999 => {
            out.extend_from_slice(&two_digits(year / 100));
            out.extend_from_slice(&two_digits(year % 100));
        }
        year => out.extend_from_slice(format!("{year:04}").as_bytes()),
    }
    let (hour, minute) = (clock.seconds / 3600, clock.seconds / 60 % 60);
    for (before, number) in [(b' ', hour), (b':', minute), (b':', clock.seconds % 60)] {
        out.push(before);
        out.extend_from_slice(&two_digits(number));
    }
    let sign = if date.offset_minutes < 0 { b'-' } else { b'+' };
    let offset = i64::from(date.offset_minutes.unsigned_abs());
    out.extend_from_slice(&[b' ', sign]);
    // No clock is ahead by a hundred hours.
    out.extend_from_slice(&two_digits(offset / 60 % 100));
    out.extend_from_slice(&two_digits(offset % 60));
}

/// Reads a moment in UTC as computers write it, `2026-11-27T23:15:00Z`; seconds since 1970-01-01 00:00 UTC.
// RFC 3339 §5.6, without fractions.
#[must_use]
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let fixed: &[u8; 20] = text.try_into().ok()?;
    let punctuation = [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'Z'),
    ];
    if punctuation
        .iter()
        .any(|&(place, byte)| fixed[place] != byte)
    {
        return None;
    }
    let month = digits(&fixed[5..7]).filter(|month| (1..=12).contains(month))?;
    let day = day_number(digits(&fixed[..4])?, month - 1, digits(&fixed[8..10])?)?;
    let time = [
        digits(&fixed[11..13])?,
        digits(&fixed[14..16])?,
        digits(&fixed[17..19])?,
    ];
    moment(day, time, 0).map(|moment| moment.unix)
}

/// Writes what [`parse_rfc3339`] reads, for moments of the years 0 to 9999.
#[must_use]
pub fn format_rfc3339(unix: i64) -> String {
    let clock = Clock::of(DateTime {
        unix,
        offset_minutes: 0,
    });
    let (hour, minute, second) = (
        clock.seconds / 3600,
        clock.seconds / 60 % 60,
        clock.seconds % 60,
    );
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        clock.year,
        clock.month + 1,
        clock.day
    )
}

/// A number from 0 to 99.
const fn two_digits(number: i64) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// A date as its clock and calendar show it.
struct Clock {
    year: i64,
    /// From 0.
    month: usize,
    day: i64,
    seconds: i64,
}

impl Clock {
    fn of(date: DateTime) -> Self {
        let (year, month, day) = calendar_day(date.local_day());
        Self {
            year,
            month,
            day,
            seconds: date.local_seconds().rem_euclid(DAY),
        }
    }

    fn time_and_zone(&self, date: DateTime) -> String {
        let (hour, minute, second) = (
            self.seconds / 3600,
            self.seconds / 60 % 60,
            self.seconds % 60,
        );
        let sign = if date.offset_minutes < 0 { '-' } else { '+' };
        let offset = date.offset_minutes.unsigned_abs();
        let (zone_hour, zone_minute) = (offset / 60, offset % 60);
        format!("{hour:02}:{minute:02}:{second:02} {sign}{zone_hour:02}{zone_minute:02}")
    }
}

fn moment(day: i64, time: [i64; 3], offset_minutes: i16) -> Option<DateTime> {
    let [hour, minute, second] = time;
    // RFC 5322 §3.3: 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = day * DAY + hour * 3600 + minute * 60 + second;
    Some(DateTime {
        unix: local - i64::from(offset_minutes) * 60,
        offset_minutes,
    })
}

/// The letters that come next.
fn word<'a>(lexer: &mut Lexer<'a>) -> &'a [u8] {
    lexer.skip_blanks();
    let word = lexer.run(|byte| byte.is_ascii_alphabetic());
    if !word.is_empty() {
        lexer.accept(b'.');
    }
    word
}

/// A number of at most `longest` digits, and how many there were.
fn number(lexer: &mut Lexer<'_>, longest: usize) -> Option<(i64, usize)> {
    lexer.skip_blanks();
    let text = lexer.run(|byte| byte.is_ascii_digit());
    if text.len() > longest {
        return None;
    }
    Some((digits(text)?, text.len()))
}

fn separator(lexer: &mut Lexer<'_>, byte: u8) -> bool {
    lexer.skip_blanks();
    lexer.accept(byte)
}

fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 4 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        text.iter()
            .fold(0, |sum, &byte| sum * 10 + i64::from(byte - b'0')),
    )
}

fn month(word: &[u8]) -> Option<i64> {
    let short = word.get(..3)?;
    let same = |name: &str| name.as_bytes().eq_ignore_ascii_case(short);
    let index = MONTHS.iter().position(|&name| same(name))?;
    i64::try_from(index).ok()
}

/// The offset in minutes; a date without a zone is taken as UTC.
fn zone(lexer: &mut Lexer<'_>) -> Option<i16> {
    lexer.skip_blanks();
    if let Some(sign @ (b'+' | b'-')) = lexer.peek() {
        lexer.advance();
        return numeric_zone(sign, lexer.run(|byte| byte.is_ascii_digit()));
    }
    // RFC 5322 §4.3: obs-zone; military letters and unknown names mean nothing certain, so -0000.
    let name = word(lexer).to_ascii_uppercase();
    let hours = match name.as_slice() {
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        _ => 0,
    };
    Some(hours * 60)
}

// RFC 5322 §3.3: zone = ("+" / "-") 4DIGIT, hours and minutes.
fn numeric_zone(sign: u8, text: &[u8]) -> Option<i16> {
    let number = digits(text).filter(|_| text.len() == 4)?;
    if number % 100 > 59 {
        return None;
    }
    let minutes = i16::try_from(number / 100 * 60 + number % 100).ok()?;
    match sign {
        b'+' => Some(minutes),
        b'-' => Some(-minutes),
        _ => None,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; `month` counts from 0.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        1 if leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if day < 1 || day > longest {
        return None;
    }
    // Years are counted from March, so that the leap day is the last of its year.
    let year = if month < 2 { year - 1 } else { year };
    let month = (month + 10) % 12;
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (month * 153 + 2) / 5;
    Some(before_year + before_month + day - 1 - MARCH_0_TO_1970)
}

/// Days from 0000-03-01 to 1970-01-01.
const MARCH_0_TO_1970: i64 = 719_468;

/// The inverse of [`day_number`]: year, month from 0, day.
fn calendar_day(days: i64) -> (i64, usize, i64) {
    let days = days + MARCH_0_TO_1970;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    (year, ((month + 2) % 12) as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(i64, i16)> {
        parse_rfc5322(text.as_bytes()).map(|date| (date.unix, date.offset_minutes))
    }

    #[test]
    fn an_ordinary_date_is_read() {
        assert_eq!(
            parsed("Fri, 21 Nov 1997 09:55:06 -0600"),
            Some((880_127_706, -360))
        );
        assert_eq!(parsed("1 Jan 1970 00:00:00 +0000"), Some((0, 0)));
        assert_eq!(
            parsed("Thu,\r\n 29 Feb 2024 23:59:60 +0530"),
            Some((1_709_231_400, 330))
        );
    }

    #[test]
    fn obsolete_dates_with_comments_are_read() {
        assert_eq!(parsed("21 Nov 97 09:55:06 GMT"), Some((880_106_106, 0)));
        assert_eq!(
            parsed("Fri (a (b) \\)), 21 Nov 1997 09(comment):   55  :  06 -0600 (CST)"),
            Some((880_127_706, -360))
        );
        assert_eq!(parsed("21 Nov 1997 04:55 EST"), Some((880_106_100, -300)));
    }

    #[test]
    fn moments_for_computers_go_there_and_back() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-27T23:15:07Z", 1_795_821_307),
            ("2024-02-29T12:00:00Z", 1_709_208_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(unix), "{text}");
            assert_eq!(format_rfc3339(unix), text);
        }
        for text in [
            "",
            "2026-11-27T23:15:07",
            "2026-11-27 23:15:07Z",
            "2026-11-27T23:15:07z",
            "2026-13-27T23:15:07Z",
            "2026-00-27T23:15:07Z",
            "2026-02-29T23:15:07Z",
            "2026-11-27T24:15:07Z",
            "2026-11-27T23:15:07+00:00",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in [
            "",
            "(",
            "\\",
            "Fri,",
            "30 Feb 2024 00:00 +0000",
            "1 Foo 2024 00:00 +0000",
            "1 Jan 2024 24:00 +0000",
            "1 Jan 2024 00:00 +9",
            "99999999 Jan 2024 00:00 +0000",
            "1 Jan 2024",
            "1 Jan 2024 00:00 +0060",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    fn imap(date: DateTime) -> String {
        let mut out = Vec::new();
        write_imap(date, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn imap_dates_go_there_and_back() {
        for text in [
            "17-Jul-1996 02:44:25 -0700",
            " 1-Jan-2026 00:00:00 +0000",
            "29-Feb-2024 23:59:59 +1345",
        ] {
            assert_eq!(imap(parse_imap(text.as_bytes()).expect(text)), text);
        }
        let padded = parse_imap(b"01-Jan-2026 00:00:00 +0000").expect("a zero is allowed");
        assert_eq!(format_rfc5322(padded), "Thu, 1 Jan 2026 00:00:00 +0000");
        assert_eq!(parse_imap(b"32-Jan-2026 00:00:00 +0000"), None);
        assert_eq!(parse_imap(b"1-Jan-2026 00:00:00 +0000"), None);
        assert_eq!(parse_imap_day(b"1-Feb-1994"), Some(8797));
        assert_eq!(parse_imap_day(b"1-Feb-94"), None);
    }

    #[test]
    fn years_of_more_or_fewer_digits_are_written_out() {
        let year = |unix| {
            imap(DateTime {
                unix,
                offset_minutes: 0,
            })
        };
        assert_eq!(year(-62_135_596_801), "31-Dec-0000 23:59:59 +0000");
        assert_eq!(year(253_402_300_800), " 1-Jan-10000 00:00:00 +0000");
        assert_eq!(year(-62_167_219_201), "31-Dec--001 23:59:59 +0000");
    }

    #[test]
    fn any_moment_survives_formatting() {
        for unix in (-60_000_000_000_i64..250_000_000_000).step_by(86_413 * 997) {
            let date = DateTime {
                unix,
                offset_minutes: -210,
            };
            assert_eq!(parse_imap(imap(date).as_bytes()), Some(date));
            assert_eq!(parse_rfc5322(format_rfc5322(date).as_bytes()), Some(date));
        }
    }

    #[test]
    fn a_million_open_comments_end() {
        let value = [b'('].repeat(1_000_000);
        assert_eq!(parse_rfc5322(&value), None);
    }
}
