//! Sends records: gathers them into batches, keeps their order per partition, and says of each how it
//! ended.
//!
//! # What is promised
//!
//! - Records of one partition are stored in the order their `send` calls returned, also over retries.
//! - No record is stored twice by this producer's own retries.
//! - Every [`Delivery`] ends: with an offset, with an error after which the record certainly is not
//!   stored, or, if nobody can know, with an error whose class says so.
//! - Records gathered by linger are not atomic as a batch; [`Producer::send_batch`] is.

use crate::batcher::{Bounds, SettledLater};
use crate::client::Inner;
use crate::config::ProducerOptions;
use crate::error::{Error, Result};
use crate::partitioner::partition_for;
use crate::pipeline::{Inlet, Pipeline};
use crate::produce_stream::ProduceStreams;
use crate::record::{Encodable, Record};
use crate::retry::Budget;
use crate::task::Group;
use flotilla_types::{Offset, PartitionId, Reason, TimestampMs, TopicName, limits};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{Notify, Semaphore};

/// Sends records to topics. Made by [`crate::Client::producer`]; share it by reference or in an `Arc`.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    topics: RwLock<HashMap<TopicName, Arc<Topic>>>,
    pipelines: Group,
    closed: AtomicBool,
}

/// What a producer's pipelines share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Arc<Inner>,
    pub(crate) options: ProducerOptions,
    pub(crate) streams: ProduceStreams,
    pub(crate) budget: Budget,
    /// Bytes that more records may take.
    buffer: Semaphore,
    /// Batches that have not ended, by id.
    unsettled: Mutex<BTreeSet<u64>>,
    batch_ended: Notify,
    next_batch: AtomicU64,
}

impl Shared {
    fn begin_batch(&self) -> u64 {
        let mut unsettled = self.unsettled.lock();
        let id = self.next_batch.fetch_add(1, Ordering::Relaxed);
        unsettled.insert(id);
        id
    }

    /// A batch ended: its bytes may be used again.
    pub(crate) fn settled(&self, batch: u64, held: usize) {
        self.buffer.add_permits(held);
        self.unsettled.lock().remove(&batch);
        self.batch_ended.notify_waiters();
    }
}

/// A topic as a producer knows it.
#[derive(Debug)]
struct Topic {
    name: TopicName,
    bounds: Bounds,
    inlets: Mutex<HashMap<PartitionId, Arc<Inlet>>>,
    /// Where records without key go, as long as their batch is gathering.
    sticky: Mutex<Option<PartitionId>>,
}

/// Where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// In this partition,
    pub partition: PartitionId,
    /// at this place.
    pub offset: Offset,
    /// The leader's clock when it was appended, in milliseconds since the Unix epoch; 0 where a dedup
    /// window answered for a record that an earlier batch had brought.
    pub timestamp: TimestampMs,
    /// It was stored already; the offset is the first copy's.
    pub duplicate: bool,
}

/// How a record ends, in time. Dropping it does not take the record back.
#[derive(Clone, Debug)]
#[must_use = "await it to learn whether the record was stored"]
pub struct Delivery {
    partition: PartitionId,
    index: u32,
    later: SettledLater,
}

impl Delivery {
    /// Where the record is going.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }
}

impl Future for Delivery {
    type Output = Result<Delivered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { partition, index, .. } = *self;
        Pin::new(&mut self.later).poll(context).map(|settled| {
            let settled =
                settled.map_err(|_| Error::lost("producer was dropped before it heard of this record"))?;
            let stored = settled.record(index)?;
            Ok(Delivered {
                partition,
                offset: stored.base_offset,
                timestamp: stored.append_time,
                duplicate: stored.duplicate,
            })
        })
    }
}

