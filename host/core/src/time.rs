//! Points in time, as milliseconds. Core has no clock: the time comes in as an argument.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and so many milliseconds more; stays at the end of time rather than wrap.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// Milliseconds from `earlier` to this time, 0 if it is not earlier.
    pub fn since_ms(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    /// Reads RFC 3339 (`2026-11-21T09:00:00Z`, any offset).
    pub fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds. What lies beyond the years that it can name is shown as the nearest that it can.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(end);
        write!(f, "{time:.3}")
    }
}

/// Reads a duration as people write it: a number of seconds (`90`, `1.5`), `90s`, `5m`, `1h 30m`, or
/// ISO 8601 (`PT5M`). `None` for anything else, for a negative one and for calendar units (months, years), whose length is
/// not fixed.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds_to_ms(seconds);
    }
    let span = text.parse::<jiff::Span>().ok()?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let ms = span.total((jiff::Unit::Millisecond, relative)).ok()?;
    seconds_to_ms(ms / 1000.0)
}

/// Seconds, possibly with a fraction, in whole milliseconds; `None` unless finite, not negative and under 100 years.
pub fn seconds_to_ms(seconds: f64) -> Option<u64> {
    const LIMIT_SECONDS: f64 = 100.0 * 366.0 * 86_400.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
    (seconds.is_finite() && (0.0..=LIMIT_SECONDS).contains(&seconds)).then(|| (seconds * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("90", Some(90_000)),
            ("1.5", Some(1_500)),
            ("0", Some(0)),
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("1h 30m", Some(5_400_000)),
            ("PT5M", Some(300_000)),
            ("P1D", Some(86_400_000)),
            ("250ms", Some(250)),
            ("-5", None),
            ("P1M", None),
            ("soon", None),
            ("NaN", None),
            ("1e300", None),
        ] {
            assert_eq!(parse_duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn times_print_and_read_back_as_rfc_3339() {
        let time = Timestamp(1_795_251_600_123);
        assert_eq!(time.to_string(), "2026-11-21T09:00:00.123Z");
        assert_eq!(Timestamp::parse("2026-11-21T10:00:00.123+01:00"), Some(time));
        assert_eq!(Timestamp::parse("tomorrow"), None);
    }
}
