//! A whole node in one process for this crate's tests: a store in memory, real consensus, nobody else.

mod cluster;

pub(crate) use cluster::Cluster;

use crate::admin::CreateTopic;
use crate::broker::{Broker, NodeInfo, Parts, Serving};
use crate::fetch::{FetchPartition, FetchedPartition, Isolation};
use crate::produce::{self, Answer, Pending};
use crate::{BrokerObserver, Config, Context, Forward, ForwardError, Metrics, fetch};
use bytes::Bytes;
use flotilla_machine::controller::NodeSpec;
use flotilla_raft::{Frame, Host, PeerState, Transport, Unreachable};
use flotilla_store::{Identity, MemoryStore, Store};
use flotilla_types::random::Seeded;
use flotilla_types::time::SystemClock;
use flotilla_types::topic::TopicConfig;
use flotilla_types::{
    BatchHeader, Clock, ClusterId, Compression, Monotonic, NodeId, Offset, PartitionId, ProducerStamp,
    TimestampMs, TopicName, compression,
};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The machine's clock, whose wall side tests move ahead.
#[derive(Debug)]
pub(crate) struct TestClock {
    real: SystemClock,
    ahead_ms: AtomicI64,
}

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Monotonic {
        self.real.monotonic()
    }

    fn wall(&self) -> TimestampMs {
        self.real.wall() + self.ahead_ms.load(Ordering::Relaxed)
    }
}

/// Nobody else is there.
#[derive(Debug)]
struct Alone;

impl Transport for Alone {
    fn send(&self, to: NodeId, _: Frame) -> BoxFuture<'_, Result<(), Unreachable>> {
        Box::pin(async move { Err(Unreachable { node: to, why: "there is nobody else".to_owned() }) })
    }

    fn state(&self, _: NodeId) -> PeerState {
        PeerState::Down
    }

    fn peers(&self) -> Vec<NodeId> {
        Vec::new()
    }
}

impl Forward for Alone {
    fn call(&self, to: NodeId, _: Bytes) -> BoxFuture<'_, Result<Bytes, ForwardError>> {
        Box::pin(async move {
            Err(ForwardError::Unreachable { node: to, why: "there is nobody else".to_owned() })
        })
    }
}

pub(crate) struct Node {
    pub broker: Arc<Broker>,
    pub store: MemoryStore,
    pub clock: Arc<TestClock>,
}

/// Housekeeping by hand: tests call the rounds they want.
pub(crate) fn config() -> Config {
    let never = Duration::from_secs(3600);
    Config { retention_interval: never, admission_wait: Duration::from_millis(20), ..Config::default() }
}

impl Node {
    /// A new cluster of one, set up.
    pub async fn start(config: Config) -> Self {
        let cluster = ClusterId(uuid::Uuid::from_u128(7));
        let store = MemoryStore::new(Identity::new(cluster, NodeId(1)));
        Self::start_on(config, store).await
    }

    /// The same node again, from what its store has.
    pub async fn start_on(config: Config, store: MemoryStore) -> Self {
        let clock = Arc::new(TestClock { real: SystemClock::new(), ahead_ms: AtomicI64::new(0) });
        let random = Arc::new(Seeded::new(7));
        let fatal = Box::new(|why: &str| panic!("fatal: {why}"));
        let observer = BrokerObserver::new(&config, Metrics::default(), fatal);
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let host = Host::start(
            flotilla_raft::Config::default(),
            NodeId(1),
            shared.clone(),
            Arc::new(Alone),
            observer.clone(),
            clock.clone(),
            random.clone(),
        )
        .await
        .unwrap();
        let own = NodeSpec {
            id: NodeId(1),
            peer: "127.0.0.1:7501".to_owned(),
            client: "127.0.0.1:7401".to_owned(),
            rack: None,
        };
        let cluster = store.identity().cluster;
        let parts = Parts {
            info: NodeInfo { id: NodeId(1), cluster, initial: vec![own.clone()], own },
            serving: Ok(Serving { host, store: shared }),
            observer,
            transport: Arc::new(Alone),
            forward: Arc::new(Alone),
            clock: clock.clone(),
            random,
            work_in_place: false,
        };
        let broker = Broker::start(config, parts).await.unwrap();
        let mut routes = broker.watch_routes();
        let up = routes.wait_for(|routes| routes.cluster.is_some() && routes.controller.is_some());
        tokio::time::timeout(Duration::from_secs(10), up).await.expect("the cluster is set up").unwrap();
        Self { broker, store, clock }
    }

