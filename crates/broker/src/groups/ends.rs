//! Where logs begin and end, as their leaders say: what offsets of groups are held to.
//!
//! A partition's leader may be any node, so it is asked; one call per node, whatever the number of partitions.
//! A high watermark never goes back, so what was heard once is enough for every offset below it.

use crate::broker::Broker;
use crate::forward::{Answer, Call};
use flotilla_types::{NodeId, Offset, ShardId, TimestampMs};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Partitions in one call to a node.
const ASKED_AT_ONCE: usize = 4096;

/// What is asked of a partition besides where it begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Want {
    Ends,
    /// When the record at this offset was appended.
    TimeOf(u64),
    /// The first offset appended then or later.
    OffsetAt(TimestampMs),
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub log_start: u64,
    pub high_watermark: u64,
    pub last_stable: u64,
    /// For [`Want::TimeOf`]; `None` = there is no such record.
    pub time: Option<TimestampMs>,
    /// For [`Want::OffsetAt`]; `None` = nothing was appended so late.
    pub offset: Option<u64>,
}

/// The highest watermark heard of each partition.
#[derive(Debug, Default)]
pub(crate) struct Watermarks(Mutex<BTreeMap<ShardId, u64>>);

impl Watermarks {
    pub fn heard(&self, shard: ShardId, high_watermark: u64) {
        let mut known = self.0.lock();
        let known = known.entry(shard).or_default();
        *known = high_watermark.max(*known);
    }

    pub fn known(&self, shard: ShardId) -> u64 {
        self.0.lock().get(&shard).copied().unwrap_or(0)
    }

    pub fn forget(&self, shard: ShardId) {
        self.0.lock().remove(&shard);
    }
}

impl Broker {
    /// Asks the partitions' leaders. Who has none, or one that does not answer, is left out.
    pub(crate) async fn ends(&self, wanted: Vec<(ShardId, Option<NodeId>, Want)>) -> BTreeMap<ShardId, End> {
        let mut by_node: BTreeMap<NodeId, Vec<(u32, Want)>> = BTreeMap::new();
        for (shard, leader, want) in wanted {
            if let Some(leader) = leader {
                by_node.entry(leader).or_default().push((shard.get(), want));
            }
        }
        let calls = by_node.iter().flat_map(|(node, asked)| {
            asked.chunks(ASKED_AT_ONCE).map(|chunk| self.ask(*node, Call::Ends { asked: chunk.to_vec() }))
        });
        let mut ends = BTreeMap::new();
        for answer in join_all(calls).await {
            let Ok(Answer::Ends(told)) = answer else { continue };
            for (shard, end) in told {
                self.groups.watermarks.heard(ShardId(shard), end.high_watermark);
                ends.insert(ShardId(shard), end);
            }
        }
        ends
    }

    /// What this node, which leads them, knows of these partitions. Others are left out.
    pub(crate) async fn ends_here(&self, asked: Vec<(u32, Want)>) -> Vec<(u32, End)> {
        let mut ends = Vec::with_capacity(asked.len());
        for (shard, want) in asked.into_iter().take(ASKED_AT_ONCE) {
            let Some(shard) = self.shard(ShardId(shard)).filter(|shard| shard.leadership().is_leader) else {
                continue;
            };
            let progress = shard.progress();
            let id = shard.id();
            let mut end = End {
                log_start: progress.log_start.get(),
                high_watermark: progress.high_watermark.get(),
                last_stable: progress.last_stable.get(),
                time: None,
                offset: None,
            };
            match want {
                Want::Ends => {}
                Want::TimeOf(offset) => {
                    let offset = Offset(offset).max(progress.log_start);
                    if offset < progress.high_watermark {
                        end.time = self.append_time_of(id, offset, progress.high_watermark).await;
                    }
                }
                Want::OffsetAt(time) => match self.offset_at(id, time).await {
                    Ok(found) => {
                        let kept = found.map(|(offset, _)| offset.max(progress.log_start));
                        end.offset = kept.filter(|o| *o < progress.high_watermark).map(Offset::get);
                    }
                    // No answer is better than a wrong one: it would move a group to the end.
                    Err(_) => continue,
                },
            }
            ends.push((id.get(), end));
        }
        ends
    }

    /// When the batch was appended that holds an offset.
    async fn append_time_of(&self, shard: ShardId, offset: Offset, bound: Offset) -> Option<TimestampMs> {
        let hit = self.observer.tail.read(shard, offset, bound, 1, true);
        if let Some(batch) = hit.as_ref().and_then(|hit| hit.batches.first()) {
            return Some(batch.append_time);
        }
        let store = self.serving().ok()?.store.clone();
        let row = self.pool.run(move || store.index_floor(shard, offset)).await.ok()?.ok()??;
        Some(row.append_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_never_goes_back() {
        let known = Watermarks::default();
        known.heard(ShardId(1024), 7);
        known.heard(ShardId(1024), 5);
        assert_eq!((known.known(ShardId(1024)), known.known(ShardId(1025))), (7, 0));
        known.forget(ShardId(1024));
        assert_eq!(known.known(ShardId(1024)), 0);
    }
}
