//! Reads records of chosen partitions, in offset order per partition, fetched ahead within a bound.
//!
//! # What is promised
//!
//! - Per partition every record from the position on comes once and in order. A hole or a broken batch is
//!   an error that names partition and offset; the partition then stands still until a seek.
//! - A position outside the log is an error, unless the options say where to go on.
//! - While a leader is away the consumer waits and follows; [`Consumer::trouble`] says why nothing comes.

use crate::client::Inner;
use crate::config::ConsumerOptions;
use crate::error::{Error, Result};
use crate::fetcher::{Arrival, Chunk, Fetcher, Order, Progress, Room};
use crate::record::ConsumedRecord;
use crate::task::Owned;
use flotilla_types::{Offset, PartitionId, TimestampMs, TopicName};
use futures::Stream;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record kept.
    Start,
    /// After the last record there is now.
    End,
    /// This record, or the one that will get this offset.
    Offset(Offset),
    /// The first record appended at or after this time (milliseconds since the Unix epoch).
    Timestamp(TimestampMs),
}

/// Chunks that wait for the application; their bytes have their own bound.
const ARRIVALS_MAX: usize = 256;

/// Reads partitions. Made by [`crate::Client::consumer`].
#[derive(Debug)]
pub struct Consumer {
    client: Arc<Inner>,
    options: ConsumerOptions,
    room: Arc<Room>,
    sender: mpsc::Sender<Arrival>,
    arrivals: mpsc::Receiver<Arrival>,
    partitions: HashMap<(TopicName, PartitionId), Assigned>,
    /// Records of the last arrival that [`Consumer::next`] has not given out.
    current: Option<(TopicName, PartitionId, std::vec::IntoIter<ConsumedRecord>, Chunk)>,
    next_order: u64,
}

#[derive(Debug)]
struct Assigned {
    orders: watch::Sender<Order>,
    progress: Arc<Mutex<Progress>>,
    /// Where the application is; `None` until the first record or a known start.
    position: Option<Offset>,
    _fetcher: Owned,
}

impl Consumer {
    pub(crate) fn new(client: Arc<Inner>, options: ConsumerOptions) -> Self {
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let room = Arc::new(Room::new(&options));
        Self {
            client,
            options,
            room,
            sender,
            arrivals,
            partitions: HashMap::new(),
            current: None,
            next_order: 0,
        }
    }

    /// Begins to read a partition; one that is read already goes to the new position.
    pub fn assign(&mut self, topic: &str, partition: PartitionId, position: Position) -> Result<()> {
        let topic = TopicName::new(topic).map_err(|error| Error::invalid(error.to_string()))?;
        if self.partitions.contains_key(&(topic.clone(), partition)) {
            return self.seek(topic.as_str(), partition, position);
        }
        self.next_order += 1;
        let (orders, orders_seen) =
            watch::channel(Order { number: self.next_order, position, paused: false });
        let progress = Arc::new(Mutex::new(Progress::default()));
        let fetcher = Fetcher {
            client: Arc::clone(&self.client),
            options: self.options.clone(),
            topic: topic.clone(),
            partition,
            room: Arc::clone(&self.room),
            arrivals: self.sender.clone(),
            progress: Arc::clone(&progress),
        };
        let fetcher = Owned::spawn(fetcher.run(orders_seen));
        let assigned = Assigned { orders, progress, position: None, _fetcher: fetcher };
        self.partitions.insert((topic, partition), assigned);
        Ok(())
    }

    /// Begins to read all partitions that a topic has now, and says how many those are.
    pub async fn assign_topic(&mut self, topic: &str, position: Position) -> Result<u32> {
        let count = self.client.metadata.topic(topic).await?.partitions.len() as u32;
        for partition in 0..count {
            self.assign(topic, PartitionId(partition), position)?;
        }
        Ok(count)
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, topic: &str, partition: PartitionId) -> Result<()> {
        let key = key(topic, partition)?;
        self.partitions.remove(&key);
        self.drop_current(&key);
        Ok(())
    }

    /// Goes to another position; records fetched ahead for the old one are dropped.
    pub fn seek(&mut self, topic: &str, partition: PartitionId, position: Position) -> Result<()> {
        self.order(topic, partition, |assigned, order| {
            assigned.position = match position {
                Position::Offset(offset) => Some(offset),
                _ => None,
            };
            order.position = position;
        })
    }

    /// Stops fetching a partition; its position stays.
    pub fn pause(&mut self, topic: &str, partition: PartitionId) -> Result<()> {
        self.order(topic, partition, |_, order| order.paused = true)
    }

    /// Fetches a paused partition again, from its position.
    pub fn resume(&mut self, topic: &str, partition: PartitionId) -> Result<()> {
        self.order(topic, partition, |_, order| order.paused = false)
    }

    /// The offset of the next record that the application will see; `None` while it is being looked up.
    pub fn position(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        self.partitions.get(&key(topic, partition).ok()?)?.position()
    }

