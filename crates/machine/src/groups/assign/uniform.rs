//! Uniform: everyone who wants a topic gets about as much as everyone else who does, and as many partitions
//! as can be stay with whom they were.
//!
//! In three steps: what can stay, stays; partitions without anyone go to whoever has least; then, as long as
//! somebody has at least two more than another who could take one, he gives him one. Where all want the same
//! topics, no plan that is as even moves fewer. Racks decide only between members that have equally much.

use super::table::Table;
use super::{Plan, Problem, Seat, Subject};
use std::collections::BTreeSet;

/// Who is to own each partition.
pub(super) fn plan(problem: &Problem<'_>) -> Plan {
    let mut table = Table::new(problem);
    place_orphans(problem, &mut table);
    table.deal_hands();
    balance(problem, &mut table);
    table.into_plan()
}

/// Gives partitions that have nobody to those who have least.
fn place_orphans(problem: &Problem<'_>, table: &mut Table<'_>) {
    let orphans = table.orphans();
    let partitions: usize = problem.subjects.iter().map(|subject| subject.before.len()).sum();
    // Up to what everyone gets anyway: first to those who have it still, then to members near a replica.
    let share = partitions.checked_div(problem.seats.len()).unwrap_or(0);
    let mut near = Vec::new();
    for place in orphans {
        match table.owner(place).filter(|owner| table.load(*owner) < share) {
            Some(owner) => table.place(place, owner),
            None => near.push(place),
        }
    }
    let mut left = Vec::new();
    for place in near {
        match table.lightest_near(place).filter(|(load, _)| *load < share) {
            Some((_, seat)) => table.place(place, seat),
            None => left.push(place),
        }
    }
    // Those that somebody has still come last: then there is the most choice of who has least.
    left.sort_by_key(|place| table.owner(*place).is_some());
    for place in left {
        if let Some((_, seat)) = table.lightest(place) {
            table.place(place, seat);
        }
    }
}

/// Moves partitions from those who have most to those who have least, as long as that makes it more even.
/// Who could not give anything is asked again after others have given: it may find a taker then. Each gift
/// makes the sum of the squares of what members have smaller, so it comes to an end.
fn balance(problem: &Problem<'_>, table: &mut Table<'_>) {
    loop {
        let mut given = false;
        let mut givers: BTreeSet<(usize, Seat)> =
            (0..problem.seats.len()).map(|seat| (table.load(seat), seat)).collect();
        while let Some((load, giver)) = givers.pop_last() {
            let Some((place, taker)) = gift(load, giver, table) else { continue };
            let had = table.load(taker);
            table.give(place, giver, taker);
            given = true;
            givers.insert((table.load(giver), giver));
            if givers.remove(&(had, taker)) {
                givers.insert((table.load(taker), taker));
            }
        }
        if !given {
            return;
        }
    }
}

/// What a member gives away next and to whom, if anyone who could take it has at least two less.
fn gift(load: usize, giver: Seat, table: &Table<'_>) -> Option<((Subject, usize), Seat)> {
    let mut best = None;
    for (subject, partitions) in table.hand(giver) {
        let (Some(partition), Some(least)) = (partitions.last(), table.least(*subject)) else { continue };
        if least.saturating_add(2) > load {
            continue;
        }
        let place = (*subject, *partition);
        // To whoever has least; what the giver has not begun to read yet; from the topic it has most of.
        let rank = (least, std::cmp::Reverse((table.rank(place, giver), partitions.len())), *subject);
        if best.is_none_or(|(other, _)| rank < other) {
            best = Some((rank, place));
        }
    }
    let (_, place) = best?;
    table.lightest(place).map(|(_, taker)| (place, taker))
}
