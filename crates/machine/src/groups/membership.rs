//! Members come, change what they want, give partitions up, go, and are removed.

use super::command::{Join, Overdue, Sight, Subscription};
use super::group::{Group, Head};
use super::limits;
use super::member::{Holding, Identity, Member, Partitions};
use super::outcome::{Answer, Cause, MemberState};
use super::reconcile::Touched;
use super::refusal::Refusal;
use super::{Groups, Step};
use flotilla_types::{GroupEpoch, GroupId, LogIndex, MemberId};
use std::collections::BTreeSet;

/// A member and the epoch it sent.
pub(super) type Sender<'a> = (&'a GroupId, &'a MemberId, GroupEpoch);

impl Groups {
    pub(super) fn join(&mut self, step: &mut Step<'_>, join: &Join) -> Result<Answer, Refusal> {
        limits::check_join(join)?;
        let existing = self.all.get(&join.group);
        if existing.is_none() && self.all.len() >= limits::GROUPS_MAX {
            return Err(Refusal::LimitReached { what: "groups", limit: limits::GROUPS_MAX as u64 });
        }
        let rejoins = existing.is_some_and(|group| group.members.contains_key(&join.member));
        let holder = join.instance.as_ref().and_then(|instance| existing?.instances.get(instance)).cloned();
        let holder = holder.filter(|holder| *holder != join.member);
        if let (Some(holder), Some(instance)) = (&holder, &join.instance) {
            let away = existing.and_then(|group| group.members.get(holder)).is_some_and(Member::away);
            if !away && !join.holder_gone {
                return Err(Refusal::InstanceHeld { instance: instance.clone(), holder: holder.clone() });
            }
        }
        let limit = join.members_max.min(limits::MEMBERS_MAX);
        let count = existing.map_or(0, |group| group.members.len());
        if !rejoins && holder.is_none() && count >= limit as usize {
            return Err(Refusal::GroupFull { group: join.group.clone(), limit });
        }
        let mut touched = Touched::new(step.at);
        let mut group = self.all.remove(&join.group).unwrap_or_else(|| Group::new(Head::default()));
        let mut identity = Identity {
            joined: GroupEpoch(group.head.epoch.get().saturating_add(1)),
            instance: join.instance.clone(),
            away: false,
            subscription: join.subscription.clone(),
            peer: limits::cut(&join.peer),
        };
        let taken_over =
            holder.as_ref().and_then(|holder| Some((holder.clone(), group.members.remove(holder)?)));
        let (cause, moves) = match taken_over {
            // Another process of the same static member: whatever the first had is its, in a new epoch.
            Some((old, before)) => {
                self.topics.unwant(&join.group, &before, step.changes);
                touched.removed.push(old.clone());
                let same = before.subscription() == &join.subscription;
                if rejoins {
                    self.drop_member(&join.group, &mut group, &join.member, step, &mut touched);
                }
                let mut holding = before.holding;
                // A new process has nothing in its hands.
                let revoked = std::mem::take(&mut holding.revoking);
                holding.held = None;
                let freed = group.disown(&revoked);
                for place in super::member::each(&holding.assigned) {
                    group.owners.insert(place, join.member.clone());
                }
                for (topic, partitions) in &holding.target {
                    for partition in partitions {
                        group.targets.insert((*topic, *partition), join.member.clone());
                    }
                }
                group.members.insert(join.member.clone(), Member::new(identity, holding));
                group.begin_epoch(&mut touched);
                group.release(&freed, &mut touched);
                (Cause::Replaced { old, new: join.member.clone() }, !same || !freed.is_empty())
            }
            None if rejoins => {
                let instance = group.members.get(&join.member).and_then(|m| m.identity.instance.clone());
                if identity.instance.is_none() {
                    identity.instance = instance;
                }
                self.drop_member(&join.group, &mut group, &join.member, step, &mut touched);
                group.members.insert(join.member.clone(), Member::new(identity, Holding::default()));
                (Cause::Rejoined(join.member.clone()), true)
            }
            None => {
                group.members.insert(join.member.clone(), Member::new(identity, Holding::default()));
                (Cause::Joined(join.member.clone()), true)
            }
        };
        touched.removed.retain(|removed| *removed != join.member);
        if let Some(instance) = &join.instance {
            group.instances.insert(instance.clone(), join.member.clone());
        }
        group.head.empty_since = None;
        touched.head = true;
        touched.identities.insert(join.member.clone());
        if let Some(member) = group.members.get(&join.member) {
            self.topics.want(&join.group, member);
        }
        self.all.insert(join.group.clone(), group);
        self.see(step, &join.sight, Some(&join.group));
        self.with(&join.group, |group, topics| {
            if moves {
                group.rebalance(topics, &mut touched);
            }
            group.revise(&join.member, &mut touched);
        });
        self.conclude(step, &join.group, cause, touched);
        self.member_answer(&join.group, &join.member)
    }

