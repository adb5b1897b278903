//! Durations and rates: an integer and one unit, as in `"12h"` and `"1000/s"`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::limits::{BadQuota, Quota};

/// So many in so long: the written `"1000/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// What counts it: all may come at once.
    pub fn quota(&self) -> Result<Quota, BadQuota> {
        Quota::new(self.count, self.per, self.count)
    }
}

/// A duration: an integer, then `ms`, `s`, `m`, `h` or `d`, nothing between and nothing after.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let count: u64 = digits.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(millis).map(Duration::from_millis)
}

/// A rate: an integer, a slash, then `s`, `m` or `h`.
pub(super) fn rate(text: &str) -> Option<Rate> {
    let (digits, unit) = text.split_once('/')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    Some(Rate { count, per: Duration::from_secs(seconds) })
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_integer_and_one_unit() {
        for (text, millis) in
            [("250ms", 250), ("90s", 90_000), ("5m", 300_000), ("12h", 43_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_a_duration() {
        let huge = format!("{}d", u64::MAX);
        for text in ["", "12", "h", "-1s", "+1s", "1.5h", "1h30m", " 1h", "1 h", "1H", "1w", "١h", huge.as_str()] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_count_and_a_unit() {
        let thousand = NonZeroU32::new(1000).unwrap();
        assert_eq!(rate("1000/s"), Some(Rate { count: thousand, per: Duration::from_secs(1) }));
        assert_eq!(rate("5/m").map(|rate| rate.to_string()).as_deref(), Some("5/m"));
        assert_eq!(rate("7/h").map(|rate| rate.to_string()).as_deref(), Some("7/h"));
        for text in ["", "/s", "0/s", "+5/s", "5/d", "5/ s", "5", "5/s/s", "99999999999/s"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
