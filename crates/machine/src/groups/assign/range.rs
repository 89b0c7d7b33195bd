//! Range: each topic on its own, in runs of partitions, to the members that want it in their order. Members
//! that want the same topics get the same numbers of each, so that what was partitioned alike is read together.

use super::{Plan, Problem, Seat};

/// Who is to own each partition.
pub(super) fn plan(problem: &Problem<'_>) -> Plan {
    let mut order: Vec<Seat> = (0..problem.seats.len()).collect();
    order.sort_by_key(|seat| problem.seats.get(*seat).map(|seated| (seated.order, seated.id)));
    let subjects = problem.subjects.iter();
    subjects
        .map(|subject| {
            let wants = |seat: &&Seat| {
                problem.seats.get(**seat).is_some_and(|seated| subject.classes.contains(&seated.class))
            };
            let takers: Vec<Seat> = order.iter().filter(wants).copied().collect();
            share(subject.before.len(), &takers)
        })
        .collect()
}

/// Runs of as equal a length as can be; the longer ones come first.
fn share(partitions: usize, takers: &[Seat]) -> Vec<Option<Seat>> {
    let (Some(each), Some(longer)) =
        (partitions.checked_div(takers.len()), partitions.checked_rem(takers.len()))
    else {
        return vec![None; partitions];
    };
    let runs = takers.iter().enumerate();
    runs.flat_map(|(place, seat)| {
        std::iter::repeat_n(Some(*seat), each.saturating_add(usize::from(place < longer)))
    })
    .collect()
}
