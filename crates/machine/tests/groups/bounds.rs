//! What groups keep has limits, and so has what one command does.

use super::world::{World, wish};
use super::{group, member, topic};
use flotilla_machine::groups::{
    Answer, Command, GROUPS_MAX, Join, OffsetCommit, Outcome, PATTERN_TOPICS_MAX, Refusal, Sight,
    Subscription, TopicLife,
};
use flotilla_machine::{Kind, Shard};
use flotilla_types::limits::{GROUP_OFFSETS_MAX, OFFSET_COMMITS_MAX};
use flotilla_types::{GroupId, LogId, LogIndex, Offset, PartitionId, Term, TopicId};
use std::collections::BTreeSet;

fn apply(shard: &mut Shard, command: Command) -> Outcome {
    let last = shard.applied().map_or(0, |last| last.index.get());
    let at = LogId { term: Term(1), index: LogIndex(last + 1) };
    let applied = shard.apply(at, &flotilla_machine::Command::Group(command)).unwrap();
    let flotilla_machine::Outcome::Group(outcome) = applied.outcome else { panic!("a coordinator answers") };
    *outcome
}

fn refusal(outcome: Outcome) -> Refusal {
    outcome.answer.unwrap_err()
}

fn join(world: &World, subscription: Subscription) -> Join {
    Join {
        group: group(),
        member: member(0),
        instance: None,
        holder_gone: false,
        sight: world.sight_of(world.latest(), &subscription),
        subscription,
        peer: String::new(),
        members_max: 10,
        now: 0,
    }
}

fn offsets(from: usize, count: usize) -> Vec<OffsetCommit> {
    let one = |number: usize| OffsetCommit {
        topic: TopicId(7),
        partition: PartitionId(number as u32),
        offset: Offset(1),
        leader_epoch: None,
        metadata: String::new(),
    };
    (from..from + count).map(one).collect()
}

fn commit(group: GroupId, offsets: Vec<OffsetCommit>) -> Command {
    Command::Commit { group, member: None, number: 0, offsets, now: 0 }
}

#[test]
fn a_group_keeps_so_many_offsets_and_a_seek_moves_all_or_none() {
    let mut shard = Shard::new(Kind::Coordinator);
    let many = OFFSET_COMMITS_MAX;
    let too_many = refusal(apply(&mut shard, commit(group(), offsets(0, many + 1))));
    assert!(matches!(too_many, Refusal::Invalid { field: "offsets", .. }), "{too_many}");
    for from in (0..GROUP_OFFSETS_MAX - 1).step_by(many) {
        let count = many.min(GROUP_OFFSETS_MAX - 1 - from);
        assert_eq!(
            apply(&mut shard, commit(group(), offsets(from, count))).answer,
            Ok(Answer::Committed { refused: vec![] })
        );
    }
    let beyond = Command::Seek { group: group(), offsets: offsets(GROUP_OFFSETS_MAX - 2, 3), now: 0 };
    assert!(matches!(refusal(apply(&mut shard, beyond)), Refusal::LimitReached { .. }));
    let count = |shard: &Shard| shard.coordinator().unwrap().groups().get(&group()).unwrap().offsets().len();
    assert_eq!(count(&shard), GROUP_OFFSETS_MAX - 1, "none of it");
    let Ok(Answer::Committed { refused }) =
        apply(&mut shard, commit(group(), offsets(GROUP_OFFSETS_MAX - 2, 3))).answer
    else {
        panic!("those there is room for are stored")
    };
    assert_eq!((refused.len(), count(&shard)), (1, GROUP_OFFSETS_MAX));
    // What is there can be moved all the same.
    let within = Command::Seek { group: group(), offsets: offsets(GROUP_OFFSETS_MAX - 5, 5), now: 0 };
    assert!(apply(&mut shard, within).answer.is_ok());
}

