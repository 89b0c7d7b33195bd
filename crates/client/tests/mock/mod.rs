//! A cluster in this process: real sockets and gRPC, a log in memory that follows the contract's sequence
//! rules, and faults by script. Each node has a runtime of its own, so that killing one is abrupt.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "shared by test binaries, each of which uses a part; tests may unwrap and spawn"
)]

pub mod groups;
mod services;

use flotilla_proto::convert::errors::to_wire;
use flotilla_proto::convert::records::{batch_from_wire, fetched_to_wire};
use flotilla_proto::v1;
use flotilla_types::{Batch, Failure, LeaderHint, NodeId, Offset, Reason, Term};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub const TOPIC: &str = "orders";

/// What happens to one batch instead of the usual.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered so; nothing is stored.
    Refuse(Failure),
    /// Answered with errors of single records.
    RefuseRecords(Failure, Vec<(u32, Failure)>),
    /// Stored, then the stream breaks.
    StoreAndBreak,
    /// Not stored, and the stream breaks.
    Break,
    /// Stored; no answer ever.
    StoreAndSwallow,
    /// Not stored; no answer ever.
    Swallow,
    /// Stored; the answer says that nobody knows.
    StoreAndDoubt,
    /// Not stored; the answer says that nobody knows.
    Doubt,
    /// Handled as usual, later.
    Delay(Duration),
}

#[derive(Debug, Default)]
pub struct Producer {
    pub epoch: i64,
    pub next: i64,
    /// Base sequence, count, base offset.
    pub last: VecDeque<(i64, i64, u64)>,
}

#[derive(Debug, Default)]
pub struct Partition {
    /// Node index; `None` = an election is under way.
    pub leader: Option<usize>,
    pub term: u64,
    pub log_start: u64,
    pub next_offset: u64,
    pub batches: Vec<(u64, u64, Batch)>,
    pub producers: HashMap<i64, Producer>,
}

#[derive(Debug)]
pub struct Cluster {
    pub endpoints: Vec<String>,
    pub partitions: Mutex<Vec<Partition>>,
    pub faults: Mutex<VecDeque<Fault>>,
    pub changed: watch::Sender<u64>,
    /// Bytes that fetches have brought.
    pub fetched_bytes: std::sync::atomic::AtomicUsize,
    /// Nodes that keep silent about metadata changes.
    pub watch_is_silent: std::sync::atomic::AtomicBool,
    pub group: Mutex<groups::Group>,
}

/// A running cluster. Dropping it kills all nodes.
pub struct Mock {
    pub cluster: Arc<Cluster>,
    runtimes: Vec<Option<tokio::runtime::Runtime>>,
}

impl Mock {
    /// Partition `p` is led by node `p % nodes`.
    pub fn start(nodes: usize, partitions: usize) -> Self {
        let listeners: Vec<std::net::TcpListener> =
            (0..nodes).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let endpoints = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        let partitions = (0..partitions)
            .map(|p| Partition { leader: Some(p % nodes), term: 1, ..Partition::default() })
            .collect();
        let cluster = Arc::new(Cluster {
            endpoints,
            partitions: Mutex::new(partitions),
            faults: Mutex::default(),
            changed: watch::Sender::new(1),
            fetched_bytes: Default::default(),
            watch_is_silent: Default::default(),
            group: Mutex::default(),
        });
        let runtimes = listeners
            .into_iter()
            .enumerate()
            .map(|(node, listener)| Some(services::serve(Arc::clone(&cluster), node, listener)))
            .collect();
        Self { cluster, runtimes }
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.cluster.endpoints.clone()
    }

    /// Ends a node and all its connections at once.
    pub fn kill(&mut self, node: usize) {
        if let Some(runtime) = self.runtimes[node].take() {
            runtime.shutdown_background();
        }
    }

    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.cluster.faults.lock().extend(faults);
    }

    pub fn clear_script(&self) {
        self.cluster.faults.lock().clear();
    }

    /// Another leadership.
    pub fn lead(&self, partition: usize, leader: Option<usize>) {
        {
            let mut partitions = self.cluster.partitions.lock();
            partitions[partition].leader = leader;
            partitions[partition].term += 1;
        }
        self.cluster.changed.send_modify(|epoch| *epoch += 1);
    }

    /// Values of a partition, in offset order.
    pub fn values(&self, partition: usize) -> Vec<String> {
        let partitions = self.cluster.partitions.lock();
        let mut values = Vec::new();
        for (_, _, batch) in &partitions[partition].batches {
            values.extend(values_of(batch));
        }
        values
    }

    pub fn with_group<T>(&self, act: impl FnOnce(&mut groups::Group) -> T) -> T {
        act(&mut self.cluster.group.lock())
    }

    pub fn with_partition<T>(&self, partition: usize, act: impl FnOnce(&mut Partition) -> T) -> T {
        act(&mut self.cluster.partitions.lock()[partition])
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        (0..self.runtimes.len()).for_each(|node| self.kill(node));
    }
}

