//! All shards of this node: start, stop, list; frames in.

use crate::applier::Applier;
use crate::barrier::Barrier;
use crate::config::Config;
use crate::encoding::with_nothing;
use crate::error::Error;
use crate::health::Health;
use crate::inbound::Intake;
use crate::links::Links;
use crate::liveness::Table;
use crate::log_store::{Limits, LogStore};
use crate::metrics::{Cause, Metrics};
use crate::network::{Matched, Network};
use crate::observer::Observer;
use crate::recent::Budget;
use crate::replica::{Parts, Replica};
use crate::shard::Shard;
use crate::status::{KnownLeaders, Leadership};
use crate::succession::{CAMPAIGNS_AT_ONCE, Outrun};
use crate::transport::{Frame, Inbound, PeerState, Transport};
use crate::types::Raft;
use crate::wire::FrameKind;
use flotilla_machine::Kind;
use flotilla_store::{Store, Write};
use flotilla_types::{Clock, NodeId, Random, ShardId};
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

/// All shards of this node.
pub struct Host {
    pub(crate) links: Arc<Links>,
    pub(crate) runtime: Handle,
    pub(crate) intake: Intake,
    pub(crate) table: Mutex<Table>,
    pub(crate) known: watch::Sender<Arc<KnownLeaders>>,
    /// The table has news for the peers.
    pub(crate) news: Notify,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) stopping: AtomicBool,
    /// Permits for campaigns after leaders that are gone.
    pub(crate) campaigns: Semaphore,
    /// The disk has no room for records.
    pub(crate) is_full: AtomicBool,
    raft_config: Arc<openraft::Config>,
    limits: Limits,
    store: Arc<dyn Store>,
    observer: Arc<dyn Observer>,
    shards: RwLock<BTreeMap<ShardId, Arc<Shard>>>,
    /// Starting, stopping and destroying take turns.
    turn: tokio::sync::Mutex<()>,
    me: Weak<Host>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("node", &self.links.node).finish_non_exhaustive()
    }
}

