//! What changed in groups, for people: log lines, events and metrics, told by the leader that saw it applied.
//!
//! Every step is an event. A rebalance, from the first step until everybody owns what he is to own, is one more
//! event and one line of the log, with all that the steps come to. One that lasts is warned of, with the members
//! that it waits for.

use super::lead::look;
use super::memory::Changed;
use crate::broker::Broker;
use crate::events::{Event, kind};
use flotilla_machine::groups::{Cause, Change, GroupState, MemberState};
use flotilla_raft::Shard;
use flotilla_types::{GroupId, MemberId, Monotonic, PartitionId, ShardId, TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Partitions, and members, that an event names; all are counted.
const NAMED_MAX: usize = 32;
/// A rebalance that lasts longer than this is warned of, once.
const LONG: Duration = Duration::from_secs(10);

/// Rebalances under way.
pub(super) type Rebalances = BTreeMap<(ShardId, GroupId), Rebalance>;

type Place = (TopicId, PartitionId);
type Owner = Option<MemberId>;

/// From the first change until everybody owns what he is to own.
#[derive(Debug)]
pub(super) struct Rebalance {
    since: Monotonic,
    /// What began it, and all that came on top.
    causes: Vec<&'static str>,
    /// Whom it began with.
    member: String,
    steps: u32,
    /// From whom, in the beginning, to whom in the end.
    moved: BTreeMap<Place, (Owner, Owner)>,
    /// Who is told of another assignment.
    revised: BTreeSet<MemberId>,
    /// Who is out.
    removed: BTreeSet<MemberId>,
    warned: bool,
}

impl Rebalance {
    fn begin(since: Monotonic, cause: &'static str, member: String) -> Self {
        Self {
            since,
            causes: vec![cause],
            member,
            steps: 0,
            moved: BTreeMap::new(),
            revised: BTreeSet::new(),
            removed: BTreeSet::new(),
            warned: false,
        }
    }

    fn add(&mut self, change: &Change) {
        self.steps += 1;
        let cause = change.cause.name();
        // Acknowledging is how it goes on, not why.
        let is_step = matches!(change.cause, Cause::Acknowledged(_));
        if !is_step && !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
        for moved in &change.moved {
            let place = (moved.topic, moved.partition);
            let known = self.moved.entry(place).or_insert_with(|| (moved.from.clone(), None));
            known.1.clone_from(&moved.to);
        }
        self.moved.retain(|_, (from, to)| from != to);
        self.revised.extend(change.revised.iter().cloned());
        self.removed.extend(change.removed.iter().cloned());
    }
}

type Names<'a> = BTreeMap<TopicId, &'a TopicName>;

impl Broker {
    pub(super) fn report_changes(&self, changes: VecDeque<Changed>) {
        let routes = self.routes();
        let names: Names<'_> = routes.topics.values().map(|topic| (topic.id, &topic.name)).collect();
        for Changed { shard, change, at, wall } in changes {
            self.metrics.group_change(change.cause.name());
            let members = self.members_of(shard, &change.group);
            self.report_step(&change, members, wall, &names);
            if let Some(rebalance) = self.follow(shard, &change, at) {
                let took = at.since(rebalance.since);
                self.metrics.group_rebalance_seconds.observe(took.as_secs_f64());
                self.report_end(&change, members, &rebalance, (wall, took), &names);
            }
        }
        self.groups.rebalances.lock().retain(|(shard, _), _| self.groups.memory.is_led(*shard));
    }

    /// How many are in a group now.
    fn members_of(&self, shard: ShardId, group: &GroupId) -> usize {
        let shard = self.shard(shard);
        let count = shard.map(|shard| look(&shard, |groups| groups.get(group).map(|g| g.members().len())));
        count.and_then(Result::ok).flatten().unwrap_or(0)
    }

    /// Rebalances that a coordinator had begun before this node led it.
    pub(super) fn resume_rebalances(&self, shard: &Shard, groups: Vec<GroupId>) {
        let now = self.clock.monotonic();
        let mut under_way = self.groups.rebalances.lock();
        for group in groups {
            let resumed = || Rebalance::begin(now, "coordinator_moved", String::new());
            under_way.entry((shard.id(), group)).or_insert_with(resumed);
        }
    }

    /// Notes a change; gives back the rebalance that it ends.
    fn follow(&self, shard: ShardId, change: &Change, at: Monotonic) -> Option<Rebalance> {
        let mut under_way = self.groups.rebalances.lock();
        let key = (shard, change.group.clone());
        let member = || change.cause.member().map(ToString::to_string).unwrap_or_default();
        let begin = || Rebalance::begin(at, change.cause.name(), member());
        let rebalance = under_way.entry(key.clone()).or_insert_with(begin);
        rebalance.add(change);
        if change.state == GroupState::Reconciling { None } else { under_way.remove(&key) }
    }

    fn report_step(&self, change: &Change, members: usize, wall: i64, names: &Names<'_>) {
        let cause = change.cause.name();
        let member = change.cause.member().map(ToString::to_string).unwrap_or_default();
        let (group, epoch, state) = (&change.group, change.epoch, change.state.name());
        let (moved, revised, removed) = (change.moved.len(), change.revised.len(), change.removed.len());
        tracing::debug!(%group, %epoch, cause, member, state, members, partitions_moved = moved,
            members_revised = revised, members_removed = removed, "group changed");
        let named = change.moved.iter().map(|m| ((m.topic, m.partition), (&m.from, &m.to)));
        let attributes = attributes([
            ("group", group.to_string()),
            ("cause", cause.to_owned()),
            ("group_epoch", epoch.to_string()),
            ("state", state.to_uppercase()),
            ("members", members.to_string()),
            ("partitions_moved", moved.to_string()),
            ("members_revised", revised.to_string()),
            ("members_removed", removed.to_string()),
            ("member", member),
            ("moved", moves(named, names)),
        ]);
        let message = format!("group {group}: {cause}, {moved} partitions to move, epoch {epoch}");
        self.publish_event(wall, kind::GROUP_REBALANCE, message, attributes);
    }

    fn report_end(
        &self,
        change: &Change,
        members: usize,
        rebalance: &Rebalance,
        (wall, took): (i64, Duration),
        names: &Names<'_>,
    ) {
        let ms = took.as_millis() as u64;
        let causes = rebalance.causes.join(",");
        let (group, epoch, state) = (&change.group, change.epoch, change.state.name());
        let Rebalance { member, steps, moved, revised, removed, .. } = rebalance;
        let (moved, by) = (moved.len(), member.as_str());
        tracing::info!(%group, %epoch, cause = causes, member = by, state, members, partitions_moved = moved,
            members_revised = revised.len(), members_removed = removed.len(), steps, duration_ms = ms,
            "group rebalanced");
        let named = rebalance.moved.iter().map(|(place, (from, to))| (*place, (from, to)));
        let cause = rebalance.causes.first().copied().unwrap_or_default();
        let attributes = attributes([
            ("group", group.to_string()),
            ("cause", cause.to_owned()),
            ("causes", causes.clone()),
            ("group_epoch", epoch.to_string()),
            ("state", state.to_uppercase()),
            ("members", members.to_string()),
            ("partitions_moved", moved.to_string()),
            ("members_revised", revised.len().to_string()),
            ("members_removed", removed.len().to_string()),
            ("steps", steps.to_string()),
            ("duration_ms", ms.to_string()),
            ("member", member.clone()),
            ("removed", list(removed)),
            ("moved", moves(named, names)),
        ]);
        let message =
            format!("group {group}: {state} after {ms} ms, {moved} partitions moved, epoch {epoch}");
        self.publish_event(wall, kind::GROUP_STABLE, message, attributes);
    }

    /// Warns of rebalances that last.
    pub(super) fn warn_of_long_rebalances(&self) {
        let now = self.clock.monotonic();
        let mut long = Vec::new();
        for (key, rebalance) in self.groups.rebalances.lock().iter_mut() {
            if !rebalance.warned && now.since(rebalance.since) > LONG {
                rebalance.warned = true;
                long.push((key.clone(), rebalance.causes.join(","), now.since(rebalance.since)));
            }
        }
        for ((shard, group), cause, since) in long {
            let Some(shard) = self.led_coordinator(shard) else { continue };
            let waits_for = look(&shard, |groups| {
                let found = groups.get(&group)?;
                let unrevoked = |member| found.member_state(member) == MemberState::UnrevokedPartitions;
                let members = found.members().iter().filter(|(_, member)| unrevoked(member));
                Some(list(&members.map(|(id, _)| id.clone()).collect()))
            });
            if let Ok(Some(waits_for)) = waits_for {
                let seconds = since.as_secs();
                tracing::warn!(%group, cause, waits_for, seconds, "group has not settled yet");
            }
        }
    }

    pub(crate) fn publish_event(
        &self,
        time: i64,
        kind: &str,
        message: String,
        attributes: Vec<(String, String)>,
    ) {
        let node = self.info.id;
        self.observer.events.publish(Event { time, kind: kind.to_owned(), node, message, attributes });
    }
}

/// Those that say something.
fn attributes<const N: usize>(all: [(&str, String); N]) -> Vec<(String, String)> {
    let told = all.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `topic/partition from>to`, the first of them.
fn moves<'a>(all: impl Iterator<Item = (Place, (&'a Owner, &'a Owner))>, names: &Names<'_>) -> String {
    let who = |member: &Owner| member.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let named = all.take(NAMED_MAX).map(|((topic, partition), (from, to))| {
        let topic = names.get(&topic).map_or_else(|| topic.to_wire(), ToString::to_string);
        format!("{topic}/{partition} {}>{}", who(from), who(to))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// The first of them.
fn list(members: &BTreeSet<MemberId>) -> String {
    members.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
