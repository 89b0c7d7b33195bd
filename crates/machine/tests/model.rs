//! Partitions against a model that has none of the machine's code: lists, walked from end to end.
//!
//! The harness checks at every step besides that change sets write what the state holds, that a loaded
//! state equals the one it came from and goes on as that one would, and that replicas answer alike.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod harness;

use flotilla_machine::partitions::{Refusal, Settings};
use flotilla_machine::{Append, Command, Kind, Outcome, Shard};
use flotilla_types::{LogId, LogIndex, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence, Term};
use harness::{Checked, batch};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// One record, with what is remembered of it.
#[derive(Clone, Debug)]
struct Record {
    offset: u64,
    batch: u64,
    time: i64,
    id: Option<u128>,
    until: i64,
}

/// A batch that a producer's sequence was moved on by.
#[derive(Clone, Debug)]
struct Sent {
    producer: u64,
    epoch: u64,
    sequence: u64,
    count: u64,
    offset: u64,
    /// Of the first copy.
    time: i64,
    /// Log time when it was sent.
    sent_at: i64,
}

/// What a client would see.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Appended(u64, i64),
    Duplicate(u64, i64),
    Fenced,
    OutOfOrder(u64),
    Expired,
    NoRoom,
    Conflict(u64),
    Known(Vec<(u32, u64)>),
    Twice,
    Malformed,
    Trimmed(u64),
    Done,
}

#[derive(Debug)]
struct Model {
    records: Vec<Record>,
    sent: Vec<Sent>,
    log_start: u64,
    now: i64,
    expiry: i64,
    producers_max: usize,
}

const IDLE: i64 = 300_000;

impl Model {
    fn end(&self) -> u64 {
        self.records.last().map_or(0, |record| record.offset + 1)
    }

    /// Everything that is still known of a producer, oldest first.
    fn known(&self, producer: u64) -> Vec<&Sent> {
        self.sent.iter().filter(|sent| sent.producer == producer).collect()
    }

    /// Producers that are still known, the longest silent first.
    fn producers(&self) -> Vec<(i64, u64)> {
        let mut last: Vec<(i64, u64)> = Vec::new();
        for sent in &self.sent {
            last.retain(|(_, producer)| *producer != sent.producer);
            last.push((sent.sent_at, sent.producer));
        }
        last.sort_unstable();
        last
    }

    fn pass_time(&mut self, now: i64) {
        self.now = self.now.max(now);
        for (last, producer) in self.producers() {
            if last < self.now - self.expiry {
                self.sent.retain(|sent| sent.producer != producer);
            }
        }
    }

    fn find(&self, id: u128) -> Option<&Record> {
        let counts = |record: &&Record| {
            record.id == Some(id) && record.until >= self.now && record.offset >= self.log_start
        };
        self.records.iter().rev().find(counts)
    }

    fn append(&mut self, append: &Append) -> Answer {
        self.pass_time(append.append_time);
        let count = u64::from(append.batch.record_count);
        if count == 0 {
            return Answer::Malformed;
        }
        if let Some(stamp) = append.batch.producer
            && let Some(answer) = self.judge_sequence(stamp, count)
        {
            return answer;
        }
        if append.dedup_window_ms.is_some()
            && let Some(answer) = self.judge_ids(append)
        {
            if let (Some(stamp), Answer::Duplicate(offset, time)) = (append.batch.producer, &answer) {
                self.send(stamp, count, *offset, *time);
            }
            return answer;
        }
        let base = self.end();
        if append.expected_offset.is_some_and(|expected| expected.get() != base) {
            return Answer::Conflict(base);
        }
        if let Some(stamp) = append.batch.producer {
            self.send(stamp, count, base, self.now);
        }
        for record in 0..count {
            let named = append.message_ids.iter().find(|(at, _)| u64::from(*at) == record);
            let id = named.map(|(_, id)| *id).filter(|_| append.dedup_window_ms.is_some());
            let until = self.now + append.dedup_window_ms.unwrap_or(0) as i64;
            self.records.push(Record { offset: base + record, batch: base, time: self.now, id, until });
        }
        Answer::Appended(base, self.now)
    }

