//! From the target to what members own: given up and acknowledged first, given on afterwards.
//!
//! A member that must give partitions up stays in the epoch it is in until it has acknowledged that; all
//! others are where the group is. A partition is given on only when nobody owns it.

use super::assign;
use super::group::{Group, Place};
use super::member::{Owned, each, remove};
use super::outcome::{Cause, Change, Moved};
use super::topics::Topics;
use crate::row::{self, RowKind};
use flotilla_types::{ChangeSet, GroupEpoch, GroupId, LogIndex, MemberId, PartitionId, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// What a command has changed in one group so far.
#[derive(Debug)]
pub(super) struct Touched {
    at: LogIndex,
    /// The group's own row is to be written.
    pub head: bool,
    /// Members' rows to be written.
    pub identities: BTreeSet<MemberId>,
    /// The same of what they hold.
    pub holdings: BTreeSet<MemberId>,
    revised: BTreeSet<MemberId>,
    /// Members that are out.
    pub removed: Vec<MemberId>,
    moved: Vec<Moved>,
}

impl Touched {
    pub fn new(at: LogIndex) -> Self {
        Self {
            at,
            head: false,
            identities: BTreeSet::new(),
            holdings: BTreeSet::new(),
            revised: BTreeSet::new(),
            removed: Vec::new(),
            moved: Vec::new(),
        }
    }
}

impl Group {
    /// Another epoch, for a change that concerns the whole group. Answers the one before.
    pub(super) fn begin_epoch(&mut self, touched: &mut Touched) -> GroupEpoch {
        touched.head = true;
        let next = GroupEpoch(self.head.epoch.get().saturating_add(1));
        std::mem::replace(&mut self.head.epoch, next)
    }

    /// What this member owns has changed.
    pub(super) fn revise(&mut self, id: &MemberId, touched: &mut Touched) {
        if let Some(member) = self.members.get_mut(id) {
            member.holding.revision = touched.at;
            touched.holdings.insert(id.clone());
            touched.revised.insert(id.clone());
        }
    }

    /// Computes the target anew, in a new epoch, and takes the first steps towards it.
    pub(super) fn rebalance(&mut self, topics: &Topics, touched: &mut Touched) {
        let before = self.begin_epoch(touched);
        self.rebalance_since(before, None, topics, touched);
    }

    /// The same in an epoch that has begun already. Who has just joined has nothing in its hands.
    pub(super) fn rebalance_since(
        &mut self,
        before: GroupEpoch,
        joined: Option<&MemberId>,
        topics: &Topics,
        touched: &mut Touched,
    ) {
        self.retarget(topics, touched);
        let all: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &all {
            self.revoke(id, before, joined == Some(id), touched);
        }
        for id in &all {
            self.grant(id, touched);
        }
    }

    /// Replaces the target by the one for the members and topics as they are.
    fn retarget(&mut self, topics: &Topics, touched: &mut Touched) {
        let target = assign::target(self, topics);
        let mut moved = Vec::new();
        for (place, to) in &target {
            let from = self.targets.get(place);
            if from != Some(to) {
                moved.push((*place, from.cloned(), Some(to.clone())));
            }
        }
        let gone = self.targets.iter().filter(|(place, _)| !target.contains_key(place));
        moved.extend(gone.map(|(place, from)| (*place, Some(from.clone()), None)));
        for (place @ (topic, partition), from, to) in moved {
            if let Some(member) = from.as_ref().and_then(|id| self.members.get_mut(id)) {
                if let Some(partitions) = member.holding.target.get_mut(&topic) {
                    partitions.remove(&partition);
                    if partitions.is_empty() {
                        member.holding.target.remove(&topic);
                    }
                }
                touched.holdings.extend(from.clone());
            }
            match &to {
                Some(id) => {
                    if let Some(member) = self.members.get_mut(id) {
                        member.holding.target.entry(topic).or_default().insert(partition);
                        touched.holdings.insert(id.clone());
                    }
                    self.targets.insert(place, id.clone());
                }
                None => {
                    self.targets.remove(&place);
                }
            }
            touched.moved.push(Moved { topic, partition, from, to });
        }
    }

    /// Tells a member to give up what it is not to have. One with empty hands, or that is away, has nothing to
    /// give up: nobody owns it any more.
    fn revoke(&mut self, id: &MemberId, before: GroupEpoch, empty_hands: bool, touched: &mut Touched) {
        let Some(member) = self.members.get_mut(id) else { return };
        let super::member::Holding { held, assigned, revoking, target, .. } = &mut member.holding;
        let kept = |(topic, partition): &Place| target.get(topic).is_some_and(|t| t.contains(partition));
        let surplus: Vec<Place> = each(assigned).filter(|place| !kept(place)).collect();
        if surplus.is_empty() {
            return;
        }
        for place in &surplus {
            let Some(epoch) = remove(assigned, place.0, place.1) else { continue };
            if empty_hands || member.identity.away {
                self.owners.remove(place);
            } else {
                revoking.entry(place.0).or_default().insert(place.1, epoch);
            }
        }
        if !revoking.is_empty() {
            held.get_or_insert(before);
        }
        self.revise(id, touched);
    }

    /// Gives a member what it is to have and nobody owns, unless it has yet to give something up.
    pub(super) fn grant(&mut self, id: &MemberId, touched: &mut Touched) {
        let Some(member) = self.members.get_mut(id) else { return };
        let super::member::Holding { held, assigned, revoking, target, .. } = &mut member.holding;
        if !revoking.is_empty() {
            return;
        }
        if held.take().is_some() {
            touched.holdings.insert(id.clone());
        }
        let mut granted = false;
        for (topic, partitions) in target.iter() {
            if assigned.get(topic).is_some_and(|owned| owned.len() == partitions.len()) {
                continue;
            }
            for partition in partitions {
                let place = (*topic, *partition);
                if let std::collections::btree_map::Entry::Vacant(free) = self.owners.entry(place) {
                    free.insert(id.clone());
                    assigned.entry(*topic).or_default().insert(*partition, self.head.epoch);
                    granted = true;
                }
            }
        }
        if granted {
            self.revise(id, touched);
        }
    }

    /// Nobody owns these any more: they go to whoever is to have them.
    pub(super) fn release(&mut self, places: &[Place], touched: &mut Touched) {
        let mut heirs = BTreeSet::new();
        for place in places {
            self.owners.remove(place);
            heirs.extend(self.targets.get(place).cloned());
        }
        for id in &heirs {
            self.grant(id, touched);
        }
    }

    /// A member has given up what it was to, but for what it still owns. It said so under an epoch: of what it
    /// got later it knew nothing then.
    pub(super) fn given_up(
        &mut self,
        id: &MemberId,
        epoch: GroupEpoch,
        still: &BTreeMap<TopicId, BTreeSet<PartitionId>>,
        touched: &mut Touched,
    ) {
        let Some(member) = self.members.get_mut(id) else { return };
        let super::member::Holding { held, revoking, .. } = &mut member.holding;
        let has = |(topic, partition): &Place| still.get(topic).is_some_and(|s| s.contains(partition));
        // A seek may have lifted the partition's epoch above the one the member is kept in.
        let knew = |assigned: &GroupEpoch| epoch >= held.map_or(*assigned, |held| held.min(*assigned));
        let known = revoking.iter().flat_map(|(topic, partitions)| {
            let known = partitions.iter().filter(|(_, assigned)| knew(assigned));
            known.map(|(partition, _)| (*topic, *partition))
        });
        let free: Vec<Place> = known.filter(|place| !has(place)).collect();
        if free.is_empty() {
            return;
        }
        for (topic, partition) in &free {
            remove(revoking, *topic, *partition);
        }
        self.revise(id, touched);
        self.release(&free, touched);
        self.grant(id, touched);
    }

    /// These lives of topics are over: nobody owns their partitions, and nobody has to give them up. Answers who
    /// did.
    pub(super) fn end_topics(
        &mut self,
        ended: &BTreeSet<TopicId>,
        touched: &mut Touched,
    ) -> BTreeSet<MemberId> {
        let all = (PartitionId(0), PartitionId(u32::MAX));
        let places: Vec<(Place, MemberId)> = ended
            .iter()
            .flat_map(|topic| self.owners.range((*topic, all.0)..=(*topic, all.1)))
            .map(|(place, owner)| (*place, owner.clone()))
            .collect();
        let mut owners = BTreeSet::new();
        for (place, owner) in places {
            self.owners.remove(&place);
            let Some(member) = self.members.get_mut(&owner) else { continue };
            let holding = &mut member.holding;
            remove(&mut holding.assigned, place.0, place.1);
            remove(&mut holding.revoking, place.0, place.1);
            self.revise(&owner, touched);
            owners.insert(owner);
        }
        owners
    }

    /// What a member owned belongs to nobody now, as far as this says.
    pub(super) fn disown(&mut self, owned: &Owned) -> Vec<Place> {
        let places: Vec<Place> = each(owned).collect();
        for place in &places {
            self.owners.remove(place);
        }
        places
    }

    /// Writes what was touched, and says what others need to know of it.
    pub(super) fn finish(
        &self,
        id: &GroupId,
        cause: Cause,
        touched: Touched,
        changes: &mut ChangeSet,
    ) -> Option<Change> {
        let Touched { at: _, head, identities, holdings, revised, removed, moved } = touched;
        if head {
            row::put(changes, RowKind::Group, id.as_str().as_bytes(), &self.head);
        }
        for member in &removed {
            let key = super::member_key(id, member);
            row::delete(changes, RowKind::GroupMember, &key);
            row::delete(changes, RowKind::GroupHolding, &key);
        }
        for member in &identities {
            if let Some(state) = self.members.get(member) {
                row::put(changes, RowKind::GroupMember, &super::member_key(id, member), &state.identity);
            }
        }
        for member in &holdings {
            if let Some(state) = self.members.get(member) {
                row::put(changes, RowKind::GroupHolding, &super::member_key(id, member), &state.holding);
            }
        }
        let revised: Vec<MemberId> =
            revised.into_iter().filter(|member| self.members.contains_key(member)).collect();
        let quiet = !head && identities.is_empty() && revised.is_empty() && removed.is_empty();
        (!quiet).then(|| Change {
            group: id.clone(),
            epoch: self.head.epoch,
            cause,
            state: self.state(),
            moved,
            revised,
            removed,
        })
    }
}
