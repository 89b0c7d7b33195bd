//! Recent batches of every partition, in memory: what readers near the end are given.
//!
//! Filled by the applier before the watermark moves, so whoever sees the watermark finds the batch here or
//! in the store. A batch leaves to make room, oldest first over the whole node, but never before the store
//! can read it. Bodies are shared with whoever else holds them, never copied. Locks are held for a few
//! pointers' time and never across an `await`.

use crate::fetch::FetchedBatch;
use crate::metrics::Metrics;
use flotilla_types::{Offset, ShardId, TimestampMs};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Recent batches of all partitions of a node.
#[derive(Debug)]
pub struct Tail {
    shards: RwLock<HashMap<ShardId, Arc<Mutex<Recent>>>>,
    /// Whose batch is next to leave: one entry per batch, in the order they came.
    order: Mutex<VecDeque<ShardId>>,
    bytes: AtomicUsize,
    limit: usize,
    metrics: Metrics,
}

/// One partition's batches: dense, in offset order.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<FetchedBatch>,
}

/// What was found in memory.
#[derive(Debug)]
pub(crate) struct Hit {
    pub batches: Vec<FetchedBatch>,
    pub bytes: usize,
}

impl Tail {
    pub(crate) fn new(limit: usize, metrics: Metrics) -> Self {
        Self {
            shards: RwLock::default(),
            order: Mutex::default(),
            bytes: AtomicUsize::new(0),
            limit,
            metrics,
        }
    }

    /// Adds batches that were just applied, in offset order. A gap or a step back means that the shard's
    /// state was replaced: what was here before goes.
    pub(crate) fn push(&self, shard: ShardId, batches: impl IntoIterator<Item = FetchedBatch>) {
        let recent = self.recent_or_new(shard);
        let (mut added, mut gone, mut count) = (0, 0, 0);
        {
            let mut recent = recent.lock();
            for batch in batches {
                if recent.batches.back().is_some_and(|last| last.end_offset() != batch.base_offset) {
                    gone += recent.weight();
                    recent.batches.clear();
                }
                added += batch.weight();
                count += 1;
                recent.batches.push_back(batch);
            }
        }
        self.order.lock().extend(std::iter::repeat_n(shard, count));
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.bytes.fetch_sub(gone, Ordering::Relaxed);
        self.metrics.tail_bytes.set(self.bytes() as i64);
    }

    /// Makes room. `stored_to` says up to where (exclusive) the store can read a shard.
    pub(crate) fn evict(&self, stored_to: impl Fn(ShardId) -> Offset) {
        while self.bytes() > self.limit {
            let Some(shard) = self.order.lock().pop_front() else { return };
            let Some(recent) = self.recent(shard) else { continue };
            let stored_to = stored_to(shard);
            let mut recent = recent.lock();
            match recent.batches.front() {
                // Left already, when its shard's state was replaced.
                None => {}
                Some(oldest) if oldest.end_offset() <= stored_to => {
                    self.bytes.fetch_sub(oldest.weight(), Ordering::Relaxed);
                    recent.batches.pop_front();
                    self.metrics.tail_evicted.inc();
                }
                Some(_) => {
                    drop(recent);
                    self.order.lock().push_front(shard);
                    return;
                }
            }
        }
        self.metrics.tail_bytes.set(self.bytes() as i64);
    }

    /// Batches from the one that holds `from` on, all below `bound`, up to `max_bytes`; with `one_fits`, the
    /// first even if it is larger. `None` = `from` is not in memory.
    pub(crate) fn read(
        &self,
        shard: ShardId,
        from: Offset,
        bound: Offset,
        max_bytes: usize,
        one_fits: bool,
    ) -> Option<Hit> {
        let recent = self.recent(shard)?;
        let recent = recent.lock();
        if recent.batches.front()?.base_offset > from {
            return None;
        }
        let first = recent.batches.partition_point(|batch| batch.end_offset() <= from);
        let mut hit = Hit { batches: Vec::new(), bytes: 0 };
        for batch in recent.batches.range(first..) {
            let weight = batch.weight();
            if batch.end_offset() > bound
                || (hit.bytes + weight > max_bytes && !(one_fits && hit.batches.is_empty()))
            {
                break;
            }
            hit.bytes += weight;
            hit.batches.push(batch.clone());
        }
        (first < recent.batches.len()).then_some(hit)
    }

    /// The first batch in memory that was appended at `time` or later: offset and time.
    pub(crate) fn at_time(&self, shard: ShardId, time: TimestampMs) -> Option<(Offset, TimestampMs)> {
        let recent = self.recent(shard)?;
        let recent = recent.lock();
        let first = recent.batches.partition_point(|batch| batch.append_time < time);
        recent.batches.get(first).map(|batch| (batch.base_offset, batch.append_time))
    }

    /// First offset that is in memory.
    #[cfg(test)]
    pub(crate) fn start(&self, shard: ShardId) -> Option<Offset> {
        let recent = self.recent(shard)?;
        let recent = recent.lock();
        recent.batches.front().map(|batch| batch.base_offset)
    }

    /// Forgets a shard that left this node.
    pub(crate) fn forget(&self, shard: ShardId) {
        let gone = self.shards.write().remove(&shard);
        let weight = gone.map_or(0, |recent| recent.lock().weight());
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        self.order.lock().retain(|other| *other != shard);
        self.metrics.tail_bytes.set(self.bytes() as i64);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn recent(&self, shard: ShardId) -> Option<Arc<Mutex<Recent>>> {
        self.shards.read().get(&shard).cloned()
    }

    fn recent_or_new(&self, shard: ShardId) -> Arc<Mutex<Recent>> {
        if let Some(recent) = self.recent(shard) {
            return recent;
        }
        self.shards.write().entry(shard).or_default().clone()
    }
}

impl Recent {
    fn weight(&self) -> usize {
        self.batches.iter().map(FetchedBatch::weight).sum()
    }
}

#[cfg(test)]
mod tests;