    /// `None` if the batch is the producer's next.
    fn judge_sequence(&mut self, stamp: ProducerStamp, count: u64) -> Option<Answer> {
        let (id, epoch, sequence) = (stamp.id.get(), stamp.epoch.get(), stamp.base_sequence.get());
        let Some(current) = self.known(id).last().map(|sent| sent.epoch) else {
            let room = self.producers().len() < self.producers_max
                || self.producers().first().is_some_and(|(last, _)| self.now - last >= IDLE);
            return match (sequence, room) {
                (0, true) => None,
                (0, false) => Some(Answer::NoRoom),
                _ => Some(Answer::Expired),
            };
        };
        if epoch < current {
            return Some(Answer::Fenced);
        }
        let mine: Vec<_> = self.known(id).into_iter().filter(|sent| sent.epoch == epoch).cloned().collect();
        let next = mine.last().map_or(0, |sent| sent.sequence + sent.count);
        if sequence == next {
            return None;
        }
        let repeated =
            mine.iter().rev().take(5).find(|sent| (sent.sequence, sent.count) == (sequence, count));
        Some(repeated.map_or(Answer::OutOfOrder(next), |sent| Answer::Duplicate(sent.offset, sent.time)))
    }

    fn send(&mut self, stamp: ProducerStamp, count: u64, offset: u64, time: i64) {
        let id = stamp.id.get();
        if self.known(id).is_empty() {
            for (last, silent) in self.producers() {
                if self.producers().len() >= self.producers_max && self.now - last >= IDLE {
                    self.sent.retain(|sent| sent.producer != silent);
                }
            }
        }
        self.sent.push(Sent {
            producer: id,
            epoch: stamp.epoch.get(),
            sequence: stamp.base_sequence.get(),
            count,
            offset,
            time,
            sent_at: self.now,
        });
    }

    /// `None` if no id of the batch is known.
    fn judge_ids(&self, append: &Append) -> Option<Answer> {
        let ids = &append.message_ids;
        for (place, (_, id)) in ids.iter().enumerate() {
            if ids[..place].iter().any(|(_, other)| other == id) {
                return Some(Answer::Twice);
            }
        }
        let known: Vec<(u32, &Record)> =
            ids.iter().filter_map(|(at, id)| Some((*at, self.find(*id)?))).collect();
        let (at, first) = known.first()?;
        let earlier: Vec<_> = self.records.iter().filter(|record| record.batch == first.batch).collect();
        let count = append.batch.record_count as usize;
        // The batch, laid over the earlier one where the first known id is.
        let laid = (first.offset - first.batch).checked_sub(u64::from(*at));
        let whole = laid.is_some_and(|laid| {
            let laid = laid as usize;
            let named = |record: usize| ids.iter().find(|(at, _)| *at as usize == record).map(|(_, id)| *id);
            let under = |record: usize| earlier.get(laid + record).map(|earlier| earlier.id);
            let aligned = (0..count).all(|record| match (under(record), named(record)) {
                (None, _) => false,
                (Some(under), Some(id)) => under == Some(id),
                (Some(under), None) => under.is_none() && count == earlier.len(),
            });
            // The newest record of an id counts, so all of them must be found there.
            aligned && known.len() == ids.len() && known.iter().all(|(_, record)| record.batch == first.batch)
        });
        if whole {
            return Some(Answer::Duplicate(first.offset - u64::from(*at), first.time));
        }
        Some(Answer::Known(known.iter().map(|(at, record)| (*at, record.offset)).collect()))
    }
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Appended { base_offset, append_time, duplicate: false, .. } => {
            Answer::Appended(base_offset.get(), append_time)
        }
        Outcome::Appended { base_offset, append_time, .. } => {
            Answer::Duplicate(base_offset.get(), append_time)
        }
        Outcome::AppendRefused(refusal) => match refusal {
            Refusal::InvalidProducerEpoch { .. } => Answer::Fenced,
            Refusal::OutOfOrderSequence { expected, .. } => Answer::OutOfOrder(expected.get()),
            Refusal::ProducerStateExpired { .. } => Answer::Expired,
            Refusal::TooManyProducers { .. } => Answer::NoRoom,
            Refusal::OffsetConflict { actual, .. } => Answer::Conflict(actual.get()),
            Refusal::MessageIdsKnown { known } => {
                Answer::Known(known.iter().map(|known| (known.record, known.first_offset.get())).collect())
            }
            Refusal::MessageIdTwice { .. } => Answer::Twice,
            other => panic!("the model knows no {other:?}"),
        },
        Outcome::Trimmed { log_start } => Answer::Trimmed(log_start.get()),
        Outcome::Noop => Answer::Done,
        other => panic!("the model knows no {other:?}"),
    }
}

