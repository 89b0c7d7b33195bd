//! A cluster in one process: nodes on runtimes of their own, so that one can be killed, over a network that
//! can be cut.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and locks")]

use bytes::Bytes;
use flotilla_machine::{Append, Command, Kind, Outcome};
use flotilla_raft::store::{Identity, MemoryStore, Store};
use flotilla_raft::{
    AppliedEntry, Config, Frame, Host, Inbound, Leadership, Observer, PeerState, ProposeError, Shard,
    Transport, Unreachable,
};
use flotilla_types::random::Seeded;
use flotilla_types::time::SystemClock;
use flotilla_types::{BatchHeader, ClusterId, Compression, NodeId, ShardId, StoreId, Term};
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

pub const SHARD: ShardId = ShardId(1024);

/// Who is connected to whom.
#[derive(Debug, Default)]
pub struct Net {
    hosts: RwLock<HashMap<NodeId, Weak<Host>>>,
    /// Frames vanish and nobody notices.
    silent: RwLock<BTreeSet<(NodeId, NodeId)>>,
    /// Nobody listens there any more.
    refused: RwLock<BTreeSet<NodeId>>,
    pub frames: AtomicU64,
}

/// One node's way out.
#[derive(Debug)]
pub struct Wire {
    net: Arc<Net>,
    from: NodeId,
    nodes: Vec<NodeId>,
}

impl Transport for Wire {
    fn send(&self, to: NodeId, frame: Frame) -> BoxFuture<'_, Result<(), Unreachable>> {
        Box::pin(async move {
            self.net.frames.fetch_add(1, Ordering::Relaxed);
            let host = self.net.hosts.read().unwrap().get(&to).and_then(Weak::upgrade);
            let alive = self.net.hosts.read().unwrap().contains_key(&self.from);
            let Some(host) = host.filter(|_| alive) else {
                return Err(Unreachable { node: to, why: "not connected".into() });
            };
            if !self.net.silent.read().unwrap().contains(&(self.from, to)) {
                host.receive(self.from, frame);
            }
            Ok(())
        })
    }

    fn state(&self, peer: NodeId) -> PeerState {
        if self.net.hosts.read().unwrap().contains_key(&peer) {
            PeerState::Up
        } else if self.net.refused.read().unwrap().contains(&peer) {
            PeerState::Refused
        } else {
            PeerState::Down
        }
    }

    fn peers(&self) -> Vec<NodeId> {
        self.nodes.iter().copied().filter(|node| *node != self.from).collect()
    }
}

/// Counts what it is told.
#[derive(Debug, Default)]
pub struct Witness {
    pub applied: AtomicU64,
    pub installed: AtomicU64,
    pub broken: Mutex<Vec<(ShardId, String)>>,
    pub fatal: Mutex<Vec<String>>,
    pub reverted: Mutex<Vec<NodeId>>,
    /// Every leader that was heard of, by shard and term.
    pub leaders: Mutex<BTreeSet<(ShardId, Term, NodeId)>>,
}

