//! A shard's recent entries in memory: what replication and applying read, nearly always.

use crate::types::{Entry, LogId};
use openraft::EntryPayload;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewest entries a shard keeps, however large they are: what is in flight must not come back from disk.
const KEEP_ENTRIES: usize = 8;

/// Bytes that all shards of a node keep in memory, and how many they may.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }
}

/// A dense run of the newest entries. Entries that are not synced are never evicted, whatever the limits say:
/// the store cannot give them back yet.
#[derive(Debug)]
pub(crate) struct Recent {
    entries: VecDeque<(usize, Entry)>,
    bytes: usize,
    /// Entries below this index are synced.
    synced_below: u64,
    shard_limit: usize,
    budget: Arc<Budget>,
}

fn weight(entry: &Entry) -> usize {
    128 + match &entry.payload {
        EntryPayload::Normal(data) => data.header.len() + data.payload.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl Recent {
    pub fn new(shard_limit: usize, budget: Arc<Budget>) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, synced_below: 0, shard_limit, budget }
    }

    /// Index of the oldest entry that is here.
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|(_, entry)| entry.log_id.index)
    }

    pub fn push(&mut self, entry: Entry) {
        if self.entries.back().is_some_and(|(_, last)| last.log_id.index + 1 != entry.log_id.index) {
            self.clear();
        }
        let weight = weight(&entry);
        self.add(weight);
        self.entries.push_back((weight, entry));
    }

    /// Everything up to `last` reached the disk.
    pub fn synced(&mut self, last: u64) {
        self.synced_below = self.synced_below.max(last + 1);
        while self.first().is_some_and(|first| first < self.synced_below) {
            let over = self.bytes > self.shard_limit && self.entries.len() > KEEP_ENTRIES;
            if !over && !self.budget.is_exceeded() {
                break;
            }
            self.pop_front();
        }
    }

    /// Forgets what the store can give back: the shard goes to rest.
    pub fn shrink(&mut self) {
        while self.first().is_some_and(|first| first < self.synced_below) {
            self.pop_front();
        }
        self.entries.shrink_to_fit();
    }

    /// Forgets `from` and everything after it.
    pub fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|(_, last)| last.log_id.index >= from) {
            if let Some((weight, _)) = self.entries.pop_back() {
                self.sub(weight);
            }
        }
        self.synced_below = self.synced_below.min(from);
    }

    /// Forgets everything up to `upto`.
    pub fn purge(&mut self, upto: u64) {
        while self.first().is_some_and(|first| first <= upto) {
            self.pop_front();
        }
    }

    /// Entries of `from..to` up to some `max_bytes`, but at least one; `None` if `from` is not here.
    pub fn range(&self, from: u64, to: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let first = self.first()?;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        if skip >= self.entries.len() {
            return None;
        }
        let mut bytes = 0;
        let mut out = Vec::new();
        for (weight, entry) in self.entries.range(skip..) {
            bytes += weight;
            if entry.log_id.index >= to || (!out.is_empty() && bytes > max_bytes) {
                break;
            }
            out.push(entry.clone());
        }
        Some(out)
    }

    /// The id at `index`, if that entry is here.
    pub fn id_at(&self, index: u64) -> Option<LogId> {
        let skip = usize::try_from(index.checked_sub(self.first()?)?).ok()?;
        self.entries.get(skip).map(|(_, entry)| entry.log_id)
    }

    fn clear(&mut self) {
        while !self.entries.is_empty() {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some((weight, _)) = self.entries.pop_front() {
            self.sub(weight);
        }
    }

    fn add(&mut self, weight: usize) {
        self.bytes += weight;
        self.budget.used.fetch_add(weight, Ordering::Relaxed);
    }

    fn sub(&mut self, weight: usize) {
        self.bytes -= weight;
        self.budget.used.fetch_sub(weight, Ordering::Relaxed);
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