/// What happens next. Sequences are chosen near what is right, or nothing interesting would happen.
#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u32,
        later: i64,
        /// Producer, epoch, and how far from its next sequence.
        producer: Option<(u64, u64, i64)>,
        expected: Option<i64>,
        ids: Vec<Option<u8>>,
        window: Option<u64>,
        bytes: u32,
    },
    /// Repeats one of the last appends.
    Repeat(usize),
    Trim {
        back: u64,
        later: i64,
    },
    Checkpoint {
        later: i64,
    },
    Configure {
        producers_max: u32,
        expiry: u64,
    },
    Blank,
    Elect,
}

fn later() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..100i64, 1 => -50..0i64, 1 => 1000..400_000i64]
}

fn step() -> impl Strategy<Value = Step> {
    let sequence = prop_oneof![6 => Just(0i64), 1 => Just(1i64), 2 => -12..0i64];
    let producer =
        proptest::option::weighted(0.7, (0..5u64, prop_oneof![5 => Just(0u64), 1 => 1..3u64], sequence));
    let expected = proptest::option::weighted(0.2, prop_oneof![3 => Just(0i64), 1 => -3..3i64]);
    let ids = prop_oneof![
        2 => Just(Vec::new()),
        2 => proptest::collection::vec(proptest::option::weighted(0.8, 0..12u8), 1..4),
        1 => (0..8u8).prop_map(|first| (first..first + 3).map(Some).collect()),
    ];
    let window = proptest::option::weighted(0.8, prop_oneof![Just(60u64), Just(500), Just(100_000)]);
    let append = (1..4u32, later(), producer, expected, ids, window, 0..2000u32).prop_map(
        |(count, later, producer, expected, ids, window, bytes)| Step::Append {
            count: if ids.is_empty() { count } else { ids.len() as u32 },
            later,
            producer,
            expected,
            ids,
            window,
            bytes,
        },
    );
    prop_oneof![
        12 => append,
        4 => (0..8usize).prop_map(Step::Repeat),
        1 => (0..10u64, later()).prop_map(|(back, later)| Step::Trim { back, later }),
        1 => later().prop_map(|later| Step::Checkpoint { later }),
        1 => (1..5u32, prop_oneof![Just(1000u64), Just(200_000), Just(1_000_000)])
            .prop_map(|(producers_max, expiry)| Step::Configure { producers_max, expiry }),
        1 => Just(Step::Blank),
        1 => Just(Step::Elect),
    ]
}

/// The model and the machine, side by side.
struct Pair {
    model: Model,
    checked: Checked,
    appends: Vec<Append>,
    log: Vec<(LogId, Option<Command>)>,
    answers: Vec<Answer>,
}

