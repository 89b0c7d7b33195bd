//! The rows themselves, one small map per shard and kind.

use crate::interface::{Applied, Purged, ShardMarks};
use crate::tails::{Tail, Tails};
use crate::write::{LogRow, Write};
use bytes::Bytes;
use flotilla_types::{IndexRow, LogId, LogIndex, Offset, ShardId, TimestampMs};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug, Default)]
pub(super) struct Tables(BTreeMap<ShardId, Shard>);

#[derive(Clone, Debug, Default)]
struct Shard {
    log: BTreeMap<LogIndex, LogRow>,
    index: BTreeMap<Offset, IndexRow>,
    state: BTreeMap<Bytes, Bytes>,
    checkpoints: BTreeMap<LogIndex, Bytes>,
    vote: Option<Bytes>,
    purged: Option<Purged>,
    applied: Option<Applied>,
}

impl Shard {
    fn is_empty(&self) -> bool {
        self.log.is_empty()
            && self.index.is_empty()
            && self.state.is_empty()
            && self.checkpoints.is_empty()
            && self.vote.is_none()
            && self.purged.is_none()
            && self.applied.is_none()
    }
}

impl Tables {
    /// Does what the write says; it was admitted by [`Tails`] before.
    pub fn write(&mut self, write: &Write) {
        let shard = self.0.entry(write.shard()).or_default();
        match write {
            Write::Append { rows, .. } => {
                shard.log.extend(rows.iter().map(|row| (row.id.index, row.clone())));
            }
            Write::Truncate { from, .. } => {
                shard.log.split_off(from);
            }
            Write::Purge { upto, mark, index_below, .. } => {
                shard.log = shard.log.split_off(&upto.next());
                shard.index = shard.index.split_off(index_below);
                shard.checkpoints = shard.checkpoints.split_off(upto);
                shard.purged = Some(Purged { upto: *upto, mark: mark.clone() });
            }
            Write::Vote { vote, .. } => shard.vote = Some(vote.clone()),
            Write::Apply { changes, applied, membership, checkpoint, .. } => {
                shard.index.extend(changes.index.iter().map(|row| (row.base_offset, *row)));
                for row in &changes.state {
                    match &row.value {
                        Some(value) => shard.state.insert(row.key.clone(), value.clone()),
                        None => shard.state.remove(&row.key),
                    };
                }
                shard.checkpoints.extend(checkpoint.iter().cloned());
                shard.applied = Some(Applied { id: *applied, membership: membership.clone() });
            }
            Write::Install { applied, membership, mark, rows, checkpoint, .. } => {
                shard.log = shard.log.split_off(&applied.index.next());
                shard.index.clear();
                shard.state = rows.iter().cloned().collect();
                shard.checkpoints = BTreeMap::from([(applied.index, checkpoint.clone())]);
                shard.purged = Some(Purged { upto: applied.index, mark: mark.clone() });
                shard.applied = Some(Applied { id: *applied, membership: membership.clone() });
            }
            Write::Destroy { .. } => *shard = Shard::default(),
        }
        self.0.retain(|id, shard| *id != write.shard() || !shard.is_empty());
    }

    pub fn tails(&self) -> Tails {
        let mut tails = Tails::default();
        for (id, shard) in &self.0 {
            let tail = Tail {
                last: shard.log.values().next_back().map(|row| row.id),
                purged: shard.purged.as_ref().map(|purged| purged.upto),
                applied: shard.applied.as_ref().map(|applied| applied.id.index),
            };
            tails.set(*id, tail);
        }
        tails
    }

    pub fn last_before(&self, shard: ShardId, from: LogIndex) -> Option<LogId> {
        self.0.get(&shard)?.log.range(..from).next_back().map(|(_, row)| row.id)
    }

    pub fn log(&self, shard: ShardId, range: Range<LogIndex>, max_bytes: usize) -> Vec<LogRow> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        if let Some(shard) = self.0.get(&shard).filter(|_| range.start < range.end) {
            for row in shard.log.range(range).map(|(_, row)| row) {
                bytes += row.weight();
                if !rows.is_empty() && bytes > max_bytes {
                    break;
                }
                rows.push(row.clone());
            }
        }
        rows
    }

    pub fn marks(&self, shard: ShardId) -> ShardMarks {
        self.0.get(&shard).map_or_else(ShardMarks::default, |shard| ShardMarks {
            vote: shard.vote.clone(),
            purged: shard.purged.clone(),
            last: shard.log.values().next_back().map(|row| row.id),
            applied: shard.applied.clone(),
        })
    }

    pub fn state(&self, shard: ShardId) -> Vec<(Bytes, Bytes)> {
        self.0.get(&shard).into_iter().flat_map(|s| &s.state).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    pub fn index_floor(&self, shard: ShardId, offset: Offset) -> Option<IndexRow> {
        self.0.get(&shard)?.index.range(..=offset).next_back().map(|(_, row)| *row)
    }

    pub fn index_range(&self, shard: ShardId, from: Offset, max_rows: usize) -> Vec<IndexRow> {
        let rows = self.0.get(&shard).into_iter().flat_map(|s| s.index.range(from..));
        rows.take(max_rows).map(|(_, row)| *row).collect()
    }

    pub fn index_at_time(&self, shard: ShardId, time: TimestampMs) -> Option<IndexRow> {
        self.0.get(&shard)?.index.values().find(|row| row.append_time >= time).copied()
    }

    pub fn checkpoint(&self, shard: ShardId, at: LogIndex) -> Option<Bytes> {
        self.0.get(&shard)?.checkpoints.get(&at).cloned()
    }

    pub fn checkpoints(&self, shard: ShardId) -> Vec<LogIndex> {
        self.0.get(&shard).into_iter().flat_map(|s| s.checkpoints.keys()).copied().collect()
    }

    pub fn shards(&self) -> Vec<ShardId> {
        self.0.keys().copied().collect()
    }

    /// Bytes of all payloads, headers, states and checkpoints.
    pub fn weight(&self) -> u64 {
        let of = |shard: &Shard| {
            let log: usize = shard.log.values().map(LogRow::weight).sum();
            let state: usize = shard.state.iter().map(|(key, value)| key.len() + value.len()).sum();
            let checkpoints: usize = shard.checkpoints.values().map(Bytes::len).sum();
            (log + state + checkpoints) as u64
        };
        self.0.values().map(of).sum()
    }
}