    pub(super) fn resubscribe(
        &mut self,
        step: &mut Step<'_>,
        sender: Sender<'_>,
        subscription: &Subscription,
        sight: &Sight,
    ) -> Result<Answer, Refusal> {
        let (id, member, epoch) = sender;
        limits::check_subscription(subscription)?;
        limits::check_sight(sight)?;
        self.check(id, member, epoch)?;
        let mut touched = Touched::new(step.at);
        let Some(mut group) = self.all.remove(id) else {
            return Err(Refusal::GroupUnknown { group: id.clone() });
        };
        if let Some(before) = group.members.remove(member) {
            self.topics.unwant(id, &before, step.changes);
            let identity = Identity { subscription: subscription.clone(), ..before.identity };
            let now = Member::new(identity, before.holding);
            self.topics.want(id, &now);
            group.members.insert(member.clone(), now);
        }
        touched.identities.insert(member.clone());
        self.all.insert(id.clone(), group);
        self.see(step, sight, Some(id));
        self.with(id, |group, topics| {
            group.rebalance(topics, &mut touched);
            group.revise(member, &mut touched);
        });
        self.conclude(step, id, Cause::Resubscribed(member.clone()), touched);
        self.member_answer(id, member)
    }

    pub(super) fn acknowledge(
        &mut self,
        step: &mut Step<'_>,
        (id, member, epoch): Sender<'_>,
        revision: LogIndex,
        owned: &Partitions,
    ) -> Result<Answer, Refusal> {
        let (_, found) = self.check(id, member, epoch)?;
        if found.revision() == revision && !found.revoking().is_empty() {
            let mut touched = Touched::new(step.at);
            self.with(id, |group, _| group.given_up(member, owned, &mut touched));
            self.conclude(step, id, Cause::Acknowledged(member.clone()), touched);
        }
        self.member_answer(id, member)
    }

    pub(super) fn leave(
        &mut self,
        step: &mut Step<'_>,
        (id, member, epoch): Sender<'_>,
        temporary: bool,
    ) -> Result<Answer, Refusal> {
        if epoch > GroupEpoch(0) {
            match self.check(id, member, epoch) {
                Err(Refusal::MemberUnknown { .. }) => return Ok(Answer::Left),
                other => other?,
            };
        }
        let found = self.all.get(id).and_then(|group| group.members.get(member));
        let Some(found) = found else { return Ok(Answer::Left) };
        if temporary && found.instance().is_some() {
            if !found.away() {
                let mut touched = Touched::new(step.at);
                self.with(id, |group, _| {
                    if let Some(member) = group.members.get_mut(member) {
                        member.identity.away = true;
                    }
                    touched.identities.insert(member.clone());
                    // What it was to give up it has given up by going.
                    group.given_up(member, &Partitions::new(), &mut touched);
                });
                self.conclude(step, id, Cause::Away(member.clone()), touched);
            }
            return Ok(Answer::Left);
        }
        self.remove(step, id, member, Cause::Left(member.clone()));
        Ok(Answer::Left)
    }

