//! Where to read: `start`, `end`, `+10`, `-10`, `123`, `@2026-11-01T10:00Z`, `@-1h`, and from one to
//! another: `123:200`, `:end`, `-100:end`, `@-48h:-24h`.
//!
//! | Written | Means |
//! | --- | --- |
//! | `start`, `end` | the first record kept; after the last one there is now |
//! | `N` | offset N |
//! | `+N`, `-N` | N records after the start; N records before the end |
//! | `@TIME` | the first record at or after a time: RFC 3339, a date, Unix milliseconds, or `-1h` from now |
//! | `A:B` | from A up to B, without B; an absent A is the start; reading stops there |

use crate::exit::Failed;
use flotilla_client::{Admin, Isolation, OffsetQuery};
use flotilla_types::{Offset, PartitionId, TimestampMs};

/// A place in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The first record kept.
    Start,
    /// After the last record there is now.
    End,
    /// This offset.
    At(u64),
    /// So many records after the start.
    AfterStart(u64),
    /// So many records before the end.
    BeforeEnd(u64),
    /// The first record at or after this time.
    Time(TimestampMs),
}

/// From a place on, and perhaps up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first record.
    pub from: Point,
    /// The first record that is not read any more.
    pub to: Option<Point>,
}

impl Point {
    /// Reads a place; `now` is what relative times count from.
    pub fn parse(text: &str, now: TimestampMs) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
        let point = match text {
            "start" => Some(Self::Start),
            "end" => Some(Self::End),
            _ => match text.split_at_checked(1) {
                Some(("@", moment)) => return time(moment, now).map(Self::Time),
                Some(("+", count)) => number(count).map(Self::AfterStart),
                Some(("-", count)) => number(count).map(Self::BeforeEnd),
                _ => number(text).map(Self::At),
            },
        };
        point.ok_or_else(|| format!("{text:?} is not start, end, N, +N, -N or @TIME"))
    }
}

impl Span {
    /// Reads a place or two.
    pub fn parse(text: &str, now: TimestampMs) -> Result<Self, String> {
        if let Ok(from) = Point::parse(text, now) {
            return Ok(Self { from, to: None });
        }
        // A time holds colons of its own, so every one is tried.
        for (at, _) in text.match_indices(':') {
            let (from, to) = (&text[..at], &text[at + 1..]);
            let after_time = from.starts_with('@');
            let from = if from.is_empty() { Ok(Point::Start) } else { Point::parse(from, now) };
            let to = match Point::parse(to, now) {
                // `@-48h:-24h` means two times.
                Err(_) if after_time => time(to, now).map(Point::Time),
                parsed => parsed,
            };
            if let (Ok(from), Ok(to)) = (from, to) {
                return Ok(Self { from, to: Some(to) });
            }
        }
        Err(format!("offset {text:?} is not start, end, N, +N, -N, @TIME or FROM:TO of these"))
    }
}

/// Reads a time: `-1h` from `now`, Unix milliseconds, a date, or RFC 3339.
pub fn time(text: &str, now: TimestampMs) -> Result<TimestampMs, String> {
    if let Some(ago) = text.strip_prefix('-')
        && let Ok(ago) = flotilla_types::duration::parse(ago)
    {
        return Ok(now - ago.as_millis() as TimestampMs);
    }
    if let Ok(ms) = text.parse::<u64>() {
        return i64::try_from(ms).map_err(|_| format!("time {text} is too far away"));
    }
    let parsed = match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time),
        Err(_) if text.len() == 10 => format!("{text}T00:00:00Z").parse(),
        Err(_) if text.ends_with('Z') => format!("{}:00Z", text.trim_end_matches('Z')).parse(),
        Err(error) => Err(error),
    };
    parsed.map(jiff::Timestamp::as_millisecond).map_err(|_| {
        format!("{text:?} is not a time such as 2026-11-01T10:00Z, 2026-11-01, 1762000000000 or -1h")
    })
}

/// Where a place is in each partition, inside what the partition holds.
pub async fn resolve(
    admin: &Admin,
    topic: &str,
    point: Point,
    isolation: Isolation,
) -> Result<Vec<(PartitionId, Offset)>, Failed> {
    let query = match point {
        Point::Start | Point::AfterStart(_) => OffsetQuery::Earliest,
        Point::End | Point::BeforeEnd(_) | Point::At(_) => OffsetQuery::Latest,
        Point::Time(time) => OffsetQuery::At(time),
    };
    let found = admin.offsets(topic, query, isolation).await?;
    let starts = match point {
        Point::BeforeEnd(_) => Some(admin.offsets(topic, OffsetQuery::Earliest, isolation).await?),
        _ => None,
    };
    let place = |(index, found): (usize, &flotilla_client::ListedOffset)| {
        let start = starts.as_ref().and_then(|s| s.get(index)).map_or(0, |s| s.offset.get());
        let offset = match point {
            Point::At(offset) => Offset(offset),
            Point::AfterStart(count) => found.offset.plus(count),
            Point::BeforeEnd(count) => Offset(found.offset.get().saturating_sub(count).max(start)),
            Point::Start | Point::End | Point::Time(_) => found.offset,
        };
        (found.partition, offset)
    };
    Ok(found.iter().enumerate().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = 1_800_000_000_000;
    const HOUR: TimestampMs = 3_600_000;
    const TEN: TimestampMs = 1_793_527_200_000; // 2026-11-01T10:00Z

    fn span(text: &str) -> Option<(Point, Option<Point>)> {
        Span::parse(text, NOW).ok().map(|span| (span.from, span.to))
    }

    #[test]
    fn places_read_as_the_page_says() {
        use Point::{AfterStart, At, BeforeEnd, End, Start, Time};
        for (text, from, to) in [
            ("start", Start, None),
            ("end", End, None),
            ("0", At(0), None),
            ("123", At(123), None),
            ("+10", AfterStart(10), None),
            ("-10", BeforeEnd(10), None),
            ("@-1h", Time(NOW - HOUR), None),
            ("@2026-11-01T10:00Z", Time(TEN), None),
            ("@2026-11-01T10:00:00Z", Time(TEN), None),
            ("@2026-11-01T11:00:00+01:00", Time(TEN), None),
            ("@2026-11-01", Time(TEN - 10 * HOUR), None),
            ("@1793527200000", Time(TEN), None),
            (":end", Start, Some(End)),
            ("123:200", At(123), Some(At(200))),
            ("-100:end", BeforeEnd(100), Some(End)),
            ("+5:-5", AfterStart(5), Some(BeforeEnd(5))),
            ("@-48h:-24h", Time(NOW - 48 * HOUR), Some(Time(NOW - 24 * HOUR))),
            ("@-48h:@-24h", Time(NOW - 48 * HOUR), Some(Time(NOW - 24 * HOUR))),
            ("@-48h:end", Time(NOW - 48 * HOUR), Some(End)),
            ("@2026-11-01T10:00Z:end", Time(TEN), Some(End)),
            ("@2026-11-01T10:00Z:2026-11-01T10:00Z", Time(TEN), Some(Time(TEN))),
        ] {
            assert_eq!(span(text), Some((from, to)), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "x", "-", "+", "@", "@x", "1:2:3", "12a", "--1", "+-1", "1:", "-1h", "@-1", ":"] {
            assert_eq!(span(text), None, "{text:?}");
        }
    }
}