impl Host {
    /// Starts the part that all shards share. Shards are started one by one. Connect the transport's
    /// incoming side to the host afterwards. All its work runs on the runtime of this call, whoever calls
    /// its methods later.
    #[expect(clippy::unused_async, reason = "it takes the runtime it is awaited on")]
    pub async fn start(
        config: Config,
        node: NodeId,
        store: Arc<dyn Store>,
        transport: Arc<dyn Transport>,
        observer: Arc<dyn Observer>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, Error> {
        let raft_config = Arc::new(config.openraft()?);
        let limits = Limits {
            read_max_bytes: config.message_max_bytes,
            cache_shard_bytes: config.cache_shard_bytes,
            budget: Budget::new(config.cache_node_bytes),
        };
        let incarnation = random.bits();
        let links = Links::new(node, config, transport, clock.clone(), random.bits() >> 16);
        let host = Arc::new_cyclic(|me| Self {
            links,
            runtime: Handle::current(),
            intake: Intake::default(),
            table: Mutex::new(Table::new(node, incarnation)),
            known: watch::Sender::new(Arc::default()),
            news: Notify::new(),
            clock,
            random,
            stopping: AtomicBool::new(false),
            campaigns: Semaphore::new(CAMPAIGNS_AT_ONCE),
            is_full: AtomicBool::new(false),
            raft_config,
            limits,
            store,
            observer,
            shards: RwLock::default(),
            turn: tokio::sync::Mutex::new(()),
            me: me.clone(),
        });
        host.start_pulse();
        Ok(host)
    }

    /// Starts a shard from what the store has of it, or returns the one that runs. `voters`, in the order
    /// of placement, initialise a shard that has never run here: the first of them campaigns at once, the
    /// others only if it stays silent. `None` waits to be told by a leader (a learner to be).
    pub async fn start_shard(
        self: &Arc<Self>,
        shard: ShardId,
        kind: Kind,
        voters: Option<Vec<NodeId>>,
    ) -> Result<Arc<Shard>, Error> {
        let host = self.clone();
        let started = self.runtime.spawn(async move {
            let _turn = host.turn.lock().await;
            match host.shard(shard) {
                Some(running) => Ok(running),
                None => host.launch(shard, kind, voters).await,
            }
        });
        started.await.unwrap_or(Err(Error::Stopped { shard }))
    }

    async fn launch(
        self: &Arc<Self>,
        id: ShardId,
        kind: Kind,
        voters: Option<Vec<NodeId>>,
    ) -> Result<Arc<Shard>, Error> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Error::Stopped { shard: id });
        }
        let broken = |why: String| {
            self.observer.broken(id, &why);
            Error::Broken { shard: id, why }
        };
        let health = Arc::new(Health::default());
        let log = LogStore::open(id, self.store.clone(), health.clone(), &self.limits).map_err(broken)?;
        let is_pristine = log.last().is_none() && log.vote().is_none();
        let parts =
            Parts { store: self.store.clone(), observer: self.observer.clone(), clock: self.clock.clone() };
        let replica = Arc::new(Replica::load(id, kind, parts, health, log.clone()).map_err(broken)?);
        let network = Network {
            links: self.links.clone(),
            shard: id,
            observer: self.observer.clone(),
            matched: Arc::new(Matched::default()),
        };
        let node = u64::from(self.links.node.0);
        let applier = Applier::new(replica.clone());
        let raft = Raft::new(node, self.raft_config.clone(), network, log.clone(), applier)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let shard = Arc::new_cyclic(|me| Shard {
            replica,
            raft,
            log,
            links: self.links.clone(),
            leadership: watch::Sender::new(Leadership::default()),
            gate: Mutex::default(),
            barrier: Barrier::default(),
            outrun: Outrun::default(),
            cause: Mutex::default(),
            resting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            runtime: self.runtime.clone(),
            me: me.clone(),
        });
        self.shards.write().insert(id, shard.clone());
        self.links.metrics.shards.inc();
        self.watch(shard.clone());
        if is_pristine && let Some(voters) = voters.filter(|voters| voters.contains(&self.links.node)) {
            self.initialise(&shard, &voters);
        }
        Ok(shard)
    }

    /// Tells a shard that has never run who votes. All say the same, so it does not matter who is first.
    fn initialise(self: &Arc<Self>, shard: &Arc<Shard>, voters: &[NodeId]) {
        let config = &self.links.config;
        let delay = if voters.first() == Some(&self.links.node) {
            Duration::ZERO
        } else {
            let spread = config.election_max_ms - config.election_min_ms;
            Duration::from_millis(config.election_max_ms + self.random.below(spread.max(1)))
        };
        let voters = with_nothing(voters.iter().map(|node| u64::from(node.0)));
        let shard = shard.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            // Fails where the shard heard from another replica meanwhile, which is as good.
            if shard.log.last().is_none() && !shard.is_stopped() {
                shard.note_cause(Cause::First);
                if let Err(error) = shard.raft.initialize(voters).await {
                    tracing::debug!(shard = %shard.id(), %error, "not initialised here");
                }
            }
        });
    }

    /// Stops a shard here; its rows stay.
    pub async fn stop_shard(&self, shard: ShardId) {
        let Some(host) = self.me.upgrade() else { return };
        let stopped = self.runtime.spawn(async move {
            let _turn = host.turn.lock().await;
            host.halt(shard).await;
        });
        let _ = stopped.await;
    }

    async fn halt(&self, id: ShardId) {
        let removed = self.shards.write().remove(&id);
        if let Some(shard) = removed {
            self.forget(|_, shard| shard == id);
            self.links.metrics.shards.dec();
            shard.stop().await;
        }
    }

    /// Stops a shard here and removes all its rows.
    pub async fn destroy_shard(&self, shard: ShardId) -> Result<(), Error> {
        let Some(host) = self.me.upgrade() else { return Err(Error::Stopped { shard }) };
        let destroyed = self.runtime.spawn(async move {
            let _turn = host.turn.lock().await;
            host.halt(shard).await;
            let (done, wait) = oneshot::channel();
            host.store.submit(
                Write::Destroy { shard },
                Box::new(move |result| {
                    let _ = done.send(result);
                }),
            );
            match wait.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Error::Refused { shard, why: error.to_string() }),
                Err(_) => Err(Error::Stopped { shard }),
            }
        });
        destroyed.await.unwrap_or(Err(Error::Stopped { shard }))
    }

    /// A shard of this node.
    pub fn shard(&self, shard: ShardId) -> Option<Arc<Shard>> {
        self.shards.read().get(&shard).cloned()
    }

    /// All shards of this node, by id.
    pub fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.read().values().cloned().collect()
    }

    /// Who leads which shard, for all shards of the cluster, as the leaders told. May be late, never
    /// wrong about a term.
    pub fn known_leaders(&self) -> watch::Receiver<Arc<KnownLeaders>> {
        self.known.subscribe()
    }

    /// Whether a peer was heard of lately.
    pub fn is_alive(&self, peer: NodeId) -> bool {
        peer == self.links.node || self.table.lock().is_alive(peer)
    }

    /// Whether the disk has no room for records. While it has none, this node as a follower refuses entries
    /// of partitions that carry a batch, and their leaders go on without it, as without a slow one. Votes,
    /// shards that carry no records, entries without a batch (trims among them) and snapshots, which take
    /// the place of more than they bring, are taken as ever. What this node leads is its caller's business.
    pub fn set_full(&self, is_full: bool) {
        if self.is_full.swap(is_full, Ordering::AcqRel) != is_full {
            self.links.metrics.full.set(i64::from(is_full));
            tracing::warn!(is_full, "whether the disk has room for records has changed");
        }
    }

    /// What is counted here.
    pub fn metrics(&self) -> Metrics {
        self.links.metrics.cache_bytes.set(self.limits.budget.used() as i64);
        self.links.metrics.clone()
    }

    /// Hands over leadership where it can, within [`Config::handover_timeout_ms`], then stops every shard.
    pub async fn shutdown(&self) {
        let Some(host) = self.me.upgrade() else { return };
        let stopped = self.runtime.spawn(async move {
            let _turn = host.turn.lock().await;
            if host.stopping.swap(true, Ordering::AcqRel) {
                return;
            }
            let wait = host.links.config.handover_timeout();
            let led: Vec<_> = host.shards().into_iter().filter(|shard| shard.leads()).collect();
            let handed = join_all(led.iter().map(|shard| shard.hand_over(wait))).await;
            let count = handed.iter().filter(|handed| **handed).count();
            tracing::info!(led = led.len(), handed_over = count, "leadership is handed over");
            let shards = std::mem::take(&mut *host.shards.write());
            join_all(shards.values().map(|shard| shard.stop())).await;
            host.links.metrics.shards.set(0);
            // Lets the pulse end.
            host.news.notify_one();
        });
        let _ = stopped.await;
    }

    pub(crate) fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }
}

impl Inbound for Host {
    fn receive(&self, from: NodeId, frame: Frame) {
        let Some(host) = self.me.upgrade() else { return };
        match FrameKind::from_number(frame.kind) {
            None => {
                self.links.metrics.frames_malformed.inc();
            }
            Some(FrameKind::Answer) => self.links.answered(from, &frame),
            Some(FrameKind::Liveness) => host.hear(from, &frame),
            Some(FrameKind::Rest) => host.rest_asked(from, &frame),
            Some(FrameKind::Wake) => host.wake_asked(from, &frame),
            Some(kind) => host.dispatch(from, kind, frame),
        }
    }

    fn peer_changed(&self, peer: NodeId, state: PeerState) {
        let Some(host) = self.me.upgrade() else { return };
        match state {
            PeerState::Up => host.peer_up(peer),
            PeerState::Down => host.peer_down(peer),
            PeerState::Refused => {
                host.peer_down(peer);
                host.peer_gone(peer);
            }
        }
    }
}