    pub(super) fn expire(
        &mut self,
        step: &mut Step<'_>,
        (id, member, epoch): Sender<'_>,
        cause: Overdue,
    ) -> Answer {
        let Some(group) = self.all.get(id) else { return Answer::Expired };
        let Some(found) = group.members.get(member) else { return Answer::Expired };
        let unrevoked = group.member_state(found) == MemberState::UnrevokedPartitions;
        let joined_since = epoch < found.joined();
        if joined_since || (cause == Overdue::Revocation && !unrevoked) {
            return Answer::NotOverdue;
        }
        self.remove(step, id, member, Cause::Expired(member.clone(), cause));
        Answer::Expired
    }

    /// A member is out: its partitions go to others at once.
    fn remove(&mut self, step: &mut Step<'_>, id: &GroupId, member: &MemberId, cause: Cause) {
        let mut touched = Touched::new(step.at);
        let Some(mut group) = self.all.remove(id) else { return };
        self.drop_member(id, &mut group, member, step, &mut touched);
        if group.members.is_empty() {
            group.head.empty_since = Some(step.now);
        }
        self.all.insert(id.clone(), group);
        self.with(id, |group, topics| group.rebalance(topics, &mut touched));
        self.conclude(step, id, cause, touched);
    }

    /// Takes a member out of everything, but for the rebalance.
    pub(super) fn drop_member(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        member: &MemberId,
        step: &mut Step<'_>,
        touched: &mut Touched,
    ) {
        let Some(gone) = group.members.remove(member) else { return };
        if let Some(instance) = gone.instance()
            && group.instances.get(instance) == Some(member)
        {
            group.instances.remove(instance);
        }
        group.disown(gone.assigned());
        group.disown(gone.revoking());
        for (topic, partitions) in gone.target() {
            for partition in partitions {
                group.targets.remove(&(*topic, *partition));
            }
        }
        self.topics.unwant(id, &gone, step.changes);
        touched.removed.push(member.clone());
    }

    /// Takes in a sight; groups that it concerns are rebalanced, but for the one that is about to be.
    pub(super) fn see(&mut self, step: &mut Step<'_>, sight: &Sight, but: Option<&GroupId>) {
        let seen = self.topics.see(sight, step.changes);
        let ids: Vec<GroupId> = if seen.ended.is_empty() {
            seen.groups.iter().cloned().collect()
        } else {
            self.all.keys().cloned().collect()
        };
        for id in &ids {
            let mut touched = Touched::new(step.at);
            self.with(id, |group, _| group.end_topics(&seen.ended, &mut touched));
            self.end_offsets(step, id, &seen.ended);
            if seen.groups.contains(id) && but != Some(id) {
                self.with(id, |group, topics| group.rebalance(topics, &mut touched));
            }
            self.conclude(step, id, Cause::TopicsChanged, touched);
        }
    }

    pub(super) fn with<T>(
        &mut self,
        id: &GroupId,
        act: impl FnOnce(&mut Group, &super::topics::Topics) -> T,
    ) -> Option<T> {
        let Self { all, topics } = self;
        all.get_mut(id).map(|group| act(group, topics))
    }

    pub(super) fn conclude(&mut self, step: &mut Step<'_>, id: &GroupId, cause: Cause, touched: Touched) {
        if let Some(group) = self.all.get(id) {
            step.events.extend(group.finish(id, cause, touched, step.changes));
        }
    }

    pub(super) fn member_answer(&self, id: &GroupId, member: &MemberId) -> Result<Answer, Refusal> {
        let told = self.assignment(id, member);
        let told =
            told.ok_or_else(|| Refusal::MemberUnknown { group: id.clone(), member: member.clone() })?;
        Ok(Answer::Member(Box::new(told)))
    }
}

/// What a group's members were, for who must be told.
pub(super) fn everyone(group: &Group) -> BTreeSet<MemberId> {
    group.members.keys().cloned().collect()
}
