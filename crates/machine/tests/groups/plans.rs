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
    // Even: who could take a partition has at most one less than whose it is to be.
    assert_eq!(now.assignor(), Assignor::Uniform);
    for (place, id) in &targets {
        for (other, _) in wants.iter().filter(|(_, wanted)| wanted.contains(&place.0)) {
            assert!(loads[other] + 1 >= loads[id], "{id} has {}, {other} {}", loads[id], loads[other]);
        }
    }
    if let Some(before) = before {
        check_sticky(before, &targets, &loads, &wants, command);
    }
}

/// Near to what it was: where all want the same, no plan that is as even leaves more where it was.
fn check_sticky(
    before: &Group,
    targets: &BTreeMap<Place, &MemberId>,
    loads: &BTreeMap<&MemberId, usize>,
    wants: &BTreeMap<&MemberId, BTreeSet<TopicId>>,
    command: &Command,
) {
    if wants.values().collect::<BTreeSet<_>>().len() != 1 {
        return;
    }
    let stays = |place: &&Place| before.targets().get(*place).is_some_and(|id| targets[*place] == id);
    let kept = targets.keys().filter(stays).count();
    let mut had: Vec<usize> = loads
        .keys()
        .map(|id| {
            before.targets().iter().filter(|(place, of)| of == id && targets.contains_key(place)).count()
        })
        .collect();
    had.sort_unstable_by_key(|had| std::cmp::Reverse(*had));
    let (each, more) = (targets.len() / loads.len(), targets.len() % loads.len());
    let quotas = (0..had.len()).map(|place| each + usize::from(place < more));
    let most: usize = had.iter().zip(quotas).map(|(had, quota)| *had.min(&quota)).sum();
    // A static member that comes back under another name is not among them; here none does.
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
