//! From a topic's name to the shard that carries the partition here, or to who should be asked instead.

use crate::broker::Broker;
use crate::routes::{PartitionRoute, RouteError, Routes, TopicRoute};
use flotilla_raft::{Leadership, Shard};
use flotilla_types::{PartitionId, Term, TopicId, TopicName};
use std::sync::Arc;
use std::time::Duration;

/// A call that meets an election waits this long for its end. Longer, and the caller should look elsewhere.
const ELECTION_WAIT: Duration = Duration::from_millis(500);

/// A partition that this node leads.
pub(crate) struct Located<'a> {
    pub topic: &'a Arc<TopicRoute>,
    pub shard: Arc<Shard>,
    pub leadership: Leadership,
}

impl Broker {
    /// As [`Broker::locate`], but a leader that was just elected gets a moment to apply what was before it.
    pub(crate) async fn locate_soon<'a>(
        &self,
        routes: &'a Routes,
        topic: &TopicName,
        partition: PartitionId,
        id: Option<TopicId>,
    ) -> Result<Located<'a>, RouteError> {
        let located = self.locate(routes, topic, partition, id);
        if !matches!(located, Err(RouteError::NotLeader { leader: None, .. })) {
            return located;
        }
        let (_, placed) = routes.find(topic, partition, id)?;
        let Some(shard) = self.shard(placed.shard) else { return located };
        let mut leadership = shard.watch_leadership();
        let own = Some(self.info.id);
        let settled =
            leadership.wait_for(|now| now.is_leader || now.leader.is_some_and(|_| now.leader != own));
        if tokio::time::timeout(ELECTION_WAIT, settled).await.is_err() {
            return located;
        }
        self.locate(routes, topic, partition, id)
    }

    /// Finds a partition that this node leads and may serve.
    pub(crate) fn locate<'a>(
        &self,
        routes: &'a Routes,
        topic: &TopicName,
        partition: PartitionId,
        id: Option<TopicId>,
    ) -> Result<Located<'a>, RouteError> {
        let serving = self.serving().map_err(RouteError::Quarantined)?;
        if self.is_draining() {
            return Err(RouteError::ShuttingDown);
        }
        let (route, placed) = routes.find(topic, partition, id)?;
        let shard = serving.host.shard(placed.shard);
        let leadership = shard.as_ref().map(|shard| shard.leadership());
        match (shard, leadership) {
            (Some(shard), Some(leadership)) if leadership.is_leader => {
                Ok(Located { topic: route, shard, leadership })
            }
            (_, leadership) => Err(self.not_leader(routes, (topic, partition), placed, leadership.as_ref())),
        }
    }

    /// Refuses callers whose leader epoch is not this leadership's.
    pub(crate) fn fence(
        &self,
        routes: &Routes,
        (topic, partition): (&TopicName, PartitionId),
        leadership: &Leadership,
        asked: Option<Term>,
    ) -> Result<(), RouteError> {
        let now = leadership.term;
        match asked {
            Some(asked) if asked < now => Err(RouteError::FencedEpoch {
                topic: topic.clone(),
                partition,
                asked,
                now,
                leader: routes.hint(leadership.known()),
            }),
            Some(asked) if asked > now => {
                Err(RouteError::UnknownEpoch { topic: topic.clone(), partition, asked, now })
            }
            _ => Ok(()),
        }
    }

    /// Names the leader that the shard itself knows, else the one that the nodes tell of. Never this node:
    /// if it leads but may not serve yet, the caller waits a moment.
    fn not_leader(
        &self,
        routes: &Routes,
        (topic, partition): (&TopicName, PartitionId),
        placed: &PartitionRoute,
        leadership: Option<&Leadership>,
    ) -> RouteError {
        let own = leadership.and_then(Leadership::known);
        let newest = own.into_iter().chain(placed.leader).max_by_key(|(_, term)| *term);
        let leader = newest.filter(|(node, _)| *node != self.info.id);
        RouteError::NotLeader { topic: topic.clone(), partition, leader: routes.hint(leader) }
    }
}
