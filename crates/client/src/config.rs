//! What can be set, with defaults and bounds.

use flotilla_types::random::Seeded;
use flotilla_types::time::SystemClock;
use flotilla_types::{Clock, Compression, Random, limits};
use std::sync::Arc;
use std::time::Duration;

/// Settings of a [`crate::Client`].
#[derive(Clone, Debug)]
pub struct Options {
    /// A connection attempt fails after this. Default 2 s.
    pub connect_timeout: Duration,
    /// A unary call, with all its retries, fails after this. Default 30 s.
    pub call_timeout: Duration,
    /// HTTP/2 pings are sent this often, also while nothing else is. Default 10 s.
    pub keepalive_interval: Duration,
    /// A connection whose ping is not answered within this is closed. Default 5 s.
    pub keepalive_timeout: Duration,
    /// Time, for timestamps and deadlines. Default: the system's.
    pub clock: Arc<dyn Clock>,
    /// Chance, for jitter, sticky partitions and producer ids. Default: seeded from the system's entropy.
    pub random: Arc<dyn Random>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(Seeded::from_entropy()),
        }
    }
}

/// Settings of a [`crate::Producer`].
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How long a batch waits for more records while an earlier batch of its partition is on the way; with
    /// nothing on the way it is sent at once. Zero never waits. Default 5 ms.
    pub linger: Duration,
    /// A batch is closed when its body reaches this, before compression. At most the topic's
    /// `max_batch_bytes`, which is looked up once per topic. Default 512 KiB.
    pub batch_bytes: usize,
    /// Records in a batch, at most [`limits::BATCH_MAX_RECORDS`], which is the default.
    pub batch_records: u32,
    /// How bodies are compressed; one that does not shrink is sent as it is. Default LZ4.
    pub compression: Compression,
    /// Batches of one partition on the way at once, 1 to [`limits::PRODUCER_REMEMBERED_BATCHES`] (the default).
    pub in_flight: usize,
    /// Bytes of records accepted and not yet settled; beyond it `send` waits. Default 32 MiB.
    pub buffer_bytes: usize,
    /// One attempt is given up after this, its outcome unknown. Default 10 s.
    pub request_timeout: Duration,
    /// A record that is not acknowledged after this, with all retries, fails. Default 120 s.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_bytes: 512 << 10,
            batch_records: limits::BATCH_MAX_RECORDS,
            compression: Compression::Lz4,
            in_flight: limits::PRODUCER_REMEMBERED_BATCHES,
            buffer_bytes: 32 << 20,
            request_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerOptions {
    /// The same, with every value inside its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        self.batch_bytes = self.batch_bytes.clamp(1 << 10, limits::BATCH_MAX_BYTES);
        self.batch_records = self.batch_records.clamp(1, limits::BATCH_MAX_RECORDS);
        self.in_flight = self.in_flight.clamp(1, limits::PRODUCER_REMEMBERED_BATCHES);
        // A record may take all of it, so that no record waits for ever.
        self.buffer_bytes = self.buffer_bytes.clamp(2 * limits::BATCH_MAX_BYTES, 1 << 31);
        self
    }
}

pub use flotilla_proto::convert::log::Isolation;

/// What a consumer does when its position is not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// `poll` fails and names the valid range; the partition stands still until a seek.
    #[default]
    Fail,
    /// Goes on at the log's start. Records may have been missed; a warning says how many.
    Earliest,
    /// Goes on at the end. Records may have been missed; a warning says so.
    Latest,
}

/// Settings of a [`crate::Consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Bytes fetched ahead of the application, all partitions together. A fetch already on its way may
    /// add `partition_bytes` per partition. Default 16 MiB.
    pub prefetch_bytes: usize,
    /// Records fetched ahead of the application, all partitions together, in the same way. Default 100,000.
    pub prefetch_records: usize,
    /// Bytes one fetch of a partition may bring; one batch may be larger. Default 1 MiB.
    pub partition_bytes: usize,
    /// How long a fetch waits at the leader when there is nothing new. Default 500 ms.
    pub max_wait: Duration,
    /// Which records are seen. Default: read committed.
    pub isolation: Isolation,
    /// When a position is not in the log. Default: fail.
    pub out_of_range: OutOfRange,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            prefetch_bytes: 16 << 20,
            prefetch_records: 100_000,
            partition_bytes: 1 << 20,
            max_wait: Duration::from_millis(500),
            isolation: Isolation::default(),
            out_of_range: OutOfRange::default(),
        }
    }
}
