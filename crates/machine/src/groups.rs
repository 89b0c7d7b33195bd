//! Consumer groups: who belongs to a group, who owns which partition, and how far each has been processed.
//!
//! A group has an epoch, which rises with every change of its members, their subscriptions, its topics, and
//! with every seek. With it the target is computed: who is to own what (`assign`). Members come to it step by
//! step: what they are not to have they give up and acknowledge, only then others get it (`reconcile`). So no
//! partition ever has two owners, and whoever keeps a partition never stops.
//!
//! Nothing here measures time: the leader does, and says so ([`Command::Expire`]). Nothing here looks up
//! topics: what the leader sees of them comes with the commands ([`Sight`]).

mod assign;
mod command;
mod group;
mod limits;
mod member;
mod membership;
mod offsets;
mod outcome;
mod reconcile;
mod refusal;
mod topics;

pub use command::{Assignor, Command, Join, OffsetCommit, Overdue, Sight, Subscription, TopicLife};
pub use group::{Committed, Group, Place};
pub use limits::{GROUPS_MAX, MEMBERS_MAX, TEXT_MAX};
pub use member::{Member, Owned, Partitions};
pub use outcome::{
    Answer, AssignedPartition, Assignment, Cause, Change, GroupState, MemberState, Move, Moved, Outcome,
    RefusedOffset,
};
pub use refusal::Refusal;
pub use topics::{Known, Matches, PATTERN_TOPICS_MAX};

pub(crate) use limits::shown;

use crate::outcome::Broken;
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::{
    ChangeSet, GroupEpoch, GroupId, LogIndex, MemberId, PartitionId, TimestampMs, TopicId, TopicName,
};
use std::collections::{BTreeMap, BTreeSet};
use topics::Topics;

/// All groups of a coordinator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    all: BTreeMap<GroupId, Group>,
    topics: Topics,
}

/// What a command is applied with.
pub(crate) struct Step<'a> {
    /// Its place in the log.
    pub at: LogIndex,
    /// Log time: the command's or a later one.
    pub now: TimestampMs,
    /// The greatest epoch of any group that was here and is gone: those that are made begin after it, so that
    /// whoever belonged to an earlier group of the same name is from the past for good.
    pub last_epoch: &'a mut GroupEpoch,
    /// What it writes.
    pub changes: &'a mut ChangeSet,
    /// What it changes for others.
    pub events: Vec<Change>,
}

