//! The hash chain: one number that stands for every entry applied and everything each of them wrote.
//!
//! `chain(i) = XXH3-128(chain(i-1), id of i, command i, rows that i wrote)`. The command has the batch's
//! CRC in it, so the payload is not read again. Two replicas with the same chain at the same index have
//! applied the same log and came to the same state; one that differs was corrupted or is not deterministic.
//! The chain itself is a state row, so it goes on over restarts, checkpoints and snapshots.
//!
//! Every [`MARK_EVERY`] entries the value is remembered, so that the leader's value, which arrives a
//! little later as a command, can be compared with the replica's own.

use crate::command::Command;
use crate::encoding::{Field, fields};
use crate::outcome::{Broken, Outcome};
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::{ChangeSet, IndexRow, LogId, LogIndex};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128;

/// The chain is remembered at multiples of this.
pub const MARK_EVERY: u64 = 4096;
/// So many marks are kept: an audit may arrive this many times [`MARK_EVERY`] entries late.
pub const MARKS_KEPT: usize = 8;

/// The chain's value at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// A multiple of [`MARK_EVERY`].
    pub at: LogIndex,
    /// The value after applying the entry at `at`.
    pub chain: u128,
}

/// Where a shard stands in its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chain {
    position: Position,
    marks: BTreeMap<LogIndex, u128>,
}

/// What every entry changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Position {
    /// The last entry applied.
    last: Option<LogId>,
    /// The chain after it.
    value: u128,
    /// The newest mark that an audit has named.
    audited: LogIndex,
}

fields!(Position { last, value, audited });

impl Chain {
    pub fn last(&self) -> Option<LogId> {
        self.position.last
    }

    pub fn value(&self) -> u128 {
        self.position.value
    }

    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.marks.iter().map(|(at, chain)| Mark { at: *at, chain: *chain })
    }

    /// The newest mark, if no audit has named it yet.
    pub fn unaudited(&self) -> Option<Mark> {
        self.marks().last().filter(|mark| mark.at > self.position.audited)
    }

    /// Refuses an entry that does not follow the last one.
    pub fn check_follows(&self, at: LogId) -> Result<(), Broken> {
        let Some(last) = self.position.last else {
            // Raft numbers its first entry 0, or 1 where the first voters are given in another way.
            return match at.index.get() {
                0 | 1 => Ok(()),
                _ => Err(Broken::new(format!("entry {at} is the first, expected index 0 or 1"))),
            };
        };
        if last.index.get().checked_add(1) != Some(at.index.get()) {
            return Err(Broken::new(format!("entry {at} follows {last}, there is a hole")));
        }
        if at.term < last.term {
            return Err(Broken::new(format!("entry {at} follows {last}, terms went back")));
        }
        Ok(())
    }

    /// Compares with the proposer's chain.
    pub fn audit(&mut self, at: LogIndex, theirs: u128) -> Result<Outcome, Broken> {
        let Some(ours) = self.marks.get(&at) else { return Ok(Outcome::Audited { compared: false }) };
        if *ours != theirs {
            return Err(Broken::new(format!(
                "replicas differ at entry {at}: the leader's chain is {theirs:032x}, here it is {ours:032x}"
            )));
        }
        self.position.audited = self.position.audited.max(at);
        Ok(Outcome::Audited { compared: true })
    }

    /// Takes in an entry and what it wrote, and adds the chain's own rows to that. `None` = one of Raft's.
    pub fn extend(&mut self, at: LogId, command: Option<&Command>, changes: &mut ChangeSet) {
        let mut bytes = Vec::with_capacity(512);
        self.position.value.put(&mut bytes);
        at.put(&mut bytes);
        command.is_some().put(&mut bytes);
        if let Some(command) = command {
            command.encode_to(&mut bytes);
        }
        changes.index.iter().for_each(|row| put_index_row(row, &mut bytes));
        for write in &changes.state {
            put_blob(&write.key, &mut bytes);
            write.value.is_some().put(&mut bytes);
            put_blob(write.value.as_deref().unwrap_or_default(), &mut bytes);
        }
        self.position.last = Some(at);
        self.position.value = xxh3_128(&bytes);
        if at.index.get() != 0 && at.index.get().is_multiple_of(MARK_EVERY) {
            self.mark(at.index, changes);
        }
        row::put(changes, RowKind::Position, &[], &self.position);
    }

    fn mark(&mut self, at: LogIndex, changes: &mut ChangeSet) {
        self.marks.insert(at, self.position.value);
        row::put(changes, RowKind::Mark, &at.get().to_be_bytes(), &self.position.value);
        while self.marks.len() > MARKS_KEPT {
            if let Some((old, _)) = self.marks.pop_first() {
                row::delete(changes, RowKind::Mark, &old.get().to_be_bytes());
            }
        }
    }

    pub fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        if self.position.last.is_some() {
            out.push(row::row(RowKind::Position, &[], &self.position));
        }
        let mark = |(at, chain): (&LogIndex, _)| row::row(RowKind::Mark, &at.get().to_be_bytes(), chain);
        out.extend(self.marks.iter().map(mark));
    }

    pub fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        if row.kind == RowKind::Mark {
            self.marks.insert(LogIndex(row.id_u64()?), row.value()?);
        } else {
            row.id_none()?;
            self.position = row.value()?;
        }
        Ok(())
    }
}

/// Every field counts: a replica whose index differs would answer fetches differently.
fn put_index_row(row: &IndexRow, out: &mut Vec<u8>) {
    row.base_offset.put(out);
    row.log_index.put(out);
    row.record_count.put(out);
    row.body_bytes.put(out);
    row.append_time.put(out);
    row.term.put(out);
    row.producer.put(out);
    row.transactional.put(out);
}

fn put_blob(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u32).put(out);
    out.extend_from_slice(bytes);
}
