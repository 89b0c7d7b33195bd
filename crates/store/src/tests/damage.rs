//! Damage to a stopped store: either everything acknowledged is there, or the store is not used.

use super::*;
use crate::rows::{applied, entry, family, purged};
use crate::{ReadError, Why};
use std::fs;
use std::path::PathBuf;

/// A store with many acknowledged writes, killed without a clean end but after its marker caught up.
fn killed() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let live = home.path().join("live");
    let store = create(&live);
    for index in 1..=60 {
        write(&store, append(SHARD, index..=index, 700)).unwrap();
        write(&store, apply(SHARD, index)).unwrap();
    }
    write(&store, append(SHARD, 61..=61, 700)).unwrap();
    // The marker is at most some 10 ms behind; wait until it says so itself.
    let last = store.reader_for_tests().batch_number().unwrap().unwrap();
    let marker = live.join("marker");
    while crate::marker::read(&marker, store.identity().store).unwrap().number < last {
        std::thread::yield_now();
    }
    let path = home.path().join("killed");
    copy(&live, &path);
    drop(store);
    (home, path)
}

fn logs(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.join("db")).unwrap().map(|file| file.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs
}

/// The log with something in it.
fn log(path: &Path) -> PathBuf {
    logs(path).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn all_files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path.join("db"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LOG")))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn everything_is_there(store: &RocksStore) {
    let rows = store.log(SHARD, LogIndex(0)..LogIndex(1000), 1 << 30).unwrap();
    assert_eq!(rows, (1..=61).map(|index| row(index, payload(index, 700))).collect::<Vec<_>>());
    assert_eq!(store.shard_marks(SHARD).unwrap().applied.unwrap().id, id(1, 60));
}

#[test]
fn a_killed_store_has_everything() {
    let (_home, path) = killed();
    everything_is_there(&reopen(&path));
    everything_is_there(&reopen(&path));
}

#[test]
fn a_log_that_is_gone_is_noticed() {
    let (_home, path) = killed();
    logs(&path).iter().for_each(|log| fs::remove_file(log).unwrap());
    let before = all_files(&path);
    let quarantine = quarantined(&path);
    assert!(matches!(quarantine.why, Why::Behind { .. } | Why::Database(_)), "{quarantine}");
    assert!(quarantine.advice().contains("--init"));
    assert!(before == all_files(&path), "looking changes nothing");
    quarantined(&path);
}

#[test]
fn a_log_that_is_cut_is_noticed_wherever_it_is_cut() {
    let (_home, path) = killed();
    let log = log(&path);
    let whole = fs::read(&log).unwrap();
    // Everything up to here was acknowledged and marked.
    for len in (0..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
        fs::write(&log, &whole[..len]).unwrap();
        let quarantine = quarantined(&path);
        assert!(
            matches!(quarantine.why, Why::Behind { .. } | Why::Database(_)),
            "cut to {len}: {quarantine}"
        );
    }
    fs::write(&log, &whole).unwrap();
    everything_is_there(&reopen(&path));
}

#[test]
fn a_flipped_bit_in_the_log_is_noticed_wherever_it_is() {
    let (_home, path) = killed();
    let log = log(&path);
    let whole = fs::read(&log).unwrap();
    for bit in (0..whole.len() * 8).step_by(whole.len() * 8 / 97) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&log, bytes).unwrap();
        let quarantine = quarantined(&path);
        assert!(matches!(quarantine.why, Why::Behind { .. } | Why::Database(_)), "bit {bit}: {quarantine}");
    }
    fs::write(&log, &whole).unwrap();
    everything_is_there(&reopen(&path));
}

#[test]
fn a_torn_end_behind_the_marker_is_forgiven() {
    let (_home, path) = killed();
    let log = log(&path);
    let whole = fs::read(&log).unwrap();
    // What a power cut leaves of a write that nobody was told of: part of a record, zeros, or old blocks.
    let record = whole[..300].to_vec();
    for tail in [vec![0; 500], record[..40].to_vec(), payload(5, 333).to_vec(), vec![0xff; 64]] {
        let torn = path.with_extension("torn");
        copy(&path, &torn);
        fs::write(torn.join("db").join(log.file_name().unwrap()), [&whole[..], &tail].concat()).unwrap();
        everything_is_there(&reopen(&torn));
        let store = reopen(&torn);
        everything_is_there(&store);
        write(&store, append(SHARD, 62..=62, 10)).unwrap();
        drop(store);
        fs::remove_dir_all(torn).unwrap();
    }
}

#[test]
fn a_flipped_bit_behind_the_marker_costs_what_is_behind_it_and_a_copy_is_kept() {
    let (_home, path) = killed();
    let marker = path.join("marker");
    let store = crate::Identity::decode(&fs::read(path.join("identity")).unwrap()).unwrap().store;
    let synced = crate::marker::read(&marker, store).unwrap().number;
    // As if the last three batches had been on their way, unanswered, when the power went.
    crate::marker::create(&marker, store, synced - 3, 0).unwrap();
    let log = log(&path);
    let mut bytes = fs::read(&log).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(&log, bytes).unwrap();

    let store = reopen(&path);
    let rows = store.log(SHARD, LogIndex(0)..LogIndex(1000), 1 << 30).unwrap();
    assert_eq!(rows, (1..=60).map(|index| row(index, payload(index, 700))).collect::<Vec<_>>());
    write(&store, append(SHARD, 61..=62, 700)).unwrap();
    drop(store);
    let names = fs::read_dir(&path).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with("damaged-log-")).count(), 1);
    let store = reopen(&path);
    assert_eq!(store.shard_marks(SHARD).unwrap().last, Some(id(1, 62)), "sound again");
}

