//! Feature levels: a kind of command is proposed only once every node knows it. Levels never fall, because
//! state of the higher one may exist.

use super::outcome::{Outcome, Refusal};
use super::settings::check_name;
use crate::outcome::Broken;
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::ChangeSet;
use std::collections::BTreeMap;

/// Most features.
const FEATURES_MAX: usize = 256;

/// Levels by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Features(BTreeMap<String, u32>);

impl Features {
    pub fn all(&self) -> &BTreeMap<String, u32> {
        &self.0
    }

    pub fn level(&self, name: &str) -> u32 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn set(&mut self, name: &str, level: u32, changes: &mut ChangeSet) -> Result<Outcome, Refusal> {
        check_name("feature", name)?;
        let current = self.level(name);
        if level < current {
            return Err(Refusal::FeatureLevelFalls { name: name.to_owned(), current, given: level });
        }
        if level > current {
            if self.0.len() >= FEATURES_MAX && !self.0.contains_key(name) {
                return Err(Refusal::LimitReached { what: "features", limit: FEATURES_MAX as u64 });
            }
            row::put(changes, RowKind::Feature, name.as_bytes(), &level);
            self.0.insert(name.to_owned(), level);
        }
        Ok(Outcome::FeatureSet { level })
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        out.extend(self.0.iter().map(|(name, level)| row::row(RowKind::Feature, name.as_bytes(), level)));
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        self.0.insert(row.id_text()?, row.value()?);
        Ok(())
    }
}