    /// The end of what this consumer may see of a partition, as last heard from its leader.
    pub fn end(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let assigned = self.partitions.get(&key(topic, partition).ok()?)?;
        assigned.progress.lock().end
    }

    /// Partitions from which nothing comes at the moment, and why. They are tried again all the time.
    pub fn trouble(&self) -> Vec<(TopicName, PartitionId, Error)> {
        let of = |((topic, partition), assigned): (&(TopicName, PartitionId), &Assigned)| {
            Some((topic.clone(), *partition, assigned.progress.lock().trouble.clone()?))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// Records of one partition, as many as one fetch brought; none if nothing came within `timeout`. An
    /// error stands for one partition, which stands still then; the others go on with the next call.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>> {
        self.poll_up_to(usize::MAX, timeout).await
    }

    /// The same, with at most so many records; the rest comes with the next call. Cancelling it loses
    /// nothing.
    pub async fn poll_up_to(&mut self, most: usize, timeout: Duration) -> Result<Vec<ConsumedRecord>> {
        let most = most.max(1);
        loop {
            if let Some((topic, partition, rest, chunk)) = &mut self.current {
                let records: Vec<ConsumedRecord> = rest.by_ref().take(most).collect();
                let key = (topic.clone(), *partition);
                let next = records.last().filter(|_| rest.len() > 0).map_or(chunk.next, |r| r.offset.next());
                if rest.len() == 0 {
                    self.current = None;
                }
                if !records.is_empty() {
                    self.advance(&key, next);
                    return Ok(records);
                }
            }
            let Ok(arrived) = tokio::time::timeout(timeout, self.arrival()).await else {
                return Ok(Vec::new());
            };
            let ((topic, partition), mut chunk) = arrived?;
            let records = std::mem::take(&mut chunk.records).into_iter();
            self.current = Some((topic, partition, records, chunk));
        }
    }

    /// The next record of any partition; waits until there is one. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<ConsumedRecord> {
        loop {
            if let Some((topic, partition, rest, _)) = &mut self.current {
                if let Some(record) = rest.next() {
                    let key = (topic.clone(), *partition);
                    self.advance(&key, record.offset.next());
                    return Ok(record);
                }
                self.current = None;
            }
            let ((topic, partition), mut chunk) = self.arrival().await?;
            let records = std::mem::take(&mut chunk.records).into_iter();
            self.current = Some((topic, partition, records, chunk));
        }
    }

    /// All records as a stream. An item may be an error of one partition; the others go on.
    pub fn records(&mut self) -> impl Stream<Item = Result<ConsumedRecord>> + '_ {
        futures::stream::unfold(self, |consumer| async move { Some((consumer.next().await, consumer)) })
    }

    /// The next arrival that answers a partition's present order.
    async fn arrival(&mut self) -> Result<((TopicName, PartitionId), Chunk)> {
        loop {
            // The consumer holds a sender itself, so the channel stays open.
            let Some(arrival) = self.arrivals.recv().await else { return std::future::pending().await };
            let key = (arrival.topic, arrival.partition);
            let wanted = self.partitions.get(&key).is_some_and(|p| p.orders.borrow().number == arrival.order);
            if wanted {
                return arrival.outcome.map(|chunk| (key, chunk));
            }
        }
    }

    fn advance(&mut self, key: &(TopicName, PartitionId), to: Offset) {
        if let Some(assigned) = self.partitions.get_mut(key) {
            assigned.position = Some(to);
        }
    }

    fn drop_current(&mut self, key: &(TopicName, PartitionId)) {
        self.current.take_if(|(topic, partition, ..)| (&*topic, &*partition) == (&key.0, &key.1));
    }

    /// Gives a partition's fetcher a new order, from where the application is unless `change` says otherwise.
    fn order(
        &mut self,
        topic: &str,
        partition: PartitionId,
        change: impl FnOnce(&mut Assigned, &mut Order),
    ) -> Result<()> {
        let key = key(topic, partition)?;
        self.next_order += 1;
        let number = self.next_order;
        let assigned = self
            .partitions
            .get_mut(&key)
            .ok_or_else(|| Error::invalid(format!("partition {topic}/{partition} is not assigned")))?;
        let mut order = *assigned.orders.borrow();
        order.number = number;
        if let Some(position) = assigned.position() {
            order.position = Position::Offset(position);
        }
        change(assigned, &mut order);
        assigned.orders.send_replace(order);
        self.drop_current(&key);
        Ok(())
    }
}

impl Assigned {
    fn position(&self) -> Option<Offset> {
        let progress = self.progress.lock();
        self.position.or_else(|| progress.start.filter(|_| progress.order == self.orders.borrow().number))
    }
}

fn key(topic: &str, partition: PartitionId) -> Result<(TopicName, PartitionId)> {
    let name = TopicName::new(topic).map_err(|error| Error::invalid(error.to_string()))?;
    Ok((name, partition))
}
