//! What may be done with a group's partitions from anywhere: commit, seek, pause, look. Cheap to clone,
//! and the same in a listener, in another task and beside `poll`.

use super::commits;
use super::event::TopicPartition;
use super::ledger::{Key, Pending};
use super::member::{State, Subscription};
use super::shared::{Shared, named};
use crate::consumer::Position;
use crate::error::{Error, Result};
use flotilla_types::{Offset, PartitionId, TopicName};
use std::sync::Arc;

/// A place in a partition to commit: the next record to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The next record to read: one more than the last that was processed.
    pub offset: Offset,
    /// For people and programs; the cluster only keeps it.
    pub metadata: String,
}

impl CommitOffset {
    /// Without metadata.
    pub fn new(topic: impl Into<String>, partition: PartitionId, offset: Offset) -> Self {
        Self { topic: topic.into(), partition, offset, metadata: String::new() }
    }
}

/// A member's partitions, from anywhere. See [`super::GroupConsumer::handle`].
#[derive(Clone, Debug)]
pub struct GroupHandle {
    pub(crate) shared: Arc<Shared>,
}

impl GroupHandle {
    /// The group.
    pub fn group_id(&self) -> &str {
        &self.shared.group
    }

    /// This member.
    pub fn member_id(&self) -> &str {
        &self.shared.member_id
    }

    /// How this member stands to its group.
    pub fn state(&self) -> State {
        self.shared.look(|inside| inside.member.state())
    }

    /// The member epoch: 0 while it is no member.
    pub fn member_epoch(&self) -> i64 {
        self.shared.look(|inside| inside.member.epoch())
    }

    /// The partitions this member has now; none once its session has ended for want of an answer.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.check_session();
        if !self.shared.look(|inside| inside.member.keeps()) {
            return Vec::new();
        }
        self.shared.look(|inside| named(inside.ledger.owned().keys()))
    }

    /// The next record that the application will be given; `None` while the partition is not assigned or
    /// the place is being looked up.
    pub fn position(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let key = key(topic, partition).ok()?;
        self.shared.look(|inside| inside.ledger.position(&key))
    }

    /// What the coordinator has, as far as this member knows; `None` if the partition is not assigned or
    /// nothing is committed.
    pub fn committed(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let key = key(topic, partition).ok()?;
        self.shared.look(|inside| inside.ledger.committed(&key))
    }

    /// Commits everything that polls have returned so far, and returns when it is stored: the application
    /// says that it is done with it.
    pub async fn commit(&self) -> Result<()> {
        let within = self.shared.options.commit_timeout;
        commits::store(&self.shared, super::ledger::Ledger::handed, within).await
    }

    /// Commits these offsets, and returns when all are stored. An offset at or before what is committed
    /// changes nothing, unless a seek went back before. Offsets of partitions that this member does not
    /// have are an error, and then nothing is sent.
    pub async fn commit_offsets(&self, offsets: &[CommitOffset]) -> Result<()> {
        let mut wanted = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let key = key(&offset.topic, offset.partition)?;
            let serial = self.shared.look(|inside| inside.ledger.serial(&key));
            let serial = serial.ok_or_else(|| self.not_assigned(&key))?;
            wanted.push((key, serial, offset));
        }
        let pick = |ledger: &super::ledger::Ledger| -> Vec<Pending> {
            let pending = |(key, serial, offset): &(Key, u64, &CommitOffset)| {
                ledger.explicit(key, *serial, offset.offset, &offset.metadata)
            };
            wanted.iter().filter_map(pending).collect()
        };
        commits::store(&self.shared, pick, self.shared.options.commit_timeout).await?;
        // What was lost meanwhile was left out, and must not look stored.
        let gone = |(key, serial, _): &&(Key, u64, &CommitOffset)| {
            self.shared.look(|inside| inside.ledger.serial(key)) != Some(*serial)
        };
        wanted.iter().find(gone).map_or(Ok(()), |(key, ..)| Err(self.not_assigned(key)))
    }

    /// Goes elsewhere in a partition. What was fetched for the old place is dropped; the next offset
    /// commit is at the new one, also if that is further back.
    pub fn seek(&self, topic: &str, partition: PartitionId, to: Position) -> Result<()> {
        let key = key(topic, partition)?;
        self.held(&key, |inside| inside.ledger.seek(&key, to))
    }

    /// Hands nothing out of a partition until it is resumed or revoked. Its fetching stops too.
    pub fn pause(&self, topic: &str, partition: PartitionId) -> Result<()> {
        let key = key(topic, partition)?;
        self.held(&key, |inside| inside.ledger.pause(&key, true))
    }

    /// Hands a paused partition's records out again, from where it was.
    pub fn resume(&self, topic: &str, partition: PartitionId) -> Result<()> {
        let key = key(topic, partition)?;
        self.held(&key, |inside| inside.ledger.pause(&key, false))
    }

    /// Reads these topics instead of those before.
    pub fn subscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        let subscription = Subscription { topics, pattern: String::new() };
        super::builder::check(&subscription)?;
        self.shared.change(|inside| inside.member.subscribe(subscription));
        Ok(())
    }

    fn held(&self, key: &Key, change: impl FnOnce(&mut super::shared::Inside) -> bool) -> Result<()> {
        if self.shared.change(change) { Ok(()) } else { Err(self.not_assigned(key)) }
    }

    fn not_assigned(&self, (topic, partition): &Key) -> Error {
        let message = format!(
            "partition {topic}/{partition} is not assigned to this member of group {}",
            self.shared.group
        );
        Error::invalid(message).with("topic", topic).with("partition", partition)
    }
}

fn key(topic: &str, partition: PartitionId) -> Result<Key> {
    let name = TopicName::new(topic).map_err(|error| Error::invalid(error.to_string()))?;
    Ok((name, partition))
}