#[test]
fn a_missing_or_damaged_marker_is_quarantined_and_one_damaged_slot_is_not() {
    let (_home, path) = killed();
    let marker = path.join("marker");
    let whole = fs::read(&marker).unwrap();
    fs::remove_file(&marker).unwrap();
    assert!(matches!(quarantined(&path).why, Why::Marker(_)));
    fs::write(&marker, &whole[..100]).unwrap();
    assert!(matches!(quarantined(&path).why, Why::Marker(_)));
    fs::write(&marker, vec![0; whole.len()]).unwrap();
    assert!(matches!(quarantined(&path).why, Why::Marker(_)));
    let mut bytes = whole.clone();
    bytes[30] ^= 1;
    fs::write(&marker, bytes).unwrap();
    everything_is_there(&reopen(&path));
}

#[test]
fn a_database_file_that_is_gone_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    let store = create(&path);
    write(&store, append(SHARD, 1..=100, 2000)).unwrap();
    write(&store, apply(SHARD, 50)).unwrap();
    store.flush_for_tests();
    drop(store);
    let names = all_files(&path).into_iter().map(|(path, _)| path);
    let mut seen = 0;
    for file in names.filter(|path| path.extension().is_some_and(|e| e == "sst" || e == "blob")) {
        let broken = home.path().join("broken");
        copy(&path, &broken);
        fs::remove_file(broken.join("db").join(file.file_name().unwrap())).unwrap();
        let quarantine = quarantined(&broken);
        assert!(matches!(quarantine.why, Why::Database(_) | Why::Row(_)), "{quarantine}");
        fs::remove_dir_all(broken).unwrap();
        seen += 1;
    }
    assert!(seen >= 3, "{seen} files");
    fs::remove_file(path.join("db/CURRENT")).unwrap();
    assert!(matches!(quarantined(&path).why, Why::Database(_)));
}

/// Damage in the middle of what was flushed is not looked for at the start; readers find it.
#[test]
fn a_flipped_bit_in_a_payload_is_found_by_whoever_reads_it() {
    let home = tempfile::tempdir().unwrap();
    let store = create(home.path());
    write(&store, append(SHARD, 1..=100, 2000)).unwrap();
    store.flush_for_tests();
    drop(store);
    let files = all_files(home.path());
    let (blob, mut bytes) =
        files.into_iter().find(|(path, _)| path.extension().is_some_and(|e| e == "blob")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(blob, bytes).unwrap();
    let store = reopen(home.path());
    let error = store.log(SHARD, LogIndex(1)..LogIndex(101), 1 << 30).unwrap_err();
    assert!(matches!(&error, ReadError::Corrupt { shard: SHARD, .. }), "{error}");
    let bad = (1..=100).filter(|index| store.log_row(SHARD, LogIndex(*index)).is_err()).count();
    assert_eq!(bad, 1, "the others can still be read");
    assert_eq!(store.metrics().corrupt_rows.get(), 2);
}

/// Writes rows behind the writer's back, as a bug would.
fn meddle(path: &Path, change: impl FnOnce(&rocksdb::DB)) {
    let db = crate::database::open(&path.join("db"), &config(), crate::database::Access::Write).unwrap();
    change(&db);
}

#[test]
fn state_ahead_of_its_log_is_quarantined() {
    let (_home, path) = killed();
    meddle(&path, |db| {
        let value = applied::encode(SHARD, id(1, 62), b"voters");
        db.put_cf(db.cf_handle(family::STATE).unwrap(), applied::key(SHARD), value).unwrap();
    });
    let why = quarantined(&path).why;
    assert_eq!(why, Why::AppliedAhead { shard: SHARD, applied: id(1, 62), end: Some(LogIndex(61)) });
}

#[test]
fn holes_at_either_end_of_a_log_are_quarantined_and_others_are_found_by_readers() {
    let (home, path) = killed();
    let remove = |name: &str, index: u64| {
        let target = home.path().join(name);
        copy(&path, &target);
        meddle(&target, |db| {
            let log = db.cf_handle(family::LOG).unwrap();
            db.delete_cf(log, entry::key(SHARD, LogIndex(index))).unwrap();
        });
        target
    };
    let why = quarantined(&remove("start", 1)).why;
    assert_eq!(why, Why::Hole { shard: SHARD, after: None, found: LogIndex(2) });
    let why = quarantined(&remove("end", 60)).why;
    assert!(matches!(why, Why::Row(ReadError::Corrupt { .. })), "{why}");
    let store = reopen(&remove("middle", 30));
    assert!(store.log(SHARD, LogIndex(25)..LogIndex(40), 1 << 20).is_err());
    assert!(store.log(SHARD, LogIndex(30)..LogIndex(40), 1 << 20).is_err());
    assert_eq!(store.log(SHARD, LogIndex(31)..LogIndex(40), 1 << 20).unwrap().len(), 9);
}

#[test]
fn damaged_marks_are_quarantined() {
    let (_home, path) = killed();
    meddle(&path, |db| {
        let mut value = purged::encode(SHARD, LogIndex(0), b"");
        value[3] ^= 1;
        db.put_cf(db.cf_handle(family::LOG).unwrap(), purged::key(SHARD), value).unwrap();
    });
    assert!(matches!(quarantined(&path).why, Why::Row(ReadError::Corrupt { what: "the purge point", .. })));
}