#[test]
fn a_coordinator_keeps_so_many_groups_and_forgets_them_bit_by_bit() {
    let mut shard = Shard::new(Kind::Coordinator);
    let name = |number: usize| GroupId::new(&format!("g{number}")).unwrap();
    for number in 0..GROUPS_MAX {
        assert!(apply(&mut shard, commit(name(number), offsets(0, 1))).answer.is_ok());
    }
    let full = |refused| matches!(refused, Refusal::LimitReached { what: "groups", .. });
    assert!(full(refusal(apply(&mut shard, commit(name(GROUPS_MAX), offsets(0, 1))))));
    let another = Join { group: name(GROUPS_MAX), ..join(&World::new(), wish(0)) };
    assert!(full(refusal(apply(&mut shard, Command::Join(Box::new(another))))));
    assert!(apply(&mut shard, commit(name(3), offsets(0, 1))).answer.is_ok(), "it is there");
    let forget = || Command::ExpireOffsets { retention_ms: 1000, now: 1001 };
    let Ok(Answer::OffsetsExpired { groups, offsets, more }) = apply(&mut shard, forget()).answer else {
        panic!("they are forgotten")
    };
    assert_eq!((groups, offsets, more), (100, 100, true));
    while let Ok(Answer::OffsetsExpired { more: true, .. }) = apply(&mut shard, forget()).answer {}
    assert!(shard.coordinator().unwrap().groups().is_empty());
}

#[test]
fn large_groups_are_forgotten_one_by_one() {
    let mut shard = Shard::new(Kind::Coordinator);
    let name = |number: usize| GroupId::new(&format!("g{number}")).unwrap();
    for number in 0..6 {
        assert!(apply(&mut shard, commit(name(number), offsets(0, OFFSET_COMMITS_MAX))).answer.is_ok());
    }
    let mut rounds = Vec::new();
    loop {
        let forget = Command::ExpireOffsets { retention_ms: 0, now: 1 };
        let Ok(Answer::OffsetsExpired { groups, more, .. }) = apply(&mut shard, forget).answer else {
            panic!("they are forgotten")
        };
        rounds.push(groups);
        if !more {
            break;
        }
    }
    assert_eq!(rounds, [2, 2, 2]);
}

#[test]
fn what_a_member_wants_and_a_leader_sees_has_limits() {
    let world = World::new();
    let mut shard = Shard::new(Kind::Coordinator);
    let many = Subscription { topics: (0..1001).map(topic).collect(), ..Subscription::default() };
    let long = |len| Subscription { pattern: Some("x".repeat(len)), ..Subscription::default() };
    for (subscription, of) in [
        (many, "subscription.topics"),
        (long(1025), "subscription.topic_regex"),
        (long(0), "subscription.topic_regex"),
        (Subscription { client: "x".repeat(256), ..wish(0) }, "subscription.client_id"),
        (Subscription { topics: BTreeSet::new(), ..wish(0) }, "subscription"),
    ] {
        let refused = refusal(apply(&mut shard, Command::Join(Box::new(join(&world, subscription.clone())))));
        assert!(matches!(refused, Refusal::Invalid { field, .. } if field == of), "{refused}");
        assert!(shard.coordinator().unwrap().groups().is_empty());
    }
    assert!(apply(&mut shard, Command::Join(Box::new(join(&world, long(1024))))).answer.is_ok());
    let gone = (0..20_001).map(TopicId).collect();
    let sight = Sight { as_of: LogIndex(1), gone, ..Sight::default() };
    let refused = refusal(apply(&mut shard, Command::TopicsChanged { sight, now: 0 }));
    assert!(matches!(refused, Refusal::LimitReached { .. }), "{refused}");
}

#[test]
fn a_pattern_stands_for_so_many_topics_the_first_by_name() {
    let mut shard = Shard::new(Kind::Coordinator);
    let wish = wish(4);
    let name = |number: usize| flotilla_types::TopicName::new(&format!("t{number:05}")).unwrap();
    let names: BTreeSet<_> = (0..PATTERN_TOPICS_MAX + 5).map(name).collect();
    let life = |id| TopicLife { id: TopicId(id), partitions: 1, racks: Vec::new() };
    let sight = Sight {
        as_of: LogIndex(20_000),
        topics: names.iter().cloned().zip((1..).map(|id| Some(life(id)))).take(9990).collect(),
        patterns: [("all".to_owned(), names)].into(),
        gone: BTreeSet::new(),
    };
    let join = Join { sight, ..join(&World::new(), wish) };
    let Ok(Answer::Member(told)) = apply(&mut shard, Command::Join(Box::new(join))).answer else {
        panic!("it joins")
    };
    assert_eq!(told.partitions.len(), 9990);
    let groups = shard.coordinator().unwrap().groups();
    assert_eq!(groups.patterns()["all"].topics.len(), PATTERN_TOPICS_MAX);
    assert_eq!(groups.patterns()["all"].topics.last(), Some(&name(PATTERN_TOPICS_MAX - 1)));
}
