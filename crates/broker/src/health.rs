//! Whether the cluster is well, check by check, as this node sees it.

use crate::broker::Broker;
use crate::context::Context;
use crate::disk::DiskState;
use crate::partitions::PartitionState;
use crate::reports::NodeReport;
use crate::routes::PartitionRoute;
use flotilla_types::bytesize::ByteSize;
use flotilla_types::{NodeId, PartitionId, ShardId, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// How well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Status {
    /// All is as it should be.
    Healthy,
    /// Serves, with less redundancy or more slowly.
    Degraded,
    /// Something cannot be written or read.
    Unhealthy,
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// `nodes`, `controller`, `coordinators`, `leaders`, `under_replicated`, `disk`, `fsync_latency`, `raft_backlog`,
    /// `broken_shards`, `orphans`, `quarantine`.
    pub name: &'static str,
    /// How well.
    pub status: Status,
    /// One line for people.
    pub detail: String,
    /// Which partitions, at most [`Check::PARTITIONS_MAX`].
    pub partitions: Vec<(TopicName, PartitionId)>,
}

impl Check {
    /// More are counted in the detail only.
    pub const PARTITIONS_MAX: usize = 100;
}

/// All checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The worst of them.
    pub status: Status,
    /// In the order they should be read.
    pub checks: Vec<Check>,
}

impl Health {
    /// The worst check decides.
    pub fn of(checks: Vec<Check>) -> Self {
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Healthy);
        Self { status, checks }
    }
}

impl Broker {
    /// Asks every node how it is and says what that comes to.
    pub async fn health(&self, _context: &Context) -> Health {
        if let Some(why) = self.quarantined() {
            return Health::of(vec![check(
                "quarantine",
                Status::Unhealthy,
                format!("this node serves no data: {why}"),
            )]);
        }
        let routes = self.routes();
        let online: Vec<NodeId> = routes.nodes.iter().filter(|(_, n)| n.online).map(|(id, _)| *id).collect();
        let reports = self.gather(online, None).await;
        let states = self.states(&routes, routes.partitions().collect()).await;
        Health::of(vec![
            self.check_nodes(&reports),
            self.check_controller(),
            self.check_coordinators(&reports),
            check_leaders(&states),
            check_replicas(&states),
            check_disks(&reports),
            check_backlog(&reports, self.config.produce_in_flight_bytes.0),
            check_broken(&reports),
            check_orphans(&reports),
            check_quarantine(&reports),
        ])
    }

    fn check_nodes(&self, reports: &BTreeMap<NodeId, NodeReport>) -> Check {
        let routes = self.routes();
        let silent: Vec<String> =
            routes.nodes.keys().filter(|id| !reports.contains_key(id)).map(ToString::to_string).collect();
        if silent.is_empty() {
            return check("nodes", Status::Healthy, format!("all {} answer", routes.nodes.len()));
        }
        let status =
            if silent.len() * 2 >= routes.nodes.len() { Status::Unhealthy } else { Status::Degraded };
        check(
            "nodes",
            status,
            format!("of {} nodes, no answer from: {}", routes.nodes.len(), silent.join(", ")),
        )
    }

    fn check_controller(&self) -> Check {
        match self.routes().controller.filter(|(node, _)| self.is_online(*node)) {
            Some((node, term)) => {
                check("controller", Status::Healthy, format!("led by node {node} in term {term}"))
            }
            None => check(
                "controller",
                Status::Unhealthy,
                "nobody leads it: topics cannot be made or changed, records flow".to_owned(),
            ),
        }
    }

    fn check_coordinators(&self, reports: &BTreeMap<NodeId, NodeReport>) -> Check {
        let led = |shard: ShardId| reports.values().any(|r| r.led.iter().any(|led| led.shard == shard.get()));
        match self.coordinators_without(|placed| led(placed.shard)) {
            Some((status, why)) => check("coordinators", status, why),
            None => {
                let count = self.routes().coordinators.len();
                check("coordinators", Status::Healthy, format!("each of {count} has a leader"))
            }
        }
    }

    /// What is wrong with coordinators, as far as this node knows by itself: groups that cannot be used. `None` =
    /// nothing.
    pub fn groups_away(&self) -> Option<String> {
        let led = |placed: &PartitionRoute| placed.leader.is_some_and(|(node, _)| self.is_online(node));
        self.coordinators_without(led).map(|(_, why)| why)
    }

