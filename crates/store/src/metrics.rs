//! What the store counts. Names, units and labels are listed in `docs/operating/metrics.md`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters of one store. Clones count into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Batches written.
    pub commits: Counter,
    /// Of these, synced ones.
    pub syncs: Counter,
    /// Writes in them.
    pub writes: Counter,
    /// Bytes in them.
    pub bytes: Counter,
    /// Seconds a synced batch took.
    pub sync_seconds: Histogram,
    /// Bytes in a batch.
    pub batch_bytes: Histogram,
    /// Writes in a batch.
    pub batch_writes: Histogram,
    /// Writes that wait.
    pub queue_writes: Gauge,
    /// Bytes that wait.
    pub queue_bytes: Gauge,
    /// Rows that were read and were not what was written.
    pub corrupt_rows: Counter,
    /// Times the durable-tail marker was written.
    pub markers: Counter,
    /// Compactions that give purged space back.
    pub compactions: Counter,
    /// Seconds of the slowest sync in the self-test at the start.
    pub self_test_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            syncs: Counter::default(),
            writes: Counter::default(),
            bytes: Counter::default(),
            // 0.1 ms to 3.3 s.
            sync_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            // 256 B to 16 MiB.
            batch_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 9)),
            batch_writes: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            queue_writes: Gauge::default(),
            queue_bytes: Gauge::default(),
            corrupt_rows: Counter::default(),
            markers: Counter::default(),
            compactions: Counter::default(),
            self_test_seconds: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Makes them visible, each with the prefix `flotilla_store_`.
    pub fn register(&self, registry: &mut Registry) {
        let store = registry.sub_registry_with_prefix("flotilla_store");
        store.register("commits", "Batches written", self.commits.clone());
        store.register("syncs", "Batches synced", self.syncs.clone());
        store.register("writes", "Writes in batches", self.writes.clone());
        store.register_with_unit("written", "Bytes in batches", Unit::Bytes, self.bytes.clone());
        store.register_with_unit(
            "sync",
            "Time a synced batch took",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        store.register_with_unit("batch", "Size of a batch", Unit::Bytes, self.batch_bytes.clone());
        store.register("batch_writes", "Writes in a batch", self.batch_writes.clone());
        store.register("queue_writes", "Writes waiting for the writer", self.queue_writes.clone());
        store.register_with_unit(
            "queue",
            "Bytes waiting for the writer",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        store.register("corrupt_rows", "Rows read that were damaged", self.corrupt_rows.clone());
        store.register("markers", "Durable-tail markers written", self.markers.clone());
        store.register("compactions", "Compactions after purges", self.compactions.clone());
        store.register_with_unit(
            "self_test",
            "Slowest sync of the self-test at the start",
            Unit::Seconds,
            self.self_test_seconds.clone(),
        );
    }
}
