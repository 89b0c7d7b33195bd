//! Whose directory it is, one process at a time, and never a new store where an old one was.

use super::*;
use crate::Why;
use flotilla_types::TimestampMs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_was_written_is_there_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    let store = create(&path);
    write(&store, append(SHARD, 0..=9, 2000)).unwrap();
    write(&store, Write::Vote { shard: SHARD, vote: Bytes::from_static(b"me") }).unwrap();
    write(&store, apply(SHARD, 9)).unwrap();
    assert_eq!(store.log(SHARD, LogIndex(0)..LogIndex(100), 1 << 20).unwrap().len(), 10);
    store.close().unwrap();
    assert_eq!(write(&store, append(SHARD, 10..=10, 1)), Err(WriteError::Closed));
    drop(store);

    let store = reopen(&path);
    let rows = store.log(SHARD, LogIndex(3)..LogIndex(6), 1 << 20).unwrap();
    assert_eq!(rows, (3..6).map(|index| row(index, payload(index, 2000))).collect::<Vec<_>>());
    let marks = store.shard_marks(SHARD).unwrap();
    assert_eq!(marks.vote.as_deref(), Some(&b"me"[..]));
    assert_eq!(marks.last, Some(id(1, 9)));
    assert_eq!(marks.applied.map(|applied| applied.id), Some(id(1, 9)));
    assert_eq!(store.shards().unwrap(), [SHARD]);
    assert!(store.disk().used > 0 && store.disk().free > 0);
    write(&store, append(SHARD, 10..=10, 1)).unwrap();
}

#[test]
fn reads_stop_at_their_limit_of_bytes_but_bring_one_row() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    write(&store, append(SHARD, 1..=20, 1000)).unwrap();
    let count =
        |from: u64, to: u64, bytes| store.log(SHARD, LogIndex(from)..LogIndex(to), bytes).unwrap().len();
    assert_eq!(count(1, 21, 0), 1);
    assert_eq!(count(1, 21, 5_500), 5);
    assert_eq!(count(0, 21, 1 << 30), 20);
    assert_eq!(count(18, 50, 1 << 30), 3);
    assert_eq!(count(5, 5, 1 << 30), 0);
    assert_eq!(count(21, 22, 1 << 30), 0);
    assert!(store.log_row(SHARD, LogIndex(21)).unwrap().is_none());
    assert_eq!(store.log_row(SHARD, LogIndex(7)).unwrap().unwrap().id, id(1, 7));
}

#[test]
fn batches_are_found_by_offset_and_by_time() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    write(&store, append(SHARD, 1..=200, 10)).unwrap();
    for shard in [ShardId(1023), ShardId(1025)] {
        write(&store, append(shard, 1..=1, 10)).unwrap();
        write(&store, apply(shard, 1)).unwrap();
    }
    for index in 1..=200 {
        store.submit(apply(SHARD, index), Box::new(|result| result.unwrap()));
    }
    write(&store, append(SHARD, 201..=201, 10)).unwrap();
    assert_eq!(store.index_floor(SHARD, Offset(9)).unwrap(), None);
    assert_eq!(store.index_floor(SHARD, Offset(19)).unwrap(), Some(index_row(1)));
    assert_eq!(store.index_floor(SHARD, Offset(u64::MAX)).unwrap(), Some(index_row(200)));
    assert_eq!(store.index_range(SHARD, Offset(11), 2).unwrap(), [index_row(2), index_row(3)]);
    assert_eq!(store.index_range(SHARD, Offset(0), 1000).unwrap().len(), 200);
    for time in 0..202_000 as TimestampMs {
        if time % 500 == 0 || time % 1000 == 1 {
            let first = (1..=200).map(index_row).find(|row| row.append_time >= time);
            assert_eq!(store.index_at_time(SHARD, time).unwrap(), first, "at {time}");
        }
    }
}

#[test]
fn an_empty_directory_needs_a_wish_to_make_a_store() {
    let home = tempfile::tempdir().unwrap();
    let fatal = Fatal::default();
    let error = try_open(home.path(), OpenMode::Existing, "", &fatal).unwrap_err();
    assert!(matches!(error, OpenError::Empty(_)), "{error}");
    let error = try_open(&home.path().join("not there"), OpenMode::Existing, "", &fatal).unwrap_err();
    assert!(matches!(error, OpenError::Empty(_)), "{error}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing was made");

    let first = *create(home.path()).identity();
    let again = *create(home.path()).identity();
    assert_eq!(first, again, "one that is there is opened");
    let mode = std::fs::metadata(home.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_directory_that_holds_something_else_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("letters"), "dear").unwrap();
    let error = try_open(home.path(), OpenMode::Init, "", &Fatal::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotOurs { found, .. } if found == "letters"));
}

#[test]
fn another_nodes_store_is_refused() {
    let home = tempfile::tempdir().unwrap();
    drop(create(home.path()));
    for (cluster, node) in [(CLUSTER, NodeId(2)), (ClusterId(Uuid::from_u128(2)), NODE)] {
        for mode in [OpenMode::Existing, OpenMode::Init] {
            let expected = Expected { cluster, node, ..expected(home.path(), mode) };
            let clock = Arc::new(SystemClock::new());
            let error =
                RocksStore::open(&config(), &expected, Fatal::default().handler(), clock).unwrap_err();
            assert!(matches!(error, OpenError::WrongIdentity { .. }), "{error}");
        }
    }
}

#[test]
fn a_second_opener_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    let error = try_open(home.path(), OpenMode::Existing, "", &Fatal::default()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    drop(store);
    drop(reopen(home.path()));
}

#[test]
fn a_store_that_was_cut_while_it_was_made_is_finished_by_the_next_wish() {
    let home = tempfile::tempdir().unwrap();
    let identity = *create(home.path()).identity();
    let (finished, unfinished) = (home.path().join("identity"), home.path().join("identity.unfinished"));
    for missing in [&["marker"][..], &["marker", "db"]] {
        std::fs::rename(&finished, &unfinished).unwrap();
        for name in missing {
            let path = home.path().join(name);
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        }
        let error = try_open(home.path(), OpenMode::Existing, "", &Fatal::default()).unwrap_err();
        assert!(matches!(error, OpenError::Empty(_)), "{error}");
        assert_eq!(*create(home.path()).identity(), identity);
    }
}

#[test]
fn damaged_and_exchanged_identities_are_quarantined() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("one");
    drop(create(&path));
    drop(create(&home.path().join("two")));
    let file = path.join("identity");
    let sound = std::fs::read(&file).unwrap();
    for bit in (0..sound.len() * 8).step_by(7) {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(quarantined(&path).why, Why::IdentityUnreadable(_)));
    }
    std::fs::copy(home.path().join("two/identity"), &file).unwrap();
    std::fs::copy(home.path().join("two/marker"), path.join("marker")).unwrap();
    assert!(matches!(quarantined(&path).why, Why::IdentitiesDiffer { .. }));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(quarantined(&path).why, Why::IdentityMissing);
    let fatal = Fatal::default();
    let opened = try_open(&path, OpenMode::Init, "", &fatal).unwrap();
    assert!(matches!(opened, Opened::Quarantined(_)), "not made anew over what is there");
}
