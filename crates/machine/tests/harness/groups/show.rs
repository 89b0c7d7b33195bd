//! Groups and answers as scripts show them: `orders 0-2@3` are partitions 0 to 2, owned since epoch 3.

use flotilla_machine::groups::{
    Answer, Assignment, Change, Group, Groups, Member, MemberState, Outcome, Partitions,
};
use flotilla_types::{GroupEpoch, GroupId, PartitionId, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The answer, then a line for each group that it changed.
pub fn outcome(groups: &Groups, outcome: &Outcome) -> String {
    let mut out = match &outcome.answer {
        Ok(answer) => self::answer(groups, answer),
        Err(refusal) => format!("refused: {refusal}\n"),
    };
    for change in &outcome.changes {
        out.push_str(&self::change(groups, change));
    }
    out
}

fn answer(groups: &Groups, answer: &Answer) -> String {
    match answer {
        Answer::Member(told) => assignment(told),
        Answer::Left => "left\n".to_owned(),
        Answer::NotOverdue => "not overdue\n".to_owned(),
        Answer::Expired => "expired\n".to_owned(),
        Answer::Committed { refused } => {
            let one = |refused: &flotilla_machine::groups::RefusedOffset| {
                let at = topic(groups, refused.topic);
                format!("not {at} {}: {}\n", refused.partition, refused.refusal)
            };
            let refused: String = refused.iter().map(one).collect();
            if refused.is_empty() { "committed\n".to_owned() } else { refused }
        }
        Answer::Sought { moves } => {
            let moved = moves.iter().map(|m| {
                let from = m.from.map_or("nothing".to_owned(), |from| from.to_string());
                format!("{} {} from {from} to {}\n", topic(groups, m.topic), m.partition, m.to)
            });
            moved.collect()
        }
        Answer::Configured => "configured\n".to_owned(),
        Answer::Deleted => "deleted\n".to_owned(),
        Answer::TopicsSeen => "seen\n".to_owned(),
        Answer::OffsetsExpired { groups, offsets, more } => {
            format!("forgot {groups} groups, {offsets} offsets{}\n", if *more { ", more to do" } else { "" })
        }
    }
}

fn assignment(told: &Assignment) -> String {
    let mut owned: BTreeMap<String, BTreeMap<PartitionId, GroupEpoch>> = BTreeMap::new();
    let mut committed = String::new();
    for one in &told.partitions {
        let topic = one.topic.to_string();
        if let Some(offset) = one.committed {
            write!(committed, ", {topic} {} from {offset}", one.partition).unwrap();
        }
        owned.entry(topic).or_default().insert(one.partition, one.assignment_epoch);
    }
    let owned: Vec<_> = owned.iter().map(|(topic, list)| format!("{topic} {}", runs(list))).collect();
    let must = if told.must_acknowledge { ", must acknowledge" } else { "" };
    format!("epoch {}: {}{committed}{must}\n", told.member_epoch, or_nothing(&owned.join(", ")))
}

fn change(groups: &Groups, change: &Change) -> String {
    let cause = change.cause.name();
    let mut out = format!("  {} epoch {} {} by {cause}", change.group, change.epoch, change.state.name());
    if let Some(member) = change.cause.member() {
        write!(out, " {member}").unwrap();
    }
    let mut moves: BTreeMap<_, BTreeSet<PartitionId>> = BTreeMap::new();
    for moved in &change.moved {
        let name =
            |id: &Option<flotilla_types::MemberId>| id.as_ref().map_or("-".into(), ToString::to_string);
        let way = (topic(groups, moved.topic), name(&moved.from), name(&moved.to));
        moves.entry(way).or_default().insert(moved.partition);
    }
    for ((topic, from, to), partitions) in moves {
        write!(out, "; {topic} {} {from}>{to}", numbers(&partitions)).unwrap();
    }
    for (what, members) in [("tell", &change.revised), ("out", &change.removed)] {
        let names: Vec<_> = members.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            write!(out, "; {what} {}", names.join(" ")).unwrap();
        }
    }
    out + "\n"
}