impl Observer for Witness {
    fn applied(&self, _: ShardId, batch: &[AppliedEntry<'_>]) {
        self.applied.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
    fn leadership(&self, shard: ShardId, now: &Leadership) {
        if let Some((leader, term)) = now.known() {
            self.leaders.lock().unwrap().insert((shard, term, leader));
        }
    }
    fn installed(&self, _: ShardId) {
        self.installed.fetch_add(1, Ordering::Relaxed);
    }
    fn broken(&self, shard: ShardId, why: &str) {
        self.broken.lock().unwrap().push((shard, why.to_owned()));
    }
    fn reverted(&self, _: ShardId, peer: NodeId, _: &str) {
        self.reverted.lock().unwrap().push(peer);
    }
    fn fatal(&self, _: ShardId, why: &str) {
        self.fatal.lock().unwrap().push(why.to_owned());
    }
}

pub struct Node {
    pub id: NodeId,
    pub host: Arc<Host>,
    pub witness: Arc<Witness>,
    runtime: Option<Runtime>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub struct Cluster {
    pub net: Arc<Net>,
    pub config: Config,
    pub stores: BTreeMap<NodeId, Arc<dyn Store>>,
    pub nodes: BTreeMap<NodeId, Node>,
    ids: Vec<NodeId>,
}

pub fn identity(node: NodeId) -> Identity {
    Identity {
        cluster: ClusterId(uuid::Uuid::from_u128(1)),
        node,
        format: Identity::FORMAT,
        store: StoreId(uuid::Uuid::from_u128(u128::from(node.0) + 100)),
    }
}

/// Fast, for machines that are not too busy.
pub fn config() -> Config {
    Config {
        heartbeat_ms: 100,
        election_min_ms: 400,
        election_max_ms: 700,
        rest_after_ms: 0,
        liveness_ms: 100,
        liveness_timeout_ms: 500,
        ..Config::default()
    }
}

impl Cluster {
    /// `count` nodes with stores in memory, running.
    pub async fn start(count: u32, config: Config) -> Self {
        let stores = (1..=count)
            .map(|id| (NodeId(id), Arc::new(MemoryStore::new(identity(NodeId(id)))) as Arc<dyn Store>))
            .collect();
        Self::start_with(config, stores, 1).await
    }

    pub async fn start_with(
        config: Config,
        stores: BTreeMap<NodeId, Arc<dyn Store>>,
        threads: usize,
    ) -> Self {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        let ids: Vec<NodeId> = stores.keys().copied().collect();
        let mut cluster =
            Self { net: Arc::default(), config, stores, nodes: BTreeMap::new(), ids: ids.clone() };
        for id in ids {
            cluster.revive_with(id, threads).await;
        }
        cluster
    }

    pub async fn revive(&mut self, id: NodeId) {
        self.revive_with(id, 1).await;
    }

    pub async fn revive_with(&mut self, id: NodeId, threads: usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let witness = Arc::new(Witness::default());
        let wire = Wire { net: self.net.clone(), from: id, nodes: self.ids.clone() };
        let (config, store, observer) = (self.config.clone(), self.stores[&id].clone(), witness.clone());
        let host = runtime
            .spawn(async move {
                let clock = Arc::new(SystemClock::new());
                let random = Arc::new(Seeded::from_entropy());
                Host::start(config, id, store, Arc::new(wire), observer, clock, random).await
            })
            .await
            .expect("started")
            .expect("started");
        self.net.refused.write().unwrap().remove(&id);
        self.net.hosts.write().unwrap().insert(id, Arc::downgrade(&host));
        self.nodes.insert(id, Node { id, host, witness, runtime: Some(runtime) });
        self.tell_others(id, PeerState::Up);
        for other in self.nodes.keys().filter(|other| **other != id) {
            self.nodes[&id].host.peer_changed(*other, PeerState::Up);
        }
    }

    fn tell_others(&self, id: NodeId, state: PeerState) {
        for node in self.nodes.values().filter(|node| node.id != id) {
            node.host.peer_changed(id, state);
        }
    }

    /// The machine is gone: connections are lost, and nobody says what became of the process. What its store
    /// had synced stays.
    pub fn kill(&mut self, id: NodeId) {
        self.stop(id);
        self.tell_others(id, PeerState::Down);
    }

    /// The process is gone, its sockets are closed, new connections are refused.
    pub fn crash(&mut self, id: NodeId) {
        self.net.refused.write().unwrap().insert(id);
        self.stop(id);
        self.tell_others(id, PeerState::Down);
        self.tell_others(id, PeerState::Refused);
    }

    fn stop(&mut self, id: NodeId) {
        self.net.hosts.write().unwrap().remove(&id);
        let mut node = self.nodes.remove(&id).expect("it runs");
        node.runtime.take().expect("it runs").shutdown_background();
    }

    /// Frames between `id` and everybody else vanish.
    pub fn isolate(&self, id: NodeId) {
        for other in self.ids.iter().filter(|other| **other != id) {
            self.net.silent.write().unwrap().extend([(id, *other), (*other, id)]);
        }
    }

    /// Frames between these two vanish.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.net.silent.write().unwrap().extend([(a, b), (b, a)]);
    }

    pub fn heal(&self) {
        self.net.silent.write().unwrap().clear();
    }

    pub fn host(&self, id: NodeId) -> &Arc<Host> {
        &self.nodes[&id].host
    }

    pub fn shard(&self, id: NodeId, shard: ShardId) -> Arc<Shard> {
        self.host(id).shard(shard).expect("it is hosted")
    }

    /// Starts a partition on every running node, the first of `voters` in front.
    pub async fn start_shard(&self, shard: ShardId, voters: &[u32]) {
        let voters: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
        for node in self.nodes.values().filter(|node| voters.contains(&node.id)) {
            node.host.start_shard(shard, Kind::Partition, Some(voters.clone())).await.expect("it starts");
        }
    }

    /// The node that can serve as the leader, once there is one.
    pub async fn leader(&self, shard: ShardId) -> NodeId {
        eventually("a leader", || {
            let mut best = None;
            for node in self.nodes.values() {
                let Some(leadership) = node.host.shard(shard).map(|shard| shard.leadership()) else {
                    continue;
                };
                if leadership.is_leader && best.is_none_or(|(term, _)| term < leadership.term) {
                    best = Some((leadership.term, node.id));
                }
            }
            best.map(|(_, id)| id)
        })
        .await
    }

    /// Appends, wherever the leader is, trying again while that is safe.
    pub async fn append(&self, shard: ShardId, body: &[u8]) -> Outcome {
        let start = Instant::now();
        loop {
            let leader = self.leader(shard).await;
            match self.shard(leader, shard).propose(command(body), Bytes::copy_from_slice(body)).await {
                Ok(outcome) => return outcome,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "no append: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all running replicas have applied the same, and have the same state.
    pub async fn converge(&self, shard: ShardId) -> u128 {
        eventually("equal replicas", || {
            let mut states = self.nodes.values().filter_map(|node| node.host.shard(shard)).map(|shard| {
                (shard.progress().applied, shard.read(|machine| (machine.applied(), machine.hash())))
            });
            let first = states.next()?;
            (first.0 == first.1.0 && states.all(|state| state == first)).then_some(first.1.1)
        })
        .await
    }
}

/// Waits for a condition.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "waited 10 s for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An append of one batch whose seal is right.
pub fn command(body: &[u8]) -> Command {
    let batch = BatchHeader {
        record_count: 1,
        base_timestamp: 0,
        producer: None,
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0,
    };
    Command::Append(Append {
        append_time: 1,
        expected_offset: None,
        batch: batch.seal(body),
        body_bytes: body.len() as u32,
        message_ids: Vec::new(),
        dedup_window_ms: None,
    })
}

pub fn offset(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Appended { base_offset, .. } => base_offset.0,
        other => panic!("not appended: {other:?}"),
    }
}

pub fn offset_of(result: Result<Outcome, ProposeError>) -> u64 {
    offset(&result.expect("it is appended"))
}
