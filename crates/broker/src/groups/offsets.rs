//! Stored offsets, read after everything that was committed before the call.

use super::commit::find;
use super::lead::look;
use super::{Answer, Call};
use super::{Error, FetchOffsets, FetchedOffsets, OffsetCommit, PartitionFailure};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_machine::groups::Committed;
use flotilla_types::{Failure, PartitionId, Reason, TopicId, TopicName, limits};
use std::collections::BTreeMap;

impl Broker {
    /// Reads offsets, by way of any node.
    pub async fn fetch_offsets(
        &self,
        context: &Context,
        fetch: FetchOffsets,
    ) -> Result<FetchedOffsets, Error> {
        let group = fetch.group.clone();
        let count = fetch.partitions.len();
        let answer = if count > limits::OFFSET_COMMITS_MAX {
            let expected = format!("expected at most {}", limits::OFFSET_COMMITS_MAX);
            Err(Error::invalid("partitions", &count.to_string(), expected))
        } else {
            self.ask_coordinator(context, &group, Call::Fetch(fetch)).await
        };
        match self.counted_group(answer)? {
            Answer::Fetched(fetched) => Ok(fetched),
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn fetch_here(&self, fetch: FetchOffsets) -> Result<FetchedOffsets, Error> {
        let shard = self.coordinator(&fetch.group)?;
        self.settled(&fetch.group, &shard).await?;
        let routes = self.routes();
        let mut fetched = FetchedOffsets::default();
        let mut asked = Vec::with_capacity(fetch.partitions.len());
        for (topic, partition) in &fetch.partitions {
            match find(&routes, topic, *partition, None) {
                Ok(target) => asked.push((target.topic, target.partition)),
                Err(failure) => {
                    let (topic, partition) = (topic.clone(), *partition);
                    fetched.errors.push(PartitionFailure { topic, partition, failure });
                }
            }
        }
        let found = look(&shard, |groups| {
            let Some(group) = groups.get(&fetch.group) else {
                return Err(Error::NotFound(fetch.group.clone()));
            };
            if let Some(epoch) = fetch.member_epoch.filter(|epoch| *epoch > group.epoch().get()) {
                let message =
                    format!("member epoch {epoch} is ahead of group {}, at {}", fetch.group, group.epoch());
                return Err(Error::Remote(Box::new(Failure::new(Reason::StaleMemberEpoch, message))));
            }
            let all = fetch.partitions.is_empty();
            let offsets: Vec<((TopicId, PartitionId), Committed)> = if all {
                group.offsets().iter().map(|(place, committed)| (*place, committed.clone())).collect()
            } else {
                let one = |place: &(TopicId, PartitionId)| {
                    group.offset(place.0, place.1).map(|committed| (*place, committed.clone()))
                };
                asked.iter().filter_map(one).collect()
            };
            Ok(offsets)
        })??;
        let names: BTreeMap<TopicId, &TopicName> =
            routes.topics.values().map(|topic| (topic.id, &topic.name)).collect();
        // An offset of a topic that is gone has no name any more.
        let named = found.into_iter().filter_map(|((topic, partition), committed)| {
            let name = names.get(&topic)?;
            Some(OffsetCommit {
                topic: name.to_string(),
                partition: partition.get() as i32,
                offset: committed.offset.get() as i64,
                leader_epoch: committed.leader_epoch.map(|term| term.get() as i64),
                metadata: committed.metadata,
                topic_id: Some(topic),
            })
        });
        fetched.offsets = named.collect();
        fetched.offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(fetched)
    }
}
