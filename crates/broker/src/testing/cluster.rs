//! Several nodes in one process, each with threads of its own so that it can be killed, over a network that can be
//! cut. Calls that nodes pass on can lose their answers.

use super::{TestClock, config};
use crate::broker::{Broker, NodeInfo, Parts, Serving};
use crate::{BrokerObserver, Config, Forward, ForwardError, Metrics};
use bytes::Bytes;
use flotilla_machine::controller::NodeSpec;
use flotilla_raft::{Frame, Host, Inbound, PeerState, Transport, Unreachable};
use flotilla_store::{Identity, MemoryStore, Store};
use flotilla_types::random::Seeded;
use flotilla_types::time::SystemClock;
use flotilla_types::{ClusterId, GroupId, NodeId};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Who can be reached, and how.
#[derive(Debug, Default)]
struct Net {
    hosts: Mutex<BTreeMap<NodeId, Weak<Host>>>,
    brokers: Mutex<BTreeMap<NodeId, Weak<Broker>>>,
    /// What goes there or comes from there vanishes, and nobody notices.
    silent: Mutex<BTreeSet<NodeId>>,
    /// The next call that is passed on is carried out, and its answer is lost.
    lose_answer: AtomicBool,
}

impl Net {
    fn is_silent(&self, a: NodeId, b: NodeId) -> bool {
        let silent = self.silent.lock();
        silent.contains(&a) || silent.contains(&b)
    }
}

/// One node's way out.
#[derive(Debug)]
struct Wire {
    net: Arc<Net>,
    from: NodeId,
    nodes: Vec<NodeId>,
}

impl Transport for Wire {
    fn send(&self, to: NodeId, frame: Frame) -> BoxFuture<'_, Result<(), Unreachable>> {
        Box::pin(async move {
            let host = self.net.hosts.lock().get(&to).and_then(Weak::upgrade);
            let host = host.ok_or_else(|| Unreachable { node: to, why: "not connected".to_owned() })?;
            if !self.net.is_silent(self.from, to) {
                host.receive(self.from, frame);
            }
            Ok(())
        })
    }

    fn state(&self, peer: NodeId) -> PeerState {
        if self.net.hosts.lock().contains_key(&peer) { PeerState::Up } else { PeerState::Down }
    }

    fn peers(&self) -> Vec<NodeId> {
        self.nodes.iter().copied().filter(|node| *node != self.from).collect()
    }
}

impl Forward for Wire {
    fn call(&self, to: NodeId, request: Bytes) -> BoxFuture<'_, Result<Bytes, ForwardError>> {
        Box::pin(async move {
            let broker = self.net.brokers.lock().get(&to).and_then(Weak::upgrade);
            let unreachable = || ForwardError::Unreachable { node: to, why: "not connected".to_owned() };
            let broker = broker.ok_or_else(unreachable)?;
            if self.net.is_silent(self.from, to) {
                return std::future::pending().await;
            }
            let lost = self.net.lose_answer.swap(false, Ordering::SeqCst);
            let answer = broker.answer_forward(self.from, request).await;
            if lost || !self.net.brokers.lock().contains_key(&to) {
                return Err(ForwardError::NoAnswer { node: to, why: "the connection broke".to_owned() });
            }
            Ok(answer)
        })
    }
}

struct Running {
    broker: Arc<Broker>,
    host: Arc<Host>,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A new cluster, set up.
pub(crate) struct Cluster {
    net: Arc<Net>,
    nodes: BTreeMap<NodeId, Running>,
}

fn raft_config() -> flotilla_raft::Config {
    flotilla_raft::Config {
        heartbeat_ms: 100,
        election_min_ms: 500,
        election_max_ms: 900,
        rest_after_ms: 0,
        liveness_ms: 100,
        liveness_timeout_ms: 700,
        ..flotilla_raft::Config::default()
    }
}

impl Cluster {
    pub async fn start(count: u32, change: impl Fn(&mut Config)) -> Self {
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let mut config = config();
        change(&mut config);
        let mut cluster = Self { net: Arc::default(), nodes: BTreeMap::new() };
        for id in &ids {
            let running = start_node(*id, &ids, config.clone(), cluster.net.clone()).await;
            cluster.net.hosts.lock().insert(*id, Arc::downgrade(&running.host));
            cluster.net.brokers.lock().insert(*id, Arc::downgrade(&running.broker));
            for (other, node) in &cluster.nodes {
                node.host.peer_changed(*id, PeerState::Up);
                running.host.peer_changed(*other, PeerState::Up);
            }
            cluster.nodes.insert(*id, running);
        }
        let well = |broker: &Arc<Broker>| {
            let routes = broker.routes();
            let leads = |c: &crate::routes::PartitionRoute| c.leader.is_some();
            routes.nodes.len() == ids.len()
                && !routes.coordinators.is_empty()
                && routes.coordinators.iter().all(leads)
        };
        cluster.until("coordinators with leaders", |cluster| cluster.brokers().all(well)).await;
        cluster
    }

    fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.nodes.values().map(|node| &node.broker)
    }

    pub fn broker(&self, id: NodeId) -> &Arc<Broker> {
        &self.nodes[&id].broker
    }

    /// The node that coordinates a group, as it says itself.
    pub async fn coordinator(&self, group: &GroupId) -> NodeId {
        self.until("a coordinator", |cluster| cluster.coordinator_now(group).is_some()).await;
        self.coordinator_now(group).expect("it was there a moment ago")
    }

    fn coordinator_now(&self, group: &GroupId) -> Option<NodeId> {
        let live = self.nodes.iter().filter(|(id, _)| !self.net.silent.lock().contains(id));
        let mut live = live.filter(|(_, node)| node.broker.coordinator(group).is_ok());
        live.next().map(|(id, _)| *id)
    }

    /// A running node that does not coordinate the group.
    pub async fn another(&self, group: &GroupId) -> NodeId {
        let coordinator = self.coordinator(group).await;
        *self.nodes.keys().find(|id| **id != coordinator).expect("there are several")
    }

    /// Its process is gone, and so are its connections.
    pub fn kill(&mut self, id: NodeId) {
        self.net.hosts.lock().remove(&id);
        self.net.brokers.lock().remove(&id);
        drop(self.nodes.remove(&id));
        self.nodes.values().for_each(|node| node.host.peer_changed(id, PeerState::Down));
    }

    /// It stands still, for all that others see.
    pub fn silence(&self, id: NodeId) {
        self.net.silent.lock().insert(id);
    }

    /// The next call that is passed on is carried out, and its answer is lost.
    pub fn lose_next_answer(&self) {
        self.net.lose_answer.store(true, Ordering::SeqCst);
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let reached = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(reached.is_ok(), "waited 30 s for {what}");
    }
}

async fn start_node(id: NodeId, ids: &[NodeId], config: Config, net: Arc<Net>) -> Running {
    let cluster = ClusterId(uuid::Uuid::from_u128(7));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Identity::new(cluster, id)));
    let wire = Arc::new(Wire { net, from: id, nodes: ids.to_vec() });
    let spec = |id: &NodeId| NodeSpec {
        id: *id,
        peer: format!("127.0.0.1:{}", 7500 + id.get()),
        client: format!("127.0.0.1:{}", 7400 + id.get()),
        rack: None,
    };
    let info = NodeInfo { id, cluster, initial: ids.iter().map(spec).collect(), own: spec(&id) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let started = runtime.spawn(async move {
        let clock = Arc::new(TestClock { real: SystemClock::new(), ahead_ms: AtomicI64::new(0) });
        let random = Arc::new(Seeded::new(u64::from(id.get())));
        let fatal = Box::new(|why: &str| panic!("fatal: {why}"));
        let observer = BrokerObserver::new(&config, Metrics::default(), fatal);
        let (transport, ear) = (wire.clone(), observer.clone());
        let host =
            Host::start(raft_config(), id, store.clone(), transport, ear, clock.clone(), random.clone());
        let host = host.await.unwrap();
        let parts = Parts {
            info,
            serving: Ok(Serving { host: host.clone(), store }),
            observer,
            transport: wire.clone(),
            forward: wire,
            clock,
            random,
            work_in_place: false,
        };
        (Broker::start(config, parts).await.unwrap(), host)
    });
    let (broker, host) = started.await.expect("it starts");
    Running { broker, host, runtime: Some(runtime) }
}
