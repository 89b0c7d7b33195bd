//! The places the log can be purged to: the shard's state exists there as a checkpoint.
//!
//! A checkpoint at entry `i` stands for everything up to and including `i`. Once the log start has passed
//! its offset, no kept record is below it, so the log may go up to `i`; a new replica is given that
//! checkpoint and then the rest of the log. Checkpoints that are no longer listed are of no more use.

use crate::encoding::fields;
use crate::outcome::{Broken, PurgeTo};
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::{ChangeSet, LogIndex, Offset, TimestampMs};
use std::collections::BTreeMap;
use std::ops::Bound;

/// One checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The entry it was made at, which is in it.
    pub index: LogIndex,
    /// The next record's offset there: every batch up to this entry is below.
    pub next_offset: Offset,
    /// Log time there, in milliseconds since 1970.
    pub time: TimestampMs,
    /// Bytes of bodies ever logged, there.
    pub bytes: u64,
}

impl Checkpoint {
    /// Purging to it.
    pub fn purge_to(&self) -> PurgeTo {
        PurgeTo { index: self.index, index_rows_below: self.next_offset }
    }
}

/// The value of a checkpoint's row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stored {
    next_offset: Offset,
    time: TimestampMs,
    bytes: u64,
    /// The log is purged to this one.
    purged: bool,
}

fields!(Stored { next_offset, time, bytes, purged });

/// A partition's checkpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Checkpoints {
    by_index: BTreeMap<LogIndex, Checkpoint>,
    /// The first of them, if the log is purged to it.
    purged: Option<LogIndex>,
}

impl Checkpoints {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Checkpoint> {
        self.by_index.values()
    }

    /// The one the log is purged to.
    pub fn purged(&self) -> Option<&Checkpoint> {
        self.purged.and_then(|index| self.by_index.get(&index))
    }

    /// Whether enough was logged since the last one.
    pub fn due(&self, bytes_logged: u64, every: u64) -> bool {
        let last = self.by_index.last_key_value().map_or(0, |(_, last)| last.bytes);
        bytes_logged.saturating_sub(last) >= every.max(1)
    }

    /// Adds a new one. The last one is of no more use if it stands at the same offset; if the log is purged
    /// to it, then [`Checkpoints::purge_below`], which comes next, moves on to the new one.
    pub fn add(&mut self, checkpoint: Checkpoint, changes: &mut ChangeSet) {
        let last = self.by_index.last_key_value().map(|(_, last)| *last);
        if let Some(last) = last
            && last.next_offset == checkpoint.next_offset
        {
            self.remove(last.index, changes);
        }
        self.by_index.insert(checkpoint.index, checkpoint);
        self.put(&checkpoint, changes);
    }

    /// Chooses the newest one at or below the log start; `None` if the log is purged to it already.
    pub fn purge_below(&mut self, log_start: Offset, changes: &mut ChangeSet) -> Option<PurgeTo> {
        // Offsets grow with indices: usually the first one after the purge point ends the search.
        let after = (self.purged.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let below = |checkpoint: &&Checkpoint| checkpoint.next_offset <= log_start;
        let newest = self.by_index.range(after).map(|(_, c)| c).take_while(below).last().copied()?;
        self.purged = Some(newest.index);
        while let Some((index, _)) = self.by_index.first_key_value()
            && *index < newest.index
        {
            let index = *index;
            self.remove(index, changes);
        }
        self.put(&newest, changes);
        Some(newest.purge_to())
    }

    fn put(&self, checkpoint: &Checkpoint, changes: &mut ChangeSet) {
        let (key, stored) = self.stored(checkpoint);
        row::put(changes, RowKind::Checkpoint, &key, &stored);
    }

    fn remove(&mut self, index: LogIndex, changes: &mut ChangeSet) {
        self.by_index.remove(&index);
        row::delete(changes, RowKind::Checkpoint, &index.get().to_be_bytes());
    }

    fn stored(&self, checkpoint: &Checkpoint) -> ([u8; 8], Stored) {
        let Checkpoint { index, next_offset, time, bytes } = *checkpoint;
        let purged = self.purged == Some(index);
        (index.get().to_be_bytes(), Stored { next_offset, time, bytes, purged })
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        for checkpoint in self.by_index.values() {
            let (key, stored) = self.stored(checkpoint);
            out.push(row::row(RowKind::Checkpoint, &key, &stored));
        }
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        let index = LogIndex(row.id_u64()?);
        let Stored { next_offset, time, bytes, purged } = row.value()?;
        self.by_index.insert(index, Checkpoint { index, next_offset, time, bytes });
        if purged {
            self.purged = Some(index);
        }
        Ok(())
    }

    pub fn check_loaded(&self, end: Offset) -> Result<(), Broken> {
        let offsets = || self.iter().map(|c| c.next_offset).chain([end]);
        if offsets().zip(offsets().skip(1)).any(|(earlier, later)| earlier > later) {
            return Err(Broken::new(format!("checkpoints' offsets go back or beyond the end {end}")));
        }
        let first = self.by_index.first_key_value().map(|(index, _)| *index);
        if self.purged.is_some() && self.purged != first {
            return Err(Broken::new("a checkpoint is below the one the log is purged to"));
        }
        Ok(())
    }
}
