//! Where each shard's log begins and ends, so that a write that would tear it is never made.

use crate::write::{LogRow, Write};
use flotilla_types::{LogId, LogIndex, ShardId, Term};
use std::collections::BTreeMap;

/// One shard's log, without its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Last row; none if there is none.
    pub last: Option<LogId>,
    /// Last index that was purged.
    pub purged: Option<LogIndex>,
    /// Last entry whose change set was written.
    pub applied: Option<LogIndex>,
}

impl Tail {
    /// The end of what is known of the log: its last row, or where it was purged to.
    pub fn end(&self) -> Option<LogIndex> {
        self.last.map(|id| id.index).max(self.purged)
    }
}

/// All shards' logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tails(BTreeMap<ShardId, Tail>);

impl Tails {
    pub fn set(&mut self, shard: ShardId, tail: Tail) {
        self.0.insert(shard, tail);
    }

    /// Where a shard's log is; empty for one that was never seen.
    pub fn get(&self, shard: ShardId) -> Tail {
        self.0.get(&shard).copied().unwrap_or_default()
    }

    /// Checks that the write continues what is there, and remembers it.
    ///
    /// # Panics
    ///
    /// If it does not: a hole, a term that goes back, an `applied` ahead of the log. Written down, each of
    /// them would lose records at the next start. `last_before` finds the row that becomes the last one
    /// after a truncation.
    pub fn admit(&mut self, write: &Write, last_before: impl FnOnce(ShardId, LogIndex) -> Option<LogId>) {
        let shard = write.shard();
        let tail = self.0.entry(shard).or_default();
        match write {
            Write::Append { rows, .. } => append(shard, tail, rows),
            Write::Truncate { from, .. } => {
                assert!(
                    tail.applied.is_none_or(|applied| applied < *from),
                    "shard {shard}: what is applied stays: truncate from {from}, {tail:?}"
                );
                if tail.last.is_some_and(|last| last.index >= *from) {
                    // Nothing is left before the first row, nor of what was purged.
                    let nothing =
                        tail.purged.map_or(from.get() == 0, |purged| from.get() <= purged.get() + 1);
                    tail.last = if nothing { None } else { last_before(shard, *from) };
                }
            }
            Write::Purge { upto, .. } => {
                assert!(
                    tail.purged.is_none_or(|purged| purged <= *upto),
                    "shard {shard}: the purge point only grows: purge up to {upto}, {tail:?}"
                );
                purge(tail, *upto);
            }
            Write::Apply { applied, .. } => {
                assert!(
                    tail.end().is_some_and(|end| applied.index <= end),
                    "shard {shard}: applied {applied} has its row before it, {tail:?}"
                );
                assert!(
                    tail.applied.is_none_or(|before| before <= applied.index),
                    "shard {shard}: applied {applied} does not go back, {tail:?}"
                );
                tail.applied = Some(applied.index);
            }
            Write::Install { applied, .. } => {
                assert!(
                    tail.applied.is_none_or(|before| before <= applied.index),
                    "shard {shard}: a snapshot at {applied} is ahead of the state, {tail:?}"
                );
                tail.applied = Some(applied.index);
                purge(tail, applied.index);
            }
            Write::Vote { .. } => {}
            Write::Destroy { .. } => {
                self.0.remove(&shard);
            }
        }
    }
}

fn purge(tail: &mut Tail, upto: LogIndex) {
    tail.purged = tail.purged.max(Some(upto));
    tail.last = tail.last.filter(|last| last.index > upto);
}

fn append(shard: ShardId, tail: &mut Tail, rows: &[LogRow]) {
    for row in rows {
        let dense = tail.end().map_or(row.id.index.get() <= 1, |end| end.next() == row.id.index);
        assert!(dense, "shard {shard}: a log has no holes: append {}, {tail:?}", row.id);
        let term = tail.last.map_or(Term(0), |last| last.term);
        assert!(term <= row.id.term, "shard {shard}: terms only grow: append {}, {tail:?}", row.id);
        assert!(
            row.header.len() <= LogRow::HEADER_MAX_BYTES,
            "shard {shard}: a header of {} bytes at {} fits the row",
            row.header.len(),
            row.id
        );
        tail.last = Some(row.id);
    }
}
