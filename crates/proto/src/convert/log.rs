//! `log.proto`: how far a reader sees, and positions by offset and time.

use crate::convert::{Invalid, count};
use crate::v1;
use flotilla_types::{Offset, TimestampMs};

/// How far a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the last stable offset, without aborted records. The default.
    #[default]
    ReadCommitted,
    /// Up to the high watermark.
    ReadUncommitted,
}

/// Reads an isolation level; unspecified is read committed.
pub fn isolation_from_wire(number: i32) -> Result<Isolation, Invalid> {
    match v1::IsolationLevel::try_from(number) {
        Ok(v1::IsolationLevel::Unspecified | v1::IsolationLevel::ReadCommitted) => {
            Ok(Isolation::ReadCommitted)
        }
        Ok(v1::IsolationLevel::ReadUncommitted) => Ok(Isolation::ReadUncommitted),
        Err(_) => Err(Invalid::unknown("isolation_level", number)),
    }
}

/// Writes an isolation level.
pub fn isolation_to_wire(isolation: Isolation) -> i32 {
    match isolation {
        Isolation::ReadCommitted => v1::IsolationLevel::ReadCommitted as i32,
        Isolation::ReadUncommitted => v1::IsolationLevel::ReadUncommitted as i32,
    }
}

/// A place that a client asks the offset of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first offset kept.
    Earliest,
    /// The offset after the last one that the reader may see.
    Latest,
    /// The first offset appended at or after this time.
    At(TimestampMs),
}

/// Reads a query's position.
pub fn position_from_wire(
    wire: Option<v1::list_offsets_request::query::Position>,
) -> Result<Position, Invalid> {
    use v1::list_offsets_request::query::Position as Wire;
    match wire {
        Some(Wire::Earliest(true)) => Ok(Position::Earliest),
        Some(Wire::Latest(true)) => Ok(Position::Latest),
        Some(Wire::TimestampMs(time)) => Ok(Position::At(time)),
        Some(Wire::Earliest(false) | Wire::Latest(false)) => {
            Err(Invalid::new("query.position", "is false, expected true or another position"))
        }
        None => Err(Invalid::missing("query.position")),
    }
}

/// Writes a query's position.
pub fn position_to_wire(position: Position) -> v1::list_offsets_request::query::Position {
    use v1::list_offsets_request::query::Position as Wire;
    match position {
        Position::Earliest => Wire::Earliest(true),
        Position::Latest => Wire::Latest(true),
        Position::At(time) => Wire::TimestampMs(time),
    }
}

/// An offset; `field` says which.
pub fn offset_from_wire(field: &'static str, number: i64) -> Result<Offset, Invalid> {
    count(field, number).map(Offset)
}

/// A filter is evaluated by a later version; an absent or empty one passes.
pub fn refuse_filter(filter: Option<&v1::Filter>) -> Result<(), Invalid> {
    match filter {
        Some(f) if !f.keys.is_empty() || !f.header_equals.is_empty() || !f.expression.is_empty() => {
            Err(Invalid {
                reason: flotilla_types::Reason::UnsupportedVersion,
                ..Invalid::new("filter", "is set, which a later version evaluates")
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_committed_records_unless_they_say_otherwise() {
        assert_eq!(isolation_from_wire(0), Ok(Isolation::ReadCommitted));
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            assert_eq!(isolation_from_wire(isolation_to_wire(isolation)), Ok(isolation));
        }
        assert!(isolation_from_wire(9).is_err());
    }

    #[test]
    fn positions_survive_the_wire() {
        for position in [Position::Earliest, Position::Latest, Position::At(-5)] {
            assert_eq!(position_from_wire(Some(position_to_wire(position))), Ok(position));
        }
        assert!(position_from_wire(None).is_err());
    }

    #[test]
    fn an_empty_filter_is_none() {
        assert!(refuse_filter(Some(&v1::Filter::default())).is_ok());
        assert!(
            refuse_filter(Some(&v1::Filter { keys: vec![vec![1].into()], ..Default::default() })).is_err()
        );
    }
}
