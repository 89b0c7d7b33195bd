//! What a node says of itself when another one asks: the partitions it leads, its disk, what worries it.

use crate::broker::Broker;
use crate::disk::DiskState;
use crate::forward::{Answer, Call, ReplicaDto, StateDto};
use crate::partitions::Role;
use flotilla_raft::{Progress, ReplicaStatus, Shard};
use flotilla_types::{Monotonic, NodeId, ShardId};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A node's report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    pub node: u32,
    /// Partitions it leads, of those that were asked for.
    pub led: Vec<StateDto>,
    pub disk: DiskState,
    pub disk_free: u64,
    pub disk_total: u64,
    /// Shards that stopped there, and why.
    pub broken: BTreeMap<u32, String>,
    /// Shards whose bytes on its disk are wrong, and how it showed.
    pub suspect: BTreeMap<u32, String>,
    /// Replicas that lost what they had acknowledged, as this node noticed: shard, node, why.
    pub reverted: Vec<(u32, u32, String)>,
    /// Shards on its disk that no topic claims.
    pub orphans: Vec<u32>,
    /// Why it serves no data.
    pub quarantine: Option<String>,
    /// Produce bytes in flight.
    pub in_flight_bytes: u64,
}

impl Broker {
    pub(crate) fn report(&self, shards: Option<&BTreeSet<ShardId>>) -> NodeReport {
        let usage = self.disk.usage();
        let led = self.serving().map(|serving| serving.host.shards()).unwrap_or_default();
        let wanted =
            |id: ShardId| id != ShardId::CONTROLLER && shards.is_none_or(|shards| shards.contains(&id));
        let numbers = |of: &Mutex<BTreeMap<ShardId, String>>| {
            of.lock().iter().map(|(id, why)| (id.get(), why.clone())).collect()
        };
        NodeReport {
            node: self.info.id.get(),
            led: led.iter().filter(|shard| wanted(shard.id())).filter_map(|s| self.led_state(s)).collect(),
            disk: self.disk.state(),
            disk_free: usage.free,
            disk_total: usage.total,
            broken: numbers(&self.observer.broken),
            suspect: numbers(&self.suspects),
            reverted: self
                .observer
                .reverted
                .lock()
                .iter()
                .map(|((shard, node), why)| (shard.get(), node.get(), why.clone()))
                .collect(),
            orphans: self.orphans.lock().iter().map(|id| id.get()).collect(),
            quarantine: self.quarantined().map(str::to_owned),
            in_flight_bytes: self.admission.in_flight(),
        }
    }

    /// How a partition that this node leads stands.
    fn led_state(&self, shard: &Shard) -> Option<StateDto> {
        let leadership = shard.leadership();
        if !leadership.is_leader {
            return None;
        }
        let Progress { high_watermark, last_stable, log_start, .. } = shard.progress();
        let size =
            shard.read(|state| state.partition().map_or(0, flotilla_machine::partitions::Partition::bytes));
        let replicas = shard.replicas();
        let now = self.clock.monotonic();
        let lags = self.lags.note(shard.id(), &replicas, now);
        let replicas = replicas.into_iter().zip(lags).map(|(replica, lag)| ReplicaDto {
            node: replica.node.get(),
            role: match replica {
                ReplicaStatus { node, .. } if node == self.info.id => Role::Leader,
                ReplicaStatus { voter: true, .. } => Role::Follower,
                ReplicaStatus { .. } => Role::Learner,
            },
            matched: replica.matched.map_or(0, flotilla_types::LogIndex::get),
            lag_entries: replica.lag,
            lag_ms: lag.as_millis() as u64,
        });
        Some(StateDto {
            shard: shard.id().get(),
            leader: Some(self.info.id.get()),
            term: leadership.term.get(),
            replicas: replicas.collect(),
            log_start: log_start.get(),
            last_stable: last_stable.get(),
            high_watermark: high_watermark.get(),
            size_bytes: size,
        })
    }

    /// Asks nodes for their reports, all at once. Who does not answer in time is left out.
    pub(crate) async fn gather(
        &self,
        nodes: impl IntoIterator<Item = NodeId>,
        shards: Option<&BTreeSet<ShardId>>,
    ) -> BTreeMap<NodeId, NodeReport> {
        let call = Call::Report { shards: shards.map(|s| s.iter().map(|id| id.get()).collect()) };
        let asked = nodes.into_iter().map(|node| {
            let call = call.clone();
            async move {
                let answer = tokio::time::timeout(GATHER_WAIT, self.ask(node, call)).await;
                match answer {
                    Ok(Ok(Answer::Report(report))) => Some((node, *report)),
                    _ => None,
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Bytes of this shard on this disk are wrong: says so, and hands leadership to another replica.
    pub(crate) fn suspect(&self, shard: ShardId, why: &str) {
        let news = self.suspects.lock().insert(shard, why.to_owned()).is_none();
        let Some(handle) = self.shard(shard).filter(|_| news) else { return };
        let own = self.info.id;
        self.runtime.spawn(async move {
            let replicas = handle.replicas();
            let best = replicas.iter().filter(|r| r.voter && r.node != own).max_by_key(|r| r.matched);
            if let Some(best) = best {
                let moved = handle.transfer_leadership(best.node).await;
                tracing::warn!(%shard, to = %best.node, ?moved, "leadership leaves a replica that cannot be read");
            }
        });
    }
}

/// A node that takes longer than this to say how it is, is not well.
const GATHER_WAIT: Duration = Duration::from_secs(2);

/// Since when each replica has not been caught up.
///
/// A replica that trails by a few entries is well as long as it keeps reaching where the log ended a
/// moment ago. So the clock remembers where the log ended, and starts again whenever that is reached.
#[derive(Debug, Default)]
pub(crate) struct LagClock(Mutex<BTreeMap<(ShardId, NodeId), (u64, Monotonic)>>);

impl LagClock {
    /// How long each replica has lagged.
    pub fn note(&self, shard: ShardId, replicas: &[ReplicaStatus], now: Monotonic) -> Vec<Duration> {
        let mut behind = self.0.lock();
        let lag = |replica: &ReplicaStatus| {
            let key = (shard, replica.node);
            let matched = replica.matched.map_or(0, flotilla_types::LogIndex::get);
            if replica.lag == 0 {
                behind.remove(&key);
                return Duration::ZERO;
            }
            let goal = matched + replica.lag;
            let (target, since) = *behind.entry(key).or_insert((goal, now));
            if matched >= target {
                behind.insert(key, (goal, now));
                return Duration::ZERO;
            }
            now.since(since)
        };
        replicas.iter().map(lag).collect()
    }

    pub fn forget(&self, shard: ShardId) {
        self.0.lock().retain(|(other, _), _| *other != shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::LogIndex;

    #[test]
    fn a_replica_lags_only_while_it_does_not_reach_where_the_log_was() {
        let clock = LagClock::default();
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let note = |matched, lag, now| {
            let status =
                ReplicaStatus { node: NodeId(2), matched: Some(LogIndex(matched)), lag, voter: true };
            clock.note(ShardId(1024), &[status], at(now))[0].as_secs()
        };
        assert_eq!(note(10, 5, 0), 0);
        assert_eq!(note(14, 5, 1), 1, "entry 15 is not reached");
        assert_eq!(note(16, 5, 2), 0, "it trails, but it moves");
        assert_eq!(note(16, 50, 12), 10);
        assert_eq!(note(66, 0, 13), 0);
    }
}
