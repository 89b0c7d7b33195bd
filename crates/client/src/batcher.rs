//! Records gather here until they are a batch: one batcher per partition, bounded by the producer's buffer.

use crate::error::{Error, Result};
use crate::record::Encodable;
use bytes::{Bytes, BytesMut};
use flotilla_types::{Compression, Monotonic, Offset, TimestampMs, compression};
use futures::FutureExt;
use futures::future::Shared;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How a batch ended, for all of its records.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) base_offset: Offset,
    pub(crate) append_time: TimestampMs,
    pub(crate) duplicate: bool,
}

/// How records ended: all alike, or each in its own way (some were known to a dedup window already).
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    All(Result<Stored>),
    Each(Arc<Vec<Result<Stored>>>),
}

impl Settled {
    /// How the record at `index` ended; `Stored::base_offset` is that record's own offset.
    pub(crate) fn record(&self, index: u32) -> Result<Stored> {
        match self {
            Self::All(Ok(stored)) => {
                Ok(Stored { base_offset: stored.base_offset.plus(u64::from(index)), ..stored.clone() })
            }
            Self::All(Err(error)) => Err(error.clone()),
            Self::Each(records) => records
                .get(index as usize)
                .cloned()
                .unwrap_or_else(|| Err(Error::lost("the batch did not say how this record ended"))),
        }
    }
}

pub(crate) type SettledLater = Shared<oneshot::Receiver<Settled>>;

/// What closes a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of the body before compression.
    pub(crate) bytes: usize,
    pub(crate) records: u32,
}

/// A batch that records are still added to, or that waits for its turn.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Counts batches of the producer, for flush.
    pub(crate) id: u64,
    pub(crate) body: BytesMut,
    pub(crate) count: u32,
    pub(crate) base_timestamp: TimestampMs,
    /// When its first record came.
    pub(crate) since: Monotonic,
    /// Bytes of the producer's buffer that it holds.
    pub(crate) held: usize,
    /// Its caller asked for it as one: it is never split.
    pub(crate) atomic: bool,
    pub(crate) expected_offset: Option<Offset>,
    pub(crate) done: oneshot::Sender<Settled>,
    later: SettledLater,
}

impl Gathered {
    fn new(id: u64, base_timestamp: TimestampMs, since: Monotonic) -> Self {
        let (done, later) = oneshot::channel();
        let later = later.shared();
        Self {
            id,
            body: BytesMut::new(),
            count: 0,
            base_timestamp,
            since,
            held: 0,
            atomic: false,
            expected_offset: None,
            done,
            later,
        }
    }

    fn add(&mut self, record: Encodable) {
        self.held += record.max_len();
        self.count += 1;
        record.put(&mut self.body, self.base_timestamp);
    }

    fn has_room(&self, more: usize, bounds: Bounds) -> bool {
        self.count < bounds.records && self.body.len() + more <= bounds.bytes
    }
}

/// The body as it will be sent: compressed if that makes it smaller.
pub(crate) fn pack(wanted: Compression, body: Bytes) -> (Compression, Bytes) {
    if wanted == Compression::None {
        return (Compression::None, body);
    }
    let packed = compression::compress(wanted, &body);
    if packed.len() < body.len() { (wanted, packed.into()) } else { (Compression::None, body) }
}

/// Where a record went.
pub(crate) struct Added {
    pub(crate) later: SettledLater,
    /// The record's place in its batch.
    pub(crate) index: u32,
    /// A new batch was begun.
    pub(crate) began: bool,
    /// A batch became ready to go.
    pub(crate) filled: bool,
}

/// What a partition's pipeline finds when it asks for the next batch.
pub(crate) enum Next {
    Batch(Gathered),
    /// Ask again after this.
    Linger(Duration),
    Nothing,
}

/// One partition's batches before they are sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    full: VecDeque<Gathered>,
    open: Option<Gathered>,
    /// Batches up to this id go without lingering.
    flush_to: Option<u64>,
    /// Nothing more is taken.
    pub(crate) closed: bool,
}

impl Batcher {
    /// Whether the next record joins records that wait already.
    pub(crate) fn is_gathering(&self) -> bool {
        self.open.is_some()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.full.is_empty()
    }

    /// Adds one record; `id` is used if a batch must be begun.
    pub(crate) fn add(
        &mut self,
        record: Encodable,
        now: Monotonic,
        bounds: Bounds,
        id: impl FnOnce() -> u64,
    ) -> Added {
        let mut filled = false;
        if let Some(open) = self.open.take_if(|open| !open.has_room(record.max_len(), bounds)) {
            self.full.push_back(open);
            filled = true;
        }
        let began = self.open.is_none();
        let open = self.open.get_or_insert_with(|| Gathered::new(id(), record.timestamp(), now));
        let index = open.count;
        let later = open.later.clone();
        open.add(record);
        if open.count >= bounds.records || open.body.len() >= bounds.bytes {
            self.full.extend(self.open.take());
            filled = true;
        }
        Added { later, index, began, filled }
    }

