//! What is never allowed, one property per file; each is one pass over sorted data.
//!
//! A checker returns what it found wrong, in words with values and offsets in them. An empty answer is
//! not proof of much unless the history is rich: [`activity`] sees to that.

use crate::digest::Digest;
use crate::history::Event;

pub mod acknowledged_present;
pub mod activity;
pub mod honest_failure;
pub mod monotonic_poll;
pub mod no_duplicates;
pub mod no_phantom;
pub mod offsets_dense;
pub mod one_offset_one_value;
pub mod producer_order;
pub mod replica_equality;

/// A property's name and its check.
pub type Checker = (&'static str, fn(&Digest) -> Vec<String>);

/// Every property that holds for idempotent producers and readers that do not seek.
pub const ALL: &[Checker] = &[
    ("acknowledged present", acknowledged_present::check),
    ("no phantom", no_phantom::check),
    ("honest failure", honest_failure::check),
    ("one offset one value", one_offset_one_value::check),
    ("no duplicates", no_duplicates::check),
    ("producer order", producer_order::check),
    ("offsets dense", offsets_dense::check),
    ("monotonic poll", monotonic_poll::check),
    ("replica equality", replica_equality::check),
    ("activity", activity::check),
];

/// Applies all of them; each finding is preceded by its property's name.
pub fn check_all(events: &[Event]) -> Vec<String> {
    const SHOWN: usize = 10;
    let digest = Digest::of(events);
    let mut found = Vec::new();
    for (name, check) in ALL {
        let all = check(&digest);
        found.extend(all.iter().take(SHOWN).map(|what| format!("{name}: {what}")));
        if all.len() > SHOWN {
            found.push(format!("{name}: and {} more", all.len() - SHOWN));
        }
    }
    found
}

/// Histories by hand, for showing that a checker rejects.
#[cfg(test)]
pub(crate) mod script {
    use crate::digest::Digest;
    use crate::history::{Event, Operation, Stage};

    /// Events in the order they are listed.
    pub fn digest(lines: &[(u32, Stage, Option<u32>, Operation)]) -> Digest {
        let events: Vec<Event> = lines
            .iter()
            .enumerate()
            .map(|(at, (process, stage, node, operation))| Event {
                at: at as u64,
                process: *process,
                stage: *stage,
                node: *node,
                operation: operation.clone(),
            })
            .collect();
        Digest::of(&events)
    }

    type Line = (u32, Stage, Option<u32>, Operation);

    /// Process 1 sends its `order`-th value to partition 0 and is told `offset`.
    pub fn acked(value: u64, order: u64, offset: u64) -> Line {
        (1, Stage::Ok, None, Operation::Send { partition: 0, value, order, offset: Some(offset) })
    }

    /// Process 1 sends a value to partition 0 and is told `stage`.
    pub fn sent(value: u64, order: u64, stage: Stage) -> Line {
        (1, stage, None, Operation::Send { partition: 0, value, order, offset: None })
    }

    /// Reader 9 gets these of partition 0.
    pub fn polled(records: &[(u64, u64)]) -> Line {
        (9, Stage::Ok, None, Operation::Poll { partition: 0, records: records.to_vec() })
    }

    /// Partition 0 is read from `start` to `end`.
    pub fn scanned(node: Option<u32>, start: u64, end: u64, records: &[(u64, u64)]) -> Line {
        (0, Stage::Ok, node, Operation::Scan { partition: 0, start, end, records: records.to_vec() })
    }
}
