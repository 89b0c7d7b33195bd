//! Groups from outside: who is in them, how far they are, where they should be. Any node answers.
//!
//! The calls are methods of [`crate::Admin`].

use super::coordinator::groups;
use super::event::TopicPartition;
use super::handle::CommitOffset;
use crate::admin::Admin;
use crate::call::{Repeat, anywhere};
use crate::error::{Error, Result};
use flotilla_proto::v1;
use flotilla_types::{Offset, PartitionId, TimestampMs, TopicName};

mod view;

pub use view::{Finding, Group, GroupOffset, GroupState, Member, MemberState, Move, Plan, Position};

/// Items per page of a list; the lists here are gathered whole.
const PAGE_SIZE: i32 = 1_000;

/// Where a group should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The first record kept.
    Earliest,
    /// After the last record.
    Latest,
    /// The first record appended at or after this time (milliseconds since the Unix epoch).
    Time(TimestampMs),
    /// So many records on, or back if negative.
    ShiftBy(i64),
    /// Where another group is.
    LikeGroup(String),
    /// These offsets.
    Offsets(Vec<CommitOffset>),
}

impl Admin {
    /// All groups, by name, without members and positions. `filter` is the contract's:
    /// `state=STABLE lag>1000 topic=orders`; empty = all.
    pub async fn groups(&self, filter: &str) -> Result<Vec<Group>> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                v1::ListGroupsRequest { page_size: PAGE_SIZE, page_token, filter: filter.to_owned() };
            let answer = anywhere(self.inner(), Repeat::Freely, |channel| {
                let request = request.clone();
                async move { groups(channel).list_groups(request).await }
            });
            let page = answer.await?;
            found.extend(page.groups.into_iter().map(Group::from_wire));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// A group with its members and positions.
    pub async fn group(&self, group: &str) -> Result<Group> {
        let request = v1::GetGroupRequest { group_id: group.to_owned() };
        let answer = anywhere(self.inner(), Repeat::Freely, |channel| {
            let request = request.clone();
            async move { groups(channel).get_group(request).await }
        });
        Ok(Group::from_wire(answer.await?))
    }

    /// Pauses a group until a time (milliseconds since the Unix epoch), or lets it go on (`None`).
    pub async fn pause_group(&self, group: &str, until: Option<TimestampMs>) -> Result<Group> {
        let paused_until = until.map(|ms| prost_types::Timestamp {
            seconds: ms.div_euclid(1_000),
            nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32,
        });
        let request = v1::UpdateGroupRequest {
            group: Some(v1::Group { group_id: group.to_owned(), paused_until, ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["paused_until".to_owned()] }),
        };
        let answer = anywhere(self.inner(), Repeat::Freely, |channel| {
            let request = request.clone();
            async move { groups(channel).update_group(request).await }
        });
        Ok(Group::from_wire(answer.await?))
    }

    /// Deletes a group with its offsets; with `force` also one that has members.
    pub async fn delete_group(&self, group: &str, force: bool) -> Result<()> {
        let request = v1::DeleteGroupRequest { group_id: group.to_owned(), force };
        let answer = anywhere(self.inner(), Repeat::WhileNothingHappened, |channel| {
            let request = request.clone();
            async move { groups(channel).delete_group(request).await }
        });
        answer.await.map(drop)
    }

    /// Moves a group's committed offsets, of these partitions or (if there are none) of all it has. Works
    /// on groups with members: they read their positions again. With `validate_only` it only says what
    /// would be moved.
    ///
    /// A shift is not repeated once its outcome is unknown; everything else is the same done twice.
    pub async fn seek_group(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        to: &SeekTo,
        validate_only: bool,
    ) -> Result<Plan> {
        use v1::seek_group_request::{OffsetList, To};
        let repeat = match to {
            SeekTo::ShiftBy(_) if !validate_only => Repeat::WhileNothingHappened,
            _ => Repeat::Freely,
        };
        let to = match to {
            SeekTo::Earliest => To::Earliest(true),
            SeekTo::Latest => To::Latest(true),
            SeekTo::Time(ms) => To::Time(prost_types::Timestamp {
                seconds: ms.div_euclid(1_000),
                nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32,
            }),
            SeekTo::ShiftBy(records) => To::ShiftBy(*records),
            SeekTo::LikeGroup(other) => To::LikeGroup(other.clone()),
            SeekTo::Offsets(offsets) => {
                To::Offsets(OffsetList { offsets: offsets.iter().map(offset_to_wire).collect() })
            }
        };
        let request = v1::SeekGroupRequest {
            group_id: group.to_owned(),
            partitions: partitions.iter().map(partition_to_wire).collect(),
            validate_only,
            to: Some(to),
        };
        let answer = anywhere(self.inner(), repeat, |channel| {
            let request = request.clone();
            async move { groups(channel).seek_group(request).await }
        });
        Ok(Plan::from_wire(answer.await?))
    }

    /// What a group has committed: of these partitions, or (if there are none) of all. A partition without
    /// a committed offset is not among the answers; one that could not be looked up is an error.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<GroupOffset>> {
        let request = v1::FetchOffsetsRequest {
            group_id: group.to_owned(),
            partitions: partitions.iter().map(partition_to_wire).collect(),
            require_stable: false,
            member_epoch: None,
        };
        let answer = anywhere(self.inner(), Repeat::Freely, |channel| {
            let request = request.clone();
            async move { groups(channel).fetch_offsets(request).await }
        });
        let answer = answer.await?;
        if let Some(failed) = answer.errors.into_iter().next() {
            let what = format!("committed offset of {}/{}", failed.topic.escape_default(), failed.partition);
            let error = failed.error.map_or_else(|| Error::lost("no reason was given"), Error::from_wire);
            return Err(error.context(what));
        }
        answer.offsets.into_iter().map(GroupOffset::from_wire).collect()
    }

    /// Why a group does not advance; nothing if it does.
    pub async fn explain_group(&self, group: &str) -> Result<Vec<Finding>> {
        let request = v1::ExplainGroupRequest { group_id: group.to_owned() };
        let answer = anywhere(self.inner(), Repeat::Freely, |channel| {
            let request = request.clone();
            async move { groups(channel).explain_group(request).await }
        });
        Ok(answer.await?.findings.into_iter().map(Finding::from_wire).collect())
    }
}

fn partition_to_wire(partition: &TopicPartition) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: partition.topic.as_str().to_owned(),
        partition: partition.partition.get() as i32,
    }
}

fn offset_to_wire(offset: &CommitOffset) -> v1::OffsetCommit {
    v1::OffsetCommit {
        topic: offset.topic.clone(),
        partition: offset.partition.get() as i32,
        committed_offset: offset.offset.get() as i64,
        metadata: offset.metadata.clone(),
        ..Default::default()
    }
}

/// A partition as an answer names it.
fn partition_from_wire(topic: &str, partition: i32) -> Result<TopicPartition> {
    let what = || format!("answer names partition {}/{partition}", topic.escape_default());
    Ok(TopicPartition {
        topic: TopicName::new(topic).map_err(|error| Error::lost(format!("{}: {error}", what())))?,
        partition: PartitionId(u32::try_from(partition).map_err(|_| Error::lost(what()))?),
    })
}

fn offset_from_wire(offset: i64) -> Option<Offset> {
    u64::try_from(offset).ok().map(Offset)
}
