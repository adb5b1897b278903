//! Wall-clock time in print: RFC 3339, UTC, milliseconds.

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints as `2026-11-23T22:06:00.123Z`. A time before 1970 prints as the epoch, one after 9999 as the year 9999's end:
/// both are clocks gone wrong, and the form must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub SystemTime);

/// 9999-12-31T23:59:59.999Z in milliseconds since the epoch.
const LAST: u64 = 253_402_300_799_999;

impl Rfc3339 {
    /// The text, digit by digit: it stands in every record, and formatting would cost more than the rest of the line.
    pub(super) fn text(self) -> [u8; 24] {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).map_or(LAST, |millis| millis.min(LAST));
        // Most records of a thread are of the second of the one before.
        let (second, mut text) = SECOND.get();
        if second != millis / 1000 {
            text = of_second(millis / 1000);
            SECOND.set((millis / 1000, text));
        }
        write_number(&mut text, 23, millis % 1000);
        text
    }
}

thread_local! {
    /// A second since the epoch, and its text.
    static SECOND: Cell<(u64, [u8; 24])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000Z")) };
}

fn of_second(second: u64) -> [u8; 24] {
    let (days, in_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (end, number) in [(4, year), (7, month), (10, day), (13, hour), (16, minute), (19, second)] {
        write_number(&mut text, end, number);
    }
    text
}

/// Writes digits over zeros.
fn write_number(text: &mut [u8; 24], end: usize, mut number: u64) {
    let mut at = end;
    while number > 0 && at > 0 {
        at -= 1;
        text[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("digits and marks"))
    }
}

/// Days since 1970-01-01 to a date of the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last, and in eras of 400 years, which all have
/// 146 097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn printed(millis: u64) -> String {
        Rfc3339(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
    }

    #[test]
    fn known_moments_print_as_everybody_prints_them() {
        assert_eq!(printed(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(printed(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(printed(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(printed(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(printed(1_709_251_199_001), "2024-02-29T23:59:59.001Z");
        assert_eq!(printed(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn clocks_gone_wrong_keep_the_form() {
        assert_eq!(Rfc3339(UNIX_EPOCH - Duration::from_secs(1)).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(printed(u64::MAX / 2), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil(0);
        for days in 1..200_000 {
            let (year, month, day) = civil(days);
            let next = if day > 1 {
                (year, month, day - 1) == before
            } else if month > 1 {
                (year, month - 1) == (before.0, before.1) && before.2 >= 28
            } else {
                (year - 1, 12, 31) == before
            };
            assert!(next, "{before:?} then {:?}", (year, month, day));
            before = (year, month, day);
        }
    }
}
