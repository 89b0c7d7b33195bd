//! Which fields of a topic an update changes.

use super::{Error, UpdateTopic};
use flotilla_types::topic::TopicConfig;
use std::collections::BTreeMap;

const CONFIG: [&str; 5] = [
    "config.retention",
    "config.retention_bytes",
    "config.max_batch_bytes",
    "config.dedup_window",
    "config.trace_sample_ratio",
];
const WHOLE: [&str; 3] = ["config", "labels", "partition_count"];

/// Refuses names of fields that do not exist or cannot be changed.
pub(crate) fn check(fields: &[String]) -> Result<(), Error> {
    match fields.iter().find(|field| !CONFIG.contains(&field.as_str()) && !WHOLE.contains(&field.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let unknown: String = unknown.chars().take(80).collect();
            let expected = format!("expected {} or {}", WHOLE.join(", "), CONFIG.join(", "));
            Err(Error::invalid("update_mask", unknown, expected))
        }
    }
}

/// What the topic's settings, labels and partition count come to. `None` = the count stays.
pub(crate) fn merge(
    update: &UpdateTopic,
    config: &TopicConfig,
    labels: &BTreeMap<String, String>,
) -> (TopicConfig, BTreeMap<String, String>, Option<u32>) {
    let all = update.fields.is_empty();
    let named = |field: &str| all || update.fields.iter().any(|named| named == field);
    let mut merged = if named("config") { update.config.clone() } else { config.clone() };
    let new = &update.config;
    for field in &update.fields {
        match field.as_str() {
            "config.retention" => merged.retention = new.retention,
            "config.retention_bytes" => merged.retention_bytes = new.retention_bytes,
            "config.max_batch_bytes" => merged.max_batch_bytes = new.max_batch_bytes,
            "config.dedup_window" => merged.dedup_window = new.dedup_window,
            "config.trace_sample_ratio" => merged.trace_sample_ratio = new.trace_sample_ratio,
            _ => {}
        }
    }
    let labels = if named("labels") { update.labels.clone() } else { labels.clone() };
    let count = if all { (update.partition_count > 0).then_some(update.partition_count) } else { None };
    let count = if !all && named("partition_count") { Some(update.partition_count) } else { count };
    (merged, labels, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::TopicName;
    use flotilla_types::topic::Retention;

    fn update(fields: &[&str], partition_count: u32) -> UpdateTopic {
        UpdateTopic {
            name: TopicName::new("t").unwrap(),
            id: None,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            config: TopicConfig { max_batch_bytes: Some(2048), ..TopicConfig::default() },
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            partition_count,
            validate_only: false,
        }
    }

    #[test]
    fn only_named_fields_change() {
        let before = TopicConfig { retention: Some(Retention::Unlimited), ..TopicConfig::default() };
        let none = BTreeMap::new();
        let (config, labels, count) = merge(&update(&["config.max_batch_bytes"], 9), &before, &none);
        assert_eq!(config, TopicConfig { max_batch_bytes: Some(2048), ..before.clone() });
        assert_eq!((labels.len(), count), (0, None));
        let (config, ..) = merge(&update(&["config.retention"], 0), &before, &none);
        assert_eq!(config.retention, None, "a named field that is absent goes back to its default");
        let (config, labels, count) = merge(&update(&[], 9), &before, &none);
        assert_eq!((config.retention, labels.len(), count), (None, 1, Some(9)));
        let (config, labels, count) = merge(&update(&["partition_count"], 0), &before, &none);
        assert_eq!((config, labels.len(), count), (before, 0, Some(0)));
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(check(&update(&["config", "labels"], 0).fields).is_ok());
        assert!(check(&update(&["config.cleanup"], 0).fields).is_err());
        assert!(check(&update(&["topic_id"], 0).fields).is_err());
    }
}
