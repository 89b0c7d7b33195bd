//! The consensus library's own tests of a log storage, on both twins of the store, alone and with a hundred
//! shards interleaved. Its tests apply entries with holes, which our rules refuse, so the state machine here
//! is one that only counts.

use crate::health::Health;
use crate::log_store::{Limits, LogStore};
use crate::recent::Budget;
use crate::types::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use bytes::Bytes;
use flotilla_machine::Outcome;
use flotilla_store::{
    Config, DiskUsage, Done, Expected, Identity, LogRow, MemoryStore, OpenMode, Opened, ReadError,
    RocksStore, Room, ShardMarks, Store, Write, WriteError,
};
use flotilla_types::time::SystemClock;
use flotilla_types::{ClusterId, IndexRow, LogIndex, NodeId, Offset, ShardId, TimestampMs};
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, OptionalSend, StorageError};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Remembers where it stands, and nothing else.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMeta>,
}

impl RaftSnapshotBuilder<Types> for Counting {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let mut counted = self.0.lock();
        let meta = SnapshotMeta { last_log_id: counted.applied, last_membership: counted.membership.clone() };
        counted.snapshot = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: Bytes::new() })
    }
}

impl RaftStateMachine<Types> for Counting {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let counted = self.0.lock();
        Ok((counted.applied, counted.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let Entry { log_id, payload } = entry;
            let mut counted = self.0.lock();
            counted.applied = Some(log_id);
            if let EntryPayload::Membership(membership) = payload {
                counted.membership = StoredMembership::new(Some(log_id), membership);
            }
            drop(counted);
            if let Some(responder) = responder {
                responder.send(Outcome::Noop);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _: Bytes) -> Result<(), io::Error> {
        let mut counted = self.0.lock();
        counted.applied = meta.last_log_id;
        counted.membership = meta.last_membership.clone();
        counted.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let meta = self.0.lock().snapshot.clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: Bytes::new() }))
    }
}

/// Some of the suite's logs begin at 2, as if something had been purged. Our store wants to be told of that.
#[derive(Debug)]
struct Gapped {
    store: Arc<dyn Store>,
    begun: Mutex<BTreeSet<ShardId>>,
}

impl Store for Gapped {
    fn identity(&self) -> &Identity {
        self.store.identity()
    }
    fn submit(&self, write: Write, done: Done) {
        if let Write::Append { shard, rows } = &write
            && self.begun.lock().insert(*shard)
            && let Some(before) = rows[0].id.index.0.checked_sub(1).filter(|before| *before > 0)
        {
            let (upto, mark) = (LogIndex(before), Bytes::new());
            let purge = Write::Purge { shard: *shard, upto, mark, index_below: Offset(0) };
            self.store.submit(purge, Box::new(|result| result.expect("it is written")));
        }
        self.store.submit(write, done);
    }
    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Room> + Send + '_>> {
        self.store.reserve(bytes)
    }
    fn log(&self, shard: ShardId, range: Range<LogIndex>, max: usize) -> Result<Vec<LogRow>, ReadError> {
        self.store.log(shard, range, max)
    }
    fn log_row(&self, shard: ShardId, index: LogIndex) -> Result<Option<LogRow>, ReadError> {
        self.store.log_row(shard, index)
    }
    fn shard_marks(&self, shard: ShardId) -> Result<ShardMarks, ReadError> {
        self.store.shard_marks(shard)
    }
    fn state(&self, shard: ShardId) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        self.store.state(shard)
    }
    fn index_floor(&self, shard: ShardId, offset: Offset) -> Result<Option<IndexRow>, ReadError> {
        self.store.index_floor(shard, offset)
    }
    fn index_range(&self, shard: ShardId, from: Offset, max: usize) -> Result<Vec<IndexRow>, ReadError> {
        self.store.index_range(shard, from, max)
    }
    fn index_at_time(&self, shard: ShardId, time: TimestampMs) -> Result<Option<IndexRow>, ReadError> {
        self.store.index_at_time(shard, time)
    }
    fn checkpoint(&self, shard: ShardId, at: LogIndex) -> Result<Option<Bytes>, ReadError> {
        self.store.checkpoint(shard, at)
    }
    fn checkpoints(&self, shard: ShardId) -> Result<Vec<LogIndex>, ReadError> {
        self.store.checkpoints(shard)
    }
    fn shards(&self) -> Result<Vec<ShardId>, ReadError> {
        self.store.shards()
    }
    fn disk(&self) -> DiskUsage {
        self.store.disk()
    }
    fn close(&self) -> Result<(), WriteError> {
        self.store.close()
    }
}

/// Gives each test a shard of its own in one store.
#[derive(Clone)]
struct Builder {
    store: Arc<dyn Store>,
    next: Arc<AtomicU32>,
    budget: Arc<Budget>,
}

impl Builder {
    fn new(store: Arc<dyn Store>) -> Self {
        // Hardly any memory, so that what is synced is read from the store.
        let store = Arc::new(Gapped { store, begun: Mutex::default() });
        Self { store, next: Arc::new(AtomicU32::new(1024)), budget: Budget::new(1) }
    }
}

impl StoreBuilder<Types, LogStore, Counting, ()> for Builder {
    async fn build(&self) -> Result<((), LogStore, Counting), StorageError<Types>> {
        let shard = ShardId(self.next.fetch_add(1, Ordering::Relaxed));
        let limits = Limits { read_max_bytes: 1 << 20, cache_shard_bytes: 1, budget: self.budget.clone() };
        let log = LogStore::open(shard, self.store.clone(), Arc::<Health>::default(), &limits);
        Ok(((), log.expect("the log opens"), Counting::default()))
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Identity::new(ClusterId(uuid::Uuid::from_u128(1)), NodeId(1))))
}

fn rocks() -> (tempfile::TempDir, Arc<dyn Store>) {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = Expected {
        path: directory.path().join("data"),
        cluster: ClusterId(uuid::Uuid::from_u128(1)),
        node: NodeId(1),
        mode: OpenMode::Init,
    };
    let on_fatal = Arc::new(|why: &str| panic!("{why}"));
    let opened = RocksStore::open(&Config::default(), &expected, on_fatal, Arc::new(SystemClock::new()));
    match opened.expect("it opens") {
        Opened::Sound(store) => (directory, Arc::new(store)),
        Opened::Quarantined(why) => panic!("{why:?}"),
    }
}

/// As many suites at once as bring more than a hundred shards under way together.
async fn interleaved(store: Arc<dyn Store>) {
    let builder = Builder::new(store);
    let suites = (0..100).map(|_| Suite::test_all(builder.clone()));
    for result in futures::future::join_all(suites).await {
        result.expect("it conforms");
    }
}

#[tokio::test]
async fn the_log_conforms_in_memory() {
    Suite::test_all(Builder::new(memory())).await.expect("it conforms");
}

#[tokio::test]
async fn the_log_conforms_on_disk() {
    let (_directory, store) = rocks();
    Suite::test_all(Builder::new(store)).await.expect("it conforms");
}

#[tokio::test]
async fn a_hundred_interleaved_logs_conform_in_memory() {
    interleaved(memory()).await;
}

#[tokio::test]
async fn a_hundred_interleaved_logs_conform_on_disk() {
    let (_directory, store) = rocks();
    interleaved(store).await;
}
