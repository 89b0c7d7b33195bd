//! The handle of one shard on this node: propose, wait, look, and change who leads or takes part.

use crate::error::{Error, ProposeError};
use crate::status::{Leadership, Progress, ReplicaStatus};
use bytes::Bytes;
use flotilla_machine::{Command, Outcome};
use flotilla_types::{LogIndex, NodeId, Offset, ShardId};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{oneshot, watch};

/// One shard on this node.
#[derive(Debug)]
pub struct Shard {}

/// A command on its way. Resolves to its outcome once it is committed and applied here. Dropping it does not
/// take the command back.
#[derive(Debug)]
#[must_use = "the outcome tells whether the command took effect"]
pub struct Proposal {
    pub(crate) answer: oneshot::Receiver<Result<Outcome, ProposeError>>,
}

impl Future for Proposal {
    type Output = Result<Outcome, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A closed channel: the shard was stopped with the command inside, so nothing is known of it.
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(ProposeError::Lost { leader: None })))
    }
}

impl Shard {
    /// Which shard.
    pub fn id(&self) -> ShardId {
        unimplemented!()
    }

    /// Queues a command; calls of one shard are appended in the order of these calls.
    pub fn propose(&self, command: Command, payload: Bytes) -> Proposal {
        let _ = (command, payload);
        unimplemented!()
    }

    /// Waits until this node has applied everything that was committed anywhere before the call.
    pub async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        unimplemented!()
    }

    /// Who leads and who takes part.
    pub fn leadership(&self) -> Leadership {
        unimplemented!()
    }

    /// The same, as it changes.
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        unimplemented!()
    }

    /// How far this replica has come.
    pub fn progress(&self) -> Progress {
        unimplemented!()
    }

    /// The same, as it changes.
    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        unimplemented!()
    }

    /// Index rows below this offset are written: readable in the store.
    pub fn stored_to(&self) -> Offset {
        unimplemented!()
    }

    /// Looks at the applied state under a short lock. Call nothing else from `look`.
    pub fn read<T>(&self, look: impl FnOnce(&flotilla_machine::Shard) -> T) -> T {
        let _ = look;
        unimplemented!()
    }

    /// Leader only: hands leadership to a voter that has caught up, and waits until it has it.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), Error> {
        let _ = to;
        unimplemented!()
    }

    /// Leader only: adds a replica without a vote; returns when that is committed, not when it has caught up.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), Error> {
        let _ = node;
        unimplemented!()
    }

    /// Leader only: these vote from now on. New ones must be learners. Who no longer votes is removed.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), Error> {
        let _ = voters;
        unimplemented!()
    }

    /// Leader only: removes a learner.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), Error> {
        let _ = node;
        unimplemented!()
    }

    /// Leader only (empty elsewhere): the replicas as it sees them, itself included.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        unimplemented!()
    }

    /// Why the shard stopped on this node, if it is broken.
    pub fn broken(&self) -> Option<String> {
        unimplemented!()
    }

    /// Whether it rests: idle, without heartbeats of its own.
    pub fn is_resting(&self) -> bool {
        unimplemented!()
    }
}
