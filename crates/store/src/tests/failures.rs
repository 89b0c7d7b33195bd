//! Writes and syncs that fail: told once, and nothing is written after them.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn after_a_failed_sync_nothing_is_written_until_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    drop(create(home.path()));
    let fatal = Fatal::default();
    let store = sound(try_open(home.path(), OpenMode::Existing, "fail-sync-after=3", &fatal));
    for index in 1..=3 {
        write(&store, append(SHARD, index..=index, 100)).unwrap();
    }
    let error = write(&store, append(SHARD, 4..=4, 100)).unwrap_err();
    assert!(matches!(error, WriteError::Failed(_)));
    assert_eq!(fatal.0.lock().len(), 1, "told once");
    for refused in [append(SHARD, 5..=5, 100), apply(SHARD, 1)] {
        assert_eq!(write(&store, refused), Err(error.clone()));
    }
    assert_eq!(store.close(), Err(error));
    assert_eq!(fatal.0.lock().len(), 1, "told once");
    drop(store);

    // What was acknowledged is there. What failed may be: it is unknown.
    let store = reopen(home.path());
    let last = store.shard_marks(SHARD).unwrap().last.unwrap();
    assert!(last == id(1, 3) || last == id(1, 4), "{last}");
}

#[test]
fn what_waits_behind_a_failed_sync_is_told_too() {
    let home = tempfile::tempdir().unwrap();
    drop(create(home.path()));
    let fatal = Fatal::default();
    let store =
        sound(try_open(home.path(), OpenMode::Existing, "fail-sync-after=0,delay-sync-ms=50", &fatal));
    let (told, tell) = sync_channel(100);
    for index in 1..=50 {
        let told = told.clone();
        store.submit(append(SHARD, index..=index, 100), Box::new(move |result| told.send(result).unwrap()));
    }
    for _ in 1..=50 {
        let result = tell.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(result, Err(WriteError::Failed(_))));
    }
    assert_eq!(fatal.0.lock().len(), 1);
}

#[test]
fn answers_come_in_order_and_commits_are_shared() {
    let home = tempfile::tempdir().unwrap();
    drop(create(home.path()));
    let fatal = Fatal::default();
    let store = sound(try_open(home.path(), OpenMode::Existing, "delay-sync-ms=5", &fatal));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (told, tell) = sync_channel(1);
    for number in 0..400u64 {
        let shard = ShardId(1024 + (number % 100) as u32);
        let (order, told) = (Arc::clone(&order), told.clone());
        let done = move |result: Result<(), WriteError>| {
            result.unwrap();
            order.lock().push(number);
            if number == 399 {
                told.send(()).unwrap();
            }
        };
        store.submit(append(shard, number / 100..=number / 100, 200), Box::new(done));
    }
    tell.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(*order.lock(), (0..400).collect::<Vec<_>>());
    let commits = store.metrics().commits.get();
    assert!(commits < 100, "{commits} commits for 400 writes of 100 shards");
}

#[test]
fn applied_changes_ride_along_or_are_written_alone_without_a_sync() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    write(&store, append(SHARD, 1..=2, 100)).unwrap();
    let (commits, syncs) = (store.metrics().commits.get(), store.metrics().syncs.get());
    store.submit(apply(SHARD, 1), Box::new(|result| result.unwrap()));
    write(&store, append(SHARD, 3..=3, 100)).unwrap();
    assert_eq!(store.metrics().commits.get(), commits + 1, "rode along");
    write(&store, apply(SHARD, 2)).unwrap();
    assert_eq!(store.metrics().commits.get(), commits + 2, "alone");
    assert_eq!(store.metrics().syncs.get(), syncs + 1, "not synced");
}

#[test]
fn a_write_that_would_tear_a_log_ends_all_writing() {
    let home = tempfile::tempdir().unwrap();
    let fatal = Fatal::default();
    let store = sound(try_open(home.path(), OpenMode::Init, "", &fatal));
    write(&store, append(SHARD, 1..=5, 10)).unwrap();
    store.submit(append(SHARD, 7..=7, 10), Box::new(|_| ()));
    while fatal.0.lock().is_empty() {
        std::thread::yield_now();
    }
    assert!(matches!(write(&store, append(SHARD, 6..=6, 10)), Err(WriteError::Failed(_))));
    drop(store);
    assert_eq!(reopen(home.path()).shard_marks(SHARD).unwrap().last, Some(id(1, 5)));
}

#[tokio::test]
async fn who_reserves_waits_for_room() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    let all = store.reserve(usize::MAX).await;
    let waiting = tokio::time::timeout(Duration::from_millis(20), store.reserve(1)).await;
    assert!(waiting.is_err());
    drop(all);
    store.reserve(1).await;
}

#[test]
fn who_does_not_reserve_is_refused_in_the_end() {
    let home = tempfile::tempdir().unwrap();
    drop(create(home.path()));
    let store = sound(try_open(home.path(), OpenMode::Existing, "delay-sync-ms=100", &Fatal::default()));
    let refused = Arc::new(AtomicUsize::new(0));
    let big = payload(1, 8 << 20);
    for index in 1..=60u32 {
        let refused = Arc::clone(&refused);
        let done = move |result: Result<(), WriteError>| {
            if let Err(error) = result {
                assert!(matches!(error, WriteError::QueueFull { .. }), "{error}");
                refused.fetch_add(1, Ordering::Relaxed);
            }
        };
        let rows = vec![row(1, big.clone())];
        store.submit(Write::Append { shard: ShardId(2000 + index), rows }, Box::new(done));
    }
    store.close().unwrap();
    let refused = refused.load(Ordering::Relaxed);
    assert!(refused > 0 && refused < 60, "{refused} of 60 refused");
}