impl Producer {
    pub(crate) fn new(client: Arc<Inner>, options: ProducerOptions) -> Self {
        let options = options.bounded();
        let shared = Arc::new(Shared {
            streams: ProduceStreams::new(Arc::clone(&client.pool)),
            client,
            budget: Budget::new(),
            buffer: Semaphore::new(options.buffer_bytes),
            unsettled: Mutex::new(BTreeSet::new()),
            batch_ended: Notify::new(),
            next_batch: AtomicU64::new(0),
            options,
        });
        Self {
            shared,
            topics: RwLock::new(HashMap::new()),
            pipelines: Group::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes a record, to the partition that [`crate::partitioner`] chooses. Waits while the buffer is
    /// full, at most the delivery timeout. Await the [`Delivery`] to learn how the record ended.
    pub async fn send(&self, topic: &str, record: Record) -> Result<Delivery> {
        self.take(topic, None, record).await
    }

    /// The same, to a partition of the caller's choice.
    pub async fn send_to(&self, topic: &str, partition: PartitionId, record: Record) -> Result<Delivery> {
        self.take(topic, Some(partition), record).await
    }

    async fn take(&self, topic: &str, partition: Option<PartitionId>, record: Record) -> Result<Delivery> {
        let record = self.measure(record)?;
        let topic = self.topic(topic).await?;
        let count = self.partition_count(&topic, partition)?;
        let held = record.max_len();
        self.reserve(held).await?;
        let partition = partition.or_else(|| record.routing_key().map(|key| partition_for(key, count)));
        let now = self.shared.client.options.clock.monotonic();
        let (partition, inlet) = match partition {
            Some(partition) => (partition, self.inlet(&topic, partition)),
            None => self.sticky(&topic, count),
        };
        let added = {
            let mut batcher = inlet.batcher.lock();
            if batcher.closed {
                self.shared.buffer.add_permits(held);
                return Err(closed());
            }
            batcher.add(record, now, topic.bounds, || self.shared.begin_batch())
        };
        if added.began || added.filled {
            inlet.wake.notify_one();
        }
        Ok(Delivery { partition, index: added.index, later: added.later })
    }

    /// Takes records as one batch, which is stored whole or not at all. With `expected_offset` it is stored
    /// only if its first record gets that offset, else it fails with `OFFSET_CONFLICT`.
    pub async fn send_batch(
        &self,
        topic: &str,
        partition: PartitionId,
        records: Vec<Record>,
        expected_offset: Option<Offset>,
    ) -> Result<Vec<Delivery>> {
        let records = records.into_iter().map(|r| self.measure(r)).collect::<Result<Vec<_>>>()?;
        let topic = self.topic(topic).await?;
        self.partition_count(&topic, Some(partition))?;
        let held: usize = records.iter().map(Encodable::max_len).sum();
        let limit = topic.bounds.bytes.max(self.shared.client.batch_limit(topic.name.as_str()).await);
        if records.is_empty() || records.len() > limits::BATCH_MAX_RECORDS as usize || held > limit {
            let message = format!(
                "batch has {} records and up to {held} bytes, expected 1 to {} records and at most {limit} bytes",
                records.len(),
                limits::BATCH_MAX_RECORDS,
            );
            return Err(Error::fatal(Reason::BatchTooLarge, message));
        }
        self.reserve(held).await?;
        let inlet = self.inlet(&topic, partition);
        let count = records.len() as u32;
        let now = self.shared.client.options.clock.monotonic();
        let later = {
            let mut batcher = inlet.batcher.lock();
            if batcher.closed {
                self.shared.buffer.add_permits(held);
                return Err(closed());
            }
            batcher.add_batch(records, expected_offset, now, self.shared.begin_batch())
        };
        inlet.wake.notify_one();
        Ok((0..count).map(|index| Delivery { partition, index, later: later.clone() }).collect())
    }

    /// Sends what waits without lingering, and returns when every record taken before this call has ended,
    /// well or badly; the deliveries say how.
    pub async fn flush(&self) {
        let last = self.shared.next_batch.load(Ordering::Relaxed);
        self.each_inlet(|inlet| inlet.batcher.lock().flush(last));
        loop {
            let ended = self.shared.batch_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.shared.unsettled.lock().first().is_none_or(|oldest| *oldest >= last) {
                return;
            }
            ended.await;
        }
    }

    /// Takes no more records, sends what waits, and returns when all have ended.
    pub async fn close(self) {
        self.closed.store(true, Ordering::Release);
        self.each_inlet(|inlet| inlet.batcher.lock().closed = true);
        self.pipelines.join().await;
    }

    fn each_inlet(&self, act: impl Fn(&Inlet)) {
        for topic in self.topics.read().values() {
            for inlet in topic.inlets.lock().values() {
                act(inlet);
                inlet.wake.notify_one();
            }
        }
    }

    fn measure(&self, record: Record) -> Result<Encodable> {
        Encodable::new(record, self.shared.client.options.clock.wall())
            .map_err(|error| Error::fatal(Reason::BatchTooLarge, error.to_string()))
    }

    async fn reserve(&self, bytes: usize) -> Result<()> {
        if let Ok(permit) = self.shared.buffer.try_acquire_many(bytes as u32) {
            permit.forget();
            return Ok(());
        }
        let timeout = self.shared.options.delivery_timeout;
        let full = || {
            let message = format!(
                "producer's buffer of {} bytes stays full for {timeout:?}",
                self.shared.options.buffer_bytes
            );
            Error::retriable(Reason::Overloaded, message)
        };
        let room = tokio::time::timeout(timeout, self.shared.buffer.acquire_many(bytes as u32)).await;
        room.map_err(|_| full())?.map_err(|_| closed())?.forget();
        Ok(())
    }

    async fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(Arc::clone(topic));
        }
        let checked = TopicName::new(name).map_err(|error| Error::invalid(error.to_string()))?;
        self.shared.client.metadata.topic(name).await?;
        let limit = self.shared.client.batch_limit(name).await;
        let options = &self.shared.options;
        let bounds = Bounds { bytes: options.batch_bytes.min(limit), records: options.batch_records };
        let made = Topic {
            name: checked.clone(),
            bounds,
            inlets: Mutex::new(HashMap::new()),
            sticky: Mutex::new(None),
        };
        Ok(Arc::clone(self.topics.write().entry(checked).or_insert_with(|| Arc::new(made))))
    }

