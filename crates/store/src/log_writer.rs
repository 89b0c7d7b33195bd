//! The one thread that writes: many small writes of all shards become one batch and one sync.
//!
//! 1. Wait for a write that is urgent, or for patient ones to have waited long enough.
//! 2. Take what waits, in order, up to a commit's size.
//! 3. Check each against its shard's [`Tails`], and put it in one batch, with the batch's number.
//! 4. Write the batch; sync if any of it needs that.
//! 5. Call every `done`, in order. The marker follows behind.
//!
//! If 4 fails nothing is written any more: whether the disk has it is unknown, and after a failed sync
//! the kernel may report the next one as done (measured).

use crate::compaction::Reclaimer;
use crate::error::WriteError;
use crate::fault::{Faults, Sync};
use crate::log_rows::LogRows;
use crate::marker::MarkerWriter;
use crate::metrics::Metrics;
use crate::queue::{Job, Queue};
use crate::reader::{self, family};
use crate::rows::{applied, batch_number, checkpoint, family, index, purged, state, vote};
use crate::tails::Tails;
use crate::write::Write;
use flotilla_types::{Clock, LogId, LogIndex, ShardId, Term};
use rocksdb::{DB, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Told once, with the reason, when a write, a sync or the marker failed. The process should end.
pub type OnFatal = Arc<dyn Fn(&str) + Send + std::marker::Sync>;

/// Ends all writing, once.
#[derive(Clone)]
pub(crate) struct Breaker {
    pub queue: Arc<Queue>,
    pub on_fatal: OnFatal,
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Breaker")
    }
}

impl Breaker {
    /// Nothing is written from here on. What waits is told, after the process had its chance to end.
    pub fn trip(&self, why: &str) {
        let (first, jobs) = self.queue.fail(why);
        if first {
            tracing::error!(why, "the store stopped writing");
            (self.on_fatal)(why);
        }
        let error = self.queue.stopped().unwrap_or(WriteError::Closed);
        jobs.into_iter().for_each(|job| (job.done)(Err(error.clone())));
    }
}

pub(crate) struct LogWriter {
    pub db: Arc<DB>,
    pub log: Arc<dyn LogRows>,
    pub queue: Arc<Queue>,
    pub tails: Tails,
    /// Number of the last batch written.
    pub number: u64,
    pub marker: Arc<MarkerWriter>,
    pub reclaimer: Arc<Reclaimer>,
    pub commit_max_bytes: usize,
    pub faults: Arc<Faults>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub breaker: Breaker,
}

impl LogWriter {
    /// The thread's body: returns the last batch's number once the queue is closed and everything in it is
    /// synced, or nothing if writing failed.
    pub fn run(mut self) -> Option<u64> {
        while let Some(jobs) = self.queue.take(self.commit_max_bytes) {
            if let Err(why) = self.commit(&jobs) {
                self.breaker.trip(&why);
                let error = self.queue.stopped().unwrap_or(WriteError::Closed);
                jobs.into_iter().for_each(|job| (job.done)(Err(error.clone())));
                return None;
            }
            jobs.into_iter().for_each(|job| (job.done)(Ok(())));
        }
        if matches!(self.queue.stopped(), Some(WriteError::Failed(_))) {
            return None;
        }
        match self.sync_rest() {
            Ok(()) => Some(self.number),
            Err(why) => {
                self.breaker.trip(&why);
                None
            }
        }
    }

    fn commit(&mut self, jobs: &[Job]) -> Result<(), String> {
        let weight: usize = jobs.iter().map(|job| job.write.weight()).sum();
        let sync = jobs.iter().any(|job| job.write.needs_sync());
        let mut batch = WriteBatch::with_capacity_bytes(weight + weight / 16);
        // Entries of this batch, which the database cannot find yet.
        let mut fresh = BTreeMap::new();
        for job in jobs {
            self.put(&mut batch, &job.write, &mut fresh)?;
        }
        self.number += 1;
        batch.put_cf(family(&self.db, family::LOG), batch_number::KEY, batch_number::encode(self.number));
        let bytes = batch.size_in_bytes();

        let started = self.clock.monotonic();
        self.write(batch, sync)?;
        if sync {
            self.marker.synced(self.number);
            self.metrics.syncs.inc();
            self.metrics.sync_seconds.observe(self.clock.monotonic().since(started).as_secs_f64());
        }
        self.metrics.commits.inc();
        self.metrics.writes.inc_by(jobs.len() as u64);
        self.metrics.bytes.inc_by(bytes as u64);
        self.metrics.batch_bytes.observe(bytes as f64);
        self.metrics.batch_writes.observe(jobs.len() as f64);
        self.reclaim(jobs);
        Ok(())
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), String> {
        let fate = if sync { self.faults.next_sync() } else { Sync::Lost };
        if sync {
            self.log.sync()?;
        }
        let mut options = WriteOptions::default();
        options.set_sync(fate == Sync::Done);
        self.db.write_opt(batch, &options).map_err(|error| format!("write a batch: {error}"))?;
        if fate == Sync::Failed {
            return Err("sync a batch: a fault made on demand".to_owned());
        }
        Ok(())
    }

