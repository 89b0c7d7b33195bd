//! Every node makes its shards match intent, again and again, so that a missed notice costs time only.
//!
//! What intent names is started. What it once named and no longer does is removed. What it never heard of
//! is reported and left alone: a controller that forgot must not take the data with it.

use crate::broker::Broker;
use crate::forward::Call;
use crate::reports::NodeReport;
use flotilla_machine::controller::{Controller, ShardFate};
use flotilla_machine::partitions::Settings;
use flotilla_machine::{Command, Kind};
use flotilla_raft::{Host, Leadership, Shard};
use flotilla_types::{NodeId, ShardId};
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Shards started at once.
const STARTS_AT_ONCE: usize = 16;
/// Longest time for one change of who takes part in a shard, per round.
const CHANGE_WAIT: Duration = Duration::from_secs(5);

/// What intent wants of this node for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// All of the partition's nodes, the preferred leader first.
    replicas: Vec<NodeId>,
    /// Nothing was moved since the partition was made: these are its first voters.
    initial: bool,
}

impl Broker {
    pub(crate) async fn keep_reconciled(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.intent_changed.notified() => {}
                () = tokio::time::sleep(self.config.reconcile_interval) => {}
            }
            self.reconcile_once().await;
        }
    }

    pub(crate) async fn reconcile_once(self: &Arc<Self>) {
        let Ok(serving) = self.serving().cloned() else { return };
        let Some(controller) = serving.host.shard(ShardId::CONTROLLER) else { return };
        let own = self.info.id;
        let known =
            controller.read(|s| s.controller().filter(|c| c.cluster_id().is_some()).map(|c| wanted(c, own)));
        let Some(wanted) = known else { return };
        self.start_missing(&serving.host, &wanted).await;
        self.remove_unwanted(&serving.host, &controller, &wanted).await;
        self.adjust_led(&serving.host, &wanted).await;
        self.introduce_itself(&controller).await;
        self.metrics.shards.set(serving.host.shards().len() as i64);
    }

    async fn start_missing(&self, host: &Arc<Host>, wanted: &BTreeMap<ShardId, Wanted>) {
        let missing = wanted.iter().filter(|(shard, _)| host.shard(**shard).is_none());
        stream::iter(missing)
            .for_each_concurrent(STARTS_AT_ONCE, |(shard, wanted)| async move {
                let voters = wanted.initial.then(|| wanted.replicas.clone());
                let Some(kind) = Kind::of(*shard) else {
                    return tracing::error!(%shard, "intent names a shard of no kind");
                };
                match host.start_shard(*shard, kind, voters).await {
                    Ok(_) => tracing::debug!(%shard, "shard started"),
                    Err(error) => tracing::error!(%shard, %error, "shard does not start"),
                }
            })
            .await;
    }

    /// Removes shards of deleted topics, and replicas that moved away once their leader says so.
    async fn remove_unwanted(
        &self,
        host: &Arc<Host>,
        controller: &Shard,
        wanted: &BTreeMap<ShardId, Wanted>,
    ) {
        let mut here: BTreeSet<ShardId> = host.shards().iter().map(|shard| shard.id()).collect();
        if let Ok(serving) = self.serving() {
            let store = serving.store.clone();
            match self.pool.run(move || store.shards()).await {
                Ok(Ok(stored)) => here.extend(stored),
                Ok(Err(error)) => tracing::error!(%error, "shards on disk cannot be listed"),
                Err(_) => {}
            }
        }
        let mut orphans = Vec::new();
        for shard in here {
            if wanted.contains_key(&shard) || shard == ShardId::CONTROLLER {
                continue;
            }
            let fate = controller.read(|s| s.controller().map_or(ShardFate::Unknown, |c| c.fate(shard)));
            match fate {
                ShardFate::Deleted => self.remove(host, shard).await,
                ShardFate::Placed if self.has_left(shard).await => self.remove(host, shard).await,
                ShardFate::Placed => {}
                ShardFate::Unknown => orphans.push(shard),
            }
        }
        let mut known = self.orphans.lock();
        if *known != orphans {
            if !orphans.is_empty() {
                tracing::warn!(?orphans, "shards on disk that no topic claims; they are left alone");
            }
            self.metrics.orphan_shards.set(orphans.len() as i64);
            *known = orphans;
        }
    }

    async fn remove(&self, host: &Arc<Host>, shard: ShardId) {
        tracing::info!(%shard, "removing a shard that is not wanted here any more");
        if let Err(error) = host.destroy_shard(shard).await {
            tracing::error!(%shard, %error, "shard cannot be removed");
        }
        self.observer.tail.forget(shard);
        self.admission.forget(shard);
        self.lags.forget(shard);
        self.observer.broken.lock().remove(&shard);
        self.suspects.lock().remove(&shard);
        self.groups.watermarks.forget(shard);
    }

    /// Whether the shard's leader no longer counts this node in.
    async fn has_left(&self, shard: ShardId) -> bool {
        let routes = self.routes();
        let leader = routes.placed().find(|placed| placed.shard == shard).and_then(|placed| placed.leader);
        let Some((leader, _)) = leader.filter(|(node, _)| *node != self.info.id) else { return false };
        let reports = self.gather([leader], Some(&BTreeSet::from([shard]))).await;
        let stays = |report: &NodeReport| {
            let led = report.led.iter().find(|state| state.shard == shard.get());
            led.is_none_or(|state| state.replicas.iter().any(|r| r.node == self.info.id.get()))
        };
        reports.get(&leader).is_some_and(|report| !stays(report))
    }

    /// A leader makes who takes part match intent, one step per round, and sets the partition's limits.
    async fn adjust_led(&self, host: &Arc<Host>, wanted: &BTreeMap<ShardId, Wanted>) {
        let settings = Settings {
            producer_expiry_ms: self.config.producer_expiry.as_millis() as u64,
            producers_max: self.config.producers_max,
            ..Settings::default()
        };
        for (id, wanted) in wanted {
            let Some(shard) = host.shard(*id) else { continue };
            let leadership = shard.leadership();
            if !leadership.is_leader {
                continue;
            }
            let differs = shard.read(|s| s.partition().is_some_and(|p| *p.settings() != settings));
            if differs {
                drop(shard.propose(Command::Configure(settings.clone()), bytes::Bytes::new()));
            }
            let step = next_step(&leadership, &shard, wanted);
            let done = match &step {
                None => continue,
                Some(Step::Add(node)) => tokio::time::timeout(CHANGE_WAIT, shard.add_learner(*node)).await,
                Some(Step::Vote(voters)) => {
                    tokio::time::timeout(CHANGE_WAIT, shard.change_voters(voters.clone())).await
                }
                Some(Step::Remove(node)) => {
                    tokio::time::timeout(CHANGE_WAIT, shard.remove_learner(*node)).await
                }
            };
            match done {
                Ok(Ok(())) => tracing::info!(shard = %id, ?step, "replicas changed"),
                Ok(Err(error)) => tracing::warn!(shard = %id, ?step, %error, "replicas not changed yet"),
                Err(_) => tracing::warn!(shard = %id, ?step, "replicas not changed in time"),
            }
        }
    }

    /// Tells the controller where this node is reached and which store it has, if it says otherwise.
    async fn introduce_itself(&self, controller: &Shard) {
        let Ok(serving) = self.serving() else { return };
        let store = serving.store.identity().store;
        let own = &self.info.own;
        let right = controller.read(|s| {
            s.controller().and_then(|c| c.nodes().get(&own.id)).is_some_and(|node| {
                node.store == Some(store)
                    && node.peer == own.peer
                    && node.client == own.client
                    && node.rack == own.rack
            })
        });
        if right {
            return;
        }
        if let Err(error) = self.ask_controller(Call::register(own, store)).await {
            tracing::warn!(%error, "this node is not registered with the controller yet");
        }
    }
}

