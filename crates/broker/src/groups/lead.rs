//! What a node does for the coordinators that it leads: it looks, and it proposes.

use super::{Answer, Call, Error, Groups};
use crate::broker::Broker;
use flotilla_machine::groups::{Command, Groups as Rules, Outcome};
use flotilla_machine::{Command as Entry, Outcome as Applied};
use flotilla_raft::{ProposeError, Shard};
use flotilla_types::error::Describe;
use flotilla_types::{Failure, GroupId, Reason, ShardId};
use std::sync::Arc;

impl Broker {
    /// Does what another node, or this one, asks of a coordinator that is led here.
    pub(crate) async fn coordinate(&self, call: Call) -> Result<Answer, Error> {
        match call {
            Call::Heartbeat(heartbeat) => self.heartbeat_here(heartbeat).await.map(Answer::Heartbeat),
            Call::Commit(commit) => self.commit_here(commit).await.map(Answer::Committed),
            Call::Fetch(fetch) => self.fetch_here(fetch).await.map(Answer::Fetched),
            Call::List { coordinator, after, limit, filter } => {
                self.list_here(ShardId(coordinator), after, limit, &filter).await
            }
            Call::Get { group } => {
                self.describe_here(&group).await.map(|group| Answer::Group(Box::new(group)))
            }
            Call::Update(update) => {
                self.update_group_here(update).await.map(|group| Answer::Group(Box::new(group)))
            }
            Call::Delete { group, force } => {
                self.delete_group_here(group, force).await.map(|()| Answer::Deleted)
            }
            Call::Seek(seek) => self.seek_here(seek).await.map(Answer::Sought),
            Call::Explain { group } => self.explain_here(&group).await.map(Answer::Explained),
        }
    }

    /// The coordinator of a group, which must be led here.
    pub(crate) fn coordinator(&self, group: &GroupId) -> Result<Arc<Shard>, Error> {
        let placed = self.routes().coordinator_of(group).map(|placed| placed.shard);
        placed.and_then(|shard| self.led_coordinator(shard)).ok_or_else(|| self.elsewhere(group))
    }

    /// Somebody else coordinates the group.
    pub(super) fn elsewhere(&self, group: &GroupId) -> Error {
        let routes = self.routes();
        let leader = routes.coordinator_of(group).and_then(|placed| placed.leader);
        let leader = routes.hint(leader.filter(|(node, _)| *node != self.info.id));
        Error::NotCoordinator { group: group.clone(), leader }
    }

    /// A coordinator that this node leads, its memory made ready for this term.
    pub(super) fn led_coordinator(&self, id: ShardId) -> Option<Arc<Shard>> {
        let shard = self.shard(id)?;
        let leadership = shard.leadership();
        if !leadership.is_leader {
            self.groups.memory.end(id);
            return None;
        }
        if !self.groups.memory.knows(id, leadership.term) {
            self.take_over(&shard, leadership.term);
        }
        Some(shard)
    }

    /// Everything that was committed anywhere is applied here from now on.
    pub(super) async fn settled(&self, group: &GroupId, shard: &Shard) -> Result<(), Error> {
        match tokio::time::timeout(self.config.forward_timeout, shard.read_barrier()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.group_away(group, error)),
            Err(_) => Err(Error::Loading {
                group: group.clone(),
                why: "its majority did not answer in time".to_owned(),
            }),
        }
    }

    /// Proposes to a group's coordinator and waits for the outcome.
    pub(super) async fn decide(
        &self,
        group: &GroupId,
        shard: &Shard,
        command: Command,
    ) -> Result<Outcome, Error> {
        let proposal = shard.propose(Entry::Group(command), bytes::Bytes::new());
        match tokio::time::timeout(self.config.forward_timeout, proposal).await {
            Ok(Ok(Applied::Group(outcome))) => Ok(*outcome),
            Ok(Ok(other)) => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
            Ok(Err(error)) => Err(self.group_away(group, error)),
            Err(_) => Err(Error::Lost("no outcome in time".to_owned())),
        }
    }

    fn group_away(&self, group: &GroupId, error: ProposeError) -> Error {
        match error {
            ProposeError::NotLeader { leader } => {
                let leader = leader.filter(|(node, _)| *node != self.info.id);
                Error::NotCoordinator { group: group.clone(), leader: self.routes().hint(leader) }
            }
            error @ ProposeError::Lost { .. } => Error::Lost(error.to_string()),
            ProposeError::Broken { why } => {
                Error::Remote(Box::new(Failure::new(Reason::StorageFailure, why)))
            }
            error => Error::Loading { group: group.clone(), why: error.to_string() },
        }
    }

    pub(super) fn counted_group<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer {
            crate::metrics::count(&self.metrics.group_errors, error.describe().reason);
        }
        answer
    }
}

/// Looks at the groups of a coordinator.
pub(super) fn look<T>(shard: &Shard, look: impl FnOnce(&Rules) -> T) -> Result<T, Error> {
    let looked = shard.read(|state| state.coordinator().map(|coordinator| look(coordinator.groups())));
    looked.ok_or_else(|| Error::Lost(format!("shard {} is no coordinator", shard.id())))
}

impl Groups {
    /// For whoever stops waiting.
    pub fn nudge(&self) {
        self.work.notify_one();
    }
}
