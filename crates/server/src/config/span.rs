//! A length of time as people write it in a setting: `"25s"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A setting that is a length of time: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// Units from the largest, with their length in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    pub(crate) const fn from_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub(crate) fn as_ms(self) -> u64 {
        // `FromStr` lets nothing in that does not fit.
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || {
            format!("`{text}` is not a length of time: write a whole number and ms, s, m, h or d")
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| rule())?;
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(rule)?;
        // A thousand years, so that nothing that is added to it can overflow.
        let ms = number.checked_mul(*unit_ms).filter(|ms| *ms <= 365_000 * UNITS[0].1);
        ms.map(Self::from_ms).ok_or_else(|| format!("`{text}` is too long"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.as_ms();
        let exact = |(_, unit): &&(&str, u64)| ms.is_multiple_of(*unit);
        match UNITS.iter().find(exact) {
            Some((name, unit)) if ms > 0 => write!(f, "{}{name}", ms / unit),
            _ => f.write_str("0s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

/// Says how a span is written to whoever wrote a bare number.
struct SpanVisitor;

impl de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time such as \"25s\" or \"250ms\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_in_the_largest_unit() {
        for (text, ms, written) in [
            ("250ms", 250, "250ms"),
            ("25s", 25_000, "25s"),
            ("120s", 120_000, "2m"),
            ("30d", 2_592_000_000, "30d"),
            ("0ms", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.as_ms(), span.to_string().as_str()), (ms, written));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "s", "25", "2.5s", "-1s", "25 s", "25sec", "99999999999999999999s", "9999999d"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
