//! One node's broker: owns the parts, starts and stops them in an order that can be read here.

use crate::admission::Admission;
use crate::config::Config;
use crate::disk::Disk;
use crate::forward::Forward;
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::observer::BrokerObserver;
use crate::pool::Pool;
use crate::reports::LagClock;
use crate::routes::{Node, Routes};
use arc_swap::ArcSwap;
use flotilla_machine::Kind;
use flotilla_machine::controller::NodeSpec;
use flotilla_raft::{Host, PeerState, Shard, Transport};
use flotilla_store::Store;
use flotilla_types::{Clock, ClusterId, NodeId, ProducerId, Random, ShardId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Who this node is and what it was told of the cluster.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// This node.
    pub id: NodeId,
    /// The cluster it was configured for.
    pub cluster: ClusterId,
    /// Every node of the initial list, this one included, the same on all of them. They vote in the
    /// controller.
    pub initial: Vec<NodeSpec>,
    /// This node as it is reached now.
    pub own: NodeSpec,
}

/// What a broker is made of.
pub struct Parts {
    /// Who this node is.
    pub info: NodeInfo,
    /// Shards and store; `Err` says why the store must not be used.
    pub serving: Result<Serving, String>,
    /// The one that was given to the host.
    pub observer: Arc<BrokerObserver>,
    /// Whether peers are reachable.
    pub transport: Arc<dyn Transport>,
    /// Control calls to other nodes.
    pub forward: Arc<dyn Forward>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Blocking work in place, for simulations. A server says `false`.
    pub work_in_place: bool,
}

/// What a node needs to serve data.
#[derive(Clone, Debug)]
pub struct Serving {
    /// All shards of this node.
    pub host: Arc<Host>,
    /// Their store.
    pub store: Arc<dyn Store>,
}