    /// Syncs what was written without.
    fn sync_rest(&self) -> Result<(), String> {
        if self.faults.loses_syncs() {
            return Ok(());
        }
        self.db.flush_wal(true).map_err(|error| format!("sync the log: {error}"))
    }

    fn put(
        &mut self,
        batch: &mut WriteBatch,
        write: &Write,
        fresh: &mut BTreeMap<(ShardId, LogIndex), Term>,
    ) -> Result<(), String> {
        let shard = write.shard();
        let before = self.tails.get(shard);
        let mut lookup = Ok(());
        self.tails.admit(write, |shard, from| {
            let index = LogIndex(from.get() - 1);
            if let Some(term) = fresh.get(&(shard, index)) {
                return Some(LogId { term: *term, index });
            }
            self.log.last_below(shard, Some(from)).unwrap_or_else(|error| {
                lookup = Err(error.to_string());
                None
            })
        });
        lookup?;
        let log = family(&self.db, family::LOG);
        match write {
            Write::Append { rows, .. } => {
                for row in rows {
                    self.log.put(batch, shard, row);
                    fresh.insert((shard, row.id.index), row.id.term);
                }
            }
            Write::Truncate { from, .. } => {
                if let Some(last) = before.last.filter(|last| last.index >= *from) {
                    self.log.remove(batch, shard, *from..last.index.next());
                }
            }
            Write::Purge { upto, mark, index_below, .. } => {
                let start = before.purged.map_or(LogIndex(0), LogIndex::next);
                self.log.remove(batch, shard, start..upto.next());
                batch.put_cf(log, purged::key(shard), purged::encode(shard, *upto, mark));
                let index = family(&self.db, family::INDEX);
                let zero = index::key(shard, flotilla_types::Offset(0));
                batch.delete_range_cf(index, zero, index::key(shard, *index_below));
                let checkpoints = family(&self.db, family::CHECKPOINT);
                let zero = checkpoint::key(shard, LogIndex(0));
                batch.delete_range_cf(checkpoints, zero, checkpoint::key(shard, *upto));
            }
            Write::Vote { vote, .. } => batch.put_cf(log, vote::key(shard), vote::encode(shard, vote)),
            Write::Apply { changes, applied, membership, checkpoint, .. } => {
                let indexes = family(&self.db, family::INDEX);
                for row in &changes.index {
                    batch.put_cf(indexes, index::key(shard, row.base_offset), index::encode(shard, row));
                }
                let states = family(&self.db, family::STATE);
                for row in &changes.state {
                    let key = state::key(shard, &row.key);
                    match &row.value {
                        Some(value) => batch.put_cf(states, &key, state::encode(&key, value)),
                        None => batch.delete_cf(states, &key),
                    }
                }
                batch.put_cf(states, applied::key(shard), applied::encode(shard, *applied, membership));
                if let Some((at, body)) = checkpoint {
                    self.put_checkpoint(batch, shard, *at, body);
                }
            }
            Write::Install { applied, membership, mark, rows, checkpoint, .. } => {
                let start = before.purged.map_or(LogIndex(0), LogIndex::next);
                self.log.remove(batch, shard, start..applied.index.next());
                batch.put_cf(log, purged::key(shard), purged::encode(shard, applied.index, mark));
                self.clear_state(batch, shard);
                let states = family(&self.db, family::STATE);
                for (key, value) in rows {
                    let key = state::key(shard, key);
                    batch.put_cf(states, &key, state::encode(&key, value));
                }
                batch.put_cf(states, applied::key(shard), applied::encode(shard, *applied, membership));
                self.put_checkpoint(batch, shard, applied.index, checkpoint);
            }
            Write::Destroy { .. } => {
                let (start, end) = reader::entry_keys(shard);
                batch.delete_range_cf(log, start, end);
                reader::mark_keys(shard).iter().for_each(|key| batch.delete_cf(log, key));
                self.clear_state(batch, shard);
            }
        }
        Ok(())
    }

    fn put_checkpoint(&self, batch: &mut WriteBatch, shard: ShardId, at: LogIndex, body: &[u8]) {
        let checkpoints = family(&self.db, family::CHECKPOINT);
        batch.put_cf(checkpoints, checkpoint::key(shard, at), checkpoint::encode(shard, at, body));
    }

    /// Removes index, state and checkpoints of a shard.
    fn clear_state(&self, batch: &mut WriteBatch, shard: ShardId) {
        let start = shard.get().to_be_bytes().to_vec();
        for name in [family::INDEX, family::STATE, family::CHECKPOINT] {
            batch.delete_range_cf(family(&self.db, name), start.clone(), reader::place_end(shard));
        }
    }

    fn reclaim(&self, jobs: &[Job]) {
        for job in jobs {
            match &job.write {
                Write::Purge { shard, upto, .. } => self.reclaimer.purged(*shard, *upto),
                Write::Install { shard, applied, .. } => self.reclaimer.purged(*shard, applied.index),
                Write::Destroy { shard } => self.reclaimer.purged(*shard, LogIndex(u64::MAX - 1)),
                _ => {}
            }
        }
    }
}
