//! Who is to own which partition: the same answer on every replica, from the members, the topics and the
//! target before.

mod range;
mod table;
mod uniform;

use super::command::{Assignor, TopicLife};
use super::group::{Group, Place};
use super::topics::Topics;
use flotilla_types::{MemberId, PartitionId, TopicId};
use std::collections::BTreeMap;

/// A member's number here, in order of member ids.
type Seat = usize;
/// A topic's number here, in order of topic ids.
type Subject = usize;

/// What an assignor looks at. Numbers instead of names: it runs while the shard waits.
#[derive(Debug)]
struct Problem<'a> {
    seats: Vec<Seated<'a>>,
    subjects: Vec<Subscribed<'a>>,
}

/// A member.
#[derive(Debug)]
struct Seated<'a> {
    id: &'a MemberId,
    /// A static member's place in an order does not depend on its process.
    order: &'a str,
    rack: Option<&'a str>,
    /// Members of the same class want the same topics.
    class: usize,
}

/// A topic that somebody wants.
#[derive(Debug)]
struct Subscribed<'a> {
    id: TopicId,
    life: &'a TopicLife,
    /// Classes of members that want it.
    classes: Vec<usize>,
    /// Whose each partition was to be.
    before: Vec<Option<Seat>>,
    /// Whose each partition is.
    owner: Vec<Option<Seat>>,
}

/// Who is to own each partition, by topic.
type Plan = Vec<Vec<Option<Seat>>>;

/// The target for the group as it is now.
pub(super) fn target(group: &Group, topics: &Topics) -> BTreeMap<Place, MemberId> {
    let problem = Problem::new(group, topics);
    let plan = match group.assignor() {
        Assignor::Uniform => uniform::plan(&problem),
        Assignor::Range => range::plan(&problem),
    };
    let mut target = BTreeMap::new();
    for (subject, seats) in problem.subjects.iter().zip(plan) {
        for (partition, seat) in (0u32..).zip(seats) {
            if let Some(seated) = seat.and_then(|seat| problem.seats.get(seat)) {
                target.insert((subject.id, PartitionId(partition)), seated.id.clone());
            }
        }
    }
    target
}

impl<'a> Problem<'a> {
    fn new(group: &'a Group, topics: &'a Topics) -> Self {
        let mut classes: BTreeMap<u128, usize> = BTreeMap::new();
        let mut subjects: BTreeMap<TopicId, (&TopicLife, Vec<usize>)> = BTreeMap::new();
        let mut seats = Vec::with_capacity(group.members.len());
        let mut numbers: BTreeMap<&MemberId, Seat> = BTreeMap::new();
        for (seat, (id, member)) in group.members.iter().enumerate() {
            let next = classes.len();
            let class = *classes.entry(member.interest).or_insert(next);
            if class == next {
                for (id, life) in topics.lives(member) {
                    subjects.entry(id).or_insert((life, Vec::new())).1.push(class);
                }
            }
            let order = member.instance().map_or(id.as_str(), |instance| instance.as_str());
            seats.push(Seated { id, order, rack: member.subscription().rack.as_deref(), class });
            numbers.insert(id, seat);
        }
        let seats_of = |id: TopicId, life: &TopicLife, of: &BTreeMap<Place, MemberId>| {
            let all = (id, PartitionId(0))..(id, PartitionId(life.partitions));
            let mut seats = vec![None; life.partitions as usize];
            for ((_, partition), member) in of.range(all) {
                if let Some(seat) = seats.get_mut(partition.get() as usize) {
                    *seat = numbers.get(member).copied();
                }
            }
            seats
        };
        let subjects = subjects.into_iter().map(|(id, (life, classes))| Subscribed {
            id,
            life,
            classes,
            before: seats_of(id, life, &group.targets),
            owner: seats_of(id, life, &group.owners),
        });
        Self { subjects: subjects.collect(), seats }
    }
}

impl Subscribed<'_> {
    /// Whether a replica of the partition is in this rack.
    fn near(&self, partition: usize, rack: Option<&str>) -> bool {
        let racks = self.life.racks.get(partition);
        rack.zip(racks).is_some_and(|(rack, racks)| racks.contains(rack))
    }
}
