//! Purged space comes back, for one shard while others keep theirs.

use super::*;

fn purge(shard: ShardId, upto: u64) -> Write {
    let mark = Bytes::copy_from_slice(&upto.to_le_bytes());
    Write::Purge { shard, upto: LogIndex(upto), mark, index_below: Offset((upto + 1) * 10) }
}

fn files(path: &Path) -> u64 {
    let files = std::fs::read_dir(path.join("db")).unwrap().flatten();
    let kept = files.filter(|file| file.path().extension().is_some_and(|e| e == "blob" || e == "sst"));
    kept.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

#[test]
fn purging_one_shard_gives_its_space_back_and_the_others_keep_theirs() {
    const MIB: u64 = 1 << 20;
    let home = tempfile::tempdir().unwrap();
    let config = Config { blob_file_bytes: ByteSize(MIB), blob_gc_percent: 100, ..config() };
    let expected = expected(home.path(), OpenMode::Init);
    let clock = Arc::new(SystemClock::new());
    let store = sound(RocksStore::open(&config, &expected, Fatal::default().handler(), clock));
    let (kept, trimmed) = (ShardId(2000), ShardId(3000));
    for index in 1..=200 {
        for shard in [kept, trimmed] {
            write(&store, append(shard, index..=index, 64 << 10)).unwrap();
            store.submit(apply(shard, index), Box::new(|result| result.unwrap()));
        }
    }
    store.flush_for_tests();
    let full = files(home.path());
    assert!(full > 24 * MIB, "{full}");
    write(&store, purge(trimmed, 180)).unwrap();
    store.wait_for_compactions();
    let left = files(home.path());
    assert!(left < 17 * MIB, "{left} of {full} bytes are left");

    let rows = store.log(kept, LogIndex(1)..LogIndex(201), 1 << 30).unwrap();
    assert_eq!(rows.len(), 200);
    assert_eq!(store.index_range(kept, Offset(0), 1000).unwrap().len(), 200);
    let rows = store.log(trimmed, LogIndex(1)..LogIndex(201), 1 << 30).unwrap();
    assert_eq!(rows.first().map(|row| row.id), Some(id(1, 181)));
    assert_eq!(store.index_range(trimmed, Offset(0), 1000).unwrap().len(), 20);
    let marks = store.shard_marks(trimmed).unwrap();
    assert_eq!(marks.purged.unwrap().upto, LogIndex(180));
    drop(store);
    let store = reopen(home.path());
    write(&store, append(trimmed, 201..=201, 10)).unwrap();
}

#[test]
fn a_purge_takes_older_checkpoints_and_keeps_its_own() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    write(&store, append(SHARD, 1..=30, 10)).unwrap();
    for index in [10, 20, 30] {
        let Write::Apply { shard, changes, applied, membership, .. } = apply(SHARD, index) else {
            panic!("an apply")
        };
        let checkpoint = Some((LogIndex(index), payload(index, 100)));
        write(&store, Write::Apply { shard, changes, applied, membership, checkpoint }).unwrap();
    }
    write(&store, purge(SHARD, 20)).unwrap();
    assert_eq!(store.checkpoints(SHARD).unwrap(), [LogIndex(20), LogIndex(30)]);
    assert_eq!(store.checkpoint(SHARD, LogIndex(20)).unwrap(), Some(payload(20, 100)));
    assert_eq!(store.checkpoint(SHARD, LogIndex(10)).unwrap(), None);
}

#[test]
fn a_purged_log_goes_on_after_a_restart_even_if_nothing_is_left_of_it() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    write(&store, append(SHARD, 1..=30, 10)).unwrap();
    write(&store, apply(SHARD, 30)).unwrap();
    write(&store, purge(SHARD, 30)).unwrap();
    drop(store);
    let store = reopen(home.path());
    assert_eq!(store.shard_marks(SHARD).unwrap().last, None);
    write(&store, append(SHARD, 31..=31, 10)).unwrap();
    assert_eq!(store.log(SHARD, LogIndex(0)..LogIndex(99), 1 << 20).unwrap().len(), 1);
}
