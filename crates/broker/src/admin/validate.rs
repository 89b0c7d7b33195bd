//! What can be refused without asking anybody.

use super::{CreateTopic, Error};
use flotilla_machine::controller::{LABEL_VALUE_MAX, LABELS_MAX};
use flotilla_types::{limits, name};
use std::collections::BTreeMap;

pub(crate) fn create(create: &CreateTopic) -> Result<(), Error> {
    partition_count(create.partition_count)?;
    if create.replication_factor > limits::REPLICATION_MAX {
        let expected = format!("expected 1 to {}", limits::REPLICATION_MAX);
        return Err(Error::invalid("replication_factor", create.replication_factor, expected));
    }
    labels(&create.labels)?;
    Ok(create.config.check()?)
}

pub(crate) fn partition_count(count: u32) -> Result<(), Error> {
    if count > limits::TOPIC_MAX_PARTITIONS {
        let expected = format!("expected 1 to {}", limits::TOPIC_MAX_PARTITIONS);
        return Err(Error::invalid("partition_count", count, expected));
    }
    Ok(())
}

pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    if labels.len() > LABELS_MAX {
        return Err(Error::invalid("labels", labels.len(), format!("expected at most {LABELS_MAX}")));
    }
    for (key, value) in labels {
        if let Err(error) = name::check(key) {
            let key: String = key.chars().take(80).collect();
            return Err(Error::invalid("labels", key, error.to_string()));
        }
        if value.len() > LABEL_VALUE_MAX {
            let expected = format!("expected at most {LABEL_VALUE_MAX} bytes for {key}");
            return Err(Error::invalid("labels", value.len(), expected));
        }
    }
    Ok(())
}

/// Nothing, or the beginning of a name.
pub(crate) fn prefix(prefix: &str) -> Result<(), Error> {
    part("filter", prefix)
}

/// Nothing, or what an earlier page gave.
pub(crate) fn page_token(token: &str) -> Result<(), Error> {
    part("page_token", token)
}

fn part(field: &'static str, text: &str) -> Result<(), Error> {
    match name::check(text) {
        Ok(()) | Err(name::InvalidName::Empty | name::InvalidName::Reserved { .. }) => Ok(()),
        Err(error) => {
            let text: String = text.chars().take(80).collect();
            Err(Error::invalid(field, text, error.to_string()))
        }
    }
}
