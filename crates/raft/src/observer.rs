//! What the node above is told, as it happens.

use crate::status::Leadership;
use bytes::Bytes;
use flotilla_machine::Outcome;
use flotilla_types::{IndexRow, LogId, NodeId, ShardId};

/// One entry that was just applied on this node.
#[derive(Clone, Copy, Debug)]
pub struct AppliedEntry<'a> {
    /// Its place.
    pub id: LogId,
    /// The encoded command; empty for Raft's own entries.
    pub header: &'a Bytes,
    /// The batch's body; empty where there is none.
    pub payload: &'a Bytes,
    /// What applying it answered.
    pub outcome: &'a Outcome,
    /// Index rows it made.
    pub index: &'a [IndexRow],
}

/// Told what happens to the shards of this node, on whatever task it happens: no call may block.
pub trait Observer: Send + Sync + 'static {
    /// Entries were applied, in order. Called before progress is published.
    fn applied(&self, shard: ShardId, batch: &[AppliedEntry<'_>]);

    /// Who leads has changed, as far as this node knows, or who votes, or whether this node can serve as the leader.
    fn leadership(&self, shard: ShardId, leadership: &Leadership);

    /// A snapshot took the place of the shard's state: forget what was seen of its entries.
    fn installed(&self, shard: ShardId) {
        let _ = shard;
    }

    /// The shard stopped on this node, for good: raise an alarm. The rest of the node goes on.
    fn broken(&self, shard: ShardId, why: &str);

    /// A replica on `peer` lost entries that it had acknowledged: raise an alarm. It gets no more entries from this leader.
    fn reverted(&self, shard: ShardId, peer: NodeId, why: &str) {
        let _ = (shard, peer, why);
    }

    /// Consensus cannot go on in this process: it must end.
    fn fatal(&self, shard: ShardId, why: &str);
}
