//! Producers and readers that go on whatever happens, and remember what they were told.

use crate::cluster::Cluster;
use crate::history::{Event, History, Operation, Stage};
use crate::wire::Wire;
use bytes::Bytes;
use flotilla_client::{
    Client, ConsumerOptions, Delivery, Options, Position, Producer, ProducerOptions, Record,
};
use flotilla_types::PartitionId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is written.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub topic: String,
    /// To each of them in turn.
    pub partitions: u32,
    /// Each with an identity of its own.
    pub producers: u32,
    /// Readers of all partitions from the start.
    pub readers: u32,
    /// Size of each value.
    pub value_bytes: usize,
    /// Records of one producer that wait for their answer.
    pub in_flight: usize,
    /// Between two records of one producer.
    pub pause: Duration,
}

impl Load {
    /// Two producers and a reader at full speed.
    pub fn to(topic: &str, partitions: u32) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions,
            producers: 2,
            readers: 1,
            value_bytes: 100,
            in_flight: 256,
            pause: Duration::ZERO,
        }
    }
}

/// A load that is under way.
#[derive(Debug)]
pub struct Running {
    /// What its clients were told so far.
    pub history: Arc<History>,
    load: Load,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// A client of the whole cluster.
pub async fn client(cluster: &Cluster) -> Client {
    Client::connect(cluster.endpoints(), Options::default()).await.expect("a node answers")
}

/// How long a producer tries before it gives a record up. Longer than any fault of a test.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

impl Running {
    /// Starts the load; the topic must be there.
    pub async fn start(cluster: &Cluster, load: Load) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut running = Self { history: Arc::default(), load, stop, tasks: JoinSet::new() };
        let client = client(cluster).await;
        for process in 0..running.load.producers {
            let producer = client.producer(ProducerOptions {
                delivery_timeout: DELIVERY_LIMIT,
                request_timeout: Duration::from_secs(5),
                ..ProducerOptions::default()
            });
            let (load, history) = (running.load.clone(), Arc::clone(&running.history));
            running.tasks.spawn(produce(producer, load, process, history, stopped.clone()));
        }
        for reader in 0..running.load.readers {
            let (load, history) = (running.load.clone(), Arc::clone(&running.history));
            running.tasks.spawn(read(client.clone(), load, READERS + reader, history, stopped.clone()));
        }
        running
    }

    /// Waits until this many more records have been acknowledged; panics if that takes longer than `limit`.
    pub async fn acknowledges(&self, more: usize, limit: Duration) {
        const LOOK: Duration = Duration::from_millis(5);
        let before = self.history.acknowledged();
        for _ in 0..limit.as_millis() / LOOK.as_millis() {
            if self.history.acknowledged() >= before + more {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!(
            "{} of {more} records were acknowledged within {limit:?}",
            self.history.acknowledged() - before
        );
    }

    /// Ends the load: nothing new is sent, and everything sent has had its answer.
    pub async fn stop(mut self) -> Arc<History> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("producers and readers do not panic");
        }
        self.history
    }
}

/// Process numbers from here on are readers.
const READERS: u32 = 1000;

async fn produce(
    producer: Producer,
    load: Load,
    process: u32,
    history: Arc<History>,
    stopped: watch::Receiver<bool>,
) {
    let mut orders = vec![0u64; load.partitions as usize];
    let mut waiting = FuturesUnordered::new();
    let mut count = u64::from(process);
    while !*stopped.borrow() {
        let partition = (count % u64::from(load.partitions)) as u32;
        let order = orders[partition as usize];
        orders[partition as usize] += 1;
        count += 1;
        let value = (u64::from(process) << 40) | count;
        let send = |offset| Operation::Send { partition, value, order, offset };
        history.add(process, Stage::Invoke, send(None));
        let record = Record::new(encode(value, load.value_bytes));
        match producer.send_to(&load.topic, PartitionId(partition), record).await {
            Ok(delivery) => waiting.push(outcome(delivery, partition, value, order)),
            Err(error) => {
                eprintln!("process {process}: value {value} was not taken: {error}");
                history.add(process, Stage::Fail, send(None));
            }
        }
        while waiting.len() >= load.in_flight {
            if let Some((stage, operation)) = waiting.next().await {
                history.add(process, stage, operation);
            }
        }
        if !load.pause.is_zero() {
            let pause = tokio::time::sleep(load.pause);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some((stage, operation)) = waiting.next() => history.add(process, stage, operation),
                }
            }
        }
    }
    while let Some((stage, operation)) = waiting.next().await {
        history.add(process, stage, operation);
    }
}

async fn outcome(delivery: Delivery, partition: u32, value: u64, order: u64) -> (Stage, Operation) {
    let (stage, offset) = match delivery.await {
        Ok(stored) => (Stage::Ok, Some(stored.offset.get())),
        Err(error) => {
            eprintln!("value {value} for partition {partition}: {error}");
            (if error.is_outcome_unknown() { Stage::Unknown } else { Stage::Fail }, None)
        }
    };
    (stage, Operation::Send { partition, value, order, offset })
}

