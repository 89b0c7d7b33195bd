//! Cluster-wide settings, by name. What they mean is the broker's affair; here they are only kept.

use super::outcome::{Outcome, Refusal};
use crate::outcome::Broken;
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::ChangeSet;
use std::collections::BTreeMap;

/// Most settings.
const SETTINGS_MAX: usize = 1024;
/// Longest value, in bytes.
const VALUE_MAX: usize = 64 << 10;

/// Values by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        changes: &mut ChangeSet,
    ) -> Result<Outcome, Refusal> {
        check_name("setting", name)?;
        let before = self.0.get(name).map(String::as_str);
        if before == value {
            return Ok(Outcome::SettingSet);
        }
        let Some(value) = value else {
            self.0.remove(name);
            row::delete(changes, RowKind::Setting, name.as_bytes());
            return Ok(Outcome::SettingSet);
        };
        if value.len() > VALUE_MAX {
            return Err(Refusal::LimitReached { what: "bytes of a setting", limit: VALUE_MAX as u64 });
        }
        if before.is_none() && self.0.len() >= SETTINGS_MAX {
            return Err(Refusal::LimitReached { what: "settings", limit: SETTINGS_MAX as u64 });
        }
        let value = value.to_owned();
        row::put(changes, RowKind::Setting, name.as_bytes(), &value);
        self.0.insert(name.to_owned(), value);
        Ok(Outcome::SettingSet)
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        out.extend(self.0.iter().map(|(name, value)| row::row(RowKind::Setting, name.as_bytes(), value)));
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        self.0.insert(row.id_text()?, row.value()?);
        Ok(())
    }
}

/// Names of features and settings follow the rule of all names.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), Refusal> {
    flotilla_types::name::check(name).map_err(|_| Refusal::Invalid {
        field,
        value: format!("{:?}", name.chars().take(80).collect::<String>()),
        expected: "expected 1 to 249 characters of A-Z a-z 0-9 . _ -",
    })
}
