//! The database and its twin in memory answer alike, also after restarts and crashes.

use super::*;
use crate::{Identity, MemoryStore};
use proptest::prelude::*;

/// What one step does; turned into a valid write by what the log is at that moment.
#[derive(Clone, Debug)]
enum Step {
    Append { shard: u8, rows: u8, len: u16 },
    Truncate { shard: u8, back: u8 },
    Purge { shard: u8, share: u8 },
    Vote { shard: u8, vote: u8 },
    Apply { shard: u8, share: u8, keys: u8, checkpoint: bool },
    Install { shard: u8, ahead: u8, rows: u8 },
    Destroy { shard: u8 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0..3u8;
    prop_oneof![
        8 => (shard.clone(), 1..20u8, 0..3000u16).prop_map(|(shard, rows, len)| Step::Append { shard, rows, len }),
        3 => (shard.clone(), 0..10u8).prop_map(|(shard, back)| Step::Truncate { shard, back }),
        2 => (shard.clone(), any::<u8>()).prop_map(|(shard, share)| Step::Purge { shard, share }),
        2 => (shard.clone(), any::<u8>()).prop_map(|(shard, vote)| Step::Vote { shard, vote }),
        6 => (shard.clone(), any::<u8>(), 0..5u8, any::<bool>())
            .prop_map(|(shard, share, keys, checkpoint)| Step::Apply { shard, share, keys, checkpoint }),
        1 => (shard.clone(), 0..30u8, 0..5u8).prop_map(|(shard, ahead, rows)| Step::Install { shard, ahead, rows }),
        1 => shard.prop_map(|shard| Step::Destroy { shard }),
        1 => Just(Step::Restart),
    ]
}

const SHARDS: [ShardId; 3] = [ShardId(0), ShardId(1024), ShardId(u32::MAX)];

/// Makes a write that the log, as the model has it, allows.
fn valid(model: &MemoryStore, step: &Step, number: u64) -> Option<Write> {
    let state = |shard: u8| {
        let shard = SHARDS[usize::from(shard)];
        let marks = model.shard_marks(shard).unwrap();
        let purged = marks.purged.as_ref().map(|purged| purged.upto.get());
        let applied = marks.applied.as_ref().map(|applied| applied.id.index.get());
        let end = marks.last.map(|last| last.index.get()).max(purged);
        (shard, marks, purged, applied, end)
    };
    let bytes = |number: u64, len: usize| payload(number, len);
    match *step {
        Step::Append { shard, rows, len } => {
            let (shard, marks, _, _, end) = state(shard);
            let start = end.map_or(number % 2, |end| end + 1);
            let term = marks.last.map_or(1, |last| last.term.get()) + number % 2;
            let row = |index| LogRow {
                id: id(term, index),
                kind: EntryKind::from_number((index % 3) as u8).unwrap(),
                header: bytes(index, usize::from(len) % 90),
                payload: bytes(number + index, usize::from(len)),
            };
            Some(Write::Append { shard, rows: (start..start + u64::from(rows)).map(row).collect() })
        }
        Step::Truncate { shard, back } => {
            let (shard, marks, purged, applied, _) = state(shard);
            let last = marks.last?.index.get();
            let least = purged.max(applied).map_or(0, |index| index + 1);
            Some(Write::Truncate { shard, from: LogIndex((last + 1).saturating_sub(back.into()).max(least)) })
        }
        Step::Purge { shard, share } => {
            let (shard, _, purged, applied, _) = state(shard);
            let applied = applied?;
            let start = purged.unwrap_or(0);
            let upto = start + applied.saturating_sub(start) * u64::from(share) / 255;
            let index_below = Offset(upto * 10 + u64::from(share % 10));
            Some(Write::Purge { shard, upto: LogIndex(upto), mark: bytes(number, 20), index_below })
        }
        Step::Vote { shard, vote } => {
            Some(Write::Vote { shard: SHARDS[usize::from(shard)], vote: bytes(vote.into(), vote.into()) })
        }
        Step::Apply { shard, share, keys, checkpoint } => {
            let (shard, _, _, applied, end) = state(shard);
            let (end, start) = (end?, applied.unwrap_or(0));
            let at = start + end.saturating_sub(start) * u64::from(share) / 255;
            let state = |key: u8| StateWrite {
                key: bytes((number + u64::from(key)) % 7, usize::from(key)),
                value: (key % 3 != 2).then(|| bytes(number, usize::from(share))),
            };
            let changes = ChangeSet {
                index: (start + 1..=at).map(index_row).collect(),
                state: (0..keys).map(state).collect(),
            };
            let checkpoint = checkpoint.then(|| (LogIndex(at), bytes(number, 300)));
            Some(Write::Apply { shard, changes, applied: id(1, at), membership: bytes(at, 9), checkpoint })
        }
        Step::Install { shard, ahead, rows } => {
            let (shard, _, purged, applied, _) = state(shard);
            let at = applied.max(purged).unwrap_or(0) + u64::from(ahead);
            Some(Write::Install {
                shard,
                applied: id(1, at),
                membership: bytes(at, 9),
                mark: bytes(number, 20),
                rows: (0..rows).map(|row| (bytes(row.into(), 8), bytes(number, 50))).collect(),
                checkpoint: bytes(number, 200),
            })
        }
        Step::Destroy { shard } => Some(Write::Destroy { shard: SHARDS[usize::from(shard)] }),
        Step::Restart => None,
    }
}

fn same(rocks: &RocksStore, memory: &MemoryStore) -> Result<(), TestCaseError> {
    prop_assert_eq!(rocks.shards(), memory.shards());
    for shard in SHARDS {
        let all = LogIndex(0)..LogIndex(u64::MAX);
        let marks = memory.shard_marks(shard);
        prop_assert_eq!(rocks.shard_marks(shard), marks.clone());
        prop_assert_eq!(rocks.log(shard, all.clone(), usize::MAX), memory.log(shard, all, usize::MAX));
        prop_assert_eq!(rocks.state(shard), memory.state(shard));
        prop_assert_eq!(
            rocks.index_range(shard, Offset(0), usize::MAX),
            memory.index_range(shard, Offset(0), usize::MAX)
        );
        let end = marks.unwrap().applied.map_or(0, |applied| applied.id.index.get());
        for index in (0..=end + 1).step_by(3) {
            let (offset, time) = (Offset(index * 10 + 5), index as i64 * 1000 - 1);
            prop_assert_eq!(rocks.index_floor(shard, offset), memory.index_floor(shard, offset));
            prop_assert_eq!(rocks.index_at_time(shard, time), memory.index_at_time(shard, time));
            prop_assert_eq!(rocks.log_row(shard, LogIndex(index)), memory.log_row(shard, LogIndex(index)));
        }
        let checkpoints = memory.checkpoints(shard);
        prop_assert_eq!(rocks.checkpoints(shard), checkpoints.clone());
        for at in checkpoints.unwrap() {
            prop_assert_eq!(rocks.checkpoint(shard, at), memory.checkpoint(shard, at));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Also shows that a valid history is never quarantined.
    #[test]
    fn database_and_memory_answer_alike(steps in proptest::collection::vec(step(), 1..60)) {
        let home = tempfile::tempdir().unwrap();
        let mut rocks = create(home.path());
        let memory = MemoryStore::new(*rocks.identity());
        let mut last_done: Option<std::sync::mpsc::Receiver<Result<(), WriteError>>> = None;
        for (number, step) in steps.iter().enumerate() {
            if matches!(step, Step::Restart) {
                // In order, so the last one's answer is everybody's.
                last_done.take().map_or(Ok(()), |done| done.recv().unwrap()).unwrap();
                same(&rocks, &memory)?;
                drop(rocks);
                rocks = reopen(home.path());
                same(&rocks, &memory)?;
            }
            let Some(next) = valid(&memory, step, number as u64) else { continue };
            write(&memory, next.clone()).unwrap();
            let (told, tell) = sync_channel(1);
            rocks.submit(next, Box::new(move |result| drop(told.send(result))));
            last_done = Some(tell);
        }
        if let Some(done) = last_done {
            done.recv().unwrap().unwrap();
        }
        same(&rocks, &memory)?;
    }
}

fn memory() -> MemoryStore {
    MemoryStore::new(Identity::new(CLUSTER, NODE))
}

#[test]
fn memory_forgets_what_was_not_synced() {
    let store = memory();
    write(&store, append(SHARD, 1..=3, 10)).unwrap();
    write(&store, apply(SHARD, 2)).unwrap();
    assert!(store.shard_marks(SHARD).unwrap().applied.is_some(), "readable");
    store.crash();
    let marks = store.shard_marks(SHARD).unwrap();
    assert_eq!((marks.last, marks.applied), (Some(id(1, 3)), None), "but gone");

    write(&store, apply(SHARD, 2)).unwrap();
    write(&store, append(SHARD, 4..=4, 10)).unwrap();
    store.crash();
    assert!(store.shard_marks(SHARD).unwrap().applied.is_some(), "a later sync took it along");

    write(&store, apply(SHARD, 3)).unwrap();
    write(&store, apply(SHARD, 4)).unwrap();
    store.crash_keeping(1);
    assert_eq!(store.shard_marks(SHARD).unwrap().applied.unwrap().id, id(1, 3));
    write(&store, append(SHARD, 5..=5, 10)).unwrap();
}

#[test]
fn memory_with_a_slow_disk_loses_what_waits() {
    let store = MemoryStore::manual(Identity::new(CLUSTER, NODE));
    let told = Arc::new(Mutex::new(Vec::new()));
    let submit = |write| {
        let told = Arc::clone(&told);
        store.submit(write, Box::new(move |result| told.lock().push(result)));
    };
    submit(append(SHARD, 1..=1, 10));
    assert_eq!(store.commit(), 1);
    submit(append(SHARD, 2..=2, 10));
    assert_eq!(store.shard_marks(SHARD).unwrap().last, Some(id(1, 1)));
    store.crash();
    assert_eq!(*told.lock(), [Ok(()), Err(WriteError::Closed)]);
    assert_eq!(store.shard_marks(SHARD).unwrap().last, Some(id(1, 1)));
    submit(append(SHARD, 2..=2, 10));
    store.commit();
    store.fail("the disk broke");
    submit(append(SHARD, 3..=3, 10));
    store.commit();
    assert!(matches!(told.lock().last(), Some(Err(WriteError::Failed(_)))));
}

#[test]
#[should_panic(expected = "a log has no holes")]
fn memory_refuses_a_hole() {
    let store = memory();
    write(&store, append(SHARD, 1..=3, 10)).unwrap();
    let _ = write(&store, append(SHARD, 5..=5, 10));
}

#[test]
#[should_panic(expected = "has its row before it")]
fn memory_refuses_state_ahead_of_the_log() {
    let store = memory();
    write(&store, append(SHARD, 1..=3, 10)).unwrap();
    let _ = write(&store, apply(SHARD, 4));
}
