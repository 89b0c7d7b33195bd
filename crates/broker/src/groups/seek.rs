//! Other positions for a group, live or not: worked out from what the partitions' leaders say, held to the log,
//! and then one command. A dry run stops before the command.

use super::commit::find;
use super::describe::{Stand, by_id, stands};
use super::ends::{End, Want};
use super::lead::look;
use super::{Answer, Call};
use super::{Error, FetchOffsets, Move, OffsetCommit, PartitionFailure, Seek, SeekTo, Seeked};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_machine::groups::{self as rules, Answer as Decided, Command};
use flotilla_types::{Failure, Offset, PartitionId, Reason, TopicId, TopicName, limits};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long to wait before a partition's leader is looked for again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// Where every partition is to go, by topic and partition.
type Goals = BTreeMap<(TopicName, PartitionId), OffsetCommit>;

impl Broker {
    /// Moves a group's positions, by way of any node.
    pub async fn seek_group(&self, context: &Context, seek: Seek) -> Result<Seeked, Error> {
        let (group, dry) = (seek.group.clone(), seek.validate_only);
        let answer = match check(&seek) {
            Ok(()) => self.ask_coordinator(context, &group, Call::Seek(seek)).await,
            Err(error) => Err(error),
        };
        match self.counted_group(answer)? {
            Answer::Sought(seeked) => {
                if !dry {
                    tracing::info!(%group, partitions = seeked.moves.len(), failed = seeked.errors.len(),
                        client = %context.client, "group's positions moved");
                }
                Ok(seeked)
            }
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn seek_here(&self, seek: Seek) -> Result<Seeked, Error> {
        let shard = self.coordinator(&seek.group)?;
        self.settled(&seek.group, &shard).await?;
        let mut seeked = Seeked::default();
        let goals = match &seek.to {
            SeekTo::Offsets(offsets) => named(offsets),
            SeekTo::LikeGroup(other) => named(&self.offsets_of(other).await?),
            _ => Goals::new(),
        };
        let wanted = self.wanted_partitions(&shard, &seek, &goals, &mut seeked.errors)?;
        let asked = wanted.iter().map(|stand| {
            let want = match &seek.to {
                SeekTo::Time(time) => Want::OffsetAt(*time),
                _ => Want::Ends,
            };
            (stand.shard, stand.leader, want)
        });
        let ends = self.ends(asked.collect()).await;
        let mut offsets = Vec::new();
        for stand in wanted {
            let goal = goals.get(&(stand.topic.clone(), stand.partition));
            let Some(end) = ends.get(&stand.shard) else {
                let failure = Failure::new(
                    Reason::LeaderNotAvailable,
                    "the partition's leader cannot say where the log begins and ends",
                );
                seeked.errors.push(failed(&stand, failure.retry_after(LEADER_PAUSE)));
                continue;
            };
            match target(&seek.to, &stand, end, goal) {
                Ok(asked) => {
                    let to = asked.clamp(end.log_start as i64, end.high_watermark as i64);
                    offsets.push(rules::OffsetCommit {
                        topic: stand.topic_id,
                        partition: stand.partition,
                        offset: Offset(to as u64),
                        leader_epoch: None,
                        metadata: goal.map(|goal| goal.metadata.clone()).unwrap_or_default(),
                    });
                    seeked.moves.push(Move {
                        topic: stand.topic,
                        partition: stand.partition,
                        from: stand.committed,
                        to: to as u64,
                        clamped_from: (to != asked).then_some(asked),
                    });
                }
                Err(failure) => seeked.errors.push(failed(&stand, failure)),
            }
        }
        if seek.validate_only || offsets.is_empty() {
            return Ok(seeked);
        }
        let command = Command::Seek { group: seek.group.clone(), offsets, now: self.clock.wall() };
        match self.decide(&seek.group, &shard, command).await?.answer {
            Ok(Decided::Sought { moves }) => {
                // Where each one was when it moved: a commit may have come in between.
                for (shown, done) in seeked.moves.iter_mut().zip(moves) {
                    shown.from = done.from.map(Offset::get);
                }
                Ok(seeked)
            }
            Ok(other) => Err(Error::Lost(format!("the coordinator answered {other:?} to a seek"))),
            Err(refusal) => Err(Error::Rules(Box::new(refusal))),
        }
    }

    /// The partitions that are asked for, or all that the group (or the one it follows) has to do with.
    fn wanted_partitions(
        &self,
        shard: &flotilla_raft::Shard,
        seek: &Seek,
        goals: &Goals,
        errors: &mut Vec<PartitionFailure>,
    ) -> Result<Vec<Stand>, Error> {
        let routes = self.routes();
        let mut named: Vec<(String, i32)> = seek.partitions.clone();
        if named.is_empty() {
            named = goals.keys().map(|(topic, p)| (topic.to_string(), p.get() as i32)).collect();
        }
        let may_be_new = matches!(seek.to, SeekTo::Offsets(_) | SeekTo::LikeGroup(_));
        let looked = look(shard, |groups| {
            let group = groups.get(&seek.group);
            if group.is_none() && !may_be_new {
                return None;
            }
            let committed = |topic: TopicId, partition| {
                group.and_then(|group| group.offset(topic, partition)).map(|found| found.offset.get())
            };
            if named.is_empty() {
                return Some(
                    group.map(|group| stands(groups, group, (&routes, &by_id(&routes)))).unwrap_or_default(),
                );
            }
            let mut wanted = BTreeMap::new();
            for (topic, partition) in &named {
                match find(&routes, topic, *partition, None) {
                    Ok(target) => {
                        let Ok(name) = TopicName::new(topic) else { continue };
                        let stand = Stand {
                            topic: name,
                            topic_id: target.topic,
                            partition: target.partition,
                            shard: target.shard,
                            leader: target.leader,
                            committed: committed(target.topic, target.partition),
                            owner: None,
                        };
                        wanted.insert((stand.topic.clone(), stand.partition), stand);
                    }
                    Err(failure) => {
                        let (topic, partition) = (topic.clone(), *partition);
                        errors.push(PartitionFailure { topic, partition, failure });
                    }
                }
            }
            Some(wanted.into_values().collect())
        })?;
        looked.ok_or_else(|| Error::NotFound(seek.group.clone()))
    }

    /// Where another group is, whoever coordinates it.
    async fn offsets_of(&self, group: &flotilla_types::GroupId) -> Result<Vec<OffsetCommit>, Error> {
        let fetch = FetchOffsets { group: group.clone(), partitions: Vec::new(), member_epoch: None };
        let context = Context::internal();
        let asked = self.ask_coordinator(&context, group, Call::Fetch(fetch));
        // Boxed, because a coordinator may ask itself.
        match Box::pin(asked).await? {
            Answer::Fetched(fetched) => Ok(fetched.offsets),
            other => Err(Error::Lost(format!("a coordinator answered {other:?}"))),
        }
    }
}

/// Where a partition is to go, in the log or not.
fn target(to: &SeekTo, stand: &Stand, end: &End, goal: Option<&OffsetCommit>) -> Result<i64, Failure> {
    match to {
        SeekTo::Earliest => Ok(end.log_start as i64),
        SeekTo::Latest => Ok(end.high_watermark as i64),
        SeekTo::Time(_) => Ok(end.offset.unwrap_or(end.high_watermark) as i64),
        SeekTo::ShiftBy(by) => match stand.committed {
            Some(from) => Ok((from as i64).saturating_add(*by)),
            None => Err(Failure::new(
                Reason::InvalidArgument,
                "shift_by needs an offset to start from, and nothing was committed",
            )
            .with("field", "shift_by")),
        },
        SeekTo::LikeGroup(_) | SeekTo::Offsets(_) => match goal {
            Some(goal) if goal.topic_id.is_some_and(|id| id != stand.topic_id) => Err(Failure::new(
                Reason::UnknownTopicOrPartition,
                format!("topic {} has another id than the offset is for", stand.topic),
            )
            .with("topic_id", stand.topic_id.to_wire())),
            Some(goal) => Ok(goal.offset),
            None => Err(Failure::new(Reason::InvalidArgument, "there is no offset to go to for it")
                .with("field", "partitions")),
        },
    }
}

/// By partition; what has no good name is left to be refused by name.
fn named(offsets: &[OffsetCommit]) -> Goals {
    let one = |offset: &OffsetCommit| {
        let partition = PartitionId(u32::try_from(offset.partition).ok()?);
        Some(((TopicName::new(&offset.topic).ok()?, partition), offset.clone()))
    };
    offsets.iter().filter_map(one).collect()
}

fn failed(stand: &Stand, failure: Failure) -> PartitionFailure {
    PartitionFailure { topic: stand.topic.to_string(), partition: stand.partition.get() as i32, failure }
}

/// What is refused without asking anybody.
fn check(seek: &Seek) -> Result<(), Error> {
    let most = limits::OFFSET_COMMITS_MAX;
    let offsets = match &seek.to {
        SeekTo::Offsets(offsets) => offsets.as_slice(),
        _ => &[],
    };
    let count = seek.partitions.len().max(offsets.len());
    if count > most {
        return Err(Error::invalid("partitions", &count.to_string(), format!("expected at most {most}")));
    }
    for offset in offsets {
        if offset.offset < 0 {
            return Err(Error::invalid("offsets", &offset.offset.to_string(), "expected at least 0"));
        }
        if offset.partition < 0 || TopicName::new(&offset.topic).is_err() {
            let shown = format!("{} {}", offset.topic, offset.partition);
            return Err(Error::invalid("offsets", &shown, "expected a topic and a partition"));
        }
    }
    if matches!(&seek.to, SeekTo::LikeGroup(other) if *other == seek.group) {
        return Err(Error::invalid("like_group", seek.group.as_str(), "expected another group"));
    }
    Ok(())
}
