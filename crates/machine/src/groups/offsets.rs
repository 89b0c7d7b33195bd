//! How far a group has processed: offset commits, seeks, and what goes with topics and with time.

use super::command::OffsetCommit;
use super::group::{Committed, Group, Place};
use super::limits;
use super::membership::Sender;
use super::outcome::{Answer, Cause, Move, RefusedOffset};
use super::reconcile::Touched;
use super::refusal::Refusal;
use super::{Groups, Step, offset_key};
use crate::row::{self, RowKind};
use flotilla_types::{GroupEpoch, GroupId, PartitionId, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// Groups forgotten by one command, at most.
const EXPIRED_AT_ONCE: usize = 100;
/// No more groups are forgotten by one command once so many offsets are.
const OFFSETS_EXPIRED_AT_ONCE: usize = 20_000;

impl Groups {
    pub(super) fn commit(
        &mut self,
        step: &mut Step<'_>,
        (id, member, epoch): Sender<'_>,
        number: u64,
        offsets: &[OffsetCommit],
    ) -> Result<Answer, Refusal> {
        limits::check_commits(offsets)?;
        // Also of one that is away: it may have sent it before it went.
        let (_, found) = self.find(id, member, epoch)?;
        let call = (number > 0).then(|| (found.joined(), number));
        let mut refused = Vec::new();
        let mut good = Vec::new();
        for commit in offsets {
            let (topic, partition) = (commit.topic, commit.partition);
            let check = limits::check_commit(commit).and_then(|()| match found.owns(topic, partition) {
                None => Err(Refusal::NotOwned { topic, partition }),
                Some(assigned) if epoch < assigned => {
                    Err(Refusal::Stale { topic, partition, given: epoch, assigned })
                }
                Some(_) => Ok(()),
            });
            match check {
                Ok(()) => good.push(commit),
                Err(refusal) => refused.push(RefusedOffset { topic, partition, refusal }),
            }
        }
        self.store(step, id, &good, call, &mut refused);
        Ok(Answer::Committed { refused })
    }

    pub(super) fn commit_without_member(
        &mut self,
        step: &mut Step<'_>,
        id: &GroupId,
        offsets: &[OffsetCommit],
    ) -> Result<Answer, Refusal> {
        limits::check_commits(offsets)?;
        self.check_empty(id)?;
        let mut refused = Vec::new();
        let mut good = Vec::new();
        for commit in offsets {
            match limits::check_commit(commit) {
                Ok(()) => good.push(commit),
                Err(refusal) => {
                    refused.push(RefusedOffset { topic: commit.topic, partition: commit.partition, refusal });
                }
            }
        }
        if !good.is_empty() {
            self.make(step, id)?;
            self.store(step, id, &good, None, &mut refused);
        }
        Ok(Answer::Committed { refused })
    }

    pub(super) fn seek(
        &mut self,
        step: &mut Step<'_>,
        id: &GroupId,
        offsets: &[OffsetCommit],
    ) -> Result<Answer, Refusal> {
        limits::check_commits(offsets)?;
        offsets.iter().try_for_each(limits::check_commit)?;
        // All of them or none.
        let kept = self.all.get(id).map(|group| &group.offsets);
        let new: BTreeSet<Place> = offsets.iter().map(|o| (o.topic, o.partition)).collect();
        let new = new.iter().filter(|place| !kept.is_some_and(|kept| kept.contains_key(place))).count();
        limits::check_room(kept.map_or(0, BTreeMap::len).saturating_add(new))?;
        self.make(step, id)?;
        let before: Vec<_> = offsets
            .iter()
            .map(|o| self.all.get(id).and_then(|group| group.offset(o.topic, o.partition)).map(|c| c.offset))
            .collect();
        let all: Vec<&OffsetCommit> = offsets.iter().collect();
        let mut refused = Vec::new();
        self.store(step, id, &all, None, &mut refused);
        let mut touched = Touched::new(step.at);
        self.with(id, |group, _| {
            if group.members.is_empty() {
                return;
            }
            // In a new epoch, so that commits under the old assignment are refused.
            group.begin_epoch(&mut touched);
            for offset in offsets {
                let Some(owner) = group.owner(offset.topic, offset.partition).cloned() else { continue };
                let epoch = group.head.epoch;
                let Some(member) = group.members.get_mut(&owner) else { continue };
                let holding = &mut member.holding;
                // Who is to give it up anyway stays in its epoch: no commit of its counts any more.
                for list in [&mut holding.assigned, &mut holding.revoking] {
                    if let Some(assigned) =
                        list.get_mut(&offset.topic).and_then(|all| all.get_mut(&offset.partition))
                    {
                        *assigned = epoch;
                    }
                }
                group.revise(&owner, &mut touched);
            }
        });
        self.conclude(step, id, Cause::Sought, touched);
        let moves = offsets.iter().zip(before).map(|(offset, from)| Move {
            topic: offset.topic,
            partition: offset.partition,
            from,
            to: offset.offset,
        });
        Ok(Answer::Sought { moves: moves.collect() })
    }

    pub(super) fn delete(
        &mut self,
        step: &mut Step<'_>,
        id: &GroupId,
        force: bool,
    ) -> Result<Answer, Refusal> {
        let Some(group) = self.all.get(id) else { return Err(Refusal::GroupUnknown { group: id.clone() }) };
        if !force {
            self.check_empty(id)?;
        }
        let members = super::membership::everyone(group);
        let mut touched = Touched::new(step.at);
        if let Some(mut group) = self.all.remove(id) {
            for member in &members {
                self.drop_member(id, &mut group, member, step, &mut touched);
            }
            if !members.is_empty() {
                group.begin_epoch(&mut touched);
            }
            *step.last_epoch = group.epoch().max(*step.last_epoch);
            touched.head = false;
            step.events.extend(group.finish(id, Cause::Deleted, touched, step.changes));
            forget(step, id, &group);
        }
        Ok(Answer::Deleted)
    }

    pub(super) fn expire_offsets(&mut self, step: &mut Step<'_>, retention_ms: u64) -> Answer {
        let is_due = |group: &Group| {
            group
                .empty_since()
                .is_some_and(|since| step.now.saturating_sub(since).max(0) as u64 > retention_ms)
        };
        let mut gone: Vec<GroupId> = Vec::new();
        let (mut offsets, mut more) = (0usize, false);
        for (id, group) in self.all.iter().filter(|(_, group)| is_due(group)) {
            if gone.len() >= EXPIRED_AT_ONCE || offsets >= OFFSETS_EXPIRED_AT_ONCE {
                more = true;
                break;
            }
            gone.push(id.clone());
            offsets = offsets.saturating_add(group.offsets.len());
        }
        for id in &gone {
            if let Some(group) = self.all.remove(id) {
                *step.last_epoch = group.epoch().max(*step.last_epoch);
                forget(step, id, &group);
            }
        }
        Answer::OffsetsExpired { groups: gone.len() as u32, offsets: offsets as u32, more }
    }

    /// Offsets of lives of topics that are over go.
    pub(super) fn end_offsets(&mut self, step: &mut Step<'_>, id: &GroupId, ended: &BTreeSet<TopicId>) {
        let Some(group) = self.all.get_mut(id) else { return };
        for topic in ended {
            let all = (*topic, PartitionId(0))..=(*topic, PartitionId(u32::MAX));
            let gone: Vec<Place> = group.offsets.range(all).map(|(place, _)| *place).collect();
            for place in gone {
                group.offsets.remove(&place);
                row::delete(step.changes, RowKind::GroupOffset, &offset_key(id, place));
            }
        }
    }

    fn check_empty(&self, id: &GroupId) -> Result<(), Refusal> {
        let members = self.all.get(id).map_or(0, |group| group.members.len());
        if members > 0 { Err(Refusal::NotEmpty { group: id.clone(), members }) } else { Ok(()) }
    }

    /// The group, made if it is not there. Without members it is kept anew from now on.
    fn make(&mut self, step: &mut Step<'_>, id: &GroupId) -> Result<(), Refusal> {
        if !self.all.contains_key(id) {
            limits::check_groups(self.all.len())?;
        }
        let first = GroupEpoch(step.last_epoch.get().saturating_add(1));
        let group = self.all.entry(id.clone()).or_insert_with(|| Group::after(first));
        if group.members.is_empty() {
            group.head.empty_since = Some(step.now);
            row::put(step.changes, RowKind::Group, id.as_str().as_bytes(), &group.head);
        }
        Ok(())
    }

    /// Keeps these. What was overtaken on its way by a later call is as good as kept: that one was, too.
    fn store(
        &mut self,
        step: &mut Step<'_>,
        id: &GroupId,
        commits: &[&OffsetCommit],
        call: Option<(GroupEpoch, u64)>,
        refused: &mut Vec<RefusedOffset>,
    ) {
        let Some(group) = self.all.get_mut(id) else { return };
        for commit in commits {
            let place = (commit.topic, commit.partition);
            let before = group.offsets.get(&place);
            if before.is_some_and(|before| before.overtook(call)) {
                continue;
            }
            if before.is_none()
                && let Err(refusal) = limits::check_room(group.offsets.len().saturating_add(1))
            {
                refused.push(RefusedOffset { topic: place.0, partition: place.1, refusal });
                continue;
            }
            let committed = Committed {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata.clone(),
                committed_at: step.now,
                call,
            };
            row::put(step.changes, RowKind::GroupOffset, &offset_key(id, place), &committed);
            group.offsets.insert(place, committed);
        }
    }
}

/// A group's own row and its offsets' go.
fn forget(step: &mut Step<'_>, id: &GroupId, group: &Group) {
    row::delete(step.changes, RowKind::Group, id.as_str().as_bytes());
    for place in group.offsets.keys() {
        row::delete(step.changes, RowKind::GroupOffset, &offset_key(id, *place));
    }
}
