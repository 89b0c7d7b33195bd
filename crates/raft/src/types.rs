//! What the consensus library is told to replicate, and our numbers in its terms.

use bytes::Bytes;
use flotilla_types::{self as types, LogIndex, NodeId, Term};
use openraft::raft::responder::Responder;
use openraft::vote::leader_id_std;

/// One leader per term, so that (term, index) names an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types {}

impl openraft::RaftTypeConfig for Types {
    type D = Data;
    type R = flotilla_machine::Outcome;
    type NodeId = u64;
    type Node = openraft::EmptyNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Data, u64, openraft::EmptyNode>;
    type Entry = openraft::Entry<leader_id_std::CommittedLeaderId<u64>, Self::Payload>;
    type Responder<T>
        = Reply<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type AsyncRuntime = openraft::TokioRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, openraft::EmptyNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, Bytes>;
pub(crate) type Raft = openraft::Raft<Types, crate::applier::Applier>;

/// An entry's content: an encoded command and the batch it is about, shared and not copied.
#[derive(Clone, Default)]
pub struct Data {
    /// The encoded command.
    pub header: Bytes,
    /// The batch's body, if it is about one.
    pub payload: Bytes,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Data({} + {} bytes)", self.header.len(), self.payload.len())
    }
}

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// Who is told what became of a command. Dropped untold when the shard stops.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    pub(crate) fn new(tell: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }
}

impl<T: Send + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// Our log id in the library's terms.
pub(crate) fn to_raft(id: types::LogId) -> LogId {
    LogId { leader_id: leader_id_std::CommittedLeaderId::new(id.term.0), index: id.index.0 }
}

/// The library's log id in ours.
pub(crate) fn from_raft(id: &LogId) -> types::LogId {
    types::LogId { term: Term(*id.leader_id), index: LogIndex(id.index) }
}

/// The library's node id in ours. Ours fit in 32 bits, and only ours go in.
pub(crate) fn node(id: u64) -> NodeId {
    NodeId(id as u32)
}