    fn partition_count(&self, topic: &Topic, asked: Option<PartitionId>) -> Result<u32> {
        let routes = self.shared.client.metadata.routes();
        let count = routes.topic(topic.name.as_str()).map_or(0, |route| route.partitions.len() as u32);
        if count == 0 {
            let message = format!("topic {:?} does not exist any more", topic.name.as_str());
            return Err(Error::fatal(Reason::UnknownTopicOrPartition, message));
        }
        match asked {
            Some(partition) if partition.get() >= count => Err(Error::fatal(
                Reason::UnknownTopicOrPartition,
                format!("partition {}/{partition} does not exist, the topic has {count}", topic.name),
            )),
            _ => Ok(count),
        }
    }

    fn inlet(&self, topic: &Topic, partition: PartitionId) -> Arc<Inlet> {
        let mut inlets = topic.inlets.lock();
        let inlet = inlets.entry(partition).or_insert_with(|| {
            let inlet = Arc::new(Inlet::default());
            inlet.batcher.lock().closed = self.closed.load(Ordering::Acquire);
            let shared = Arc::clone(&self.shared);
            let pipeline = Pipeline::new(shared, topic.name.clone(), partition, Arc::clone(&inlet));
            self.pipelines.spawn(pipeline.run());
            inlet
        });
        Arc::clone(inlet)
    }

    /// Stays with a partition while its batch gathers, then draws another, one with a leader if possible.
    fn sticky(&self, topic: &Topic, count: u32) -> (PartitionId, Arc<Inlet>) {
        let mut sticky = topic.sticky.lock();
        if let Some(partition) = *sticky {
            let inlet = self.inlet(topic, partition);
            if inlet.batcher.lock().is_gathering() {
                return (partition, inlet);
            }
        }
        let random = &self.shared.client.options.random;
        let routes = self.shared.client.metadata.routes();
        let led = |partition: &PartitionId| {
            routes.leadership(topic.name.as_str(), *partition).is_some_and(|l| l.leader.is_some())
        };
        let draw = || PartitionId(random.below(u64::from(count)) as u32);
        let drawn = (0..4).map(|_| draw()).find(|p| led(p) && Some(*p) != *sticky).unwrap_or_else(draw);
        *sticky = Some(drawn);
        (drawn, self.inlet(topic, drawn))
    }
}

fn closed() -> Error {
    Error::fatal(Reason::InvalidArgument, "producer is closed")
}
