//! What a rebalance did to a member, told to whoever listens.

use super::GroupHandle;
use flotilla_types::{PartitionId, TopicName};
use futures::future::BoxFuture;
use std::fmt;

/// A partition by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Its topic.
    pub topic: TopicName,
    /// Its place in the topic.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl From<&super::ledger::Key> for TopicPartition {
    fn from((topic, partition): &super::ledger::Key) -> Self {
        Self { topic: topic.clone(), partition: *partition }
    }
}

/// What happened to a member's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These are read from now on.
    Assigned(Vec<TopicPartition>),
    /// These were given up: the application was done with everything it had of them, and with
    /// auto-commit that is committed.
    Revoked(Vec<TopicPartition>),
    /// These are gone, and records of them may still be in the application's hands: somebody else will
    /// get them again.
    Lost {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Why, for people.
        why: String,
    },
}

/// Hears of rebalances while they happen. Called by a task of the consumer, one call at a time, never
/// while the application holds records of revoked partitions (unless they are lost).
///
/// The handle may be used to commit, to seek and to pause; a call that takes longer than the rebalance
/// timeout is not waited for.
pub trait Listener: Send + Sync + 'static {
    /// These will be read once this returns; a seek made here holds.
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition], group: &'a GroupHandle) -> BoxFuture<'a, ()> {
        let _ = (partitions, group);
        Box::pin(async {})
    }

    /// These will be given up once this returns: the last moment to commit offsets of them.
    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], group: &'a GroupHandle) -> BoxFuture<'a, ()> {
        let _ = (partitions, group);
        Box::pin(async {})
    }

    /// These are gone already. Commits of them are refused.
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition], group: &'a GroupHandle) -> BoxFuture<'a, ()> {
        let _ = (partitions, group);
        Box::pin(async {})
    }
}

/// Nobody listens.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Listener for Nobody {}