impl Pair {
    fn new() -> Self {
        let defaults = Settings::default();
        let model = Model {
            records: Vec::new(),
            sent: Vec::new(),
            log_start: 0,
            now: 0,
            expiry: defaults.producer_expiry_ms as i64,
            producers_max: defaults.producers_max as usize,
        };
        let checked = Checked::new(Kind::Partition);
        Self { model, checked, appends: Vec::new(), log: Vec::new(), answers: Vec::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { .. } => {
                let append = self.prepare(step);
                self.appends.push(append.clone());
                self.append(append);
            }
            Step::Repeat(back) => {
                if let Some(append) = self.appends.iter().rev().nth(back).cloned() {
                    self.append(Append { append_time: self.model.now, ..append });
                }
            }
            Step::Trim { back, later } => {
                let log_start = self.model.end().saturating_sub(back);
                let now = self.model.now + later;
                self.model.pass_time(now);
                self.model.log_start = self.model.log_start.max(log_start);
                let expected = Answer::Trimmed(self.model.log_start);
                self.apply(Command::Trim { log_start: Offset(log_start), now }, expected);
            }
            Step::Checkpoint { later } => {
                let now = self.model.now + later;
                self.model.pass_time(now);
                self.apply(Command::Checkpoint { now }, Answer::Done);
            }
            Step::Configure { producers_max, expiry } => {
                self.model.producers_max = producers_max as usize;
                self.model.expiry = expiry as i64;
                let settings = Settings { producers_max, producer_expiry_ms: expiry, checkpoint_bytes: 3000 };
                self.apply(Command::Configure(settings), Answer::Done);
            }
            Step::Blank => self.skip(),
            Step::Elect => {
                self.checked.term = self.checked.term.next();
                self.skip();
            }
        }
        self.check();
    }

    fn prepare(&self, step: Step) -> Append {
        let Step::Append { count, later, producer, expected, ids, window, bytes } = step else {
            panic!("an append");
        };
        let stamp = producer.map(|(id, epoch, from_next)| {
            let known = self.model.known(id);
            let next = known
                .last()
                .map_or(0, |sent| if sent.epoch == epoch { sent.sequence + sent.count } else { 0 });
            (id, epoch, next.saturating_add_signed(from_next))
        });
        let ids = (0u32..).zip(ids).filter_map(|(at, id)| Some((at, u128::from(id?) + 1)));
        Append {
            append_time: self.model.now + later,
            expected_offset: expected.map(|off| Offset(self.model.end().saturating_add_signed(off))),
            batch: batch(count, stamp),
            body_bytes: bytes,
            message_ids: ids.collect(),
            dedup_window_ms: window,
        }
    }

    fn append(&mut self, append: Append) {
        let expected = self.model.append(&append);
        self.apply(Command::Append(append), expected);
    }

    fn apply(&mut self, command: Command, expected: Answer) {
        self.log.push((LogId { term: self.checked.term, index: self.checked.next }, Some(command.clone())));
        let applied = self.checked.apply(&command).unwrap();
        let rows: Vec<_> =
            applied.changes.index.iter().map(|row| (row.base_offset.get(), row.end_offset())).collect();
        match &expected {
            Answer::Appended(base, _) => assert_eq!(rows, [(*base, Offset(self.model.end()))]),
            _ => assert_eq!(rows, [], "a refused command leaves no index row"),
        }
        assert!(applied.changes.state.len() < 64, "what is written follows the change");
        assert_eq!(answer(applied.outcome), expected, "{command:?}");
        self.answers.push(expected);
        if let Some(purge) = applied.purge_to {
            assert!(purge.index_rows_below.get() <= self.model.log_start, "no kept record is purged");
        }
    }

    fn skip(&mut self) {
        self.log.push((LogId { term: self.checked.term, index: self.checked.next }, None));
        self.checked.skip().unwrap();
    }

