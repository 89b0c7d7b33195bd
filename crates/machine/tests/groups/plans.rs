//! What a target must be, said without the code that makes it: complete, wanted, even, and near to what it was.

use super::world::Topics;
use super::{group, topic};
use flotilla_machine::groups::{Assignor, Command, Group, Groups, Member};
use flotilla_types::{MemberId, PartitionId, TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet};

type Place = (TopicId, PartitionId);

/// The topics that a member wants and that are known, by id.
fn wanted(groups: &Groups, member: &Member) -> BTreeSet<TopicId> {
    let wish = member.subscription();
    let matched = wish.pattern.as_ref().and_then(|pattern| groups.patterns().get(pattern));
    let names = wish.topics.iter().chain(matched.iter().flat_map(|matches| &matches.topics));
    names.filter_map(|name| Some(groups.topics().get(name)?.life.as_ref()?.id)).collect()
}

/// After every command.
pub fn check(groups: &Groups, before: Option<&Group>, command: &Command) {
    let Some(now) = groups.get(&group()) else { return };
    let wants: BTreeMap<&MemberId, BTreeSet<TopicId>> =
        now.members().iter().map(|(id, member)| (id, wanted(groups, member))).collect();
    let all: BTreeSet<TopicId> = wants.values().flatten().copied().collect();
    // Complete: every partition of what somebody wants has someone, and nothing else has.
    let mut places = BTreeSet::new();
    for known in groups.topics().values().filter_map(|known| known.life.as_ref()) {
        if all.contains(&known.id) {
            places.extend((0..known.partitions).map(|partition| (known.id, PartitionId(partition))));
        }
    }
    let targets: BTreeMap<Place, &MemberId> = now.targets().iter().map(|(place, id)| (*place, id)).collect();
    assert_eq!(targets.keys().copied().collect::<BTreeSet<_>>(), places);
    let mut loads: BTreeMap<&MemberId, usize> = wants.keys().map(|id| (*id, 0)).collect();
    for (place, id) in &targets {
        assert!(wants[id].contains(&place.0), "{id} wants {place:?}");
        *loads.get_mut(id).unwrap() += 1;
    }
    let ranges =
        now.members().values().filter(|m| m.subscription().assignor == Some(Assignor::Range)).count();
    // Nobody here asks for uniform by name.
    assert_eq!(now.assignor(), if ranges > 0 { Assignor::Range } else { Assignor::Uniform });
    match now.assignor() {
        Assignor::Range => check_range(now, &targets, &wants),
        Assignor::Uniform => {
            check_even(&targets, &loads, &wants);
            if let Some(before) = before.filter(|before| before.assignor() == Assignor::Uniform) {
                check_sticky((before, now), &targets, &loads, &wants, command);
            }
        }
    }
}

type Targets<'a> = BTreeMap<Place, &'a MemberId>;
type Wants<'a> = BTreeMap<&'a MemberId, BTreeSet<TopicId>>;

/// A member's name that stays over restarts.
fn lasting<'a>(group: &'a Group, id: &'a MemberId) -> Option<&'a str> {
    let member = group.members().get(id)?;
    Some(member.instance().map_or(id.as_str(), |instance| instance.as_str()))
}

/// Who could take a partition has at most one less than whose it is to be.
fn check_even(targets: &Targets<'_>, loads: &BTreeMap<&MemberId, usize>, wants: &Wants<'_>) {
    for (place, id) in targets {
        for (other, _) in wants.iter().filter(|(_, wanted)| wanted.contains(&place.0)) {
            assert!(loads[other] + 1 >= loads[id], "{id} has {}, {other} {}", loads[id], loads[other]);
        }
    }
}

/// Each topic in runs, in order of lasting names; the first runs are longer by one.
fn check_range(group: &Group, targets: &Targets<'_>, wants: &Wants<'_>) {
    for topic in targets.keys().map(|place| place.0).collect::<BTreeSet<_>>() {
        let mut takers: Vec<_> = wants
            .iter()
            .filter(|(_, wanted)| wanted.contains(&topic))
            .map(|(id, _)| lasting(group, id))
            .collect();
        takers.sort_unstable();
        let of_topic: Vec<_> = targets.iter().filter(|(place, _)| place.0 == topic).collect();
        let (each, more) = (of_topic.len() / takers.len(), of_topic.len() % takers.len());
        let mut runs =
            takers.iter().enumerate().flat_map(|(n, taker)| vec![*taker; each + usize::from(n < more)]);
        for (place, id) in of_topic {
            assert_eq!(runs.next(), Some(lasting(group, id)), "{place:?}");
        }
    }
}

/// Near to what it was: where all want the same, no plan that is as even leaves more where it was.
fn check_sticky(
    (before, now): (&Group, &Group),
    targets: &Targets<'_>,
    loads: &BTreeMap<&MemberId, usize>,
    wants: &Wants<'_>,
    command: &Command,
) {
    if wants.values().collect::<BTreeSet<_>>().len() != 1 {
        return;
    }
    let was = |place: &Place| lasting(before, before.targets().get(place)?);
    let kept = targets.iter().filter(|(place, id)| was(place) == lasting(now, id)).count();
    let has = |id: &MemberId| targets.keys().filter(|place| was(place) == lasting(now, id)).count();
    let mut had: Vec<usize> = loads.keys().map(|id| has(id)).collect();
    had.sort_unstable_by_key(|had| std::cmp::Reverse(*had));
    let (each, more) = (targets.len() / loads.len(), targets.len() % loads.len());
    let quotas = (0..had.len()).map(|place| each + usize::from(place < more));
    let most: usize = had.iter().zip(quotas).map(|(had, quota)| *had.min(&quota)).sum();
    assert_eq!(kept, most, "after {command:?}");
}

/// Once everything has been told: the target is of the topics as they are.
pub fn check_whole(groups: &Groups, topics: &Topics) {
    let Some(now) = groups.get(&group()) else { return };
    let mut places = BTreeSet::new();
    for member in now.members().values() {
        let wish = member.subscription();
        let is_wanted = |name: &TopicName| {
            let matches = match wish.pattern.as_deref() {
                Some("all") => true,
                Some(_) => *name == topic(0) || *name == topic(2),
                None => false,
            };
            matches || wish.topics.contains(name)
        };
        for (_, life) in topics.iter().filter(|(name, _)| is_wanted(name)) {
            places.extend((0..life.partitions).map(|partition| (life.id, PartitionId(partition))));
        }
    }
    assert_eq!(now.targets().keys().copied().collect::<BTreeSet<_>>(), places);
}