    fn coordinators_without(&self, led: impl Fn(&PartitionRoute) -> bool) -> Option<(Status, String)> {
        let routes = self.routes();
        if routes.coordinators.is_empty() {
            let why =
                "not placed yet: groups can be used once the controller has a leader and knows its nodes";
            return Some((Status::Degraded, why.to_owned()));
        }
        let away: Vec<&PartitionRoute> = routes.coordinators.iter().filter(|placed| !led(placed)).collect();
        if away.is_empty() {
            return None;
        }
        let shards: Vec<String> = away.iter().map(|placed| placed.shard.to_string()).collect();
        let silent: BTreeSet<NodeId> =
            away.iter().flat_map(|placed| placed.replicas.iter().copied()).collect();
        let silent: Vec<String> =
            silent.into_iter().filter(|node| !self.is_online(*node)).map(|node| node.to_string()).collect();
        let advice = match silent.is_empty() {
            true => "a majority of their nodes is there: wait for an election, then look at broken_shards"
                .to_owned(),
            false => format!("start the nodes that carry them and do not answer: {}", silent.join(", ")),
        };
        let (away, all, shards) = (away.len(), routes.coordinators.len(), shards.join(", "));
        let why = format!(
            "{away} of {all} have no leader that can be reached (shards {shards}): members of their groups go on reading, \
             but nobody joins, and offsets are not stored; {advice}"
        );
        Some((Status::Unhealthy, why))
    }
}

fn check(name: &'static str, status: Status, detail: String) -> Check {
    Check { name, status, detail, partitions: Vec::new() }
}

fn check_partitions<'a>(
    name: &'static str,
    bad: impl Iterator<Item = &'a PartitionState>,
    status: Status,
    (well, ill): (&str, &str),
) -> Check {
    let bad: Vec<_> = bad.map(|state| (state.topic.clone(), state.partition)).collect();
    if bad.is_empty() {
        return check(name, Status::Healthy, well.to_owned());
    }
    let detail = format!("{} partitions {ill}", bad.len());
    Check { partitions: bad.into_iter().take(Check::PARTITIONS_MAX).collect(), ..check(name, status, detail) }
}

fn check_leaders(states: &[PartitionState]) -> Check {
    let bad = states.iter().filter(|state| state.is_leaderless());
    check_partitions(
        "leaders",
        bad,
        Status::Unhealthy,
        ("every partition has one", "have no leader that can be reached"),
    )
}

fn check_replicas(states: &[PartitionState]) -> Check {
    let bad = states.iter().filter(|state| state.is_under_replicated());
    let words = ("every replica is there and caught up", "lack a replica that is there and caught up");
    check_partitions("under_replicated", bad, Status::Degraded, words)
}

fn check_disks(reports: &BTreeMap<NodeId, NodeReport>) -> Check {
    let worst = reports.values().map(|report| report.disk).max().unwrap_or(DiskState::Room);
    let status = match worst {
        DiskState::Room => Status::Healthy,
        DiskState::NearlyFull => Status::Degraded,
        DiskState::Full => Status::Unhealthy,
    };
    let full = reports.values().filter(|report| status == Status::Healthy || report.disk != DiskState::Room);
    let lines: Vec<String> = full
        .map(|r| {
            let mib = |bytes: u64| ByteSize(bytes >> 20 << 20);
            format!("node {}: {} of {} free", r.node, mib(r.disk_free), mib(r.disk_total))
        })
        .collect();
    check("disk", status, lines.join(", "))
}

fn check_backlog(reports: &BTreeMap<NodeId, NodeReport>, limit: u64) -> Check {
    let busy: Vec<String> = reports
        .values()
        .filter(|report| report.in_flight_bytes * 10 >= limit * 9)
        .map(|report| format!("node {}: {} bytes in flight", report.node, report.in_flight_bytes))
        .collect();
    match busy.is_empty() {
        true => check("raft_backlog", Status::Healthy, "no node is at its limit".to_owned()),
        false => check("raft_backlog", Status::Degraded, busy.join(", ")),
    }
}

fn check_broken(reports: &BTreeMap<NodeId, NodeReport>) -> Check {
    let mut lines = Vec::new();
    for report in reports.values() {
        let node = report.node;
        for (shard, why) in report.broken.iter().chain(&report.suspect) {
            lines.push(format!("shard {shard} on node {node}: {why}"));
        }
        for (shard, peer, why) in &report.reverted {
            lines.push(format!("shard {shard} on node {peer}, as node {node} noticed: {why}"));
        }
    }
    match lines.is_empty() {
        true => check("broken_shards", Status::Healthy, "none".to_owned()),
        false => check("broken_shards", Status::Degraded, lines.join("; ")),
    }
}

fn check_orphans(reports: &BTreeMap<NodeId, NodeReport>) -> Check {
    let with = reports.values().filter(|report| !report.orphans.is_empty());
    let lines: Vec<String> = with
        .map(|r| format!("node {}: shards {:?} belong to no topic and are left alone", r.node, r.orphans))
        .collect();
    match lines.is_empty() {
        true => check("orphans", Status::Healthy, "none".to_owned()),
        false => check("orphans", Status::Degraded, lines.join("; ")),
    }
}

fn check_quarantine(reports: &BTreeMap<NodeId, NodeReport>) -> Check {
    let with = reports.values().filter_map(|report| Some((report.node, report.quarantine.as_ref()?)));
    let lines: Vec<String> = with.map(|(node, why)| format!("node {node}: {why}")).collect();
    match lines.is_empty() {
        true => check("quarantine", Status::Healthy, "none".to_owned()),
        false => check("quarantine", Status::Degraded, lines.join("; ")),
    }
}
