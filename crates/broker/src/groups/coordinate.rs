//! From a group's name to the leader of its coordinator, here or on another node.

use super::{Answer, Call, Error, HeartbeatAnswer, Room};
use crate::broker::Broker;
use crate::context::Context;
use crate::forward;
use crate::routes::PartitionRoute;
use flotilla_types::{Failure, GroupId, NodeId, Reason, ShardId};
use std::time::Duration;

/// A pause between tries, while a coordinator finds a leader.
const PAUSE: Duration = Duration::from_millis(20);

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
                    self.pass_on(node, (shard, group), call.clone()).await
                };
                match answer {
                    Err(error) if error.is_elsewhere() || (error.is_lost() && call.is_repeatable()) => {
                        last = error;
                    }
                    answer => return answer,
                }
                if call.only_waits() {
                    break;
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
    async fn pass_on(
        &self,
        node: NodeId,
        (shard, group): (ShardId, &GroupId),
        mut call: Call,
    ) -> Result<Answer, Error> {
        let (hold, only_waits) = (call.hold(), call.only_waits());
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
        let asked = self.ask_within(node, call, self.config.forward_timeout + wait);
        let answer = if waits_there {
            tokio::select! {
                answer = asked => answer,
                () = self.is_deposed(shard, node) => return Err(self.elsewhere(group)),
                () = self.stops(), if only_waits => {
                    let why = "this node is stopping".to_owned();
                    return Err(Error::Loading { group: group.clone(), why });
                }
            }
        } else {
            asked.await
        };
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
            Err(crate::admin::Error::ControllerAway(why)) => {
                let failure = Failure::new(Reason::CoordinatorLoading, why);
                Err(Error::Remote(Box::new(failure)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends when somebody else is known to lead a coordinator: a node that stands still does not say so.
    async fn is_deposed(&self, shard: ShardId, node: NodeId) {
        let mut routes = self.watch_routes();
        let other = routes.wait_for(|routes| {
            let placed = routes.coordinators.iter().find(|placed| placed.shard == shard);
            placed.and_then(|placed| placed.leader).is_some_and(|(leader, _)| leader != node)
        });
        // The table lives as long as the node.
        if other.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when this node drains.
    async fn stops(&self) {
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }
}
