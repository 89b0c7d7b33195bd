//! Resting shards: idle ones switch their clocks off, and the liveness exchange stands for their heartbeats.
//!
//! 1. A leader whose replicas all have and have applied its last entry, and that was idle for a while, asks
//!    them to rest ([`FrameKind::Rest`](crate::wire::FrameKind::Rest)).
//! 2. A follower agrees if it sees the same leader, term and last entry, and rests at once.
//! 3. When all have agreed and still nothing was written, the leader rests, and says so in its liveness frames.
//!
//! Who rests does not campaign. It wakes when the exchange with its leader (or, at the leader, with any
//! replica) fails, when that node has started again, when entries or a new leader come, or when the leader
//! says that it woke. Resting is not safety: a shard that wakes too early or too late is an ordinary shard
//! whose clocks were late.

use crate::shard::Shard;
use crate::transport::PeerState;
use crate::types::node;
use crate::wire::Restable;
use flotilla_types::{Monotonic, NodeId};
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Shard {
    /// Leader: whether all replicas have caught up and nothing happened for `idle`.
    pub(crate) fn restable(&self, now: Monotonic, idle: Duration) -> Option<Restable> {
        if self.is_resting() || self.refusal().is_some() || !self.is_idle(now, idle) {
            return None;
        }
        let leadership = self.leadership.borrow().clone();
        if !leadership.is_leader || !self.leads() {
            return None;
        }
        let last = self.is_settled()?;
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref();
        let is_level = |id: &NodeId| {
            *id == self.links.node
                || self.links.transport.state(*id) == PeerState::Up
                    && replication.and_then(|all| all.get(&u64::from(id.0))) == Some(&Some(last))
        };
        let all_level = leadership.voters.iter().chain(&leadership.learners).all(is_level);
        let term = leadership.term;
        all_level.then_some(Restable { shard: self.id(), last, term })
    }

    fn is_idle(&self, now: Monotonic, idle: Duration) -> bool {
        let active_at = Duration::from_millis(self.replica.active_at_ms.load(Ordering::Relaxed));
        now.since(Monotonic(active_at)) >= idle
    }

    /// Follower: rests if it sees what its leader sees.
    pub(crate) fn agree_to_rest(&self, leader: NodeId, offer: &Restable) -> bool {
        self.is_with(leader, offer.term) && self.is_settled() == Some(offer.last) && self.rest()
    }

    /// Whether consensus here follows `leader` in `term`.
    pub(crate) fn is_with(&self, leader: NodeId, term: flotilla_types::Term) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader.map(node) == Some(leader)
            && metrics.vote.leader_id.term == term.0
            && metrics.vote.committed
            && self.refusal().is_none()
    }

    /// Leader: all replicas agreed; rests if nothing happened since it asked.
    pub(crate) fn rest_as_leader(&self, offer: &Restable, now: Monotonic, idle: Duration) -> bool {
        self.is_idle(now, idle)
            && self.is_with(self.links.node, offer.term)
            && self.is_settled() == Some(offer.last)
            && self.rest()
    }

    fn rest(&self) -> bool {
        let gate = self.gate.lock();
        if !gate.is_open() {
            return false;
        }
        if !self.resting.swap(true, Ordering::AcqRel) {
            self.raft.runtime_config().tick(false);
            self.log.shrink();
            self.links.metrics.shards_resting.inc();
        }
        true
    }

    /// Clocks on. Says if it rested.
    pub(crate) fn wake(&self, why: &'static str) -> bool {
        let rested = {
            let _gate = self.gate.lock();
            self.resting.swap(false, Ordering::AcqRel)
        };
        if rested {
            tracing::debug!(shard = %self.id(), why, "wakes");
            self.raft.runtime_config().tick(true);
            self.replica.touch();
            self.links.metrics.shards_resting.dec();
            self.links.metrics.wakes.inc();
            // The watcher tells the peers, if this node leads.
            self.replica.changed.notify_one();
        }
        rested
    }

    /// Clocks on, but no campaign before `grace` has passed: its clock stood still, so it takes any leader
    /// for dead.
    pub(crate) fn wake_as_follower(self: &Arc<Self>, why: &'static str, grace: Duration) -> bool {
        self.raft.runtime_config().elect(false);
        let rested = self.wake(why);
        if !rested {
            self.raft.runtime_config().elect(true);
            return false;
        }
        let shard = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            shard.raft.runtime_config().elect(true);
        });
        true
    }
}