/// A group, whole.
pub fn group(groups: &Groups, id: &GroupId) -> String {
    let Some(group) = groups.get(id) else { return "no such group\n".to_owned() };
    let (epoch, state, assignor) = (group.epoch(), group.state().name(), group.assignor());
    let mut out = format!("epoch {epoch} {state} {assignor}");
    if let Some(since) = group.empty_since() {
        write!(out, ", empty since {since}").unwrap();
    }
    if let Some(until) = group.paused_until() {
        write!(out, ", paused until {until}").unwrap();
    }
    out.push('\n');
    for (id, member) in group.members() {
        writeln!(out, "{id} {}", self::member(groups, group, member)).unwrap();
    }
    for ((topic, partition), committed) in group.offsets() {
        let (offset, time) = (committed.offset, committed.committed_at);
        let term = committed.leader_epoch.map_or(String::new(), |term| format!("@{term}"));
        let text = if committed.metadata.is_empty() { "" } else { " " };
        let (topic, text) = (self::topic(groups, *topic), format!("{text}{}", committed.metadata));
        writeln!(out, "{topic} {partition} committed {offset}{term} at {time}{text}").unwrap();
    }
    out
}

fn member(groups: &Groups, group: &Group, member: &Member) -> String {
    let state = match group.member_state(member) {
        MemberState::Stable => "STABLE",
        MemberState::UnrevokedPartitions => "UNREVOKED",
        MemberState::UnreleasedPartitions => "UNRELEASED",
    };
    let mut out = format!("at {} {state}: {}", group.member_epoch(member), owned(groups, member.assigned()));
    if !member.revoking().is_empty() {
        write!(out, ", to give up {}", owned(groups, member.revoking())).unwrap();
    }
    let target = partitions(groups, member.target());
    if group.member_state(member) != MemberState::Stable {
        write!(out, ", to have {target}").unwrap();
    }
    if let Some(instance) = member.instance() {
        write!(out, ", instance {instance}{}", if member.away() { " away" } else { "" }).unwrap();
    }
    out
}

fn owned(groups: &Groups, owned: &flotilla_machine::groups::Owned) -> String {
    let lists: Vec<_> =
        owned.iter().map(|(id, list)| format!("{} {}", topic(groups, *id), runs(list))).collect();
    or_nothing(&lists.join(", "))
}

fn partitions(groups: &Groups, partitions: &Partitions) -> String {
    let lists = partitions.iter().map(|(id, list)| format!("{} {}", topic(groups, *id), numbers(list)));
    or_nothing(&lists.collect::<Vec<_>>().join(", "))
}

fn or_nothing(list: &str) -> String {
    if list.is_empty() { "nothing".to_owned() } else { list.to_owned() }
}

/// A topic's name as far as it is known, else its number.
fn topic(groups: &Groups, id: TopicId) -> String {
    groups.topic_name(id).map_or_else(|| format!("topic#{id}"), ToString::to_string)
}

fn numbers<'a>(list: impl IntoIterator<Item = &'a PartitionId>) -> String {
    runs(&list.into_iter().map(|partition| (*partition, GroupEpoch(0))).collect())
}

/// `0-2@3,5@4`; without the epoch where it is 0.
fn runs(list: &BTreeMap<PartitionId, GroupEpoch>) -> String {
    let mut runs: Vec<(u32, u32, GroupEpoch)> = Vec::new();
    for (partition, epoch) in list {
        match runs.last_mut() {
            Some((_, last, of)) if *last + 1 == partition.get() && of == epoch => *last += 1,
            _ => runs.push((partition.get(), partition.get(), *epoch)),
        }
    }
    let one = |(first, last, epoch): (u32, u32, GroupEpoch)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if epoch == GroupEpoch(0) { range } else { format!("{range}@{epoch}") }
    };
    runs.into_iter().map(one).collect::<Vec<_>>().join(",")
}