    /// Adds records as one batch of their own, whatever the bounds say.
    pub(crate) fn add_batch(
        &mut self,
        records: Vec<Encodable>,
        expected_offset: Option<Offset>,
        now: Monotonic,
        id: u64,
    ) -> SettledLater {
        self.full.extend(self.open.take());
        let base = records.first().map_or(0, Encodable::timestamp);
        let mut batch = Gathered::new(id, base, now);
        batch.atomic = true;
        batch.expected_offset = expected_offset;
        records.into_iter().for_each(|record| batch.add(record));
        let later = batch.later.clone();
        self.full.push_back(batch);
        later
    }

    /// Lets batches up to `id` go without lingering.
    pub(crate) fn flush(&mut self, id: u64) {
        self.flush_to = self.flush_to.max(Some(id));
    }

    /// The next batch, if it is its time: full, flushed, lingered, or nothing is on the way (`idle`).
    pub(crate) fn next(&mut self, now: Monotonic, linger: Duration, idle: bool) -> Next {
        if let Some(batch) = self.full.pop_front() {
            return Next::Batch(batch);
        }
        let Some(open) = &self.open else { return Next::Nothing };
        let waited = now.since(open.since);
        let due = idle || self.closed || waited >= linger || Some(open.id) <= self.flush_to;
        match self.open.take_if(|_| due) {
            Some(batch) => Next::Batch(batch),
            None => Next::Linger(linger.saturating_sub(waited)),
        }
    }

    /// When the oldest waiting record came.
    pub(crate) fn oldest(&self) -> Option<Monotonic> {
        self.full.front().or(self.open.as_ref()).map(|batch| batch.since)
    }

    /// Takes the batches whose first record came at or before `since`.
    pub(crate) fn take_older(&mut self, since: Monotonic) -> Vec<Gathered> {
        let mut old = Vec::new();
        while let Some(batch) = self.full.pop_front_if(|batch| batch.since <= since) {
            old.push(batch);
        }
        if self.full.is_empty() {
            old.extend(self.open.take_if(|batch| batch.since <= since));
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    const BOUNDS: Bounds = Bounds { bytes: 1_000, records: 3 };

    fn add(batcher: &mut Batcher, bytes: usize, at_ms: u64, id: u64) -> Added {
        let record = Encodable::new(Record::new(vec![7; bytes]), 5).unwrap();
        batcher.add(record, Monotonic(Duration::from_millis(at_ms)), BOUNDS, || id)
    }

    fn ms(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    #[test]
    fn a_batch_closes_by_count_and_by_bytes() {
        let mut batcher = Batcher::default();
        let added: Vec<Added> = (0..3).map(|_| add(&mut batcher, 10, 0, 1)).collect();
        assert_eq!(
            added.iter().map(|a| (a.began, a.filled)).collect::<Vec<_>>(),
            [(true, false), (false, false), (false, true)]
        );
        add(&mut batcher, 900, 0, 2);
        assert!(add(&mut batcher, 200, 0, 3).filled, "the earlier batch had no room");
        let counts: Vec<u32> = std::iter::from_fn(|| match batcher.next(ms(0), Duration::ZERO, true) {
            Next::Batch(batch) => Some(batch.count),
            _ => None,
        })
        .collect();
        assert_eq!(counts, [3, 1, 1]);
    }

    #[test]
    fn a_batch_lingers_only_behind_another() {
        let linger = Duration::from_millis(5);
        let mut batcher = Batcher::default();
        add(&mut batcher, 10, 0, 1);
        assert!(matches!(batcher.next(ms(2), linger, false), Next::Linger(rest) if rest.as_millis() == 3));
        assert!(matches!(batcher.next(ms(2), linger, true), Next::Batch(_)));
        add(&mut batcher, 10, 3, 2);
        assert!(matches!(batcher.next(ms(8), linger, false), Next::Batch(_)));
        add(&mut batcher, 10, 9, 3);
        batcher.flush(3);
        assert!(matches!(batcher.next(ms(9), linger, false), Next::Batch(_)));
        assert!(matches!(batcher.next(ms(9), linger, false), Next::Nothing));
    }

    #[test]
    fn a_body_that_does_not_shrink_is_sent_as_it_is() {
        let noise: Bytes = (0..200u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert_eq!(pack(Compression::Lz4, noise.clone()), (Compression::None, noise));
        let (compression, packed) = pack(Compression::Zstd, vec![1; 10_000].into());
        assert!(compression == Compression::Zstd && packed.len() < 1_000);
    }
}