pub fn values_of(batch: &Batch) -> Vec<String> {
    let mut raw = Vec::new();
    flotilla_types::compression::decompress(batch.header.compression, &batch.body, &mut raw).unwrap();
    let records: v1::Records = prost::Message::decode(&raw[..]).unwrap();
    let text = |r: v1::Record| String::from_utf8(r.value.unwrap_or_default().to_vec()).unwrap();
    records.records.into_iter().map(text).collect()
}

/// What became of one request.
pub enum Handled {
    Answer(Box<v1::ProduceResponse>),
    Silence,
    Break,
    Later(Duration),
}

impl Cluster {
    pub fn hint(&self, partition: &Partition) -> Option<LeaderHint> {
        partition.leader.map(|node| LeaderHint {
            node: NodeId(node as u32 + 1),
            endpoint: self.endpoints[node].clone(),
            term: Term(partition.term),
        })
    }

    pub fn leader_of(&self, partition: i32) -> Option<v1::Leader> {
        let partitions = self.partitions.lock();
        let hint = self.hint(&partitions[partition as usize]);
        hint.as_ref().map(flotilla_proto::convert::errors::leader_to_wire)
    }

    pub fn not_leader(&self, partition: &Partition) -> Failure {
        Failure::new(Reason::NotLeader, "not the leader").leader(self.hint(partition))
    }

    pub fn handle(&self, node: usize, request: &v1::ProduceRequest, faulty: bool) -> Handled {
        let mut partitions = self.partitions.lock();
        let known = usize::try_from(request.partition).ok().and_then(|p| partitions.get_mut(p));
        let refuse = |failure: &Failure| Handled::Answer(Box::new(refused(request, failure, &[])));
        let Some(partition) = known.filter(|_| request.topic == TOPIC) else {
            return refuse(&Failure::new(Reason::UnknownTopicOrPartition, "unknown"));
        };
        if partition.leader != Some(node) {
            return refuse(&self.not_leader(partition));
        }
        let fault = if faulty { self.faults.lock().pop_front() } else { None };
        let unknown = Failure::new(Reason::RequestTimedOut, "no outcome in time").indefinite();
        match fault {
            None => Handled::Answer(Box::new(partition.append(request))),
            Some(Fault::Delay(time)) => Handled::Later(time),
            Some(Fault::Refuse(failure)) => refuse(&failure),
            Some(Fault::RefuseRecords(failure, records)) => {
                Handled::Answer(Box::new(refused(request, &failure, &records)))
            }
            Some(Fault::Break) => Handled::Break,
            Some(Fault::Swallow) => Handled::Silence,
            Some(Fault::Doubt) => refuse(&unknown),
            Some(Fault::StoreAndBreak) => {
                partition.append(request);
                Handled::Break
            }
            Some(Fault::StoreAndSwallow) => {
                partition.append(request);
                Handled::Silence
            }
            Some(Fault::StoreAndDoubt) => {
                partition.append(request);
                refuse(&unknown)
            }
        }
    }

    pub fn fetch(&self, node: usize, asked: &v1::FetchPartition) -> v1::FetchedPartition {
        let partitions = self.partitions.lock();
        let mut answer = v1::FetchedPartition {
            topic: asked.topic.clone(),
            partition: asked.partition,
            ..Default::default()
        };
        let Some(partition) = usize::try_from(asked.partition).ok().and_then(|p| partitions.get(p)) else {
            answer.error = Some(to_wire(&Failure::new(Reason::UnknownTopicOrPartition, "unknown")));
            return answer;
        };
        let offset = asked.fetch_offset as u64;
        answer.high_watermark = partition.next_offset as i64;
        answer.last_stable_offset = partition.next_offset as i64;
        answer.log_start_offset = partition.log_start as i64;
        answer.next_offset = asked.fetch_offset;
        if partition.leader != Some(node) {
            answer.error = Some(to_wire(&self.not_leader(partition)));
        } else if offset < partition.log_start || offset > partition.next_offset {
            let message =
                format!("offset {offset} is not in {}..{}", partition.log_start, partition.next_offset);
            answer.error = Some(to_wire(&Failure::new(Reason::OffsetOutOfRange, message)));
        } else {
            let mut bytes = 0;
            for (base, term, batch) in &partition.batches {
                let end = base + u64::from(batch.header.record_count);
                if end <= offset || bytes >= asked.max_bytes as usize {
                    continue;
                }
                bytes += batch.body.len();
                let wire = fetched_to_wire(Offset(*base), Term(*term), &batch.header, batch.body.clone());
                answer.batches.push(wire);
                answer.next_offset = end as i64;
            }
            self.fetched_bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        }
        answer
    }