/// One node's broker.
pub struct Broker {
    pub(crate) config: Config,
    pub(crate) info: NodeInfo,
    pub(crate) observer: Arc<BrokerObserver>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) forward: Arc<dyn Forward>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Admission,
    pub(crate) pool: Pool,
    pub(crate) disk: Disk,
    pub(crate) groups: Arc<Groups>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) runtime: Handle,
    /// Wakes `reconcile` before its time.
    pub(crate) intent_changed: Notify,
    /// Shards on disk that no topic claims.
    pub(crate) orphans: Mutex<Vec<ShardId>>,
    /// Shards whose bytes on this disk are wrong, and how it showed.
    pub(crate) suspects: Mutex<BTreeMap<ShardId, String>>,
    pub(crate) lags: LagClock,
    /// Producer ids from the controller that were not given out yet.
    pub(crate) producer_ids: tokio::sync::Mutex<(ProducerId, u32)>,
    serving: Result<Serving, String>,
    /// The table, for those who only look.
    routes: ArcSwap<Routes>,
    /// The table, for those who wait for another.
    published: watch::Sender<Arc<Routes>>,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("node", &self.info.id).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts everything, in order: the controller's shard and those of intent as the store knows it, then
    /// the routes, then the tasks that keep both true. A quarantined node only gets its tables.
    pub async fn start(config: Config, parts: Parts) -> Result<Arc<Self>, flotilla_raft::Error> {
        let broker = Arc::new(Self::new(config, parts));
        if let Ok(serving) = broker.serving.clone() {
            broker.observer.attach(&serving.host, &broker.clock);
            let voters = broker.info.initial.iter().map(|node| node.id).collect();
            serving.host.start_shard(ShardId::CONTROLLER, Kind::Controller, Some(voters)).await?;
            broker.look_at_disk().await;
            broker.rebuild_routes();
            broker.reconcile_once().await;
            broker.rebuild_routes();
            let mut tasks = broker.tasks.lock();
            let on = &broker.runtime;
            tasks.spawn_on(broker.clone().keep_routes(), on);
            tasks.spawn_on(broker.clone().keep_reconciled(), on);
            tasks.spawn_on(broker.clone().keep_planning(), on);
            tasks.spawn_on(broker.clone().keep_retention(), on);
            tasks.spawn_on(broker.clone().keep_watching_disk(), on);
            tasks.spawn_on(broker.clone().keep_groups(), on);
            tasks.spawn_on(broker.clone().keep_coordinators_informed(), on);
            tasks.spawn_on(broker.clone().keep_group_house(), on);
        } else {
            broker.publish_initial_routes();
        }
        Ok(broker)
    }

    /// Stops everything, in the reverse order of need: takes nothing new, lets answers in flight come (for
    /// a while), stops deciding about the cluster, hands leadership over, stops the shards. The store is
    /// the caller's to close.
    pub async fn shutdown(&self) {
        tracing::info!(node = %self.info.id, "draining");
        self.draining.send_replace(true);
        self.drain().await;
        self.tasks.lock().abort_all();
        if let Ok(serving) = &self.serving {
            serving.host.shutdown().await;
        }
        tracing::info!(node = %self.info.id, "stopped");
    }

    fn new(config: Config, parts: Parts) -> Self {
        let metrics = parts.observer.metrics.clone();
        let pool = if parts.work_in_place {
            Pool::in_place(metrics.clone())
        } else {
            Pool::threads(config.pool_threads as usize, config.pool_queue as usize, metrics.clone())
        };
        Self {
            admission: Admission::new(&config, metrics.clone()),
            disk: Disk::new(config.disk.clone(), metrics.clone()),
            lags: LagClock::default(),
            groups: parts.observer.groups.clone(),
            config,
            info: parts.info,
            observer: parts.observer,
            transport: parts.transport,
            forward: parts.forward,
            clock: parts.clock,
            random: parts.random,
            metrics,
            pool,
            draining: watch::Sender::new(false),
            runtime: Handle::current(),
            intent_changed: Notify::new(),
            orphans: Mutex::default(),
            suspects: Mutex::default(),
            producer_ids: tokio::sync::Mutex::new((ProducerId(0), 0)),
            serving: parts.serving,
            routes: ArcSwap::default(),
            published: watch::Sender::new(Arc::default()),
            tasks: Mutex::default(),
        }
    }

    /// Waits until no produce is in flight, within the limit.
    async fn drain(&self) {
        let begun = self.clock.monotonic();
        while self.admission.in_flight() > 0 {
            if self.clock.monotonic().since(begun) > self.config.drain_timeout {
                tracing::warn!(bytes = self.admission.in_flight(), "answers still in flight after draining");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// What it serves with, or why it does not.
    pub(crate) fn serving(&self) -> Result<&Serving, String> {
        self.serving.as_ref().map_err(Clone::clone)
    }

    /// A shard of this node.
    pub(crate) fn shard(&self, shard: ShardId) -> Option<Arc<Shard>> {
        self.serving.as_ref().ok()?.host.shard(shard)
    }

    /// Whether this node may serve for the controller.
    pub(crate) fn leads_controller(&self) -> Option<Arc<Shard>> {
        self.shard(ShardId::CONTROLLER).filter(|shard| shard.leadership().is_leader)
    }

    /// The current table.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// The current table and every later one. A slow watcher sees only the latest; compare with
    /// [`Routes::changes_since`].
    pub fn watch_routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.published.subscribe()
    }

    pub(crate) fn publish(&self, routes: Arc<Routes>) {
        self.routes.store(routes.clone());
        self.published.send_replace(routes);
    }

    /// Which node this is.
    pub fn node(&self) -> NodeId {
        self.info.id
    }

    /// Its metrics, to be registered.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether it goes away.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Why it serves no data, if it is quarantined.
    pub fn quarantined(&self) -> Option<&str> {
        self.serving.as_ref().err().map(String::as_str)
    }

    /// Whether clients may be sent here: not draining, not quarantined, and the controller is known.
    pub fn is_ready(&self) -> bool {
        let routes = self.routes.load();
        !self.is_draining() && self.serving.is_ok() && routes.cluster.is_some() && routes.controller.is_some()
    }

    /// Whether a node can be reached from here.
    pub(crate) fn is_online(&self, node: NodeId) -> bool {
        node == self.info.id || self.transport.state(node) == PeerState::Up
    }

    fn publish_initial_routes(&self) {
        let nodes: BTreeMap<_, _> =
            self.info.initial.iter().map(|spec| (spec.id, self.node_of(spec))).collect();
        let routes = Routes { cluster: Some(self.info.cluster), nodes: Arc::new(nodes), ..Routes::default() };
        self.publish(Arc::new(routes));
    }

    pub(crate) fn node_of(&self, spec: &NodeSpec) -> Node {
        Node {
            client: spec.client.clone(),
            peer: spec.peer.clone(),
            rack: spec.rack.clone().unwrap_or_default(),
            online: self.is_online(spec.id),
        }
    }
}
