//! `admin.proto`: a topic's configuration, and which fields an update names.

use crate::convert::{Invalid, duration_from_wire, duration_to_wire};
use crate::v1;
use crate::v1::topic_config::{Cleanup, Flush, SchemaCheck};
use flotilla_types::topic::{Retention, TopicConfig};

/// Reads a configuration. Zero and empty mean "not set"; -1 seconds and -1 bytes of retention mean no
/// limit. Settings of later versions are refused rather than ignored.
pub fn config_from_wire(wire: &v1::TopicConfig) -> Result<TopicConfig, Invalid> {
    refuse_later_settings(wire)?;
    let retention = match &wire.retention {
        None => None,
        Some(time) if time.seconds < 0 || time.nanos < 0 => Some(Retention::Unlimited),
        Some(time) => Some(Retention::For(duration_from_wire("config.retention", *time)?)),
    };
    let retention_bytes = match wire.retention_bytes {
        0 | -1 => None,
        bytes => Some(u64::try_from(bytes).map_err(|_| {
            Invalid::new("config.retention_bytes", format!("is {bytes}, expected -1 for no limit or a size"))
        })?),
    };
    let max_batch_bytes = match wire.max_batch_bytes {
        0 => None,
        bytes => Some(u32::try_from(bytes).map_err(|_| {
            Invalid::new("config.max_batch_bytes", format!("is {bytes}, expected 1024 to 8388608"))
        })?),
    };
    let dedup_window = wire
        .dedup_window
        .map(|window| duration_from_wire("config.dedup_window", window))
        .transpose()?
        .filter(|window| !window.is_zero());
    Ok(TopicConfig {
        retention,
        retention_bytes,
        max_batch_bytes,
        dedup_window,
        trace_sample_ratio: (wire.trace_sample_ratio != 0.0).then_some(wire.trace_sample_ratio),
    })
}

fn refuse_later_settings(wire: &v1::TopicConfig) -> Result<(), Invalid> {
    let later = |field| {
        Err(Invalid {
            reason: flotilla_types::Reason::UnsupportedVersion,
            ..Invalid::new(field, "asks for what a later version brings")
        })
    };
    match Cleanup::try_from(wire.cleanup) {
        Ok(Cleanup::Unspecified | Cleanup::Delete) => {}
        Ok(Cleanup::Compact) => return later("config.cleanup"),
        Err(_) => return Err(Invalid::unknown("config.cleanup", wire.cleanup)),
    }
    match Flush::try_from(wire.flush) {
        Ok(Flush::Unspecified | Flush::BeforeAck) => {}
        Ok(Flush::Periodic) => return later("config.flush"),
        Err(_) => return Err(Invalid::unknown("config.flush", wire.flush)),
    }
    match SchemaCheck::try_from(wire.schema_check) {
        Ok(SchemaCheck::Unspecified) if wire.schema_subject.is_empty() => Ok(()),
        Ok(_) => later("config.schema_check"),
        Err(_) => Err(Invalid::unknown("config.schema_check", wire.schema_check)),
    }
}

/// Writes a configuration as it was set: what was left to the defaults stays absent.
pub fn config_to_wire(config: &TopicConfig) -> v1::TopicConfig {
    v1::TopicConfig {
        retention: config.retention.map(|retention| match retention {
            Retention::For(time) => duration_to_wire(time),
            Retention::Unlimited => prost_types::Duration { seconds: -1, nanos: 0 },
        }),
        retention_bytes: config.retention_bytes.map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        cleanup: Cleanup::Delete as i32,
        flush: Flush::BeforeAck as i32,
        max_batch_bytes: config.max_batch_bytes.map_or(0, |bytes| bytes as i32),
        dedup_window: config.dedup_window.map(duration_to_wire),
        schema_subject: String::new(),
        schema_check: SchemaCheck::Unspecified as i32,
        trace_sample_ratio: config.trace_sample_ratio.unwrap_or(0.0),
    }
}

/// Reads an update's mask: which fields are taken from the rest of the message. An absent or empty one is
/// refused, because it would reset whatever the caller left out.
pub fn mask_from_wire(mask: Option<prost_types::FieldMask>) -> Result<Vec<String>, Invalid> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() { Err(Invalid::missing("update_mask")) } else { Ok(paths) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config() -> TopicConfig {
        TopicConfig {
            retention: Some(Retention::For(Duration::from_millis(90_500))),
            retention_bytes: Some(1 << 40),
            max_batch_bytes: Some(4096),
            dedup_window: Some(Duration::from_secs(60)),
            trace_sample_ratio: Some(0.25),
        }
    }

    #[test]
    fn settings_survive_the_wire() {
        let unlimited = TopicConfig { retention: Some(Retention::Unlimited), ..config() };
        for config in [config(), unlimited, TopicConfig::default()] {
            assert_eq!(config_from_wire(&config_to_wire(&config)), Ok(config));
        }
    }

    #[test]
    fn settings_of_later_versions_are_not_ignored() {
        let with = |change: fn(&mut v1::TopicConfig)| {
            let mut wire = config_to_wire(&config());
            change(&mut wire);
            config_from_wire(&wire).unwrap_err().field
        };
        assert_eq!(with(|c| c.cleanup = Cleanup::Compact as i32), "config.cleanup");
        assert_eq!(with(|c| c.flush = Flush::Periodic as i32), "config.flush");
        assert_eq!(with(|c| c.schema_subject = "s".to_owned()), "config.schema_check");
        assert_eq!(with(|c| c.flush = 44), "config.flush");
        assert_eq!(with(|c| c.retention_bytes = -2), "config.retention_bytes");
        assert_eq!(with(|c| c.max_batch_bytes = -1), "config.max_batch_bytes");
    }

    #[test]
    fn an_update_says_what_it_changes() {
        let mask = prost_types::FieldMask { paths: vec!["config.retention_bytes".into(), "labels".into()] };
        assert_eq!(mask_from_wire(Some(mask)).unwrap(), ["config.retention_bytes", "labels"]);
        assert!(mask_from_wire(None).is_err());
        assert!(mask_from_wire(Some(prost_types::FieldMask::default())).is_err());
    }
}