impl Groups {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupId, &Group)> {
        self.all.iter()
    }

    /// One of them.
    pub fn get(&self, group: &GroupId) -> Option<&Group> {
        self.all.get(group)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The member that sent this epoch, if the epoch is one of its own: from the one it joined with to the
    /// one it is at. It may not have heard of the last ones yet. One that is away has to join again: its
    /// partitions may be given on without a word.
    pub fn check(
        &self,
        group: &GroupId,
        member: &MemberId,
        epoch: GroupEpoch,
    ) -> Result<(&Group, &Member), Refusal> {
        match self.find(group, member, epoch)? {
            (_, found) if found.away() => {
                Err(Refusal::MemberUnknown { group: group.clone(), member: member.clone() })
            }
            found => Ok(found),
        }
    }

    /// The same, also while it is away.
    fn find(
        &self,
        group: &GroupId,
        member: &MemberId,
        epoch: GroupEpoch,
    ) -> Result<(&Group, &Member), Refusal> {
        let found = self.all.get(group).and_then(|group| Some((group, group.members.get(member)?)));
        let (of, found) =
            found.ok_or_else(|| Refusal::MemberUnknown { group: group.clone(), member: member.clone() })?;
        let (joined, current) = (found.joined(), of.member_epoch(found));
        if !(joined..=current).contains(&epoch) {
            return Err(Refusal::Fenced { member: member.clone(), given: epoch, joined, current });
        }
        Ok((of, found))
    }

    /// What a member is told.
    pub fn assignment(&self, group: &GroupId, member: &MemberId) -> Option<Assignment> {
        let group = self.all.get(group)?;
        Some(group.assignment(group.members.get(member)?, &self.topics))
    }

    /// What is known of topics that some member wants. Absent = not seen yet.
    pub fn topics(&self) -> &BTreeMap<TopicName, Known> {
        self.topics.known()
    }

    /// What patterns of members match. Absent = not seen yet.
    pub fn patterns(&self) -> &BTreeMap<String, Matches> {
        self.topics.patterns()
    }

    /// Whether some member wants this topic.
    pub fn wanted(&self, topic: &TopicName) -> bool {
        self.topics.wanted(topic)
    }

    /// Topics by the names that members gave, whether they are known or not.
    pub fn wanted_topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.wanted_names()
    }

    /// Patterns that members gave, whether it is known or not what they match.
    pub fn wanted_patterns(&self) -> impl Iterator<Item = &str> {
        self.topics.wanted_patterns()
    }

    /// The name of a topic that some member wants.
    pub fn topic_name(&self, topic: TopicId) -> Option<&TopicName> {
        self.topics.name(topic)
    }

    /// Every topic that some group has offsets of. Walks all groups.
    pub fn offset_topics(&self) -> BTreeSet<TopicId> {
        let mut found = BTreeSet::new();
        for group in self.all.values() {
            let mut from = (TopicId(0), PartitionId(0));
            while let Some(((topic, _), _)) = group.offsets.range(from..).next() {
                found.insert(*topic);
                let Some(next) = topic.get().checked_add(1) else { break };
                from = (TopicId(next), PartitionId(0));
            }
        }
        found
    }

    pub(crate) fn apply(&mut self, step: &mut Step<'_>, command: &Command) -> Result<Answer, Refusal> {
        match command {
            Command::Join(join) => self.join(step, join),
            Command::Resubscribe { group, member, epoch, subscription, sight, now: _ } => {
                self.resubscribe(step, (group, member, *epoch), subscription, sight)
            }
            Command::Acknowledge { group, member, epoch, revision, owned, now: _ } => {
                self.acknowledge(step, (group, member, *epoch), *revision, owned)
            }
            Command::Leave { group, member, epoch, temporary, now: _ } => {
                self.leave(step, (group, member, *epoch), *temporary)
            }
            Command::Expire { group, member, epoch, cause, now: _ } => {
                Ok(self.expire(step, (group, member, *epoch), *cause))
            }
            Command::Commit { group, member: Some((member, epoch)), number, offsets, now: _ } => {
                self.commit(step, (group, member, *epoch), *number, offsets)
            }
            Command::Commit { group, member: None, number: _, offsets, now: _ } => {
                self.commit_without_member(step, group, offsets)
            }
            Command::Seek { group, offsets, now: _ } => self.seek(step, group, offsets),
            Command::Configure { group, paused_until, now: _ } => self.configure(step, group, *paused_until),
            Command::Delete { group, force, now: _ } => self.delete(step, group, *force),
            Command::TopicsChanged { sight, now: _ } => {
                limits::check_sight(sight)?;
                self.see(step, sight, None);
                Ok(Answer::TopicsSeen)
            }
            Command::ExpireOffsets { retention_ms, now: _ } => Ok(self.expire_offsets(step, *retention_ms)),
        }
    }

    fn configure(
        &mut self,
        step: &mut Step<'_>,
        id: &GroupId,
        paused_until: Option<TimestampMs>,
    ) -> Result<Answer, Refusal> {
        let group = self.all.get_mut(id).ok_or_else(|| Refusal::GroupUnknown { group: id.clone() })?;
        if group.head.paused_until != paused_until {
            group.head.paused_until = paused_until;
            row::put(step.changes, RowKind::Group, id.as_str().as_bytes(), &group.head);
        }
        Ok(Answer::Configured)
    }

    pub(crate) fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        let id = |id: &GroupId| id.as_str().as_bytes().to_vec();
        out.extend(self.all.iter().map(|(group, of)| row::row(RowKind::Group, &id(group), &of.head)));
        let members = || self.all.iter().flat_map(|(id, of)| of.members.iter().map(move |m| (id, m)));
        out.extend(members().map(|(group, (member, of))| {
            row::row(RowKind::GroupMember, &member_key(group, member), &of.identity)
        }));
        out.extend(members().map(|(group, (member, of))| {
            row::row(RowKind::GroupHolding, &member_key(group, member), &of.holding)
        }));
        let offsets = self.all.iter().flat_map(|(id, of)| of.offsets.iter().map(move |o| (id, o)));
        out.extend(offsets.map(|(group, (place, committed))| {
            row::row(RowKind::GroupOffset, &offset_key(group, *place), committed)
        }));
        self.topics.rows(out);
    }

    /// Rows come in key order: groups before their members, members before what they hold.
    pub(crate) fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        let unknown = |what: &str| Broken::new(format!("state row {:?} of no {what}", row.kind));
        match row.kind {
            RowKind::Group => {
                self.all.insert(group_id(&row)?, Group::new(row.value()?));
            }
            RowKind::GroupMember => {
                let (group, member) = member_ids(&row)?;
                let group = self.all.get_mut(&group).ok_or_else(|| unknown("group"))?;
                group.members.insert(member, Member::new(row.value()?, member::Holding::default()));
            }
            RowKind::GroupHolding => {
                let (group, member) = member_ids(&row)?;
                let member = self.all.get_mut(&group).and_then(|group| group.members.get_mut(&member));
                let member = member.ok_or_else(|| unknown("member"))?;
                member.holding = row.value()?;
            }
            RowKind::GroupOffset => {
                let (group, place) = offset_place(&row)?;
                let group = self.all.get_mut(&group).ok_or_else(|| unknown("group"))?;
                group.offsets.insert(place, row.value()?);
            }
            RowKind::KnownTopic => {
                let name = TopicName::new(&row.id_text()?).map_err(|bad| Broken::new(bad.to_string()))?;
                self.topics.load_known(name, row.value()?).map_err(Broken::new)?;
            }
            RowKind::TopicPattern => self.topics.load_pattern(row.id_text()?, row.value()?),
            _ => return Err(row.misplaced()),
        }
        Ok(())
    }

    pub(crate) fn check_loaded(&mut self) -> Result<(), Broken> {
        for (id, group) in &mut self.all {
            group.index().map_err(|why| Broken::new(format!("group {id}: {why}")))?;
            for member in group.members.values() {
                self.topics.want(id, member.subscription());
            }
        }
        self.topics.check_loaded().map_err(Broken::new)
    }
}

