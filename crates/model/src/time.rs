//! Points in time as one integer type, and the text form of durations in configuration.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(pub i64);

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no time in RFC 3339"))
    }
}

impl Timestamp {
    /// The milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// The wall-clock time `at`; times outside the range of `i64` milliseconds saturate.
    pub fn from_system(at: SystemTime) -> Self {
        match at.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => Self(
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
            ),
        }
    }

    /// The time that `text` gives: RFC 3339, or milliseconds since the epoch.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(millis) => Some(Self(millis)),
            Err(_) => humantime::parse_rfc3339_weak(text).ok().map(Self::from_system),
        }
    }

    /// As [`Timestamp::parse`], or an age such as `2 hours` before `now`.
    pub fn parse_or_age(text: &str, now: Self) -> Option<Self> {
        Self::parse(text).or_else(|| Some(now.minus(parse_duration(text).ok()?)))
    }

    /// This time plus `step`, saturating.
    pub fn plus(self, step: Duration) -> Self {
        Self(self.0.saturating_add(duration_millis(step)))
    }

    /// This time minus `step`, saturating.
    pub fn minus(self, step: Duration) -> Self {
        Self(self.0.saturating_sub(duration_millis(step)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Days since the epoch, in UTC; the day that a segment is filed under.
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }
}

fn duration_millis(step: Duration) -> i64 {
    i64::try_from(step.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with milliseconds, or the plain number where the year does not fit.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0) {
            Ok(millis) if millis < 253_402_300_800_000 => {
                let at = UNIX_EPOCH + Duration::from_millis(millis);
                write!(f, "{}", humantime::format_rfc3339_millis(at))
            }
            _ => write!(f, "{} ms", self.0),
        }
    }
}

/// Durations that may be absent. Use with `#[serde(default, with = …)]`.
pub mod optional_duration {
    use super::human_duration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    /// As [`human_duration::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Human(#[serde(with = "human_duration")] Duration);
        Option::<Human>::deserialize(input).map(|value| value.map(|Human(duration)| duration))
    }

    /// As [`human_duration::serialize`].
    ///
    /// # Errors
    /// As the output has them.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Human(#[serde(with = "human_duration")] Duration);
        value.map(Human).serialize(output)
    }
}

/// The duration that `text` gives: `250ms`, `7 days`.
///
/// # Errors
/// In words, with the text and a good example.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // A number and its unit may be apart.
    humantime::parse_duration(&text.replace(' ', ""))
        .map_err(|cause| format!("{text:?} is no duration such as \"10s\" or \"250ms\": {cause}"))
}

/// Durations in configuration files: `250ms`, `10s`, `1h 30m`. Use with `#[serde(with = …)]`.
pub mod human_duration {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    /// Reads `10s` and the like; the error names the text and a good example.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(input)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }

    /// Writes the form that [`deserialize`] reads.
    pub fn serialize<S: Serializer>(value: &Duration, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(&humantime::format_duration(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_prints_as_rfc3339_and_never_panics() {
        assert_eq!(Timestamp(1_795_418_294_912).to_string(), "2026-11-23T07:18:14.912Z");
        assert_eq!(Timestamp(i64::MIN).to_string(), "-9223372036854775808 ms");
        assert_eq!(Timestamp(i64::MAX).plus(Duration::MAX), Timestamp(i64::MAX));
    }

    #[test]
    fn a_day_before_the_epoch_is_negative() {
        assert_eq!(Timestamp(-1).day(), -1);
        assert_eq!(Timestamp(86_400_000).day(), 1);
    }
}