    pub async fn topic(&self, name: &str, partition_count: u32, config: TopicConfig) -> TopicName {
        let create = CreateTopic { partition_count, config, ..create(name) };
        self.broker.create_topic(&context(), create).await.unwrap().name
    }

    pub async fn begin(&self, request: produce::Request) -> Pending {
        let permit = self.broker.admit(request.body.len()).await.unwrap();
        self.broker.produce(&context(), request, permit).await
    }

    pub async fn produce(&self, request: produce::Request) -> Result<Answer, produce::Error> {
        self.begin(request).await.await
    }

    pub async fn fetch(&self, topic: &TopicName, offset: u64, wait: Duration) -> FetchedPartition {
        let request = fetch::Request { max_wait: wait, ..fetch_request(&[(topic, 0, offset)]) };
        self.broker.fetch(&context(), request).await.unwrap().remove(0)
    }

    /// Everything there is in memory goes, so that reads come from the store.
    pub fn forget_tail(&self) {
        for shard in self.store.shards().unwrap() {
            self.broker.observer.tail.forget(shard);
        }
    }
}

pub(crate) fn context() -> Context {
    Context::internal()
}

pub(crate) fn create(name: &str) -> CreateTopic {
    CreateTopic {
        name: TopicName::new(name).unwrap(),
        partition_count: 1,
        replication_factor: 1,
        config: TopicConfig::default(),
        labels: BTreeMap::new(),
        validate_only: false,
    }
}

pub(crate) fn fetch_request(of: &[(&TopicName, u32, u64)]) -> fetch::Request {
    let partition = |(topic, partition, offset): &(&TopicName, u32, u64)| FetchPartition {
        topic: (*topic).clone(),
        partition: PartitionId(*partition),
        topic_id: None,
        offset: Offset(*offset),
        leader_epoch: None,
        max_bytes: 0,
    };
    fetch::Request {
        partitions: of.iter().map(partition).collect(),
        min_bytes: 1,
        max_bytes: 0,
        max_wait: Duration::ZERO,
        isolation: Isolation::ReadCommitted,
    }
}

/// A sealed batch of these values.
pub(crate) fn batch(topic: &TopicName, values: &[&str], stamp: Option<ProducerStamp>) -> produce::Request {
    let records: Vec<_> = values.iter().map(|value| record(value.as_bytes(), None)).collect();
    sealed(topic, &body(&records), values.len() as u32, Compression::None, stamp)
}

pub(crate) fn sealed(
    topic: &TopicName,
    body: &[u8],
    record_count: u32,
    compression: Compression,
    producer: Option<ProducerStamp>,
) -> produce::Request {
    let body = Bytes::from(compression::compress(compression, body));
    let header = BatchHeader {
        record_count,
        base_timestamp: 0,
        producer,
        transactional: false,
        compression,
        schema_id: None,
        crc32c: 0,
    };
    let batch = flotilla_types::Batch { header: header.seal(&body), body };
    produce::Request::new(topic.clone(), PartitionId(0), batch)
}

/// A record with a value and perhaps a message id.
pub(crate) fn record(value: &[u8], message_id: Option<&str>) -> Vec<u8> {
    let mut record = vec![0x10, 5];
    field(&mut record, 0x22, value);
    if let Some(id) = message_id {
        field(&mut record, 0x32, id.as_bytes());
    }
    record
}

/// A serialised `Records`.
pub(crate) fn body(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    records.iter().for_each(|record| field(&mut body, 0x0a, record));
    body
}

fn field(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}
