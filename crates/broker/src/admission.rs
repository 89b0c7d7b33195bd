//! Memory permits: how much may be under way, per node and per partition.
//!
//! A permit is taken before anything is queued and held until the outcome is known, also when nobody
//! waits for it any more. That is the whole of backpressure; there is no other buffer to fill. Who finds
//! no room waits a little, then hears OVERLOADED with a pause.

use crate::config::Config;
use crate::metrics::Metrics;
use crate::produce::Error;
use flotilla_types::bytesize::ByteSize;
use flotilla_types::{Monotonic, ShardId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The node's own bound, and a gate per partition.
#[derive(Debug)]
pub struct Admission {
    node: Arc<Semaphore>,
    limits: Limits,
    gates: Mutex<HashMap<ShardId, Arc<Gate>>>,
    metrics: Metrics,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    node_bytes: u64,
    shard_bytes: u64,
    shard_batches: u32,
    wait: Duration,
    shed_after: Duration,
    retry: Duration,
}

/// Leave to hold some produce bytes in memory. Dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    bytes: usize,
    _node: OwnedSemaphorePermit,
    metrics: Metrics,
}

impl Permit {
    /// What was asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.produce_in_flight_bytes.dec_by(self.bytes as i64);
    }
}

/// One partition's bound: bytes, batches, and the age of the oldest batch without outcome.
#[derive(Debug)]
pub(crate) struct Gate {
    bytes: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Monotonic>,
}

/// A batch's place in its partition's gate. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Arc<Gate>,
    number: u64,
    metrics: Metrics,
    _bytes: OwnedSemaphorePermit,
    _batch: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.waiting.lock().since.remove(&self.number);
        self.metrics.produce_in_flight_batches.dec();
    }
}

impl Admission {
    pub(crate) fn new(config: &Config, metrics: Metrics) -> Self {
        let limits = Limits {
            node_bytes: config.produce_in_flight_bytes.0,
            shard_bytes: config.produce_in_flight_shard_bytes.0,
            shard_batches: config.produce_in_flight_shard_batches,
            wait: config.admission_wait,
            shed_after: config.shed_after,
            retry: config.overloaded_retry,
        };
        let node = Arc::new(Semaphore::new(limits.node_bytes as usize));
        Self { node, limits, gates: Mutex::default(), metrics }
    }

    /// Waits a little for room for `bytes` on this node. Take it before decoding where possible.
    pub async fn admit(&self, bytes: usize) -> Result<Permit, Error> {
        let limit = self.limits.node_bytes;
        let node =
            self.take(&self.node, bytes, limit, "node_bytes", "produce bytes in flight of the node").await?;
        self.metrics.produce_in_flight_bytes.inc_by(bytes as i64);
        Ok(Permit { bytes, _node: node, metrics: self.metrics.clone() })
    }

    /// Waits a little for a place at a partition.
    pub(crate) async fn enter(&self, shard: ShardId, bytes: usize, now: Monotonic) -> Result<Seat, Error> {
        let gate = self.gate(shard);
        self.refuse_old(&gate, now)?;
        let limit = self.limits.shard_bytes;
        let bytes = self
            .take(&gate.bytes, bytes, limit, "shard_bytes", "produce bytes in flight of the partition")
            .await?;
        let batches = u64::from(self.limits.shard_batches);
        let batch = self
            .take(&gate.batches, 1, batches, "shard_batches", "batches in flight of the partition")
            .await?;
        let mut waiting = gate.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, now);
        drop(waiting);
        self.metrics.produce_in_flight_batches.inc();
        Ok(Seat { gate, number, metrics: self.metrics.clone(), _bytes: bytes, _batch: batch })
    }

    /// Forgets a partition that left this node.
    pub(crate) fn forget(&self, shard: ShardId) {
        self.gates.lock().remove(&shard);
    }

    /// Bytes under way.
    pub fn in_flight(&self) -> u64 {
        self.limits.node_bytes - self.node.available_permits() as u64
    }

    fn gate(&self, shard: ShardId) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        let gate = gates.entry(shard).or_insert_with(|| {
            Arc::new(Gate {
                bytes: Arc::new(Semaphore::new(self.limits.shard_bytes as usize)),
                batches: Arc::new(Semaphore::new(self.limits.shard_batches as usize)),
                waiting: Mutex::default(),
            })
        });
        gate.clone()
    }

    /// Age tells of overload before length does; but an old batch that is nearly alone tells of a slow disk
    /// or a lost peer, and refusing others would not help it.
    fn refuse_old(&self, gate: &Gate, now: Monotonic) -> Result<(), Error> {
        let queued = self.limits.shard_batches as usize - gate.batches.available_permits();
        let taken = self.limits.shard_bytes as usize - gate.bytes.available_permits();
        let crowded =
            queued * 8 >= self.limits.shard_batches as usize || taken * 4 >= self.limits.shard_bytes as usize;
        let oldest = gate.waiting.lock().since.values().next().copied();
        if crowded && oldest.is_some_and(|since| now.since(since) > self.limits.shed_after) {
            self.metrics.shed("shard_age");
            return Err(self
                .overloaded("age of the partition's oldest batch", format!("{:?}", self.limits.shed_after)));
        }
        Ok(())
    }

    async fn take(
        &self,
        from: &Arc<Semaphore>,
        amount: usize,
        limit: u64,
        bound: &'static str,
        what: &'static str,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let amount = u32::try_from((amount.max(1) as u64).min(limit)).unwrap_or(u32::MAX);
        if let Ok(permit) = from.clone().try_acquire_many_owned(amount) {
            return Ok(permit);
        }
        match tokio::time::timeout(self.limits.wait, from.clone().acquire_many_owned(amount)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                self.metrics.shed(bound);
                let limit = if limit >= 1 << 10 { ByteSize(limit).to_string() } else { limit.to_string() };
                Err(self.overloaded(what, limit))
            }
        }
    }

    fn overloaded(&self, what: &'static str, limit: String) -> Error {
        Error::Overloaded { what, limit, retry_after: self.limits.retry }
    }
}

#[cfg(test)]
mod tests;
