//! Days of the calendar, in UTC, as they name directories.

use std::fmt;

use crate::clock;

const SECONDS: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01, and of the 400 years after which the calendar repeats.
const BEFORE_1970: i64 = 719_468;
const ERA: i64 = 146_097;

/// A day, written `2026-11-27`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(i64);

impl Day {
    /// The day it is now.
    pub(crate) fn today() -> Self {
        Self(clock::seconds().div_euclid(SECONDS))
    }

    /// The day so many days before this one.
    pub(crate) fn before(self, days: u32) -> Self {
        Self(self.0 - i64::from(days))
    }

    /// Reads what is written by `Display`, from the years 0000 to 9999.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let day = Self::of(i64::from(year), i64::from(month), i64::from(day));
        (day.to_string() == text).then_some(day)
    }

    // The year is taken to begin in March, so that the day of a leap year is its last one.
    fn of(year: i64, month: i64, day: i64) -> Self {
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        Self(era * ERA + of_era - BEFORE_1970)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0 + BEFORE_1970;
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let of_era = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
        let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = (month + 2) % 12 + 1;
        let year = era * 400 + of_era + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_survives_the_round_trip_and_follows_the_one_before() {
        let first = Day::parse("1970-01-01").unwrap();
        assert_eq!(first, Day(0));
        for number in -200_000..200_000 {
            let day = Day(number);
            assert_eq!(Day::parse(&day.to_string()), Some(day), "{day}");
            assert!(day.before(1).to_string() < day.to_string());
        }
        assert_eq!(Day(20_784).to_string(), "2026-11-27");
        assert_eq!(Day::parse("2024-02-29").map(|day| day.0), Some(19_782));
    }

    #[test]
    fn only_days_as_they_are_written_are_read() {
        let texts = [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-11-00",
            "2026-11-31",
            "2026-1-1",
            "2026/11/27",
            "+026-11-27",
            "2026-11-27 ",
            "20261127",
            "é026-11-27",
            "",
        ];
        for text in texts {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }
}
