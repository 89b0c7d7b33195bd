//! Members come, change what they want, give partitions up, go, and are removed.

use super::command::{Join, Overdue, Sight, Subscription};
use super::group::{Group, Place};
use super::limits;
use super::member::{Identity, Member, Partitions, each};
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
        if existing.is_none() {
            limits::check_groups(self.all.len())?;
        }
        let holder = existing.map(|group| other_holder(group, join)).transpose()?.flatten();
        let rejoins = existing.is_some_and(|group| group.members.contains_key(&join.member));
        let limit = join.members_max.min(limits::MEMBERS_MAX);
        let count = existing.map_or(0, |group| group.members.len());
        if !rejoins && holder.is_none() && count >= limit as usize {
            return Err(Refusal::GroupFull { group: join.group.clone(), limit });
        }
        // Wanted anew and seen before the old wish ends: what both want is never forgotten in between.
        self.topics.want(&join.group, &join.subscription);
        let concerned = self.see(step, &join.sight, Some(&join.group));
        let mut touched = Touched::new(step.at);
        let mut group = self.all.remove(&join.group).unwrap_or_else(|| Group::after(*step.last_epoch));
        let before = group.begin_epoch(&mut touched);
        let identity = Identity {
            joined: group.epoch(),
            instance: join.instance.clone(),
            away: false,
            subscription: join.subscription.clone(),
            peer: limits::cut(&join.peer),
        };
        // Whoever had the instance, or this member's earlier life, hands on what it had: no partition moves for
        // a restart, or for an answer that was lost.
        let heir_of = holder.as_ref().or_else(|| rejoins.then_some(&join.member));
        let had = heir_of.and_then(|id| group.members.get(id));
        let unchanged = had.is_some_and(|had| had.subscription() == &join.subscription);
        let mut holding = had.map(|had| had.holding.clone()).unwrap_or_default();
        // It has nothing in its hands yet, so there is nothing to wait for.
        let freed: Vec<Place> = each(&std::mem::take(&mut holding.revoking)).collect();
        holding.held = None;
        let member = Member::new(identity, holding);
        for out in holder.iter().chain(rejoins.then_some(&join.member)) {
            self.drop_member(&join.group, &mut group, out, step, &mut touched);
        }
        touched.removed.retain(|removed| *removed != join.member);
        group.seat(&join.member, member);
        group.head.empty_since = None;
        touched.identities.insert(join.member.clone());
        self.all.insert(join.group.clone(), group);
        let moves = concerned || !unchanged || (rejoins && holder.is_some());
        self.with(&join.group, |group, topics| {
            if moves {
                group.rebalance_since(before, Some(&join.member), topics, &mut touched);
            } else {
                group.release(&freed, &mut touched);
                // What was free and waited only for this member to give something else up.
                group.grant(&join.member, &mut touched);
            }
            group.revise(&join.member, &mut touched);
        });
        let member = join.member.clone();
        let cause = match holder {
            Some(old) => Cause::Replaced { old, new: member },
            None if rejoins => Cause::Rejoined(member),
            None => Cause::Joined(member),
        };
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
        let (_, found) = self.check(id, member, epoch)?;
        let unchanged = found.subscription() == subscription;
        // As with a join. The old wish is the new one's equal where nothing changed.
        self.topics.want(id, subscription);
        let concerned = self.see(step, sight, Some(id));
        let mut touched = Touched::new(step.at);
        let old = self.with(id, |group, _| group.rewish(member, subscription)).flatten();
        self.topics.unwant(id, old.as_ref().unwrap_or(subscription), step.changes);
        if concerned || !unchanged {
            touched.identities.insert(member.clone());
            self.with(id, |group, topics| {
                group.rebalance(topics, &mut touched);
                group.revise(member, &mut touched);
            });
            self.conclude(step, id, Cause::Resubscribed(member.clone()), touched);
        }
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
            self.with(id, |group, _| group.given_up(member, epoch, owned, &mut touched));
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
        let found = self.all.get(id).and_then(|group| group.members.get(member));
        let Some(found) = found else { return Ok(Answer::Left) };
        if epoch > GroupEpoch(0) {
            self.find(id, member, epoch)?;
        }
        if temporary && found.instance().is_some() {
            if !found.away() {
                let mut touched = Touched::new(step.at);
                self.with(id, |group, _| {
                    if let Some(member) = group.members.get_mut(member) {
                        member.identity.away = true;
                    }
                    touched.identities.insert(member.clone());
                    // What it was to give up it has given up by going.
                    let now = group.epoch();
                    group.given_up(member, now, &Partitions::new(), &mut touched);
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
        // Whoever has gone on to another epoch has given up all that the leader waited for, even if there is
        // more to give up by now.
        let acknowledged = !unrevoked || epoch < group.member_epoch(found);
        if joined_since || (cause == Overdue::Revocation && acknowledged) {
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
        self.topics.unwant(id, gone.subscription(), step.changes);
        touched.removed.push(member.clone());
    }

    /// Takes in a sight; groups that it concerns are rebalanced. But for one, which the caller rebalances:
    /// answers whether it must.
    pub(super) fn see(&mut self, step: &mut Step<'_>, sight: &Sight, but: Option<&GroupId>) -> bool {
        let seen = self.topics.see(sight, step.changes);
        let ids: Vec<GroupId> = if seen.ended.is_empty() {
            seen.groups.iter().cloned().collect()
        } else {
            self.all.keys().cloned().collect()
        };
        for id in &ids {
            let mut touched = Touched::new(step.at);
            let concerned = seen.groups.contains(id);
            self.with(id, |group, topics| {
                let owners = group.end_topics(&seen.ended, &mut touched);
                if concerned && but != Some(id) {
                    group.rebalance(topics, &mut touched);
                }
                if !concerned {
                    // Nobody is to have them, but somebody may have waited to be rid of them.
                    owners.iter().for_each(|owner| group.grant(owner, &mut touched));
                }
            });
            self.end_offsets(step, id, &seen.ended);
            self.conclude(step, id, Cause::TopicsChanged, touched);
        }
        but.is_some_and(|but| seen.groups.contains(but))
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

/// The other member that has the instance, and gives way: it is away, or the leader has lost sight of it.
fn other_holder(group: &Group, join: &Join) -> Result<Option<MemberId>, Refusal> {
    let Some(instance) = &join.instance else { return Ok(None) };
    let holder = group.instances.get(instance).filter(|holder| **holder != join.member);
    let Some(holder) = holder else { return Ok(None) };
    let away = group.members.get(holder).is_some_and(Member::away);
    if !away && !join.holder_gone {
        return Err(Refusal::InstanceHeld { instance: instance.clone(), holder: holder.clone() });
    }
    Ok(Some(holder.clone()))
}

/// What a group's members were, for who must be told.
pub(super) fn everyone(group: &Group) -> BTreeSet<MemberId> {
    group.members.keys().cloned().collect()
}
