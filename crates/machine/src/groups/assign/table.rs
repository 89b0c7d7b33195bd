//! Who has how much while a plan is made, kept so that whoever has least is found at once.

use super::{Plan, Problem, Seat, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// Members that want the same topics from the same rack; any of them may stand for all.
#[derive(Debug)]
struct Camp<'a> {
    class: usize,
    rack: Option<&'a str>,
    /// By how much they have.
    seats: BTreeSet<(usize, Seat)>,
}

/// A plan in the making.
#[derive(Debug)]
pub(super) struct Table<'a> {
    problem: &'a Problem<'a>,
    plan: Plan,
    /// How much each member has.
    loads: Vec<usize>,
    camps: Vec<Camp<'a>>,
    /// Whose camp.
    camp_of: Vec<usize>,
    /// Camps that want each topic.
    takers: Vec<Vec<usize>>,
    /// What each member has, by topic; what it gives away first comes last.
    hands: Vec<BTreeMap<Subject, Vec<usize>>>,
}

impl<'a> Table<'a> {
    /// Everything that can stay where it was to be.
    pub fn new(problem: &'a Problem<'a>) -> Self {
        let mut loads = vec![0usize; problem.seats.len()];
        let mut plan = Vec::with_capacity(problem.subjects.len());
        for subject in &problem.subjects {
            let classes: BTreeSet<usize> = subject.classes.iter().copied().collect();
            let stays = |seat: &Seat| problem.seats.get(*seat).is_some_and(|s| classes.contains(&s.class));
            let seats: Vec<Option<Seat>> = subject.before.iter().map(|seat| seat.filter(stays)).collect();
            for seat in seats.iter().flatten() {
                if let Some(load) = loads.get_mut(*seat) {
                    *load = load.saturating_add(1);
                }
            }
            plan.push(seats);
        }
        let mut camps: Vec<Camp<'_>> = Vec::new();
        let mut camp_of = Vec::with_capacity(loads.len());
        let mut numbers = BTreeMap::new();
        for ((seat, seated), load) in problem.seats.iter().enumerate().zip(&loads) {
            let camp = *numbers.entry((seated.class, seated.rack)).or_insert_with(|| {
                camps.push(Camp { class: seated.class, rack: seated.rack, seats: BTreeSet::new() });
                camps.len() - 1
            });
            camp_of.push(camp);
            if let Some(camp) = camps.get_mut(camp) {
                camp.seats.insert((*load, seat));
            }
        }
        let takers = problem.subjects.iter().map(|subject| {
            let classes: BTreeSet<usize> = subject.classes.iter().copied().collect();
            let wants = camps.iter().enumerate().filter(|(_, camp)| classes.contains(&camp.class));
            wants.map(|(number, _)| number).collect()
        });
        let takers = takers.collect();
        Self { problem, plan, loads, camps, camp_of, takers, hands: Vec::new() }
    }

    pub fn into_plan(self) -> Plan {
        self.plan
    }

    pub fn load(&self, seat: Seat) -> usize {
        self.loads.get(seat).copied().unwrap_or(0)
    }

    /// Partitions that nobody has.
    pub fn orphans(&self) -> Vec<(Subject, usize)> {
        let topics = self.plan.iter().enumerate();
        let orphans = topics.flat_map(|(subject, seats)| {
            let empty = seats.iter().enumerate().filter(|(_, seat)| seat.is_none());
            empty.map(move |(partition, _)| (subject, partition))
        });
        orphans.collect()
    }

