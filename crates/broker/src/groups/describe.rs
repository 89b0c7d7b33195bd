//! A group as people see it: its members, and how far it is in each partition.

use super::ends::{End, Want};
use super::lead::look;
use super::{Answer, Call};
use super::{Error, Group, GroupState, Member, MemberState, Position};
use crate::broker::Broker;
use crate::context::Context;
use crate::routes::Routes;
use flotilla_machine::groups::{self as rules, Groups as Rules};
use flotilla_types::{GroupId, MemberId, NodeId, PartitionId, ShardId, TimestampMs, TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a group has to do with in one partition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stand {
    pub topic: TopicName,
    pub topic_id: TopicId,
    pub partition: PartitionId,
    pub shard: ShardId,
    pub leader: Option<NodeId>,
    pub committed: Option<u64>,
    pub owner: Option<MemberId>,
}

/// Whether it is worth a look at the disk, how long records have waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    Yes,
    No,
}

impl Broker {
    /// One group, by way of any node.
    pub async fn get_group(&self, context: &Context, group: GroupId) -> Result<Group, Error> {
        let call = Call::Get { group: group.clone() };
        match self.counted_group(self.ask_coordinator(context, &group, call).await)? {
            Answer::Group(group) => Ok(*group),
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn describe_here(&self, id: &GroupId) -> Result<Group, Error> {
        let shard = self.coordinator(id)?;
        self.settled(id, &shard).await?;
        let routes = self.routes();
        let looked = look(&shard, |groups| {
            let group = groups.get(id)?;
            let members: Vec<Member> = group
                .members()
                .iter()
                .map(|(name, member)| self.member(groups, group, name, member))
                .collect();
            let stands = stands(groups, group, (&routes, &by_id(&routes)));
            Some((self.summary(groups, id, group), members, stands))
        })?;
        let (mut group, mut members, stands) = looked.ok_or_else(|| Error::NotFound(id.clone()))?;
        for member in &mut members {
            let heard = self.groups.memory.last_heard(&(shard.id(), id.clone(), member.id.clone()));
            member.last_heartbeat = heard.at;
            if !heard.peer.is_empty() {
                member.peer = heard.peer;
            }
        }
        group.positions = self.positions(stands, Timed::Yes).await;
        group.lag = total(group.positions.iter().map(|position| position.lag));
        group.members = members;
        Ok(group)
    }

    /// Without members and positions.
    pub(super) fn summary(&self, groups: &Rules, id: &GroupId, group: &rules::Group) -> Group {
        Group {
            id: id.clone(),
            state: state(group.state()),
            group_epoch: group.epoch().get(),
            assignor: group.assignor().name().to_owned(),
            coordinator: self.info.id,
            member_count: group.members().len() as u32,
            members: Vec::new(),
            positions: Vec::new(),
            lag: None,
            topics: subscribed(groups, group).into_iter().collect(),
            paused_until: group.paused_until(),
        }
    }

    fn member(&self, groups: &Rules, group: &rules::Group, id: &MemberId, member: &rules::Member) -> Member {
        let named = |topic: &TopicId, partitions: &mut dyn Iterator<Item = PartitionId>| {
            let name = groups.topic_name(*topic).cloned();
            let named: Vec<_> = partitions.filter_map(|p| Some((name.clone()?, p))).collect();
            named
        };
        // What it is to give up is still its.
        let mut assigned: Vec<_> = [member.assigned(), member.revoking()]
            .into_iter()
            .flatten()
            .flat_map(|(topic, partitions)| named(topic, &mut partitions.keys().copied()))
            .collect();
        assigned.sort();
        let target = member.target().iter();
        let mut target: Vec<_> =
            target.flat_map(|(topic, partitions)| named(topic, &mut partitions.iter().copied())).collect();
        target.sort();
        let subscription = member.subscription();
        Member {
            id: id.clone(),
            instance: member.instance().cloned(),
            client_id: subscription.client.clone(),
            peer: member.peer().to_owned(),
            rack: subscription.rack.clone().unwrap_or_default(),
            epoch: group.member_epoch(member).get(),
            state: match group.member_state(member) {
                rules::MemberState::Stable => MemberState::Stable,
                rules::MemberState::UnrevokedPartitions => MemberState::Unrevoked,
                rules::MemberState::UnreleasedPartitions => MemberState::Unreleased,
            },
            assigned,
            target,
            last_heartbeat: None,
            topics: wanted(groups, member).into_iter().collect(),
            pattern: subscription.pattern.clone().unwrap_or_default(),
        }
    }

    /// How far a group is, with what the partitions' leaders say.
    pub(super) async fn positions(&self, stands: Vec<Stand>, timed: Timed) -> Vec<Position> {
        let want = |stand: &Stand| match timed {
            // Without a commit, the first record there is would be the next.
            Timed::Yes => Want::TimeOf(stand.committed.unwrap_or(0)),
            Timed::No => Want::Ends,
        };
        let asked = stands.iter().map(|stand| (stand.shard, stand.leader, want(stand)));
        let ends = self.ends(asked.collect()).await;
        let now = self.clock.wall();
        stands.into_iter().map(|stand| position(&stand, ends.get(&stand.shard), now)).collect()
    }
}

fn position(stand: &Stand, end: Option<&End>, now: TimestampMs) -> Position {
    let lag = end.map(|end| {
        let next = stand.committed.unwrap_or(end.log_start).max(end.log_start);
        end.last_stable.saturating_sub(next)
    });
    let since = end.and_then(|end| end.time).filter(|_| lag.is_some_and(|lag| lag > 0));
    let waited = |since: TimestampMs| Duration::from_millis(now.saturating_sub(since).max(0) as u64);
    let time_lag = if lag == Some(0) { Some(Duration::ZERO) } else { since.map(waited) };
    Position {
        topic: stand.topic.clone(),
        partition: stand.partition,
        committed: stand.committed,
        end: end.map(|end| end.last_stable),
        lag,
        time_lag,
        member: stand.owner.clone(),
    }
}

/// Topics by their ids.
pub(super) type ById<'a> = BTreeMap<TopicId, &'a TopicName>;

pub(super) fn by_id(routes: &Routes) -> ById<'_> {
    routes.topics.values().map(|topic| (topic.id, &topic.name)).collect()
}

/// Everything a group has to do with: what its members subscribe to, and what it has offsets of.
pub(super) fn stands(
    groups: &Rules,
    group: &rules::Group,
    (routes, ids): (&Routes, &ById<'_>),
) -> Vec<Stand> {
    let topics = subscribed(groups, group);
    let mut places: BTreeSet<(&TopicName, PartitionId)> = BTreeSet::new();
    for route in topics.iter().filter_map(|topic| routes.topics.get(topic)) {
        places.extend((0..route.partitions.len() as u32).map(|n| (&route.name, PartitionId(n))));
    }
    for (topic, partition) in group.offsets().keys() {
        places.extend(ids.get(topic).map(|name| (*name, *partition)));
    }
    let stand = |(topic, partition): (&TopicName, PartitionId)| {
        let route = routes.topics.get(topic)?;
        let placed = route.partitions.get(partition.get() as usize)?;
        Some(Stand {
            topic: topic.clone(),
            topic_id: route.id,
            partition,
            shard: placed.shard,
            leader: placed.leader.map(|(node, _)| node),
            committed: group.offset(route.id, partition).map(|committed| committed.offset.get()),
            owner: group.owner(route.id, partition).cloned(),
        })
    };
    places.into_iter().filter_map(stand).collect()
}

/// What a group's members want, patterns resolved.
pub(super) fn subscribed(groups: &Rules, group: &rules::Group) -> BTreeSet<TopicName> {
    group.members().values().flat_map(|member| wanted(groups, member)).collect()
}

/// What a member wants, its pattern resolved.
pub(super) fn wanted(groups: &Rules, member: &rules::Member) -> BTreeSet<TopicName> {
    let subscription = member.subscription();
    let mut topics = subscription.topics.clone();
    let matches = subscription.pattern.as_ref().and_then(|pattern| groups.patterns().get(pattern));
    topics.extend(matches.into_iter().flat_map(|matches| matches.topics.iter().cloned()));
    topics
}

pub(super) fn state(state: rules::GroupState) -> GroupState {
    match state {
        rules::GroupState::Empty => GroupState::Empty,
        rules::GroupState::Reconciling => GroupState::Reconciling,
        rules::GroupState::Stable => GroupState::Stable,
    }
}

/// The sum of what is known; `None` if nothing is.
pub(super) fn total(lags: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut known = lags.flatten().peekable();
    known.peek()?;
    Some(known.sum())
}
