//! A group: its members, who owns which partition, and how far each has been processed.

use super::command::{Assignor, Subscription};
use super::member::{Identity, Member, each};
use super::outcome::{AssignedPartition, Assignment, GroupState, MemberState};
use super::topics::Topics;
use crate::encoding::fields;
use flotilla_types::{GroupEpoch, InstanceId, MemberId, Offset, PartitionId, Term, TimestampMs, TopicId};
use std::collections::BTreeMap;

/// A partition of a topic's life.
pub type Place = (TopicId, PartitionId);

/// A group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub(super) head: Head,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) offsets: BTreeMap<Place, Committed>,
    /// Who has an instance. Follows from the members.
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    /// Who owns a partition, to keep or to give up. Follows from the members.
    pub(super) owners: BTreeMap<Place, MemberId>,
    /// Who is to own a partition. Follows from the members.
    pub(super) targets: BTreeMap<Place, MemberId>,
}

/// The group's own row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Head {
    pub epoch: GroupEpoch,
    pub paused_until: Option<TimestampMs>,
    /// Log time when the last member went, or when an administrator last committed; absent with members.
    pub empty_since: Option<TimestampMs>,
}

fields!(Head { epoch, paused_until, empty_since });

/// An offset commit that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: Offset,
    /// The term of the last record read.
    pub leader_epoch: Option<Term>,
    /// Free text.
    pub metadata: String,
    /// Log time.
    pub committed_at: TimestampMs,
    /// Which life of a member stored it, by the epoch it joined with, and by which of its calls. Absent where
    /// nobody did, or the call had no number.
    pub(super) call: Option<(GroupEpoch, u64)>,
}

fields!(Committed { offset, leader_epoch, metadata, committed_at, call });

impl Committed {
    /// Whether a later call of the same life of a member stored this.
    pub(super) fn overtook(&self, call: Option<(GroupEpoch, u64)>) -> bool {
        let calls = self.call.zip(call);
        calls.is_some_and(|((life, number), (other, given))| life == other && number > given)
    }
}

impl Group {
    pub(super) fn new(head: Head) -> Self {
        let (members, offsets, instances) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { head, members, offsets, instances, owners: BTreeMap::new(), targets: BTreeMap::new() }
    }

    /// A new group, whose epochs begin after this one.
    pub(super) fn after(epoch: GroupEpoch) -> Self {
        Self::new(Head { epoch, ..Head::default() })
    }

    /// Counts the changes of members, subscriptions and topics, and seeks. The target is always the one of
    /// this epoch.
    pub fn epoch(&self) -> GroupEpoch {
        self.head.epoch
    }

    /// How partitions are shared out: as most members want.
    pub fn assignor(&self) -> Assignor {
        let wants =
            |assignor| self.members.values().filter(|m| m.subscription().assignor == Some(assignor)).count();
        if wants(Assignor::Range) > wants(Assignor::Uniform) { Assignor::Range } else { Assignor::Uniform }
    }

    /// Whether everyone has what he is to have. Walks all that is assigned.
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.members.values().all(|member| self.member_state(member) == MemberState::Stable) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// All members, by id.
    pub fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    /// Who has this instance.
    pub fn instance(&self, instance: &InstanceId) -> Option<&MemberId> {
        self.instances.get(instance)
    }

    /// The epoch one of its members is at.
    pub fn member_epoch(&self, member: &Member) -> GroupEpoch {
        member.holding.held.unwrap_or(self.head.epoch)
    }

    /// How one of its members is.
    pub fn member_state(&self, member: &Member) -> MemberState {
        if !member.holding.revoking.is_empty() {
            MemberState::UnrevokedPartitions
        } else if member.lacks() {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        }
    }

    /// All that is committed.
    pub fn offsets(&self) -> &BTreeMap<Place, Committed> {
        &self.offsets
    }

    /// What is committed for one partition.
    pub fn offset(&self, topic: TopicId, partition: PartitionId) -> Option<&Committed> {
        self.offsets.get(&(topic, partition))
    }

    /// Who owns a partition, be it to give it up.
    pub fn owner(&self, topic: TopicId, partition: PartitionId) -> Option<&MemberId> {
        self.owners.get(&(topic, partition))
    }

    /// Who is to own a partition. Every partition of a topic that some member wants has someone.
    pub fn target_of(&self, topic: TopicId, partition: PartitionId) -> Option<&MemberId> {
        self.targets.get(&(topic, partition))
    }

    /// All partitions that are to be owned, and by whom.
    pub fn targets(&self) -> &BTreeMap<Place, MemberId> {
        &self.targets
    }

    /// Kept for whoever reads it.
    pub fn paused_until(&self) -> Option<TimestampMs> {
        self.head.paused_until
    }

    /// Since when it has no members, in log time.
    pub fn empty_since(&self) -> Option<TimestampMs> {
        self.head.empty_since
    }

    /// What a member is told.
    pub(super) fn assignment(&self, member: &Member, topics: &Topics) -> Assignment {
        let mut partitions = Vec::new();
        for (topic_id, owned) in &member.holding.assigned {
            let Some(topic) = topics.name(*topic_id) else { continue };
            partitions.extend(owned.iter().map(|(partition, epoch)| AssignedPartition {
                topic: topic.clone(),
                topic_id: *topic_id,
                partition: *partition,
                assignment_epoch: *epoch,
                committed: self.offset(*topic_id, *partition).map(|committed| committed.offset),
            }));
        }
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Assignment {
            member_epoch: self.member_epoch(member),
            group_epoch: self.head.epoch,
            revision: member.holding.revision,
            partitions,
            must_acknowledge: !member.holding.revoking.is_empty(),
        }
    }

    /// Takes a member in, with all that it owns and is to own.
    pub(super) fn seat(&mut self, id: &MemberId, member: Member) {
        let holding = &member.holding;
        let owned = each(&holding.assigned).chain(each(&holding.revoking));
        self.owners.extend(owned.map(|place| (place, id.clone())));
        for (topic, partitions) in &holding.target {
            self.targets.extend(partitions.iter().map(|partition| ((*topic, *partition), id.clone())));
        }
        if let Some(instance) = member.instance() {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
    }

    /// A member wants something else from now on. Answers what it wanted.
    pub(super) fn rewish(&mut self, id: &MemberId, wish: &Subscription) -> Option<Subscription> {
        let member = self.members.remove(id)?;
        let old = member.identity.subscription.clone();
        let identity = Identity { subscription: wish.clone(), ..member.identity };
        self.members.insert(id.clone(), Member::new(identity, member.holding));
        Some(old)
    }

    /// Builds what follows from the members, after loading; says which partition has two owners.
    pub(super) fn index(&mut self) -> Result<(), String> {
        for (id, member) in &self.members {
            if let Some(instance) = &member.identity.instance
                && let Some(other) = self.instances.insert(instance.clone(), id.clone())
            {
                return Err(format!("members {other} and {id} are both instance {instance}"));
            }
            for place in each(&member.holding.assigned).chain(each(&member.holding.revoking)) {
                if let Some(other) = self.owners.insert(place, id.clone()) {
                    return Err(format!("members {other} and {id} both own {}-{}", place.0, place.1));
                }
            }
            for (topic, partitions) in &member.holding.target {
                for partition in partitions {
                    if let Some(other) = self.targets.insert((*topic, *partition), id.clone()) {
                        return Err(format!("members {other} and {id} are both to own {topic}-{partition}"));
                    }
                }
            }
        }
        Ok(())
    }
}
