//! Durations as people write them: `500ms`, `30s`, `10m`, `12h`, `7d`. For `#[serde(with = "…")]`.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a whole number with a unit; a bare `0` needs none.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refused = || format!("duration {text:?} is not a whole number with ms, s, m, h or d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (digits, unit) = UNITS
        .into_iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits, unit)))
        .ok_or_else(refused)?;
    let number: u64 = digits.trim().parse().map_err(|_| refused())?;
    number.checked_mul(unit).map(Duration::from_millis).ok_or_else(refused)
}

/// The largest unit that holds it exactly; below a millisecond is cut off.
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis() as u64;
    let (name, unit) = UNITS
        .into_iter()
        .rev()
        .find(|(_, unit)| ms >= *unit && ms.is_multiple_of(*unit))
        .unwrap_or(("ms", 1));
    format!("{}{name}", ms / unit)
}

/// For `#[serde(with = "flotilla_types::duration")]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format(*duration))
}

/// For `#[serde(with = "flotilla_types::duration")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_print() {
        for text in ["0ms", "1ms", "1500ms", "30s", "90s", "10m", "7d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "99999999999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