    pub fn metadata(&self) -> v1::Metadata {
        let partitions = self.partitions.lock();
        let none = |p: &Partition| v1::Leader { leader_epoch: p.term as i64, ..Default::default() };
        let leader = |p: &Partition| {
            self.hint(p).as_ref().map_or_else(|| none(p), flotilla_proto::convert::errors::leader_to_wire)
        };
        v1::Metadata {
            cluster_id: "mock".to_owned(),
            controller_node_id: 1,
            nodes: self
                .endpoints
                .iter()
                .enumerate()
                .map(|(node, endpoint)| v1::Node {
                    node_id: node as i32 + 1,
                    endpoint: endpoint.clone(),
                    online: true,
                    ..Default::default()
                })
                .collect(),
            topics: vec![v1::metadata::TopicRoute {
                topic: TOPIC.to_owned(),
                topic_id: groups::TOPIC_ID.to_owned(),
                leaders: partitions.iter().map(leader).collect(),
                deleted: false,
            }],
            metadata_epoch: 1,
        }
    }
}

pub fn refused(
    request: &v1::ProduceRequest,
    failure: &Failure,
    records: &[(u32, Failure)],
) -> v1::ProduceResponse {
    let record = |(index, failure): &(u32, Failure)| v1::produce_response::RecordError {
        index: *index as i32,
        error: Some(to_wire(failure)),
    };
    v1::ProduceResponse {
        correlation_id: request.correlation_id,
        partition: request.partition,
        error: Some(to_wire(failure)),
        record_errors: records.iter().map(record).collect(),
        ..Default::default()
    }
}

impl Partition {
    /// The contract's rules: duplicates get their first offset, everything else must be next in line.
    pub fn append(&mut self, request: &v1::ProduceRequest) -> v1::ProduceResponse {
        let sent = batch_from_wire(request.batch.clone().unwrap()).unwrap();
        let batch = sent.batch;
        assert!(batch.header.is_sound(&batch.body), "the producer seals what it sends");
        let stamp = batch.header.producer.expect("the producer stamps what it sends");
        let (id, epoch, sequence) =
            (stamp.id.get() as i64, stamp.epoch.get() as i64, stamp.base_sequence.get() as i64);
        let count = i64::from(batch.header.record_count);
        let why = match self.producers.get(&id) {
            Some(known) => format!("at sequence {sequence} of epoch {epoch}, known {known:?}"),
            None => format!("at sequence {sequence} of epoch {epoch}, unknown"),
        };
        let refuse = |reason| refused(request, &Failure::new(reason, why.clone()), &[]);
        if let Some(expected) = request.expected_offset
            && expected != self.next_offset as i64
        {
            return refuse(Reason::OffsetConflict);
        }
        match self.producers.get(&id) {
            None if sequence != 0 => return refuse(Reason::ProducerStateExpired),
            Some(known) if epoch < known.epoch => return refuse(Reason::InvalidProducerEpoch),
            Some(known) if epoch > known.epoch && sequence != 0 => return refuse(Reason::OutOfOrderSequence),
            Some(known) if epoch == known.epoch && sequence != known.next => {
                let same = known.last.iter().find(|(base, n, _)| *base == sequence && *n == count);
                let Some((_, _, first)) = same else { return refuse(Reason::OutOfOrderSequence) };
                return answered(request, *first, true);
            }
            _ => {}
        }
        let base = self.next_offset;
        let producer = self.producers.entry(id).or_default();
        if epoch > producer.epoch {
            producer.last.clear();
        }
        producer.epoch = epoch;
        producer.next = sequence + count;
        producer.last.push_back((sequence, count, base));
        if producer.last.len() > 5 {
            producer.last.pop_front();
        }
        self.batches.push((base, self.term, batch));
        self.next_offset += count as u64;
        answered(request, base, false)
    }
}

fn answered(request: &v1::ProduceRequest, base: u64, duplicate: bool) -> v1::ProduceResponse {
    v1::ProduceResponse {
        correlation_id: request.correlation_id,
        partition: request.partition,
        base_offset: base as i64,
        log_append_time: 1_000 + base as i64,
        duplicate,
        ..Default::default()
    }
}
