//! The consensus library's log storage over the store that all shards share.
//!
//! Appending returns when the entries can be read from memory, and completes when they are synced. Votes,
//! entries, truncations and purges go through the store's one queue, so their order on disk is the order
//! of decisions.

use crate::encoding::{
    decode_log_id, decode_membership, decode_vote, encode_log_id, encode_membership, encode_vote,
};
use crate::health::Health;
use crate::recent::{Budget, Recent};
use crate::types::{Data, Entry, LogId, Types, Vote, from_raft, to_raft};
use bytes::Bytes;
use flotilla_store::{EntryKind, LogRow, ReadError, Store, Write, WriteError};
use flotilla_types::{LogIndex, Offset, ShardId};
use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A shard's log. Clones are readers of the same log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shard: ShardId,
    store: Arc<dyn Store>,
    health: Arc<Health>,
    read_max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recent: Recent,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    /// In memory only: after a restart a leader tells it again.
    committed: Option<LogId>,
    /// Index rows below the offset point into the log up to the index.
    index_floor: Option<(u64, Offset)>,
}

/// How much a log keeps in memory and reads at once.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub read_max_bytes: usize,
    pub cache_shard_bytes: usize,
    pub budget: Arc<Budget>,
}

impl LogStore {
    /// Opens the log as the store has it.
    pub fn open(
        shard: ShardId,
        store: Arc<dyn Store>,
        health: Arc<Health>,
        limits: &Limits,
    ) -> Result<Self, String> {
        let marks = store.shard_marks(shard).map_err(|error| error.to_string())?;
        let vote = marks.vote.map(decode_vote).transpose().map_err(|error| format!("vote {error}"))?;
        let vote = vote.map(|vote| step_down(vote, store.identity().node));
        let purged = marks
            .purged
            .map(|purged| decode_log_id(purged.mark))
            .transpose()
            .map_err(|error| format!("purge point {error}"))?;
        let last = marks.last.map(to_raft).max(purged);
        let state = State {
            recent: Recent::new(limits.cache_shard_bytes, limits.budget.clone()),
            last,
            purged,
            vote,
            committed: None,
            index_floor: None,
        };
        let read_max_bytes = limits.read_max_bytes;
        Ok(Self { inner: Arc::new(Inner { shard, store, health, read_max_bytes, state: Mutex::new(state) }) })
    }

    /// Before a purge: index rows below `offset` go with the log up to `index`.
    pub fn set_index_floor(&self, index: LogIndex, offset: Offset) {
        self.inner.state.lock().index_floor = Some((index.0, offset));
    }

    /// A snapshot took the place of everything up to `at`.
    pub fn installed(&self, at: LogId) {
        let mut state = self.inner.state.lock();
        state.recent.purge(at.index);
        state.purged = state.purged.max(Some(at));
        if state.last.is_none_or(|last| last.index < at.index) {
            state.last = Some(at);
        }
    }

    pub fn purged(&self) -> Option<LogId> {
        self.inner.state.lock().purged
    }

    pub fn last(&self) -> Option<LogId> {
        self.inner.state.lock().last
    }

    pub fn vote(&self) -> Option<Vote> {
        self.inner.state.lock().vote
    }

    /// Frees what the store can give back.
    pub fn shrink(&self) {
        self.inner.state.lock().recent.shrink();
    }

    /// Entries of `from..to`, from memory or disk, up to some `max_bytes` but at least one if there is any.
    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let to = {
            let state = self.inner.state.lock();
            let to = to.min(state.last.map_or(0, |last| last.index + 1));
            if from >= to {
                return Ok(Vec::new());
            }
            if let Some(entries) = state.recent.range(from, to, max_bytes) {
                return Ok(entries);
            }
            // Whatever is not in memory is synced; what is, need not be readable yet.
            to.min(state.recent.first().unwrap_or(to))
        };
        let Inner { shard, store, .. } = &*self.inner;
        let rows = blocking(|| store.log(*shard, LogIndex(from)..LogIndex(to), max_bytes))
            .map_err(|error| self.unreadable(&error))?;
        rows.into_iter().map(|row| entry_of(row).map_err(io::Error::other)).collect()
    }

    /// As [`LogStore::read`], but all of it.
    fn read_all(&self, mut from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let mut out: Vec<Entry> = Vec::new();
        loop {
            let more = self.read(from, to, self.inner.read_max_bytes)?;
            match more.last() {
                Some(last) => from = last.log_id.index + 1,
                None => return Ok(out),
            }
            out.extend(more);
        }
    }

    /// Damage of one entry stops this shard here; a disk that does not read stops the process.
    fn unreadable(&self, error: &ReadError) -> io::Error {
        if matches!(error, ReadError::Corrupt { .. }) {
            self.inner.health.break_down(error.to_string());
        }
        io::Error::other(error.to_string())
    }

    async fn write(&self, write: Write) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.inner.store.submit(
            write,
            Box::new(move |result| {
                let _ = done.send(result);
            }),
        );
        wait.await.unwrap_or(Err(WriteError::Closed)).map_err(io::Error::other)
    }
}

