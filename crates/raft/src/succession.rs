//! When the process of a leader is known to be gone, nobody waits for its lease.
//!
//! 1. The transport says [`PeerState::Refused`](crate::PeerState::Refused): the peer's connections are closed
//!    and nobody listens any more where it was.
//! 2. For each shard that it led, every surviving voter gives up the lease it had granted, and one of them,
//!    another for each shard, campaigns at once. Its votes are asked for as in a transfer of leadership, so
//!    that voters to whom the news has not come yet grant them too.
//! 3. A voter with a longer log refuses, and campaigns itself, a term later.
//! 4. Whoever sees no leader after its turn campaigns as well; after that, the ordinary clocks do.
//!
//! None of it is safety: terms, logs and votes decide as ever. A leader that is wrongly taken for gone is
//! deposed by a term of its successor's, as by any transfer. A peer that is only silent (paused, cut off)
//! keeps its lease.

use crate::host::Host;
use crate::metrics::Cause;
use crate::shard::Shard;
use crate::transport::PeerState;
use crate::types::{Vote, node};
use flotilla_types::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a candidate is given before the next in turn tries. Elections take a tenth of it, also when there
/// are hundreds.
const TURN: Duration = Duration::from_millis(150);
/// Campaigns of one node for one shard before it leaves things to the ordinary clocks.
const CAMPAIGNS_MAX: u32 = 4;
/// Campaigns of one node at a time: their votes share a few syncs, and the network is not flooded.
pub(crate) const CAMPAIGNS_AT_ONCE: usize = 64;
/// Longest wait for this node's log to reach its disk before it campaigns.
const FLUSH_WAIT: Duration = Duration::from_millis(50);

/// Candidates that this replica refused because it has the longer log.
#[derive(Debug, Default)]
pub(crate) struct Outrun {
    term: AtomicU64,
    news: Notify,
}

impl Outrun {
    /// A candidate of `term`, which campaigned because a leader is gone, was refused.
    pub fn note(&self, term: u64) {
        self.term.fetch_max(term, Ordering::AcqRel);
        self.news.notify_one();
    }
}

impl Host {
    /// The process of a peer is gone: its shards elect.
    pub(crate) fn peer_gone(self: &Arc<Self>, peer: NodeId) {
        let mut led: Vec<Arc<Shard>> =
            self.shards().into_iter().filter(|shard| shard.vote_for(peer).is_some()).collect();
        if led.is_empty() {
            return;
        }
        // Somebody waits for the busy ones.
        led.sort_by_key(|shard| (shard.is_resting(), shard.id()));
        let host = self.clone();
        self.runtime.spawn(async move {
            let (begun, count) = (host.clock.monotonic(), led.len());
            let elections = led.into_iter().map(|shard| host.succeed(shard, peer));
            let elected = futures::future::join_all(elections).await.into_iter().filter(|led| *led).count();
            let took_ms = host.clock.monotonic().since(begun).as_millis() as u64;
            tracing::info!(%peer, shards = count, elected, took_ms, "shards of a node whose process is gone");
        });
    }

    /// Takes part in the election of a leader after `gone`. Says if there is one.
    async fn succeed(&self, shard: Arc<Shard>, gone: NodeId) -> bool {
        let Some(vote) = shard.vote_for(gone) else { return true };
        let Some(rank) = self.rank(&shard, gone) else { return false };
        shard.wake_as_follower("its leader's process is gone", self.links.config.election_max());
        // Not meant for this node, so it only ends the lease.
        let end_lease = TransferLeaderRequest::new(vote, u64::from(gone.0), None);
        if shard.raft.handle_transfer_leader(end_lease).await.is_err() {
            return false;
        }
        let mut turn = TURN * rank;
        for _ in 0..CAMPAIGNS_MAX {
            tokio::select! {
                biased;
                () = shard.has_leader_after(&vote) => return true,
                () = shard.outrun.news.notified() => {}
                () = tokio::time::sleep(turn) => {}
            }
            // Heard of since: whatever was refused, it was not its end.
            if shard.is_stopped() || self.is_alive(gone) {
                return false;
            }
            let Ok(_at_once) = self.campaigns.acquire().await else { return false };
            if shard.campaign(&vote).await.is_err() {
                return false;
            }
            turn = TURN + Duration::from_micros(self.random.below(TURN.as_micros() as u64));
            if tokio::time::timeout(TURN / 3, shard.has_leader_after(&vote)).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// This node's turn among the voters that are left; another order for each shard, the same on all nodes.
    fn rank(&self, shard: &Shard, gone: NodeId) -> Option<u32> {
        let mut left = shard.observe().voters;
        left.retain(|id| {
            let is_up = *id == self.links.node || self.links.transport.state(*id) == PeerState::Up;
            *id != gone && is_up
        });
        let place = left.iter().position(|id| *id == self.links.node)?;
        Some((place as u32 + shard.id().0) % left.len() as u32)
    }
}

impl Shard {
    /// The vote by which `leader` leads, as far as this replica knows.
    fn vote_for(&self, leader: NodeId) -> Option<Vote> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.current_leader.map(node) == Some(leader) && metrics.vote.committed).then_some(metrics.vote)
    }

    /// Returns once a leader of a later term is known.
    async fn has_leader_after(&self, vote: &Vote) {
        let mut server = self.raft.server_metrics();
        loop {
            let now = server.borrow_watched().vote;
            if now.committed && now.leader_id.term > vote.leader_id.term {
                return;
            }
            if server.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Campaigns to succeed the leader of `vote`.
    async fn campaign(&self, vote: &Vote) -> Result<(), Stopped> {
        self.note_cause(Cause::Gone);
        let trigger = self.raft.trigger();
        if self.raft.server_metrics().borrow_watched().vote != *vote {
            // Somebody has campaigned since, in vain it seems; perhaps not, so it is asked for first.
            return trigger.elect(true).await.map_err(|_| Stopped);
        }
        // Asked for in the name of the leader that is gone: granted in spite of leases. Does nothing if
        // another vote was granted meanwhile.
        let transfer = TransferLeaderRequest::new(*vote, u64::from(self.links.node.0), None);
        match tokio::time::timeout(FLUSH_WAIT, self.raft.handle_transfer_leader(transfer)).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Err(_)) => return Err(Stopped),
            // Nothing was written since this replica started, so the library does not know how far its disk is.
            Ok(Ok(Err(_))) | Err(_) => return trigger.elect(true).await.map_err(|_| Stopped),
        }
        // The candidate whose log was too short has voted for itself in that term.
        if self.outrun.term.load(Ordering::Acquire) > vote.leader_id.term {
            trigger.elect(false).await.map_err(|_| Stopped)?;
        }
        Ok(())
    }
}

/// Consensus of the shard has ended here.
struct Stopped;
