//! How a topic behaves: its configuration and the defaults.

use crate::limits;
use std::time::Duration;

/// A topic's settings. `None` means the cluster's default holds; see [`TopicConfig::resolved`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicConfig {
    /// Records older than this may be removed. Zero is refused; absent = 7 days.
    pub retention: Option<Retention>,
    /// Bytes of bodies kept per partition, beyond which the oldest may be removed. Absent = no limit.
    pub retention_bytes: Option<u64>,
    /// Largest batch in bytes as sent, 1 KiB to 8 MiB. Absent = 1 MiB.
    pub max_batch_bytes: Option<u32>,
    /// How long message ids are remembered, per partition. Absent = not at all.
    pub dedup_window: Option<Duration>,
    /// Share of records without a trace context that are sampled, 0 to 1.
    pub trace_sample_ratio: Option<f64>,
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// This long, counted from the append time.
    For(Duration),
    /// For ever.
    Unlimited,
}

/// What a topic's configuration comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolved {
    /// How long records are kept; `None` = for ever.
    pub retention: Option<Duration>,
    /// Bytes kept per partition; `None` = no limit.
    pub retention_bytes: Option<u64>,
    /// Largest batch in bytes as sent.
    pub max_batch_bytes: usize,
    /// How long message ids are remembered; `None` = not at all.
    pub dedup_window: Option<Duration>,
}

/// Kept this long where a topic says nothing, as in Kafka.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which setting is wrong and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("config.{field} is {value}, {expected}")]
pub struct InvalidConfig {
    /// As the contract names it.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

impl TopicConfig {
    /// With every default filled in.
    pub fn resolved(&self) -> Resolved {
        Resolved {
            retention: match self.retention {
                None => Some(DEFAULT_RETENTION),
                Some(Retention::For(time)) => Some(time),
                Some(Retention::Unlimited) => None,
            },
            retention_bytes: self.retention_bytes,
            max_batch_bytes: self.max_batch_bytes.map_or(limits::BATCH_DEFAULT_MAX_BYTES, |b| b as usize),
            dedup_window: self.dedup_window,
        }
    }

    /// Refuses what could not work.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let invalid = |field, value: String, expected| Err(InvalidConfig { field, value, expected });
        if let Some(Retention::For(time)) = self.retention
            && time < Duration::from_secs(1)
        {
            return invalid("retention", format!("{time:?}"), "expected at least 1s, or -1s for no limit");
        }
        if let Some(bytes @ ..1024) = self.retention_bytes {
            return invalid(
                "retention_bytes",
                bytes.to_string(),
                "expected at least 1024, or -1 for no limit",
            );
        }
        if let Some(bytes) = self.max_batch_bytes
            && !(1024..=limits::BATCH_MAX_BYTES).contains(&(bytes as usize))
        {
            return invalid("max_batch_bytes", bytes.to_string(), "expected 1024 to 8388608");
        }
        if let Some(window) = self.dedup_window
            && !(Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600)).contains(&window)
        {
            return invalid("dedup_window", format!("{window:?}"), "expected 1s to 7 days, or 0 for none");
        }
        if let Some(ratio) = self.trace_sample_ratio
            && !(0.0..=1.0).contains(&ratio)
        {
            return invalid("trace_sample_ratio", ratio.to_string(), "expected 0 to 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        let bad = TopicConfig { max_batch_bytes: Some(12), ..TopicConfig::default() };
        assert_eq!(
            bad.check().unwrap_err().to_string(),
            "config.max_batch_bytes is 12, expected 1024 to 8388608"
        );
        assert!(TopicConfig::default().check().is_ok());
        let nan = TopicConfig { trace_sample_ratio: Some(f64::NAN), ..TopicConfig::default() };
        assert!(nan.check().is_err());
    }
}
