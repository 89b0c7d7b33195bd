//! Between the wire and the vocabulary: one file per proto file, each direction a plain function.
//!
//! What comes from the wire is checked here for form only (numbers that fit their type, known enum
//! values, fields that belong together); what a request may do is decided where it is carried out.

pub mod admin;
pub mod cluster;
pub mod errors;
pub mod log;
pub mod records;

use flotilla_types::error::Describe;
use flotilla_types::{Failure, NodeId, PartitionId, Reason, TopicId, TopicName};
use std::time::Duration;

/// A field that cannot be what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// As the contract names it, with a dotted path where it is nested: `batch.record_count`.
    pub field: &'static str,
    /// What is wrong with it: the value, escaped where it comes from outside, and what would be right.
    pub why: String,
    /// `InvalidArgument`, or `UnsupportedVersion` for enum values that this version does not know.
    pub reason: Reason,
}

impl Invalid {
    /// A value that is wrong in every version.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into(), reason: Reason::InvalidArgument }
    }

    /// A value that another version may know.
    pub fn unknown(field: &'static str, number: i32) -> Self {
        Self {
            field,
            why: format!("is {number}, which this version does not know"),
            reason: Reason::UnsupportedVersion,
        }
    }

    /// A field that must be there.
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.why)
    }
}

impl std::error::Error for Invalid {}

impl Describe for Invalid {
    fn describe(&self) -> Failure {
        Failure::new(self.reason, self.to_string()).with("field", self.field)
    }
}

/// A topic's name.
pub fn topic_name(name: &str) -> Result<TopicName, Invalid> {
    TopicName::new(name).map_err(|error| Invalid::new("topic", error.to_string()))
}

/// A partition's place in its topic.
pub fn partition_id(number: i32) -> Result<PartitionId, Invalid> {
    u32::try_from(number)
        .map(PartitionId)
        .map_err(|_| Invalid::new("partition", format!("is {number}, expected at least 0")))
}

/// A node's id; 0 stands for "none" and is refused here.
pub fn node_id(field: &'static str, number: i32) -> Result<NodeId, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|n| *n > 0)
        .map(NodeId)
        .ok_or_else(|| Invalid::new(field, format!("is {number}, expected at least 1")))
}

/// One life of a topic; an empty text counts as absent.
pub fn topic_id(text: Option<&str>) -> Result<Option<TopicId>, Invalid> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => {
            TopicId::from_wire(text).map(Some).ok_or_else(|| Invalid::new("topic_id", "is not 16 hex digits"))
        }
    }
}

/// A number that counts something.
pub(crate) fn count(field: &'static str, number: i64) -> Result<u64, Invalid> {
    u64::try_from(number).map_err(|_| Invalid::new(field, format!("is {number}, expected at least 0")))
}

/// A time that people gave, in both ranges' overlap.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

/// A time that is not negative.
pub fn duration_from_wire(field: &'static str, wire: prost_types::Duration) -> Result<Duration, Invalid> {
    Duration::try_from(wire)
        .map_err(|_| Invalid::new(field, format!("is {}s, expected at least 0s", wire.seconds)))
}

/// Milliseconds since the Unix epoch as the contract's calls show them.
pub fn timestamp_to_wire(ms: flotilla_types::TimestampMs) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: ms.div_euclid(1000), nanos: (ms.rem_euclid(1000) * 1_000_000) as i32 }
}

/// Milliseconds since the Unix epoch; what is finer is cut off.
pub fn timestamp_from_wire(
    field: &'static str,
    wire: prost_types::Timestamp,
) -> Result<flotilla_types::TimestampMs, Invalid> {
    let ms = wire.seconds.checked_mul(1000).and_then(|ms| ms.checked_add(i64::from(wire.nanos) / 1_000_000));
    ms.ok_or_else(|| Invalid::new(field, format!("is {}s, out of range", wire.seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_field_and_the_value() {
        let failure = partition_id(-3).unwrap_err().describe();
        assert_eq!(failure.reason, Reason::InvalidArgument);
        assert_eq!(failure.message, "partition is -3, expected at least 0");
        assert_eq!(topic_id(Some("zz")).unwrap_err().field, "topic_id");
        assert_eq!(topic_id(Some("")), Ok(None));
        assert!(node_id("node_id", 0).is_err());
        assert!(topic_name("a\nb").unwrap_err().to_string().starts_with("topic name \"a\\nb\""));
    }

    #[test]
    fn times_before_the_epoch_are_times_too() {
        assert_eq!(timestamp_to_wire(-1), prost_types::Timestamp { seconds: -1, nanos: 999_000_000 });
    }
}
