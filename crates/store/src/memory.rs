//! The same store in memory, for simulation: it forgets what was not synced when its machine loses power.

mod tables;

use crate::error::{ReadError, WriteError};
use crate::identity::Identity;
use crate::interface::{DiskUsage, Room, ShardMarks, Store};
use crate::tails::Tails;
use crate::write::{Done, LogRow, Write};
use bytes::Bytes;
use flotilla_types::{IndexRow, LogIndex, Offset, ShardId, TimestampMs};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use tables::Tables;
use tokio::sync::{Notify, Semaphore};

/// Bytes that [`Store::reserve`] gives out, as the database does by default.
const QUEUE_MAX_BYTES: usize = 64 << 20;

/// The store in memory. Clones are the same store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    identity: Identity,
    manual: bool,
    budget: Arc<Semaphore>,
    queued: Arc<Notify>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Submitted, not written.
    queue: VecDeque<(Write, Done)>,
    /// Somebody is calling `done`s; who submits meanwhile only queues.
    draining: bool,
    /// What readers see.
    written: Tables,
    /// What survives a crash.
    synced: Tables,
    /// What `written` has and `synced` has not, in order.
    unsynced: Vec<Write>,
    tails: Tails,
    /// Why nothing is written any more.
    stopped: Option<WriteError>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("queued", &self.queue.len())
            .field("unsynced", &self.unsynced.len())
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// A store that writes, and syncs where needed, within [`Store::submit`].
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            manual: false,
            budget: Arc::new(Semaphore::new(QUEUE_MAX_BYTES)),
            queued: Arc::default(),
            inner: Arc::default(),
        }
    }

    /// A store that only queues until [`MemoryStore::commit`] is called, so that a simulation decides how
    /// long a disk takes.
    pub fn manual(identity: Identity) -> Self {
        Self { manual: true, ..Self::new(identity) }
    }

    /// Waits until something is queued.
    pub async fn wait_for_writes(&self) {
        while self.inner.lock().queue.is_empty() {
            self.queued.notified().await;
        }
    }

    /// Writes all that is queued, syncs if any of it needs it, and calls every `done`. How many there were.
    pub fn commit(&self) -> usize {
        let mut count = 0;
        let mut inner = self.inner.lock();
        if inner.draining {
            return 0;
        }
        inner.draining = true;
        while !inner.queue.is_empty() {
            let jobs = std::mem::take(&mut inner.queue);
            count += jobs.len();
            let result = match inner.stopped.clone() {
                Some(error) => Err(error),
                None => {
                    inner.write(jobs.iter().map(|(write, _)| write));
                    Ok(())
                }
            };
            drop(inner);
            jobs.into_iter().for_each(|(_, done)| done(result.clone()));
            inner = self.inner.lock();
        }
        inner.draining = false;
        count
    }

    /// The machine loses power and starts again: what was queued is never written (its `done` gets
    /// [`WriteError::Closed`]), what was not synced is gone.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// As [`MemoryStore::crash`], but the first `kept` of the unsynced writes had reached the disk after all.
    pub fn crash_keeping(&self, kept: usize) {
        let lost = {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            inner.unsynced.truncate(kept);
            inner.unsynced.drain(..).for_each(|write| inner.synced.write(&write));
            inner.written = inner.synced.clone();
            inner.tails = inner.synced.tails();
            inner.stopped = None;
            std::mem::take(&mut inner.queue)
        };
        lost.into_iter().for_each(|(_, done)| done(Err(WriteError::Closed)));
    }

    /// From now on every write fails, as after a sync that failed. A crash heals it.
    pub fn fail(&self, why: &str) {
        self.inner.lock().stopped = Some(WriteError::Failed(why.into()));
        self.commit();
    }
}

impl Inner {
    fn write<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) {
        let mut sync = false;
        for write in writes {
            sync |= write.needs_sync();
            let written = &self.written;
            self.tails.admit(write, |shard, from| written.last_before(shard, from));
            self.written.write(write);
            self.unsynced.push(write.clone());
        }
        if sync {
            let synced = &mut self.synced;
            self.unsynced.drain(..).for_each(|write| synced.write(&write));
        }
    }
}

impl Store for MemoryStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn submit(&self, write: Write, done: Done) {
        self.inner.lock().queue.push_back((write, done));
        if self.manual {
            self.queued.notify_waiters();
            self.queued.notify_one();
        } else {
            self.commit();
        }
    }

    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Room> + Send + '_>> {
        Box::pin(Room::wait(Arc::clone(&self.budget), bytes, QUEUE_MAX_BYTES))
    }

    fn log(
        &self,
        shard: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
    ) -> Result<Vec<LogRow>, ReadError> {
        Ok(self.inner.lock().written.log(shard, range, max_bytes))
    }

    fn log_row(&self, shard: ShardId, index: LogIndex) -> Result<Option<LogRow>, ReadError> {
        Ok(self.inner.lock().written.log(shard, index..index.next(), 0).pop())
    }

    fn shard_marks(&self, shard: ShardId) -> Result<ShardMarks, ReadError> {
        Ok(self.inner.lock().written.marks(shard))
    }

    fn state(&self, shard: ShardId) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        Ok(self.inner.lock().written.state(shard))
    }

    fn index_floor(&self, shard: ShardId, offset: Offset) -> Result<Option<IndexRow>, ReadError> {
        Ok(self.inner.lock().written.index_floor(shard, offset))
    }

    fn index_range(&self, shard: ShardId, from: Offset, max_rows: usize) -> Result<Vec<IndexRow>, ReadError> {
        Ok(self.inner.lock().written.index_range(shard, from, max_rows))
    }

    fn index_at_time(&self, shard: ShardId, time: TimestampMs) -> Result<Option<IndexRow>, ReadError> {
        Ok(self.inner.lock().written.index_at_time(shard, time))
    }

    fn checkpoint(&self, shard: ShardId, at: LogIndex) -> Result<Option<Bytes>, ReadError> {
        Ok(self.inner.lock().written.checkpoint(shard, at))
    }

    fn checkpoints(&self, shard: ShardId) -> Result<Vec<LogIndex>, ReadError> {
        Ok(self.inner.lock().written.checkpoints(shard))
    }

    fn shards(&self) -> Result<Vec<ShardId>, ReadError> {
        Ok(self.inner.lock().written.shards())
    }

    fn disk(&self) -> DiskUsage {
        const TOTAL: u64 = 1 << 40;
        let used = self.inner.lock().written.weight();
        DiskUsage { total: TOTAL, free: TOTAL.saturating_sub(used), used }
    }

    fn close(&self) -> Result<(), WriteError> {
        self.commit();
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Some(error @ WriteError::Failed(_)) = &inner.stopped {
            return Err(error.clone());
        }
        inner.unsynced.drain(..).for_each(|write| inner.synced.write(&write));
        inner.stopped = Some(WriteError::Closed);
        Ok(())
    }
}
