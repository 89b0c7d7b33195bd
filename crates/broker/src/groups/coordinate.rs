//! From a group's name to the leader of its coordinator, here or on another node.

use super::{
    CommitOffsets, Error, FetchOffsets, FetchedOffsets, Finding, Group, Groups, Heartbeat, HeartbeatAnswer,
    PartitionFailure, Room, Seek, Seeked,
};
use crate::broker::Broker;
use crate::context::Context;
use crate::forward;
use crate::routes::PartitionRoute;
use flotilla_machine::groups::{Command, Groups as Rules, Outcome};
use flotilla_machine::{Command as Entry, Outcome as Applied};
use flotilla_raft::{ProposeError, Shard};
use flotilla_types::error::Describe;
use flotilla_types::{GroupId, NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A pause between tries, while a coordinator finds a leader.
const PAUSE: Duration = Duration::from_millis(20);

/// What is asked of the leader of a group's coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Heartbeat(Heartbeat),
    Commit(CommitOffsets),
    Fetch(FetchOffsets),
    /// The groups of one coordinator after a name, by name.
    List {
        coordinator: u32,
        after: Option<GroupId>,
        limit: u32,
        filter: String,
    },
    Get {
        group: GroupId,
    },
    Delete {
        group: GroupId,
        force: bool,
    },
    Seek(Seek),
    Explain {
        group: GroupId,
    },
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Heartbeat(HeartbeatAnswer),
    Committed(Vec<PartitionFailure>),
    Fetched(FetchedOffsets),
    /// Groups that pass the filter, and whether there are more.
    Listed {
        groups: Vec<Group>,
        more: bool,
    },
    Group(Box<Group>),
    Deleted,
    Sought(Seeked),
    Explained(Vec<Finding>),
}

impl Call {
    /// How long the answer may be held on purpose.
    fn hold(&self) -> Duration {
        match self {
            Self::Heartbeat(heartbeat) => heartbeat.max_wait,
            _ => Duration::ZERO,
        }
    }

    /// Whether a second try is as good as the first, even if the first one was carried out: reads, and
    /// heartbeats, whose every field says how things are and not what to add.
    fn is_repeatable(&self) -> bool {
        match self {
            Self::Heartbeat(_)
            | Self::Fetch(_)
            | Self::List { .. }
            | Self::Get { .. }
            | Self::Explain { .. } => true,
            Self::Seek(seek) => seek.validate_only,
            Self::Commit(_) | Self::Delete { .. } => false,
        }
    }
}

impl Broker {
    /// Asks the leader of the group's coordinator, wherever it is, until somebody answers or the time of a
    /// control call is over.
    pub(super) async fn ask_coordinator(
        &self,
        context: &Context,
        group: &GroupId,
        call: Call,
    ) -> Result<Answer, Error> {
        self.serving().map_err(Error::Quarantined)?;
        let wait = context.remaining(self.clock.monotonic(), self.config.forward_timeout);
        let mut routes = self.watch_routes();
        // A new cluster places its coordinators in its first moments.
        let placed = routes.wait_for(|routes| !routes.coordinators.is_empty());
        let shard = match tokio::time::timeout(wait, placed).await {
            Ok(Ok(routes)) => routes.coordinator_of(group).map(|placed| placed.shard),
            _ => None,
        };
        let Some(shard) = shard else {
            let why = "coordinators are not placed yet".to_owned();
            return Err(Error::Loading { group: group.clone(), why });
        };
        self.ask_coordinator_shard(context, shard, group, call).await
    }

