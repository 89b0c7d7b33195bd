//! The seam between nodes: frames to a peer, frames from a peer. The server implements it over gRPC,
//! tests in memory.

use bytes::Bytes;
use flotilla_types::{NodeId, ShardId};
use futures::future::BoxFuture;

/// One message between two nodes. All shards share the connections.
///
/// Frames of one lane and direction arrive in the order they were sent, or not at all. An answer is a frame
/// of its own with the same `call`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose message; 0 and meaningless where the kind is about the pair of nodes.
    pub shard: ShardId,
    /// Chosen by the asking node; 0 where no answer is awaited.
    pub call: u64,
    /// What kind of message, see [`crate::FrameKind`]. Unknown ones are dropped and counted.
    pub kind: u8,
    /// Which connection it takes.
    pub lane: Lane,
    /// Encoded by this crate; versioned, with its own CRC.
    pub header: Bytes,
    /// Batches, shared and not copied.
    pub payloads: Vec<Bytes>,
}

impl Frame {
    /// Bytes it takes on the wire, nearly.
    pub fn weight(&self) -> usize {
        32 + self.header.len() + self.payloads.iter().map(|payload| payload.len() + 8).sum::<usize>()
    }
}

/// Which of a pair's connections a frame takes. The small must not wait behind the large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Votes, heartbeats, liveness, answers.
    Control = 0,
    /// Entries and snapshots.
    Data = 1,
}

/// Whether a peer can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Both lanes stand.
    Up,
    /// No connection, or it was just lost. The process may live, paused or cut off.
    Down,
    /// The process is gone: its connections, both ways, are closed, and a new one to where it was is refused.
    /// That a connection was closed, or cannot be made, is not proof enough.
    Refused,
}

/// The peer cannot be reached now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} is unreachable: {why}")]
pub struct Unreachable {
    /// Which.
    pub node: NodeId,
    /// For people.
    pub why: String,
}

/// How frames leave.
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Queues a frame; waits while the peer's queue of that lane is full. `Ok` says nothing of arrival.
    /// Fails at once where there is no connection. Dropping the future before it is done sends nothing.
    fn send(&self, to: NodeId, frame: Frame) -> BoxFuture<'_, Result<(), Unreachable>>;

    /// Whether frames can leave now.
    fn state(&self, peer: NodeId) -> PeerState;

    /// Every other node that this one is configured or told to talk to.
    fn peers(&self) -> Vec<NodeId>;
}

/// How frames come in. The transport has verified that `from` is who it says.
pub trait Inbound: Send + Sync + 'static {
    /// A frame arrived. Does not block.
    fn receive(&self, from: NodeId, frame: Frame);

    /// A peer's connections stand, or are lost, or its process is gone.
    fn peer_changed(&self, peer: NodeId, state: PeerState);
}