/// A leader that died must not go on in its old term. Its followers may hold entries of that term that it
/// had sent and not yet synced; were it to write others in their place, two entries would have one log id,
/// and nobody would notice. So its vote counts as one that was not granted yet: it has to campaign, and
/// leads, if at all, in a new term.
fn step_down(vote: Vote, me: flotilla_types::NodeId) -> Vote {
    let led = vote.committed && vote.leader_id.voted_for == u64::from(me.0);
    Vote { committed: vote.committed && !led, ..vote }
}

/// Reads from disk may block. On a runtime with several threads, others take over this one's tasks.
pub(crate) fn blocking<T>(read: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(read),
        _ => read(),
    }
}

pub(crate) fn row_of(entry: &Entry) -> LogRow {
    let (kind, header, payload) = match &entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new(), Bytes::new()),
        EntryPayload::Normal(data) => (EntryKind::Command, data.header.clone(), data.payload.clone()),
        EntryPayload::Membership(membership) => {
            (EntryKind::Membership, encode_membership(membership), Bytes::new())
        }
    };
    LogRow { id: from_raft(&entry.log_id), kind, header, payload }
}

pub(crate) fn entry_of(row: LogRow) -> Result<Entry, String> {
    let payload = match row.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Command => EntryPayload::Normal(Data { header: row.header, payload: row.payload }),
        EntryKind::Membership => EntryPayload::Membership(
            decode_membership(row.header).map_err(|error| format!("membership at {}: {error}", row.id))?,
        ),
    };
    Ok(Entry { log_id: to_raft(row.id), payload })
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for LogStore {
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        use futures::{StreamExt, TryStreamExt};
        let (from, to) = bounds(&range);
        // In pieces: after a restart all of a long log may have to be applied.
        futures::stream::try_unfold((self.clone(), from), move |(log, from)| async move {
            let entries = log.read(from, to, log.inner.read_max_bytes)?;
            let next = entries.last().map(|last| last.log_id.index + 1);
            io::Result::Ok(next.map(|next| (futures::stream::iter(entries).map(Ok), (log, next))))
        })
        .try_flatten()
        .boxed()
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.read_all(from, to)
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(from, to, self.inner.read_max_bytes)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.inner.state.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.inner.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(Write::Vote { shard: self.inner.shard, vote: encode_vote(vote) }).await?;
        self.inner.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.inner.state.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.inner.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let rows: Vec<LogRow> = entries.iter().map(row_of).collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        // The one place where a slow disk slows consensus down: bytes on their way to it are bounded.
        let room = self.inner.store.reserve(rows.iter().map(LogRow::weight).sum()).await;
        {
            let mut state = self.inner.state.lock();
            entries.into_iter().for_each(|entry| state.recent.push(entry));
            state.last = Some(last);
        }
        let log = self.clone();
        self.inner.store.submit(
            Write::Append { shard: self.inner.shard, rows },
            Box::new(move |result| {
                drop(room);
                if result.is_ok() {
                    let mut state = log.inner.state.lock();
                    // Unless it was truncated meanwhile, and something else took its place.
                    if state.recent.id_at(last.index) == Some(last) {
                        state.recent.synced(last.index);
                    }
                }
                callback.io_completed(result.map_err(io::Error::other));
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        {
            let mut state = self.inner.state.lock();
            state.recent.truncate(from);
            if state.last.is_some_and(|end| end.index >= from) {
                state.last = last.max(state.purged);
            }
        }
        self.write(Write::Truncate { shard: self.inner.shard, from: LogIndex(from) }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let index_below = {
            let mut state = self.inner.state.lock();
            if state.purged.is_some_and(|purged| purged >= upto) {
                return Ok(());
            }
            state.recent.purge(upto.index);
            state.purged = Some(upto);
            state.last = state.last.max(Some(upto));
            state
                .index_floor
                .filter(|(index, _)| *index <= upto.index)
                .map_or(Offset(0), |(_, offset)| offset)
        };
        let mark = encode_log_id(&upto);
        let upto = LogIndex(upto.index);
        self.write(Write::Purge { shard: self.inner.shard, upto, mark, index_below }).await
    }
}
