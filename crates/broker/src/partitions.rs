//! How a partition stands: leader, replicas, offsets. Asked of leaders, gathered over the cluster.

use crate::admin::Error;
use crate::broker::Broker;
use crate::context::Context;
use crate::forward::Call;
use crate::routes::{PartitionRoute, Routes, TopicRoute};
use flotilla_types::{LogIndex, NodeId, Offset, PartitionId, ShardId, Term, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How a partition stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionState {
    /// Which topic.
    pub topic: TopicName,
    /// Which partition.
    pub partition: PartitionId,
    /// Its shard.
    pub shard: ShardId,
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
    /// That leadership.
    pub term: Term,
    /// Every replica that intent names or the leader has.
    pub replicas: Vec<Replica>,
    /// First offset that is kept.
    pub log_start: Offset,
    /// First offset that is not decided.
    pub last_stable: Offset,
    /// First offset that is not committed.
    pub high_watermark: Offset,
    /// Bytes of bodies that are kept.
    pub size_bytes: u64,
    /// Whether the leader (or a replica) answered; if not, offsets and lags are 0.
    pub known: bool,
}

/// One replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// On which node.
    pub node: NodeId,
    /// What it does.
    pub role: Role,
    /// Its log matches the leader's up to here.
    pub matched: LogIndex,
    /// Entries it is behind the leader.
    pub lag_entries: u64,
    /// Since when it has not been caught up, roughly; zero if it is.
    pub lag: Duration,
    /// Whether its node is reachable.
    pub online: bool,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Leads.
    Leader,
    /// Votes.
    Follower,
    /// Copies, does not vote.
    Learner,
    /// Intended, not there yet.
    Missing,
}

/// Which partitions are asked for: all conditions must hold. Written `leaderless`, `under_replicated`,
/// `node=2`, `topic=orders`, with spaces or commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Nobody leads it, or its leader's node is not reachable.
    pub leaderless: bool,
    /// A replica is missing, unreachable, or far behind.
    pub under_replicated: bool,
    /// A replica is on this node.
    pub node: Option<NodeId>,
    /// Of this topic.
    pub topic: Option<TopicName>,
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let known = match word.split_once('=') {
                None if word == "leaderless" => {
                    filter.leaderless = true;
                    true
                }
                None if word == "under_replicated" => {
                    filter.under_replicated = true;
                    true
                }
                Some(("node", number)) => {
                    filter.node = number.parse().ok().map(NodeId);
                    filter.node.is_some()
                }
                Some(("topic", name)) => {
                    filter.topic = TopicName::new(name).ok();
                    filter.topic.is_some()
                }
                _ => false,
            };
            if !known {
                let word: String = word.chars().take(80).collect();
                let expected = "expected leaderless, under_replicated, node=<id>, topic=<name>";
                return Err(Error::invalid("filter", word, expected));
            }
        }
        Ok(filter)
    }
}

/// A page of partitions.
#[derive(Clone, Debug, Default)]
pub struct ListPartitions {
    /// Which.
    pub filter: Filter,
    /// At most this many; 0 = 500, never more than 1000.
    pub page_size: u32,
    /// From an earlier page's answer; empty = from the beginning.
    pub page_token: String,
}

/// One page.
#[derive(Clone, Debug)]
pub struct PartitionPage {
    /// By topic and number.
    pub partitions: Vec<PartitionState>,
    /// For the next page; empty = this was the last.
    pub next_page_token: String,
}

/// Behind for so long, a replica counts as lagging.
pub const LAG_MAX: Duration = Duration::from_secs(10);

impl PartitionState {
    /// Whether a replica that should be there is missing, unreachable or far behind.
    pub fn is_under_replicated(&self) -> bool {
        self.replicas.iter().any(|replica| {
            !replica.online || replica.lag > LAG_MAX || matches!(replica.role, Role::Missing | Role::Learner)
        })
    }

    /// Whether nobody who can be reached leads it.
    pub fn is_leaderless(&self) -> bool {
        !self.leader.is_some_and(|leader| self.replicas.iter().any(|r| r.node == leader && r.online))
    }
}

