//! How long a large group takes. Figures are printed; bounds are generous, because others build beside.

use super::world::{World, wish};
use super::{group, member, topic};
use flotilla_machine::groups::{Assignor, Command, GroupState, Join, Partitions, Subscription};
use flotilla_machine::{Applied, Kind, Shard};
use flotilla_types::{GroupEpoch, LogId, LogIndex, Term};
use std::time::{Duration, Instant};

const MEMBERS: usize = 500;

fn apply(shard: &mut Shard, command: Command) -> (Applied, Duration) {
    let last = shard.applied().map_or(0, |last| last.index.get());
    let at = LogId { term: Term(1), index: LogIndex(last + 1) };
    #[expect(clippy::disallowed_methods, reason = "what is measured here is this machine")]
    let began = Instant::now();
    let applied = shard.apply(at, &flotilla_machine::Command::Group(command)).unwrap();
    (applied, began.elapsed())
}

fn join(world: &World, number: usize, subscription: Subscription) -> Command {
    Command::Join(Box::new(Join {
        group: group(),
        member: member(number),
        instance: None,
        holder_gone: false,
        sight: world.sight_of(world.latest(), &subscription),
        subscription,
        peer: String::new(),
        members_max: 1000,
        now: 0,
    }))
}

/// Everyone acknowledges until all is where it belongs. Answers the longest step.
fn acknowledge_all(shard: &mut Shard) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..MEMBERS {
        let groups = shard.coordinator().unwrap().groups();
        let of = groups.get(&group()).unwrap();
        let Some(found) = of.members().get(&member(number)) else { continue };
        if found.revoking().is_empty() {
            continue;
        }
        let (epoch, revision) = (of.member_epoch(found), found.revision());
        let command = Command::Acknowledge {
            group: group(),
            member: member(number),
            epoch,
            revision,
            owned: Partitions::new(),
            now: 0,
        };
        longest = longest.max(apply(shard, command).1);
    }
    longest
}

#[test]
fn five_hundred_members_share_a_thousand_partitions() {
    for (name, assignor) in [("uniform", Assignor::Uniform), ("range", Assignor::Range)] {
        let mut world = World::new();
        world.change(0, 500);
        world.change(1, 500);
        let mut shard = Shard::new(Kind::Coordinator);
        let subscription = Subscription { assignor: Some(assignor), ..wish(0) };
        let (mut joins, mut longest) = (Duration::ZERO, Duration::ZERO);
        let mut acknowledged = Duration::ZERO;
        for number in 0..MEMBERS {
            let (_, took) = apply(&mut shard, join(&world, number, subscription.clone()));
            joins += took;
            longest = longest.max(took);
            acknowledged = acknowledged.max(acknowledge_all(&mut shard));
        }
        let loads = |shard: &Shard| {
            let group = shard.coordinator().unwrap().groups().get(&group()).unwrap();
            assert_eq!(group.state(), GroupState::Stable);
            let count = |member: &flotilla_machine::groups::Member| {
                member.assigned().values().map(std::collections::BTreeMap::len).sum::<usize>()
            };
            let loads: Vec<usize> = group.members().values().map(count).collect();
            (*loads.iter().min().unwrap(), *loads.iter().max().unwrap())
        };
        assert_eq!(loads(&shard), (2, 2));
        // All of it anew: a topic grows, and everyone gets something else.
        world.change(0, 1000);
        let sight = world.news(world.latest(), shard.coordinator().unwrap().groups());
        let (_, grown) = apply(&mut shard, Command::TopicsChanged { sight, now: 0 });
        let rows = shard.rows();
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        println!(
            "{name}: {MEMBERS} members, 1000 partitions: a join {:?} on average, {longest:?} at most; \
             an acknowledgement {acknowledged:?} at most; 500 more partitions {grown:?}; {bytes} bytes of state",
            joins / MEMBERS as u32,
        );
        assert!(longest.max(acknowledged).max(grown) < Duration::from_secs(2), "something is quadratic");
    }
}

/// The worst that wishes can be: everyone wants other topics than everyone else.
#[test]
fn three_hundred_members_want_different_halves_of_a_thousand_topics() {
    let mut world = World::new();
    (0..1000).for_each(|number| world.change(number, 1));
    let mut shard = Shard::new(Kind::Coordinator);
    let (mut joins, mut longest) = (Duration::ZERO, Duration::ZERO);
    for number in 0..300 {
        let wants =
            |topic: &usize| (topic.wrapping_mul(2_654_435_761) >> (number % 13)) % 300 > number % 151 + 70;
        let topics = (0..1000).filter(wants).chain([number]).map(topic).collect();
        let subscription = Subscription { topics, ..Subscription::default() };
        let (_, took) = apply(&mut shard, join(&world, number, subscription));
        joins += took;
        longest = longest.max(took);
    }
    println!(
        "300 members, 1000 topics, all wishes different: a join {:?} on average, {longest:?} at most",
        joins / 300
    );
    let (_, left) = apply(
        &mut shard,
        Command::Leave { group: group(), member: member(0), epoch: GroupEpoch(0), temporary: false, now: 0 },
    );
    println!("the first member leaves: {left:?}");
    assert!(longest.max(left) < Duration::from_secs(5), "something is cubic");
}