/// What the controller wants of a node.
fn wanted(controller: &Controller, node: NodeId) -> BTreeMap<ShardId, Wanted> {
    let coordinators = controller.coordinators().iter().map(|placed| (placed.shard, &placed.replicas));
    let partitions = controller.topics().values().flat_map(|topic| &topic.partitions);
    coordinators
        .chain(partitions.map(|placed| (placed.shard, &placed.replicas)))
        .filter(|(_, replicas)| replicas.iter().any(|replica| replica.node == node))
        .map(|(shard, replicas)| {
            let initial = replicas.iter().all(|replica| replica.made_at == replicas[0].made_at);
            (shard, Wanted { replicas: replicas.iter().map(|replica| replica.node).collect(), initial })
        })
        .collect()
}

/// One change of who takes part.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Add(NodeId),
    Vote(BTreeSet<NodeId>),
    Remove(NodeId),
}

/// First whoever is missing is added; when all have caught up, they vote and the others do not; then who is
/// not wanted goes.
fn next_step(leadership: &Leadership, shard: &Shard, wanted: &Wanted) -> Option<Step> {
    let goal: BTreeSet<NodeId> = wanted.replicas.iter().copied().collect();
    if leadership.voters == goal && leadership.learners.is_empty() {
        return None;
    }
    let there = |node: &NodeId| leadership.voters.contains(node) || leadership.learners.contains(node);
    if let Some(missing) = goal.iter().find(|node| !there(node)) {
        return Some(Step::Add(*missing));
    }
    if leadership.voters != goal {
        let replicas = shard.replicas();
        let caught_up = |node: &NodeId| {
            leadership.voters.contains(node)
                || replicas.iter().any(|r| r.node == *node && r.matched.is_some() && r.lag < CAUGHT_UP)
        };
        return goal.iter().all(caught_up).then_some(Step::Vote(goal));
    }
    leadership.learners.iter().find(|node| !goal.contains(node)).map(|node| Step::Remove(*node))
}

/// A learner that is fewer entries behind may vote.
const CAUGHT_UP: u64 = 256;