/// A partition of the table.
pub(crate) type Placed<'a> = (&'a Arc<TopicRoute>, PartitionId, &'a PartitionRoute);

impl Broker {
    /// A page of partitions, as their leaders see them.
    pub async fn list_partitions(
        &self,
        _context: &Context,
        list: ListPartitions,
    ) -> Result<PartitionPage, Error> {
        self.serving().map_err(Error::Quarantined)?;
        let after = page_token(&list.page_token)?;
        let size = if list.page_size == 0 { 500 } else { list.page_size.min(1000) } as usize;
        let routes = self.routes();
        let filter = &list.filter;
        let candidates: Vec<Placed<'_>> = routes
            .partitions()
            .filter(|(topic, number, _)| {
                after.as_ref().is_none_or(|after| (&topic.name, *number) > (&after.0, after.1))
            })
            .filter(|(topic, _, _)| filter.topic.as_ref().is_none_or(|name| *name == topic.name))
            .filter(|(_, _, placed)| filter.node.is_none_or(|node| placed.replicas.contains(&node)))
            .filter(|(_, _, placed)| !filter.leaderless || self.is_leaderless(placed))
            .collect();
        // Who lags is known to leaders only: all of them must be asked before a page can be cut.
        let asked = if filter.under_replicated { candidates.len() } else { candidates.len().min(size + 1) };
        let mut states = self.states(&routes, candidates[..asked].to_vec()).await;
        states.retain(|state| !filter.under_replicated || state.is_under_replicated());
        let more = states.len() > size;
        states.truncate(size);
        let last = states.last().filter(|_| more);
        let next_page_token =
            last.map(|last| format!("{}/{}", last.topic, last.partition)).unwrap_or_default();
        Ok(PartitionPage { partitions: states, next_page_token })
    }

    /// Hands a partition's leadership to a replica; without one, to the one that has most of the log.
    pub async fn transfer_leadership(
        &self,
        context: &Context,
        topic: &TopicName,
        partition: PartitionId,
        to: Option<NodeId>,
    ) -> Result<PartitionState, Error> {
        self.counted(self.try_transfer(context, topic, partition, to).await)
    }

    async fn try_transfer(
        &self,
        context: &Context,
        topic: &TopicName,
        partition: PartitionId,
        to: Option<NodeId>,
    ) -> Result<PartitionState, Error> {
        self.serving().map_err(Error::Quarantined)?;
        let unknown = |name: String| Error::NotFound { what: "partition", name };
        let routes = self.routes();
        let (_, placed) = routes.find(topic, partition, None).map_err(|e| unknown(e.to_string()))?;
        let Some((leader, _)) = placed.leader else {
            return Err(Error::NoLeader(format!("{topic} partition {partition}")));
        };
        let shard = placed.shard;
        if to != Some(leader) {
            let call = Call::Transfer { shard: shard.get(), to: to.map(NodeId::get) };
            self.ask(leader, call).await?;
            tracing::info!(%topic, %partition, from = %leader, ?to, client = %context.client, "leadership moved");
            let moved = |routes: &Arc<Routes>| {
                let found = routes.find(topic, partition, None).ok();
                found.is_none_or(|(_, placed)| placed.leader.is_some_and(|(node, _)| node != leader))
            };
            let mut watch = self.watch_routes();
            let _ = tokio::time::timeout(self.config.forward_timeout, watch.wait_for(moved)).await;
        }
        let routes = self.routes();
        let (route, placed) = routes.find(topic, partition, None).map_err(|e| unknown(e.to_string()))?;
        let states = self.states(&routes, vec![(route, partition, placed)]).await;
        states.into_iter().next().ok_or_else(|| unknown(topic.to_string()))
    }

