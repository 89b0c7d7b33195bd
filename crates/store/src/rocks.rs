//! The store of a server: the database, its writer and two helpers.
//!
//! | thread | does | ends |
//! | --- | --- | --- |
//! | `store-writer` | all writes | when closed and everything is synced, or a write failed |
//! | `store-marker` | the durable-tail marker | when stopped by `close`, or a write of it failed |
//! | `store-reclaim` | compactions after purges; watches for failed flushes | when stopped by `close` |

use crate::compaction::Reclaimer;
use crate::config::Config;
use crate::database;
use crate::directory::{Directory, io_error};
use crate::disk::Disk;
use crate::error::{OpenError, ReadError, WriteError};
use crate::fault::Faults;
use crate::identity::Identity;
use crate::interface::{DiskUsage, Room, ShardMarks, Store};
use crate::log_rows::{BlobRows, LogRows};
use crate::log_writer::{Breaker, LogWriter, OnFatal};
use crate::marker::MarkerWriter;
use crate::metrics::Metrics;
use crate::opening::{self, Expected, Opened};
use crate::queue::Queue;
use crate::reader::Reader;
use crate::tails::Tails;
use crate::write::{Done, LogRow, Write};
use bytes::Bytes;
use flotilla_types::{Clock, IndexRow, LogIndex, Offset, ShardId, TimestampMs};
use parking_lot::Mutex;
use rocksdb::DB;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::Semaphore;

/// The store of a server.
#[derive(Debug)]
pub struct RocksStore {
    identity: Identity,
    reader: Reader,
    log: Arc<dyn LogRows>,
    queue: Arc<Queue>,
    budget: Arc<Semaphore>,
    queue_max_bytes: usize,
    marker: Arc<MarkerWriter>,
    reclaimer: Arc<Reclaimer>,
    threads: Mutex<Option<Threads>>,
    metrics: Metrics,
    disk: Disk,
    /// Last, so that the lock outlives the database.
    _directory: Directory,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<Option<u64>>,
    marker: JoinHandle<()>,
    reclaim: JoinHandle<()>,
}

/// What opening found.
pub(crate) struct Parts {
    pub identity: Identity,
    pub directory: Directory,
    pub db: Arc<DB>,
    pub tails: Tails,
    pub number: u64,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    pub on_fatal: OnFatal,
    pub faults: Faults,
}

impl RocksStore {
    /// Opens the store of a data directory. `on_fatal` is called at most once, on one of the store's
    /// threads: after it nothing is written until the process starts again, so it had better end it.
    ///
    /// Reads the whole write-ahead log, so it takes a second or two after a busy time.
    pub fn open(
        config: &Config,
        expected: &Expected,
        on_fatal: OnFatal,
        clock: Arc<dyn Clock>,
    ) -> Result<Opened, OpenError> {
        let faults =
            Faults::from_environment().map_err(|why| OpenError::Config { key: Faults::VARIABLE, why })?;
        opening::open(config, expected, on_fatal, clock, faults)
    }

    /// As [`RocksStore::open`], with faults in the words of [`fault`](crate::fault).
    #[cfg(any(test, feature = "fault"))]
    pub fn open_with_faults(
        config: &Config,
        expected: &Expected,
        on_fatal: OnFatal,
        clock: Arc<dyn Clock>,
        faults: &str,
    ) -> Result<Opened, OpenError> {
        let faults = Faults::parse(faults).map_err(|why| OpenError::Config { key: Faults::VARIABLE, why })?;
        opening::open(config, expected, on_fatal, clock, faults)
    }

    pub(crate) fn start(config: &Config, parts: Parts) -> Result<Self, OpenError> {
        let Parts { identity, directory, db, tails, number, metrics, clock, on_fatal, faults } = parts;
        let faults = Arc::new(faults);
        let path = directory.marker();
        let marker =
            MarkerWriter::open(&path, identity.store, number, Arc::clone(&clock), Arc::clone(&faults));
        let marker = Arc::new(marker.map_err(io_error("open", &path))?);
        let queue_max_bytes = config.queue_max_bytes.get();
        let wait = config.apply_wait_max;
        let queue = Arc::new(Queue::new(queue_max_bytes, wait, Arc::clone(&clock), metrics.clone()));
        let breaker = Breaker { queue: Arc::clone(&queue), on_fatal };
        let reader = Reader::new(Arc::clone(&db), metrics.clone());
        let log: Arc<dyn LogRows> = Arc::new(BlobRows::new(reader.clone()));
        let reclaimer = Arc::new(Reclaimer::default());
        let writer = LogWriter {
            db: Arc::clone(&db),
            log: Arc::clone(&log),
            queue: Arc::clone(&queue),
            tails,
            number,
            marker: Arc::clone(&marker),
            reclaimer: Arc::clone(&reclaimer),
            commit_max_bytes: config.commit_max_bytes.get(),
            faults,
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            breaker: breaker.clone(),
        };
        let threads = Threads {
            writer: spawn("store-writer", &breaker, move || writer.run())?,
            marker: spawn("store-marker", &breaker, {
                let (marker, breaker, written) =
                    (Arc::clone(&marker), breaker.clone(), metrics.markers.clone());
                move || {
                    if let Err(why) = marker.run(|| {
                        written.inc();
                    }) {
                        breaker.trip(&why);
                    }
                }
            })?,
            reclaim: spawn("store-reclaim", &breaker, {
                let (reclaimer, log, metrics) = (Arc::clone(&reclaimer), Arc::clone(&log), metrics.clone());
                let (pause, breaker) = (config.compaction_pause, breaker.clone());
                move || reclaimer.run(&db, &*log, pause, &metrics, &breaker)
            })?,
        };
        Ok(Self {
            identity,
            reader,
            log,
            queue,
            budget: Arc::new(Semaphore::new(queue_max_bytes)),
            queue_max_bytes,
            marker,
            reclaimer,
            threads: Mutex::new(Some(threads)),
            metrics,
            disk: Disk::new(directory.root().to_owned(), clock),
            _directory: directory,
        })
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    #[cfg(test)]
    pub(crate) fn reader_for_tests(&self) -> &Reader {
        &self.reader
    }

    /// Moves everything written so far out of the write-ahead log.
    #[cfg(test)]
    pub(crate) fn flush_for_tests(&self) {
        for name in crate::rows::family::ALL {
            self.reader.db().flush_cf(crate::reader::family(self.reader.db(), name)).unwrap();
        }
    }

    /// Waits until everything purged so far is compacted.
    #[cfg(test)]
    pub(crate) fn wait_for_compactions(&self) {
        self.reclaimer.wait();
    }
}

/// Starts a thread whose panic ends all writing, where panics do not end the process anyway.
fn spawn<T: Send + 'static>(
    name: &'static str,
    breaker: &Breaker,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    struct Guard(Breaker, &'static str);
    impl Drop for Guard {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.trip(&format!("the thread {} panicked", self.1));
            }
        }
    }
    let guard = Guard(breaker.clone(), name);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = guard;
        body()
    });
    thread.map_err(io_error("start the thread", name.as_ref()))
}