    fn takers(&self, subject: Subject) -> impl Iterator<Item = &Camp<'a>> {
        let numbers = self.takers.get(subject).into_iter().flatten();
        numbers.filter_map(|number| self.camps.get(*number))
    }

    /// How much the member has that wants this topic and has least.
    pub fn least(&self, subject: Subject) -> Option<usize> {
        self.takers(subject).filter_map(|camp| camp.seats.first()).map(|(load, _)| *load).min()
    }

    /// Who has this partition still, if that member wants the topic.
    pub fn owner(&self, (subject, partition): (Subject, usize)) -> Option<Seat> {
        let topic = self.problem.subjects.get(subject)?;
        let owner = topic.owner.get(partition).copied().flatten()?;
        self.problem.seats.get(owner).filter(|seated| topic.classes.contains(&seated.class)).map(|_| owner)
    }

    /// Who gets this partition: who has least; of those its owner; of the others one near a replica of it.
    pub fn lightest(&self, (subject, partition): (Subject, usize)) -> Option<(usize, Seat)> {
        let topic = self.problem.subjects.get(subject)?;
        let least = self.least(subject)?;
        if let Some(owner) = self.owner((subject, partition)).filter(|owner| self.load(*owner) == least) {
            return Some((least, owner));
        }
        let firsts = self.takers(subject).filter_map(|camp| Some((camp.seats.first()?, camp.rack)));
        let ranked = firsts.map(|((load, seat), rack)| (*load, !topic.near(partition, rack), *seat));
        ranked.min().map(|(load, _, seat)| (load, seat))
    }

    /// The same among members near a replica.
    pub fn lightest_near(&self, (subject, partition): (Subject, usize)) -> Option<(usize, Seat)> {
        let topic = self.problem.subjects.get(subject)?;
        topic.life.racks.get(partition)?;
        let near = self.takers(subject).filter(|camp| topic.near(partition, camp.rack));
        near.filter_map(|camp| camp.seats.first().copied()).min()
    }

    /// Gives a partition that nobody has.
    pub fn place(&mut self, (subject, partition): (Subject, usize), seat: Seat) {
        if let Some(slot) = self.plan.get_mut(subject).and_then(|seats| seats.get_mut(partition)) {
            *slot = Some(seat);
        }
        self.set_load(seat, self.load(seat).saturating_add(1));
    }

    fn set_load(&mut self, seat: Seat, load: usize) {
        let before = self.load(seat);
        if let Some(slot) = self.loads.get_mut(seat) {
            *slot = load;
        }
        let camp = self.camp_of.get(seat).and_then(|number| self.camps.get_mut(*number));
        if let Some(camp) = camp {
            camp.seats.remove(&(before, seat));
            camp.seats.insert((load, seat));
        }
    }

    /// Lists what everyone has, once all is placed.
    pub fn deal_hands(&mut self) {
        let mut hands = vec![BTreeMap::new(); self.loads.len()];
        for (subject, seats) in self.plan.iter().enumerate() {
            for (partition, seat) in seats.iter().enumerate() {
                if let Some(hand) = seat.and_then(|seat| hands.get_mut(seat)) {
                    let partitions: &mut Vec<usize> = BTreeMap::entry(hand, subject).or_default();
                    partitions.push(partition);
                }
            }
        }
        for (seat, hand) in hands.iter_mut().enumerate() {
            for (subject, partitions) in hand {
                partitions.sort_by_key(|partition| self.order((*subject, *partition), seat));
            }
        }
        self.hands = hands;
    }

    /// What a member has, by topic; what it gives away first comes last.
    pub fn hand(&self, seat: Seat) -> impl Iterator<Item = (&Subject, &Vec<usize>)> {
        self.hands.get(seat).into_iter().flatten()
    }

    /// How little a member has to do with a partition yet: 0 = it owns it, 1 = it was to, 2 = nothing.
    pub fn rank(&self, (subject, partition): (Subject, usize), seat: Seat) -> u8 {
        let Some(topic) = self.problem.subjects.get(subject) else { return 2 };
        let is = |of: &Vec<Option<Seat>>| of.get(partition).copied().flatten() == Some(seat);
        match (is(&topic.owner), is(&topic.before)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        }
    }

    /// What a member gives away first is greatest: what it has least to do with, what is far, what is last.
    fn order(&self, place: (Subject, usize), seat: Seat) -> (u8, bool, usize) {
        let rack = self.problem.seats.get(seat).and_then(|seated| seated.rack);
        let far = self.problem.subjects.get(place.0).is_some_and(|topic| !topic.near(place.1, rack));
        (self.rank(place, seat), far, place.1)
    }

    /// Gives the last partition of a topic in a member's hand to another.
    pub fn give(&mut self, (subject, partition): (Subject, usize), giver: Seat, taker: Seat) {
        if let Some(hand) = self.hands.get_mut(giver)
            && let Some(partitions) = hand.get_mut(&subject)
        {
            partitions.pop();
            if partitions.is_empty() {
                hand.remove(&subject);
            }
        }
        let order = self.order((subject, partition), taker);
        let hand = self.hands.get(taker).and_then(|hand| hand.get(&subject));
        let at = hand.map_or(0, |hand| hand.partition_point(|p| self.order((subject, *p), taker) < order));
        if let Some(hand) = self.hands.get_mut(taker) {
            hand.entry(subject).or_default().insert(at, partition);
        }
        self.set_load(giver, self.load(giver).saturating_sub(1));
        self.place((subject, partition), taker);
    }
}
