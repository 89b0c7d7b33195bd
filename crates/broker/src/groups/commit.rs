//! Offset commits: what is wrong with one of them is said of that one, the others are stored.
//!
//! Where a log ends is known to its leader only, and applying a command reads its own shard only. So it is asked
//! here: a commit beyond the end would skip records that nobody has written yet.

use super::ends::Want;
use super::{Answer, Call};
use super::{CommitOffsets, Error, OffsetCommit, PartitionFailure};
use crate::broker::Broker;
use crate::context::Context;
use crate::routes::Routes;
use flotilla_machine::groups::{self as rules, Answer as Decided, Command};
use flotilla_types::error::Describe;
use flotilla_types::{
    Failure, GroupEpoch, NodeId, Offset, PartitionId, Reason, ShardId, Term, TopicId, TopicName, limits,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long to wait before a partition's leader is looked for again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// A partition that an offset is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub topic: TopicId,
    pub partition: PartitionId,
    pub shard: ShardId,
    pub leader: Option<NodeId>,
}

impl Broker {
    /// Stores offsets, by way of any node. Answers those that were not stored.
    pub async fn commit_offsets(
        &self,
        context: &Context,
        commit: CommitOffsets,
    ) -> Result<Vec<PartitionFailure>, Error> {
        let group = commit.group.clone();
        let answer = match check_count(commit.offsets.len()) {
            Ok(()) => self.ask_coordinator(context, &group, Call::Commit(commit)).await,
            Err(error) => Err(error),
        };
        match self.counted_group(answer)? {
            Answer::Committed(failures) => {
                for failure in &failures {
                    crate::metrics::count(&self.metrics.group_errors, failure.failure.reason);
                }
                Ok(failures)
            }
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn commit_here(&self, commit: CommitOffsets) -> Result<Vec<PartitionFailure>, Error> {
        let shard = self.coordinator(&commit.group)?;
        check_count(commit.offsets.len())?;
        let (accepted, mut failures) = self.checked(&commit.offsets).await;
        let named: BTreeMap<(TopicId, PartitionId), &OffsetCommit> =
            accepted.iter().map(|(target, asked)| ((target.topic, target.partition), *asked)).collect();
        if !accepted.is_empty() || commit.offsets.is_empty() {
            let offsets = accepted.iter().map(|(target, asked)| rules::OffsetCommit {
                topic: target.topic,
                partition: target.partition,
                offset: Offset(asked.offset as u64),
                leader_epoch: asked.leader_epoch.and_then(|epoch| u64::try_from(epoch).ok()).map(Term),
                metadata: asked.metadata.clone(),
            });
            let command = Command::Commit {
                group: commit.group.clone(),
                member: commit.member.clone().map(|(member, epoch)| (member, GroupEpoch(epoch))),
                number: commit.number,
                offsets: offsets.collect(),
                now: self.clock.wall(),
            };
            match self.decide(&commit.group, &shard, command).await?.answer {
                Ok(Decided::Committed { refused }) => {
                    for refused in refused {
                        let asked = named.get(&(refused.topic, refused.partition));
                        let failure = refused.refusal.describe();
                        failures.extend(asked.map(|asked| failed(asked, failure)));
                    }
                }
                Ok(other) => {
                    return Err(Error::Lost(format!("the coordinator answered {other:?} to a commit")));
                }
                Err(refusal) => return Err(Error::Rules(Box::new(refusal))),
            }
            self.metrics.group_commits.inc_by((commit.offsets.len() - failures.len()) as u64);
        }
        Ok(failures)
    }

    /// Parts what can be stored from what cannot.
    pub(super) async fn checked<'a>(
        &self,
        offsets: &'a [OffsetCommit],
    ) -> (Vec<(Target, &'a OffsetCommit)>, Vec<PartitionFailure>) {
        let routes = self.routes();
        let mut failures = Vec::new();
        let mut targets = Vec::new();
        for asked in offsets {
            match check(&routes, asked) {
                Ok(target) => targets.push((target, asked)),
                Err(failure) => failures.push(failed(asked, failure)),
            }
        }
        // Below a watermark that was heard before, or that a replica here has, nobody needs to be asked.
        let above = |(target, asked): &&(Target, &OffsetCommit)| {
            let here = self.shard(target.shard).map_or(0, |shard| shard.progress().high_watermark.get());
            asked.offset as u64 > here.max(self.groups.watermarks.known(target.shard))
        };
        let unknown = targets.iter().filter(above).map(|(t, _)| (t.shard, t.leader, Want::Ends)).collect();
        let ends = self.ends(unknown).await;
        targets.retain(|entry| {
            let (target, asked) = *entry;
            let failure = match ends.get(&target.shard) {
                Some(end) if asked.offset as u64 > end.high_watermark => {
                    let message =
                        format!("offset {} is beyond the end, {}", asked.offset, end.high_watermark);
                    Failure::new(Reason::OffsetOutOfRange, message).with("high_watermark", end.high_watermark)
                }
                None if above(&entry) => Failure::new(
                    Reason::LeaderNotAvailable,
                    "the partition's leader cannot say where the log ends",
                )
                .retry_after(LEADER_PAUSE),
                _ => return true,
            };
            failures.push(failed(asked, failure));
            false
        });
        (targets, failures)
    }
}

/// What is wrong with an offset by itself, or the partition it is for.
fn check(routes: &Routes, asked: &OffsetCommit) -> Result<Target, Failure> {
    let target = find(routes, &asked.topic, asked.partition, asked.topic_id)?;
    let invalid = |field, message| Err(Failure::new(Reason::InvalidArgument, message).with("field", field));
    if asked.offset < 0 {
        let message = format!("committed_offset is {}, expected at least 0", asked.offset);
        return invalid("committed_offset", message);
    }
    if let Some(epoch) = asked.leader_epoch.filter(|epoch| *epoch < 0) {
        let message = format!("committed_leader_epoch is {epoch}, expected at least 0");
        return invalid("committed_leader_epoch", message);
    }
    if asked.metadata.len() > limits::OFFSET_METADATA_MAX {
        let (len, most) = (asked.metadata.len(), limits::OFFSET_METADATA_MAX);
        return invalid("metadata", format!("metadata has {len} bytes, limit {most}"));
    }
    Ok(target)
}

/// The partition that is meant, as this node knows it.
pub(super) fn find(
    routes: &Routes,
    topic: &str,
    partition: i32,
    id: Option<TopicId>,
) -> Result<Target, Failure> {
    let invalid =
        |field, message: String| Failure::new(Reason::InvalidArgument, message).with("field", field);
    let name = TopicName::new(topic).map_err(|error| invalid("topic", error.to_string()))?;
    let number = u32::try_from(partition)
        .map(PartitionId)
        .map_err(|_| invalid("partition", format!("partition is {partition}, expected at least 0")))?;
    let (route, placed) = routes.find(&name, number, id).map_err(|error| error.describe())?;
    let leader = placed.leader.map(|(node, _)| node);
    Ok(Target { topic: route.id, partition: number, shard: placed.shard, leader })
}

fn failed(asked: &OffsetCommit, failure: Failure) -> PartitionFailure {
    PartitionFailure { topic: asked.topic.clone(), partition: asked.partition, failure }
}

fn check_count(count: usize) -> Result<(), Error> {
    if count > limits::OFFSET_COMMITS_MAX {
        let expected = format!("expected at most {}", limits::OFFSET_COMMITS_MAX);
        return Err(Error::invalid("offsets", &count.to_string(), expected));
    }
    Ok(())
}