/// Names have no zero byte, so that keys sort as groups and members do.
fn member_key(group: &GroupId, member: &MemberId) -> Vec<u8> {
    [group.as_str().as_bytes(), &[0], member.as_str().as_bytes()].concat()
}

fn offset_key(group: &GroupId, (topic, partition): Place) -> Vec<u8> {
    let (topic, partition) = (topic.get().to_be_bytes(), partition.get().to_be_bytes());
    [group.as_str().as_bytes(), &[0], &topic, &partition].concat()
}

fn named<T>(row: &Row<'_>, bytes: &[u8], name: impl Fn(&str) -> Option<T>) -> Result<T, Broken> {
    std::str::from_utf8(bytes).ok().and_then(name).ok_or_else(|| row.bad_key())
}

fn group_id(row: &Row<'_>) -> Result<GroupId, Broken> {
    named(row, row.id, |name| GroupId::new(name).ok())
}

fn member_ids(row: &Row<'_>) -> Result<(GroupId, MemberId), Broken> {
    let at = row.id.iter().position(|byte| *byte == 0).ok_or_else(|| row.bad_key())?;
    let (group, member) = row.id.split_at_checked(at).ok_or_else(|| row.bad_key())?;
    let group = named(row, group, |name| GroupId::new(name).ok())?;
    let member = member.get(1..).ok_or_else(|| row.bad_key())?;
    Ok((group, named(row, member, |name| MemberId::new(name).ok())?))
}

fn offset_place(row: &Row<'_>) -> Result<(GroupId, Place), Broken> {
    let (rest, partition) = row.id.split_last_chunk::<4>().ok_or_else(|| row.bad_key())?;
    let (rest, topic) = rest.split_last_chunk::<8>().ok_or_else(|| row.bad_key())?;
    let (zero, group) = rest.split_last().ok_or_else(|| row.bad_key())?;
    if *zero != 0 {
        return Err(row.bad_key());
    }
    let place = (TopicId(u64::from_be_bytes(*topic)), PartitionId(u32::from_be_bytes(*partition)));
    Ok((named(row, group, |name| GroupId::new(name).ok())?, place))
}