    /// How these stand, in their order, as their leaders say, or else as far as this node knows.
    pub(crate) async fn states(&self, routes: &Routes, wanted: Vec<Placed<'_>>) -> Vec<PartitionState> {
        let shards: BTreeSet<ShardId> = wanted.iter().map(|(_, _, placed)| placed.shard).collect();
        let leaders: BTreeSet<NodeId> = wanted
            .iter()
            .filter_map(|(_, _, placed)| placed.leader.map(|(node, _)| node))
            .filter(|node| self.is_online(*node))
            .collect();
        let reports = self.gather(leaders, Some(&shards)).await;
        let known: BTreeMap<u32, _> =
            reports.values().flat_map(|report| &report.led).map(|state| (state.shard, state)).collect();
        let online = |node| routes.nodes.get(&node).is_some_and(|node| node.online);
        let state = |(topic, partition, placed): Placed<'_>| {
            let mut state = match known.get(&placed.shard.get()) {
                Some(state) => state.state(&topic.name, partition, online),
                None => unknown_state(&topic.name, partition, placed),
            };
            let missing = placed.replicas.iter().filter(|n| !state.replicas.iter().any(|r| r.node == **n));
            let missing: Vec<_> = missing.map(|node| replica(*node, Role::Missing, online(*node))).collect();
            if state.known {
                state.replicas.extend(missing);
            } else {
                let role = |node| {
                    if placed.leader.is_some_and(|(leader, _)| leader == node) {
                        Role::Leader
                    } else {
                        Role::Follower
                    }
                };
                state.replicas = placed.replicas.iter().map(|n| replica(*n, role(*n), online(*n))).collect();
            }
            state
        };
        wanted.into_iter().map(state).collect()
    }

    /// Nobody leads it, or who led it cannot be reached.
    pub(crate) fn is_leaderless(&self, placed: &PartitionRoute) -> bool {
        !placed.leader.is_some_and(|(node, _)| self.is_online(node))
    }
}

fn replica(node: NodeId, role: Role, online: bool) -> Replica {
    Replica { node, role, matched: LogIndex(0), lag_entries: 0, lag: Duration::ZERO, online }
}

fn unknown_state(topic: &TopicName, partition: PartitionId, placed: &PartitionRoute) -> PartitionState {
    PartitionState {
        topic: topic.clone(),
        partition,
        shard: placed.shard,
        leader: placed.leader.map(|(node, _)| node),
        term: placed.leader.map_or(Term(0), |(_, term)| term),
        replicas: Vec::new(),
        log_start: Offset(0),
        last_stable: Offset(0),
        high_watermark: Offset(0),
        size_bytes: 0,
        known: false,
    }
}

fn page_token(token: &str) -> Result<Option<(TopicName, PartitionId)>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = token
        .rsplit_once('/')
        .and_then(|(name, number)| Some((TopicName::new(name).ok()?, PartitionId(number.parse().ok()?))));
    let shown: String = token.chars().take(80).collect();
    read.map(Some).ok_or_else(|| Error::invalid("page_token", shown, "expected one that a page gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_read_as_they_are_documented() {
        let filter: Filter = "leaderless, node=2 topic=orders.v1".parse().unwrap();
        let topic = TopicName::new("orders.v1").ok();
        assert_eq!(
            filter,
            Filter { leaderless: true, under_replicated: false, node: Some(NodeId(2)), topic }
        );
        assert_eq!("".parse::<Filter>().unwrap(), Filter::default());
        for bad in ["nodes=2", "node=x", "topic=a/b", "leader"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn page_tokens_come_back() {
        let name = TopicName::new("a.b").unwrap();
        assert_eq!(page_token("a.b/7").unwrap(), Some((name, PartitionId(7))));
        assert_eq!(page_token("").unwrap(), None);
        assert!(page_token("a.b").is_err());
    }

    #[test]
    fn lost_and_late_replicas_are_under_replicated() {
        let placed = PartitionRoute { shard: ShardId(1024), leader: None, replicas: vec![] };
        let mut state = unknown_state(&TopicName::new("t").unwrap(), PartitionId(0), &placed);
        assert!(state.is_leaderless());
        state.leader = Some(NodeId(1));
        state.replicas =
            vec![replica(NodeId(1), Role::Leader, true), replica(NodeId(2), Role::Follower, true)];
        assert!(!state.is_under_replicated() && !state.is_leaderless());
        state.replicas[1].lag = LAG_MAX * 2;
        assert!(state.is_under_replicated());
        state.replicas[1] = replica(NodeId(2), Role::Follower, false);
        assert!(state.is_under_replicated());
        state.replicas[0].online = false;
        assert!(state.is_leaderless());
    }
}
