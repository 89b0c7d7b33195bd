//! Runs where the controller leads: sets up the cluster, balances leaders. It proposes and asks, never more.

mod balance;
pub(crate) mod placement;

use crate::broker::Broker;
use crate::disk::DiskState;
use crate::forward::Call;
use balance::{Led, NodeView};
use flotilla_machine::controller::Command;
use flotilla_types::{Monotonic, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Until the cluster is set up, the planner looks this often.
const SETUP_INTERVAL: Duration = Duration::from_millis(50);

impl Broker {
    pub(crate) async fn keep_planning(self: Arc<Self>) {
        let mut online_since: BTreeMap<NodeId, Monotonic> = BTreeMap::new();
        loop {
            let leads = self.leads_controller();
            let set_up = self.routes().cluster.is_some();
            if leads.is_none() {
                online_since.clear();
            } else if set_up {
                self.plan_once(&mut online_since).await;
            } else {
                self.set_up().await;
            }
            let pause =
                if self.routes().cluster.is_some() { self.config.plan_interval } else { SETUP_INTERVAL };
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
        let off = routes
            .partitions()
            .any(|(_, _, p)| p.leader.is_some_and(|(node, _)| Some(&node) != p.replicas.first()));
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
        let placed: BTreeMap<u32, _> = routes.partitions().map(|(_, _, p)| (p.shard.get(), p)).collect();
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
