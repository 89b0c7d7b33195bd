//! Who leads and who takes part: transfer, learners, voters.

use crate::error::Error;
use crate::shard::Shard;
use crate::types::Types;
use flotilla_types::NodeId;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use std::collections::BTreeSet;
use std::time::Duration;

fn id(node: NodeId) -> u64 {
    u64::from(node.0)
}

impl Shard {
    /// Leader only: hands leadership to a voter, and waits until it has it. One that has not caught up cannot
    /// take it.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), Error> {
        let shard = self.id();
        let leadership = self.leadership();
        if leadership.leader == Some(to) {
            return Ok(());
        }
        if !self.leads() {
            return Err(Error::NotLeader { shard, leader: leadership.known() });
        }
        if !leadership.voters.contains(&to) {
            return Err(Error::NotVoter { shard, node: to });
        }
        self.awake().await?;
        let mut watch = self.watch_leadership();
        self.raft.trigger().transfer_leader(id(to)).await.map_err(|_| Error::Stopped { shard })?;
        let wait = self.links.config.election_max() * 2;
        let moved = watch.wait_for(|now| now.leader.is_some_and(|leader| leader != self.links.node));
        let leader = match tokio::time::timeout(wait, moved).await {
            Ok(Ok(now)) => now.leader,
            Ok(Err(_)) => return Err(Error::Stopped { shard }),
            Err(_) => None,
        };
        if leader == Some(to) {
            Ok(())
        } else {
            Err(Error::TimedOut { shard, what: "the transfer of leadership", ms: wait.as_millis() as u64 })
        }
    }

    /// Leader only: adds a replica without a vote; returns when that is committed, not when it has caught up.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), Error> {
        self.awake().await?;
        self.changed(self.raft.add_learner(id(node), EmptyNode {}, false).await.map(|_| ()))
    }

    /// Leader only: these vote from now on. New ones must be learners. Who no longer votes is removed.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), Error> {
        self.awake().await?;
        let voters: BTreeSet<u64> = voters.into_iter().map(id).collect();
        self.changed(
            self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false).await.map(|_| ()),
        )
    }

    /// Leader only: removes a learner.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), Error> {
        self.awake().await?;
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([id(node)]));
        self.changed(self.raft.change_membership(change, false).await.map(|_| ()))
    }

    /// Wakes the shard if it rests, so that consensus takes changes.
    async fn awake(&self) -> Result<(), Error> {
        if let Some(refusal) = self.refusal() {
            return Err(self.error(refusal));
        }
        self.replica.touch();
        self.wake("a change");
        self.hear_majority().await.map(|_| ()).map_err(|error| self.error(error))
    }

    fn changed(&self, result: Result<(), RaftError<Types, ClientWriteError<Types>>>) -> Result<(), Error> {
        let shard = self.id();
        result.map_err(|error| match error {
            RaftError::Fatal(_) => Error::Stopped { shard },
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
                Error::NotLeader { shard, leader: self.observe().known() }
            }
            RaftError::APIError(error) => Error::Refused { shard, why: error.to_string() },
        })
    }

    /// Hands leadership to the voter that has come furthest, if there is one, within `wait`.
    pub(crate) async fn hand_over(&self, wait: Duration) -> bool {
        let this = self.links.node;
        let best = self
            .replicas()
            .into_iter()
            .filter(|replica| replica.voter && replica.node != this)
            .filter(|replica| self.links.transport.state(replica.node) == crate::transport::PeerState::Up)
            .max_by_key(|replica| (replica.matched, replica.node));
        let Some(best) = best else { return false };
        matches!(tokio::time::timeout(wait, self.transfer_leadership(best.node)).await, Ok(Ok(())))
    }
}
