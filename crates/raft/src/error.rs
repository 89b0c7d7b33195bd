//! What can go wrong: with a proposal, with anything an operator asks of a shard.

use flotilla_types::{NodeId, ShardId, Term};

/// Why a proposal or a read barrier has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Refused before anything was written: this node does not lead the shard. Definite.
    #[error("this node does not lead the shard; leader: {leader:?}")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<(NodeId, Term)>,
    },
    /// Refused before anything was written: this node leads, but has not heard from a majority lately, or
    /// too much is waiting. Definite; try again here after a pause.
    #[error("the shard cannot take commands now: {why}")]
    Unavailable {
        /// For people.
        why: &'static str,
    },
    /// It was written to this node's log, and then leadership or the node was lost. INDEFINITE: it may yet
    /// be applied, once at most.
    #[error("leadership was lost after the command was written; it may yet be applied")]
    Lost {
        /// Who leads now, as far as this node knows.
        leader: Option<(NodeId, Term)>,
    },
    /// Refused before anything was written: the shard is stopped on this node. Definite.
    #[error("the shard is stopped on this node")]
    Stopped,
    /// Refused before anything was written: the shard's state is contradictory on this node. Definite.
    #[error("the shard is broken on this node: {why}")]
    Broken {
        /// For people.
        why: String,
    },
}

impl ProposeError {
    /// Whether the command may yet take effect.
    pub const fn is_indefinite(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// Why something else could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting cannot work.
    #[error("raft settings: {why}")]
    Config {
        /// Which and why.
        why: String,
    },
    /// The shard is not hosted here.
    #[error("shard {shard} is not hosted by this node")]
    UnknownShard {
        /// Which.
        shard: ShardId,
    },
    /// Only the leader can do that.
    #[error("this node does not lead shard {shard}; leader: {leader:?}")]
    NotLeader {
        /// Which shard.
        shard: ShardId,
        /// Who leads, as far as this node knows.
        leader: Option<(NodeId, Term)>,
    },
    /// The node is no voter of the shard.
    #[error("node {node} is no voter of shard {shard}")]
    NotVoter {
        /// Which shard.
        shard: ShardId,
        /// Which node.
        node: NodeId,
    },
    /// What the store has of this shard contradicts itself, or what is written there is unknown to this build.
    #[error("shard {shard} is broken on this node: {why}")]
    Broken {
        /// Which shard.
        shard: ShardId,
        /// For people.
        why: String,
    },
    /// It was asked for, but it has not happened in time. It may yet happen.
    #[error("shard {shard}: {what} has not happened within {ms} ms")]
    TimedOut {
        /// Which shard.
        shard: ShardId,
        /// What was awaited.
        what: &'static str,
        /// How long.
        ms: u64,
    },
    /// The shard refused it.
    #[error("shard {shard}: {why}")]
    Refused {
        /// Which shard.
        shard: ShardId,
        /// For people.
        why: String,
    },
    /// The shard or the node stops.
    #[error("shard {shard} is stopped on this node")]
    Stopped {
        /// Which shard.
        shard: ShardId,
    },
}
