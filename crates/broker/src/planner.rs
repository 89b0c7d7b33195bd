//! Runs where the controller leads: sets up the cluster, balances leaders. It proposes and asks, never more.

mod balance;
pub(crate) mod placement;

use crate::broker::Broker;
use crate::disk::DiskState;
use crate::forward::Call;
use balance::{Led, NodeView};
use flotilla_machine::controller::Command;
use flotilla_types::{Monotonic, NodeId};
use placement::Candidate;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Replicas of a coordinator, or all nodes if they are fewer.
const COORDINATOR_REPLICAS: u32 = 3;
/// Until the cluster is set up, the planner looks this often.
const SETUP_INTERVAL: Duration = Duration::from_millis(50);

impl Broker {
    pub(crate) async fn keep_planning(self: Arc<Self>) {
        let mut online_since: BTreeMap<NodeId, Monotonic> = BTreeMap::new();
        loop {
            let leads = self.leads_controller();
            let routes = self.routes();
            if leads.is_none() {
                online_since.clear();
            } else if routes.cluster.is_none() {
                self.set_up().await;
            } else {
                if routes.coordinators.is_empty() {
                    self.place_coordinators().await;
                }
                self.plan_once(&mut online_since).await;
            }
            let routes = self.routes();
            let set_up = routes.cluster.is_some() && !routes.coordinators.is_empty();
            let pause = if set_up { self.config.plan_interval } else { SETUP_INTERVAL };
            tokio::time::sleep(pause).await;
        }
    }

    /// The first command of a cluster. Every initial node may propose it: the first one counts.
    async fn set_up(&self) {
        let command = Command::Bootstrap { cluster: self.info.cluster, nodes: self.info.initial.clone() };
        match self.command(command).await {
            Ok(_) => tracing::info!(cluster = %self.info.cluster, "cluster is set up"),
            Err(error) => tracing::warn!(%error, "cluster is not set up yet"),
        }
    }

    /// Once per cluster. Placed over all nodes, reachable or not: they were all named to be part of it.
    async fn place_coordinators(&self) {
        let candidates = self
            .routes()
            .nodes
            .iter()
            .map(|(id, node)| Candidate { node: *id, rack: node.rack.clone(), replicas: 0, leaders: 0 })
            .collect::<Vec<_>>();
        let replication = COORDINATOR_REPLICAS.min(candidates.len() as u32);
        let count = self.config.groups.coordinators;
        let Some(placement) = placement::place(&candidates, count, replication) else { return };
        match self.command(Command::PlaceCoordinators { placement, now: self.clock.wall() }).await {
            Ok(_) => tracing::info!(count, replication, "coordinators are placed"),
            Err(error) => tracing::warn!(%error, "coordinators are not placed yet"),
        }
    }

    async fn plan_once(&self, online_since: &mut BTreeMap<NodeId, Monotonic>) {
        let now = self.clock.monotonic();
        let routes = self.routes();
        for (id, node) in routes.nodes.iter() {
            if node.online {
                online_since.entry(*id).or_insert_with(|| {
                    tracing::info!(node = %id, "node is reachable");
                    now
                });
            } else if online_since.remove(id).is_some() {
                tracing::warn!(node = %id, "node cannot be reached");
            }
        }
        if self.config.balance_moves > 0 {
            self.balance(now, online_since).await;
        }
    }

    /// Moves leaders toward the replicas that are preferred, a few at a time.
    async fn balance(&self, now: Monotonic, online_since: &BTreeMap<NodeId, Monotonic>) {
        let routes = self.routes();
        let off =
            routes.placed().any(|p| p.leader.is_some_and(|(node, _)| Some(&node) != p.replicas.first()));
        if !off {
            return;
        }
        let reports = self.gather(online_since.keys().copied(), None).await;
        let views = online_since.iter().map(|(node, since)| {
            let report = reports.get(node);
            let room =
                report.is_some_and(|report| report.disk == DiskState::Room && report.quarantine.is_none());
            (*node, NodeView { settled: now.since(*since) >= self.config.balance_delay, room })
        });
        let views: BTreeMap<NodeId, NodeView> = views.collect();
        let placed: BTreeMap<u32, _> = routes.placed().map(|p| (p.shard.get(), p)).collect();
        let led =
            reports.values().flat_map(|report| report.led.iter().map(move |state| (report.node, state)));
        let led: Vec<Led> = led
            .filter_map(|(leader, state)| {
                let wanted = placed.get(&state.shard)?.replicas.clone();
                let caught_up = state.replicas.iter().filter(|r| r.lag_entries <= balance::CAUGHT_UP);
                Some(Led {
                    shard: state.shard,
                    leader: NodeId(leader),
                    wanted,
                    caught_up: caught_up.map(|replica| NodeId(replica.node)).collect(),
                })
            })
            .collect();
        for (shard, from, to) in balance::moves(&led, &views, self.config.balance_moves as usize) {
            let call = Call::Transfer { shard, to: Some(to.get()) };
            match self.ask(from, call).await {
                Ok(_) => {
                    self.metrics.leaders_moved.inc();
                    tracing::info!(shard, %from, %to, "leader moved for balance");
                }
                Err(error) => tracing::warn!(shard, %from, %to, %error, "leader not moved"),
            }
        }
    }
}