    /// The same for a coordinator by number; `group` is for messages.
    pub(super) async fn ask_coordinator_shard(
        &self,
        context: &Context,
        shard: ShardId,
        group: &GroupId,
        call: Call,
    ) -> Result<Answer, Error> {
        self.serving().map_err(Error::Quarantined)?;
        let begun = self.clock.monotonic();
        let limit = context.remaining(begun, self.config.forward_timeout);
        let mut last = Error::Loading { group: group.clone(), why: "nobody leads it".to_owned() };
        loop {
            let routes = self.routes();
            let placed = routes.coordinators.iter().find(|placed| placed.shard == shard);
            if let Some(node) = placed.and_then(|placed| self.who_leads(placed)) {
                let answer = if node == self.info.id {
                    self.coordinate(call.clone()).await
                } else {
                    self.pass_on(node, call.clone()).await
                };
                match answer {
                    Err(error) if error.is_elsewhere() => last = error,
                    Err(error) if error.is_lost() && call.is_repeatable() => last = error,
                    answer => return answer,
                }
            }
            if self.clock.monotonic().since(begun) >= limit {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        // A member's client repeats its heartbeat with the same epoch, whatever became of this one.
        match last {
            Error::Lost(why) if call.is_repeatable() => Err(Error::Loading { group: group.clone(), why }),
            Error::Remote(failure) if failure.outcome_unknown && call.is_repeatable() => {
                Err(Error::Loading { group: group.clone(), why: failure.message })
            }
            last => Err(last),
        }
    }

    /// This node if it may serve, else whoever is told to lead.
    fn who_leads(&self, placed: &PartitionRoute) -> Option<NodeId> {
        let own = self.shard(placed.shard).map(|shard| shard.leadership());
        if own.as_ref().is_some_and(|leadership| leadership.is_leader) {
            return Some(self.info.id);
        }
        let known = own.and_then(|leadership| leadership.known());
        let newest = known.into_iter().chain(placed.leader).max_by_key(|(_, term)| *term);
        newest.map(|(node, _)| node).filter(|node| *node != self.info.id)
    }

    /// Passes a call to another node. Those that wait there are bounded; one more does not wait there but
    /// here, for no news.
    async fn pass_on(&self, node: NodeId, mut call: Call) -> Result<Answer, Error> {
        let hold = call.hold();
        let most = self.config.groups.forwards_held_max;
        let room = match hold.is_zero() {
            true => None,
            false => Room::take(&self.groups.forwards_held, most, &self.metrics.group_forwards_held),
        };
        let waits_there = room.is_some();
        if let Call::Heartbeat(heartbeat) = &mut call
            && !waits_there
        {
            heartbeat.max_wait = Duration::ZERO;
        }
        let wait = if waits_there { hold } else { Duration::ZERO };
        let call = forward::Call::Group(Box::new(call));
        let answer = self.ask_within(node, call, self.config.forward_timeout + wait).await;
        drop(room);
        match answer {
            Ok(forward::Answer::Group(answer)) => {
                if !waits_there && let Answer::Heartbeat(HeartbeatAnswer { assignment: None, .. }) = &*answer
                {
                    tokio::time::sleep(hold.min(self.config.groups.heartbeat_interval)).await;
                }
                Ok(*answer)
            }
            Ok(other) => Err(Error::Lost(format!("node {node} answered {other:?}"))),
            Err(crate::admin::Error::ControllerAway(why)) => Err(Error::Remote(Box::new(
                flotilla_types::Failure::new(flotilla_types::Reason::CoordinatorLoading, why),
            ))),
            Err(error) => Err(error.into()),
        }
    }

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
            Call::Delete { group, force } => {
                self.delete_group_here(group, force).await.map(|()| Answer::Deleted)
            }
            Call::Seek(seek) => self.seek_here(seek).await.map(Answer::Sought),
            Call::Explain { group } => self.explain_here(&group).await.map(Answer::Explained),
        }
    }

    /// The coordinator of a group, which must be led here.
    pub(super) fn coordinator(&self, group: &GroupId) -> Result<Arc<Shard>, Error> {
        let routes = self.routes();
        let elsewhere = |leader| Error::NotCoordinator { group: group.clone(), leader };
        let placed = routes.coordinator_of(group).ok_or_else(|| elsewhere(None))?;
        match self.led_coordinator(placed.shard) {
            Some(shard) => Ok(shard),
            None => Err(elsewhere(routes.hint(placed.leader.filter(|(node, _)| *node != self.info.id)))),
        }
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
            ProposeError::Broken { why } => Error::Remote(Box::new(flotilla_types::Failure::new(
                flotilla_types::Reason::StorageFailure,
                why,
            ))),
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
