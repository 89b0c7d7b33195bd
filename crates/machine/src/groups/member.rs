//! A member of a group: who it is, what it wants, what it owns and what it is to own.

use super::command::Subscription;
use crate::encoding::{Field, fields};
use flotilla_types::{GroupEpoch, InstanceId, LogIndex, PartitionId, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_128;

/// Partitions, each with the epoch since which the owner has it.
pub type Owned = BTreeMap<TopicId, BTreeMap<PartitionId, GroupEpoch>>;
/// Partitions.
pub type Partitions = BTreeMap<TopicId, BTreeSet<PartitionId>>;

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub(super) identity: Identity,
    pub(super) holding: Holding,
    /// Of the topics it wants: members with the same share one list of topics.
    pub(super) interest: u128,
}

/// What changes when it joins or asks for something else. A row of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    /// The group's epoch when it joined, for the last time.
    pub joined: GroupEpoch,
    pub instance: Option<InstanceId>,
    /// A static member that said it will be back.
    pub away: bool,
    pub subscription: Subscription,
    pub peer: String,
}

fields!(Identity { joined, instance, away, subscription, peer });

/// What changes when partitions move. A row of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Holding {
    /// The epoch it stays in until it has given up what it must. Otherwise it is where the group is, which
    /// is not written anywhere, so that a new group epoch costs nothing for those whom it does not concern.
    pub held: Option<GroupEpoch>,
    /// What it owns and keeps.
    pub assigned: Owned,
    /// What it still owns and must give up. It stays here until that is acknowledged, even if it were to
    /// have it again: nobody knows how far its client has got with giving it up.
    pub revoking: Owned,
    /// What it is to own.
    pub target: Partitions,
    /// The last command that changed what it owns.
    pub revision: LogIndex,
}

fields!(Holding { held, assigned, revoking, target, revision });

impl Member {
    pub(super) fn new(identity: Identity, holding: Holding) -> Self {
        let interest = interest(&identity.subscription);
        Self { identity, holding, interest }
    }

    /// The group's epoch when it joined, for the last time: earlier ones are another life's.
    pub fn joined(&self) -> GroupEpoch {
        self.identity.joined
    }

    /// A static member's name.
    pub fn instance(&self) -> Option<&InstanceId> {
        self.identity.instance.as_ref()
    }

    /// Whether it left and said that it will be back.
    pub fn away(&self) -> bool {
        self.identity.away
    }

    /// What it wants.
    pub fn subscription(&self) -> &Subscription {
        &self.identity.subscription
    }

    /// Where it connects from.
    pub fn peer(&self) -> &str {
        &self.identity.peer
    }

    /// The log index of the last command that changed what it owns: the same revision is the same assignment.
    pub fn revision(&self) -> LogIndex {
        self.holding.revision
    }

    /// What it owns and keeps, with the epochs since which it does.
    pub fn assigned(&self) -> &Owned {
        &self.holding.assigned
    }

    /// What it still owns and must give up.
    pub fn revoking(&self) -> &Owned {
        &self.holding.revoking
    }

    /// What it is to own.
    pub fn target(&self) -> &Partitions {
        &self.holding.target
    }

    /// Whether it owns a partition, and since when.
    pub fn owns(&self, topic: TopicId, partition: PartitionId) -> Option<GroupEpoch> {
        let find = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        find(&self.holding.assigned).or_else(|| find(&self.holding.revoking))
    }

    /// Whether it waits for partitions that others own.
    pub(super) fn lacks(&self) -> bool {
        let Holding { target, assigned, .. } = &self.holding;
        target.iter().any(|(topic, partitions)| {
            assigned.get(topic).is_none_or(|owned| partitions.iter().any(|p| !owned.contains_key(p)))
        })
    }
}

/// Stands for the topics and the pattern of a subscription.
pub(super) fn interest(subscription: &Subscription) -> u128 {
    let mut bytes = Vec::new();
    subscription.topics.put(&mut bytes);
    subscription.pattern.put(&mut bytes);
    xxh3_128(&bytes)
}

/// Takes a partition out of a list that keeps no empty topics.
pub(super) fn remove(owned: &mut Owned, topic: TopicId, partition: PartitionId) -> Option<GroupEpoch> {
    let partitions = owned.get_mut(&topic)?;
    let epoch = partitions.remove(&partition);
    if partitions.is_empty() {
        owned.remove(&topic);
    }
    epoch
}

/// Every partition of a list.
pub(super) fn each(owned: &Owned) -> impl Iterator<Item = (TopicId, PartitionId)> {
    owned.iter().flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
}