impl Store for RocksStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn submit(&self, write: Write, done: Done) {
        self.queue.push(write, done);
    }

    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Room> + Send + '_>> {
        Box::pin(Room::wait(Arc::clone(&self.budget), bytes, self.queue_max_bytes))
    }

    fn log(
        &self,
        shard: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
    ) -> Result<Vec<LogRow>, ReadError> {
        let start = range.start;
        let rows = self.log.read(shard, range, max_bytes)?;
        if let Some(found) = rows.first().map(|row| row.id.index).filter(|found| *found != start) {
            // The range began before the log. The purge point is read later than the rows, so it can only
            // be further than they knew. A log that was never purged begins at 0 or 1.
            let purged = self.reader.marks(shard)?.purged.map_or(LogIndex(0), |purged| purged.upto);
            if purged.next() < found {
                let why = format!("everything from {start} on is missing: a log has no holes");
                return Err(self.reader.corrupt(shard, Some(found), "a log entry", why));
            }
        }
        Ok(rows)
    }

    fn log_row(&self, shard: ShardId, index: LogIndex) -> Result<Option<LogRow>, ReadError> {
        Ok(self.log.read(shard, index..index.next(), 0)?.pop())
    }

    fn shard_marks(&self, shard: ShardId) -> Result<ShardMarks, ReadError> {
        Ok(ShardMarks { last: self.log.last_below(shard, None)?, ..self.reader.marks(shard)? })
    }

    fn state(&self, shard: ShardId) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        self.reader.state(shard)
    }

    fn index_floor(&self, shard: ShardId, offset: Offset) -> Result<Option<IndexRow>, ReadError> {
        self.reader.index_floor(shard, offset)
    }

    fn index_range(&self, shard: ShardId, from: Offset, max_rows: usize) -> Result<Vec<IndexRow>, ReadError> {
        self.reader.index_range(shard, from, max_rows)
    }

    fn index_at_time(&self, shard: ShardId, time: TimestampMs) -> Result<Option<IndexRow>, ReadError> {
        self.reader.index_at_time(shard, time)
    }

    fn checkpoint(&self, shard: ShardId, at: LogIndex) -> Result<Option<Bytes>, ReadError> {
        self.reader.checkpoint(shard, at)
    }

    fn checkpoints(&self, shard: ShardId) -> Result<Vec<LogIndex>, ReadError> {
        self.reader.checkpoints(shard)
    }

    fn shards(&self) -> Result<Vec<ShardId>, ReadError> {
        self.reader.shards()
    }

    fn disk(&self) -> DiskUsage {
        self.disk.usage()
    }

    fn close(&self) -> Result<(), WriteError> {
        let Some(threads) = self.threads.lock().take() else {
            return match self.queue.stopped() {
                Some(error @ WriteError::Failed(_)) => Err(error),
                _ => Ok(()),
            };
        };
        self.queue.close();
        let number = threads.writer.join().ok().flatten();
        self.marker.stop();
        self.reclaimer.stop();
        database::quiesce(self.reader.db());
        // A panic in either was told by its guard.
        let _ = (threads.marker.join(), threads.reclaim.join());
        match (number, self.queue.stopped()) {
            (Some(number), None | Some(WriteError::Closed)) => {
                self.marker.finish(number).map_err(|why| WriteError::Failed(why.into()))
            }
            (_, Some(error)) => Err(error),
            (None, None) => Err(WriteError::Failed("the writer is gone".into())),
        }
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        // The last handle may go with a `done`, on the writer's own thread, which cannot wait for itself. Then
        // the threads end by themselves; the marker stays behind by what it is behind after a crash.
        let on_writer = |threads: &Threads| threads.writer.thread().id() == std::thread::current().id();
        if self.threads.lock().as_ref().is_some_and(on_writer) {
            self.queue.close();
            self.marker.stop();
            self.reclaimer.stop();
            return;
        }
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the store was dropped without a clean end");
        }
    }
}
