//! State has limits, and what an entry writes follows the change, however much state there is.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod harness;

use flotilla_machine::partitions::Refusal;
use flotilla_machine::{Append, Applied, Command, Kind, Outcome, Shard, message_ids};
use flotilla_types::{LogId, LogIndex, Term};
use harness::{append, batch};

fn apply(shard: &mut Shard, append: Append) -> Applied {
    let last = shard.applied().map_or(0, |last| last.index.get());
    let at = LogId { term: Term(1), index: LogIndex(last + 1) };
    shard.apply(at, &Command::Append(append)).unwrap()
}

fn written(applied: &Applied) -> usize {
    let bytes = |write: &flotilla_types::StateWrite| {
        write.key.len() + write.value.as_ref().map_or(0, |value| value.len())
    };
    applied.changes.state.iter().map(bytes).sum()
}

fn with_producer(id: u64, sequence: u64, time: i64) -> Append {
    Append { batch: batch(1, Some((id, 0, sequence))), ..append(1, time) }
}

fn with_ids(first: u128, count: u32, time: i64) -> Append {
    Append {
        message_ids: (0..count).map(|record| (record, first + u128::from(record))).collect(),
        dedup_window_ms: Some(1000),
        ..append(count, time)
    }
}

#[test]
fn ten_thousand_producers_are_remembered_and_the_longest_idle_makes_room() {
    let mut shard = Shard::new(Kind::Partition);
    for id in 0..10_000 {
        let applied = apply(&mut shard, with_producer(id, 0, 1000 + id as i64));
        assert!(written(&applied) < 400, "{}", written(&applied));
    }
    let refused = apply(&mut shard, with_producer(10_000, 0, 11_000));
    assert_eq!(refused.outcome, Outcome::AppendRefused(Refusal::TooManyProducers { limit: 10_000 }));
    let idle = 1000 + 300_000;
    assert!(matches!(apply(&mut shard, with_producer(10_000, 0, idle)).outcome, Outcome::Appended { .. }));
    assert_eq!(shard.partition().unwrap().producers().len(), 10_000);
    let gone = apply(&mut shard, with_producer(0, 1, idle));
    assert!(matches!(gone.outcome, Outcome::AppendRefused(Refusal::ProducerStateExpired { .. })));
    let known = apply(&mut shard, with_producer(1, 1, idle));
    assert!(matches!(known.outcome, Outcome::Appended { duplicate: false, .. }));
}

#[test]
fn a_full_window_refuses_until_ids_have_left_it() {
    let mut shard = Shard::new(Kind::Partition);
    let per_batch = 10_000u32;
    let batches = message_ids::REMEMBERED_MAX as u128 / u128::from(per_batch);
    for number in 0..batches {
        let outcome = apply(&mut shard, with_ids(number * u128::from(per_batch), per_batch, 100)).outcome;
        assert!(matches!(outcome, Outcome::Appended { duplicate: false, .. }));
    }
    let full = apply(&mut shard, with_ids(u128::MAX / 2, 1, 200));
    let (known, limit) = (message_ids::REMEMBERED_MAX, message_ids::REMEMBERED_MAX);
    assert_eq!(full.outcome, Outcome::AppendRefused(Refusal::TooManyMessageIds { known, limit }));
    // A repeat needs no room.
    let repeat = apply(&mut shard, with_ids(0, per_batch, 300));
    assert!(matches!(repeat.outcome, Outcome::Appended { duplicate: true, .. }));
    // Without ids there is nothing to remember.
    assert!(matches!(apply(&mut shard, append(1, 300)).outcome, Outcome::Appended { .. }));
    // The refused one already clears the way for the next: a bounded part of the window per entry.
    let cleared = apply(&mut shard, with_ids(u128::MAX / 2, 1, 1101));
    assert!(matches!(cleared.outcome, Outcome::AppendRefused(Refusal::TooManyMessageIds { .. })));
    assert!(written(&cleared) < 400, "deletes are small and few: {}", written(&cleared));
    let next = apply(&mut shard, with_ids(u128::MAX / 2, 1, 1102));
    assert!(matches!(next.outcome, Outcome::Appended { duplicate: false, .. }));
    let kept = message_ids::REMEMBERED_MAX - 2 * 8 * per_batch as usize + 1;
    assert_eq!(shard.partition().unwrap().message_ids().len(), kept);
}
