//! What a member's words come to, against what it is to own.
//!
//! An answer may be lost, and with it an assignment that nobody asked for: a seek changes no partition, only from
//! where to read. So whatever shows that a member may have missed something is answered with all of it: it says
//! what it wants, it has an older epoch than its own, or it owns something else than it is to.

use super::super::Heartbeat;
use super::super::memory::{Place, Told};
use crate::broker::Broker;
use crate::routes::Routes;
use flotilla_machine::groups::{self as rules, Command, Groups as Rules, Member, MemberState};
use flotilla_types::{GroupEpoch, PartitionId, TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet};

type Owned = BTreeMap<TopicId, BTreeSet<PartitionId>>;

/// What is to be done about a heartbeat.
#[derive(Debug)]
pub(super) enum Step {
    /// It has given up what it was told to.
    Acknowledge(Command),
    /// It may not know what it is to own.
    Tell(rules::Assignment),
    /// Nothing to say yet.
    Hold,
}

impl Broker {
    /// `last` is what it was told last.
    pub(super) fn step(
        &self,
        groups: &Rules,
        (place, last): (&Place, Option<Told>),
        heartbeat: &Heartbeat,
    ) -> Step {
        let found = groups.get(&place.1).and_then(|group| Some((group, group.members().get(&place.2)?)));
        let Some((group, member)) = found else { return Step::Hold };
        let paused = self.is_paused(group);
        let told = last.is_some_and(|last| last.revision == member.revision());
        let mut tell = !told
            || last.is_some_and(|last| last.paused != paused)
            || heartbeat.subscription.is_some()
            || GroupEpoch(heartbeat.member_epoch) < group.member_epoch(member);
        if let Some(owned) = &heartbeat.owned {
            let (owned, unknown) = by_id(groups, &self.routes(), owned);
            let unrevoked = group.member_state(member) == MemberState::UnrevokedPartitions;
            // Only what it was told to give up can be taken for given up.
            if unrevoked && told && lacks(&owned, member.revoking()) {
                return Step::Acknowledge(Command::Acknowledge {
                    group: place.1.clone(),
                    member: place.2.clone(),
                    epoch: GroupEpoch(heartbeat.member_epoch),
                    revision: member.revision(),
                    owned,
                    now: self.clock.wall(),
                });
            }
            let is_right = if paused { owned.is_empty() } else { is_same(&owned, member) };
            tell |= unknown || !is_right;
        }
        match tell.then(|| groups.assignment(&place.1, &place.2)).flatten() {
            Some(assignment) => Step::Tell(assignment),
            None => Step::Hold,
        }
    }
}

/// Whether any of these is not among what is owned.
fn lacks<E>(owned: &Owned, these: &BTreeMap<TopicId, BTreeMap<PartitionId, E>>) -> bool {
    these.iter().any(|(topic, partitions)| {
        let owned = owned.get(topic);
        partitions.keys().any(|partition| !owned.is_some_and(|owned| owned.contains(partition)))
    })
}

/// Whether it owns what it is to own, no more and no less.
fn is_same(owned: &Owned, member: &Member) -> bool {
    let count =
        |owned: usize, topic: &TopicId| member.assigned().get(topic).map_or(0, BTreeMap::len) == owned;
    owned.iter().all(|(topic, partitions)| count(partitions.len(), topic)) && !lacks(owned, member.assigned())
}

/// What a member says it owns, by the topics' ids as the coordinator knows them. A topic that nobody wants any more
/// it has forgotten, while a member may still be about to give it up: this node knows it. And whether it owns
/// something of a topic that is not known at all: nobody can own that.
fn by_id(groups: &Rules, routes: &Routes, owned: &[(TopicName, PartitionId)]) -> (Owned, bool) {
    let mut ids = Owned::new();
    let mut unknown = false;
    for (topic, partition) in owned {
        let known = groups.topics().get(topic).and_then(|known| known.life.as_ref()).map(|life| life.id);
        match known.or_else(|| routes.topics.get(topic).map(|route| route.id)) {
            Some(id) => {
                ids.entry(id).or_default().insert(*partition);
            }
            None => unknown = true,
        }
    }
    (ids, unknown)
}