    fn check(&self) {
        let partition = self.checked.shard.partition().unwrap();
        assert_eq!(partition.next_offset().get(), self.model.end());
        assert_eq!(partition.log_start().get(), self.model.log_start);
        assert_eq!(partition.log_time(), self.model.now);
        let known: Vec<_> = partition.producers().iter().map(|(id, _)| id.get()).collect();
        let mut expected: Vec<_> = self.model.producers().iter().map(|(_, id)| *id).collect();
        expected.sort_unstable();
        assert_eq!(known, expected);
    }
}

/// At least so many cases; `PROPTEST_CASES` may ask for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1500), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn partitions_answer_as_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.step(step));
    }

    #[test]
    fn a_prefix_loaded_and_the_rest_applied_is_the_whole(
        steps in proptest::collection::vec(step(), 1..60),
        cut in 0.0..1.0f64,
    ) {
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.step(step));
        let cut = (pair.log.len() as f64 * cut) as usize;
        let replay = |shard: &mut Shard, log: &[(LogId, Option<Command>)]| {
            for (at, command) in log {
                match command {
                    Some(command) => shard.apply(*at, command).unwrap(),
                    None => shard.skip(*at).unwrap(),
                };
            }
        };
        let mut prefix = Shard::new(Kind::Partition);
        replay(&mut prefix, &pair.log[..cut]);
        let mut shard = Shard::load(Kind::Partition, &prefix.rows()).unwrap();
        replay(&mut shard, &pair.log[cut..]);
        assert_eq!(shard, pair.checked.shard);
        assert_eq!(shard.hash(), pair.checked.shard.hash());
        assert_eq!(shard.chain(), pair.checked.shard.chain());
    }

    #[test]
    fn another_log_has_another_chain(
        steps in proptest::collection::vec(step(), 2..20),
        at in 0.0..1.0f64,
        bit in 0..32u32,
    ) {
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.step(step));
        let changed = (pair.log.len() as f64 * at) as usize;
        let mut shard = Shard::new(Kind::Partition);
        for (place, (at, command)) in pair.log.iter().enumerate() {
            match command {
                // One bit of one batch's seal: the payload differs, nothing else that is applied does.
                Some(Command::Append(append)) if place == changed => {
                    let mut append = append.clone();
                    append.batch.crc32c ^= 1 << bit;
                    shard.apply(*at, &Command::Append(append)).unwrap();
                }
                Some(command) => drop(shard.apply(*at, command).unwrap()),
                None => drop(shard.skip(*at).unwrap()),
            }
        }
        let same = shard.chain() == pair.checked.shard.chain();
        let appended = pair.log.get(changed).is_some_and(|(_, c)| matches!(c, Some(Command::Append(_))));
        assert_eq!(same, !appended);
    }
}

#[test]
fn the_steps_that_are_tried_reach_every_answer() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: Vec<(std::mem::Discriminant<Answer>, usize)> = Vec::new();
    for _ in 0..300 {
        let steps = proptest::collection::vec(step(), 1..80).new_tree(&mut runner).unwrap().current();
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.step(step));
        for answer in &pair.answers {
            let kind = std::mem::discriminant(answer);
            match seen.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, count)) => *count += 1,
                None => seen.push((kind, 1)),
            }
        }
    }
    // All but `Malformed`, which the scripts have.
    assert_eq!(seen.len(), 11, "{seen:?}");
    assert!(seen.iter().all(|(_, count)| *count >= 20), "{seen:?}");
}

#[test]
fn remembered_numbers_are_the_real_ones() {
    // The model says 5 and 5 minutes in its own words.
    assert_eq!(flotilla_types::limits::PRODUCER_REMEMBERED_BATCHES, 5);
    assert_eq!(flotilla_machine::producers::IDLE_MS, IDLE);
    let stamp = batch(1, Some((1, 2, 3))).producer.unwrap();
    assert_eq!((stamp.id, stamp.epoch, stamp.base_sequence), (ProducerId(1), ProducerEpoch(2), Sequence(3)));
    assert_eq!(LogId::default(), LogId { term: Term(0), index: LogIndex(0) });
}
