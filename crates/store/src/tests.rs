//! What the whole store promises, shown on real directories.

mod damage;
mod failures;
mod opening;
mod retention;
mod twins;

use crate::{
    Config, EntryKind, Expected, LogRow, OnFatal, OpenError, OpenMode, Opened, Quarantine, RocksStore, Store,
    Write, WriteError,
};
use bytes::Bytes;
use flotilla_types::bytesize::ByteSize;
use flotilla_types::time::SystemClock;
use flotilla_types::{
    ChangeSet, ClusterId, IndexRow, LogId, LogIndex, NodeId, Offset, ShardId, StateWrite, Term,
};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use uuid::Uuid;

const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(1));
const NODE: NodeId = NodeId(1);
const SHARD: ShardId = ShardId(1024);

fn config() -> Config {
    Config { memory: ByteSize(64 << 20), compaction_pause: Duration::ZERO, ..Config::default() }
}

fn expected(path: &Path, mode: OpenMode) -> Expected {
    Expected { path: path.to_owned(), cluster: CLUSTER, node: NODE, mode }
}

/// Remembers what it was told.
#[derive(Clone, Default)]
struct Fatal(Arc<Mutex<Vec<String>>>);

impl Fatal {
    fn handler(&self) -> OnFatal {
        let told = Arc::clone(&self.0);
        Arc::new(move |why| told.lock().push(why.to_owned()))
    }
}

fn try_open(path: &Path, mode: OpenMode, faults: &str, fatal: &Fatal) -> Result<Opened, OpenError> {
    let clock = Arc::new(SystemClock::new());
    RocksStore::open_with_faults(&config(), &expected(path, mode), fatal.handler(), clock, faults)
}

fn sound(opened: Result<Opened, OpenError>) -> RocksStore {
    match opened.unwrap() {
        Opened::Sound(store) => store,
        Opened::Quarantined(quarantine) => panic!("{quarantine}"),
    }
}

fn create(path: &Path) -> RocksStore {
    sound(try_open(path, OpenMode::Init, "", &Fatal::default()))
}

fn reopen(path: &Path) -> RocksStore {
    sound(try_open(path, OpenMode::Existing, "", &Fatal::default()))
}

fn quarantined(path: &Path) -> Quarantine {
    match try_open(path, OpenMode::Existing, "", &Fatal::default()).unwrap() {
        Opened::Sound(_) => panic!("the store was opened"),
        Opened::Quarantined(quarantine) => quarantine,
    }
}

/// Submits and waits.
fn write(store: &dyn Store, write: Write) -> Result<(), WriteError> {
    let (told, tell) = sync_channel(1);
    store.submit(write, Box::new(move |result| told.send(result).unwrap()));
    tell.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

fn row(index: u64, payload: Bytes) -> LogRow {
    LogRow { id: id(1, index), kind: EntryKind::Command, header: Bytes::from_static(b"header"), payload }
}

/// Bytes that are the same for the same number and different for others.
fn payload(number: u64, len: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

fn append(shard: ShardId, indexes: std::ops::RangeInclusive<u64>, len: usize) -> Write {
    Write::Append { shard, rows: indexes.map(|index| row(index, payload(index, len))).collect() }
}

fn apply(shard: ShardId, index: u64) -> Write {
    Write::Apply {
        shard,
        changes: ChangeSet {
            index: vec![index_row(index)],
            state: vec![StateWrite {
                key: Bytes::from_static(b"next"),
                value: Some(index.to_le_bytes().to_vec().into()),
            }],
        },
        applied: id(1, index),
        membership: Bytes::from_static(b"voters"),
        checkpoint: None,
    }
}

fn index_row(index: u64) -> IndexRow {
    IndexRow {
        base_offset: Offset(index * 10),
        log_index: LogIndex(index),
        record_count: 10,
        body_bytes: 100,
        append_time: index as i64 * 1000,
        term: Term(1),
        producer: None,
        transactional: false,
    }
}

/// Copies a directory as a process that was killed would have left it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}
