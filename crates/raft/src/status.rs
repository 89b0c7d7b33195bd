//! What a shard says of itself.

use flotilla_types::{LogId, LogIndex, NodeId, Offset, ShardId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// Who leads and who takes part, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, once a majority elected it.
    pub leader: Option<NodeId>,
    /// Its leadership, or the newest vote seen.
    pub term: Term,
    /// This node leads, and has applied everything from before its leadership: it may serve.
    pub is_leader: bool,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
}

impl Leadership {
    /// The leader and its term, if known.
    pub fn known(&self) -> Option<(NodeId, Term)> {
        self.leader.map(|leader| (leader, self.term))
    }
}

/// How far a replica has come. Offsets are 0 for shards that carry no partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Last entry applied; none before the first.
    pub applied: Option<LogId>,
    /// First offset that is not committed.
    pub high_watermark: Offset,
    /// First offset of an open transaction, or the high watermark.
    pub last_stable: Offset,
    /// First offset that is kept.
    pub log_start: Offset,
    /// The hash chain after the last entry.
    pub chain: u128,
}

/// A replica as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which node.
    pub node: NodeId,
    /// Last entry that it is known to have.
    pub matched: Option<LogIndex>,
    /// Entries it is behind.
    pub lag: u64,
    /// Whether it votes.
    pub voter: bool,
}

/// Who leads which shard, for every shard that some node told of.
pub type KnownLeaders = BTreeMap<ShardId, (NodeId, Term)>;