async fn read(
    client: Client,
    load: Load,
    process: u32,
    history: Arc<History>,
    stopped: watch::Receiver<bool>,
) {
    let mut consumer = client.consumer(ConsumerOptions::default());
    for partition in 0..load.partitions {
        consumer.assign(&load.topic, PartitionId(partition), Position::Start).expect("a valid name");
    }
    while !*stopped.borrow() {
        let Ok(records) = consumer.poll(Duration::from_millis(200)).await else { continue };
        if let Some(first) = records.first() {
            let partition = first.partition.get();
            let seen = records.iter().map(|r| (r.offset.get(), r.value.as_deref().map_or(0, decode)));
            history.add(process, Stage::Ok, Operation::Poll { partition, records: seen.collect() });
        }
    }
}

/// A value of `bytes` bytes: its number, then text that compresses about as text does.
pub fn encode(value: u64, bytes: usize) -> Bytes {
    let mut text = format!("{value:016x}").into_bytes();
    let mut state = value;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!(" {:04x} record", state >> 48).as_bytes());
    }
    text.truncate(bytes.max(16));
    Bytes::from(text)
}

/// The number of a value; 0 for what [`encode`] did not make.
pub fn decode(text: &[u8]) -> u64 {
    let digits = text.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Reads every partition from start to end at whoever leads it, into the history.
pub async fn scan(cluster: &Cluster, topic: &str, partitions: u32, history: &History) {
    for partition in 0..partitions {
        let mut told = None;
        for _ in 0..100 {
            let leader = Wire::to(&cluster.nodes[0].client()).leader(topic, partition as i32).await;
            match scan_at(cluster, topic, partition, leader).await {
                Ok(operation) => {
                    history.add(u32::MAX, Stage::Ok, operation);
                    told = None;
                    break;
                }
                Err(status) => told = Some(status),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(told.is_none(), "{topic}/{partition} cannot be read: {told:?}");
    }
}

/// Reads every partition at each of these nodes, which lead it for that while.
pub async fn scan_replicas(
    cluster: &Cluster,
    topic: &str,
    partitions: u32,
    nodes: &[u32],
    history: &History,
) {
    for partition in 0..partitions {
        for node in nodes {
            Wire::to(&cluster.nodes[0].client()).transfer(topic, partition as i32, *node).await;
            let operation = scan_at(cluster, topic, partition, *node).await;
            let operation = operation.unwrap_or_else(|e| panic!("{topic}/{partition} at node {node}: {e:?}"));
            history.add_at_node(u32::MAX, Stage::Ok, Some(*node), operation);
        }
    }
}

async fn scan_at(
    cluster: &Cluster,
    topic: &str,
    partition: u32,
    node: u32,
) -> Result<Operation, tonic::Status> {
    let mut wire = Wire::to(&cluster.nodes[node as usize - 1].client());
    let (start, end) = wire.bounds(topic, partition as i32).await?;
    let records = wire.read(topic, partition as i32, start, end).await?;
    let records = records.into_iter().map(|(offset, value)| (offset, decode(&value))).collect();
    Ok(Operation::Scan { partition, start, end, records })
}

/// Checks a history; a bad one is written beside the nodes' logs first.
pub fn judge(cluster: &Cluster, history: &History) {
    let events = history.events();
    let found = crate::checkers::check_all(&events);
    if !found.is_empty() {
        let path = cluster.path().join("history.jsonl");
        let file = std::fs::File::create(&path).expect("the cluster's directory can be written");
        history.write_to(&mut std::io::BufWriter::new(file)).expect("the history can be written");
        panic!("{} findings in {}:\n  {}", found.len(), path.display(), found.join("\n  "));
    }
}

/// The longest time without an acknowledgement from partition 0, from `since` (nanoseconds of the
/// history) on.
pub fn longest_silence(events: &[Event], since: u64) -> Duration {
    let acknowledged = events.iter().filter(|event| {
        event.stage == Stage::Ok && matches!(event.operation, Operation::Send { partition: 0, .. })
    });
    // The silence that began with `since` counts too.
    let later = acknowledged.map(|event| event.at).filter(|at| *at > since);
    let times: Vec<u64> = std::iter::once(since).chain(later).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    Duration::from_nanos(longest.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_can_be_read_again() {
        for bytes in [0, 16, 100] {
            assert_eq!(decode(&encode(0x0123_4567_89ab_cdef, bytes)), 0x0123_4567_89ab_cdef);
        }
        assert_eq!(decode(b"not one of ours at all"), 0);
    }

    #[test]
    fn the_longest_silence_is_between_acknowledgements() {
        let ok = |at| Event {
            at,
            process: 0,
            stage: Stage::Ok,
            node: None,
            operation: Operation::Send { partition: 0, value: at, order: at, offset: Some(at) },
        };
        assert_eq!(longest_silence(&[ok(0), ok(5), ok(25), ok(26)], 0), Duration::from_nanos(20));
        assert_eq!(longest_silence(&[ok(0), ok(25), ok(26)], 20), Duration::from_nanos(5));
    }
}
