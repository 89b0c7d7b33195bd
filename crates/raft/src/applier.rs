//! The consensus library's state machine over [`machine::Shard`]: what is committed is applied, told and
//! queued for the store, in this order for each entry: change set queued behind its log row, observer told,
//! progress published, caller answered.

use crate::encoding::{Checkpoint, encode_log_id, encode_stored_membership};
use crate::observer::AppliedEntry;
use crate::replica::{Replica, progress_of};
use crate::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, Types, from_raft};
use bytes::Bytes;
use flotilla_machine::{self as machine, Applied, Command, Outcome};
use flotilla_store::Write;
use flotilla_types::{ChangeSet, LogIndex};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Most entries applied under one lock and written as one change set.
const BATCH_MAX_ENTRIES: usize = 256;

/// Applies what is committed to one shard's state.
#[derive(Clone, Debug)]
pub struct Applier {
    replica: Arc<Replica>,
}

/// One applied entry, until it is told.
struct Told {
    id: LogId,
    header: Bytes,
    payload: Bytes,
    outcome: Outcome,
    /// Its part of the batch's index rows.
    index: std::ops::Range<usize>,
    responder: Option<ApplyResponder<Types>>,
}

/// A run of applied entries that is written as one.
#[derive(Default)]
struct Batch {
    changes: ChangeSet,
    told: Vec<Told>,
    checkpoint: Option<(LogIndex, Bytes)>,
    purge_to: Option<machine::PurgeTo>,
    audit_due: bool,
}

impl Applier {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        Self { replica }
    }

    /// Stops this shard on this node.
    fn broken(&self, why: String) -> io::Error {
        self.replica.health.break_down(why.clone());
        io::Error::other(why)
    }

    /// Applies `entries` until one of them asks for a checkpoint.
    fn apply_some(
        &self,
        entries: &mut std::vec::IntoIter<EntryResponder<Types>>,
    ) -> Result<(Batch, crate::status::Progress), io::Error> {
        let mut machine = self.replica.machine.lock();
        let mut batch = Batch::default();
        for (entry, responder) in entries {
            let at = from_raft(&entry.log_id);
            let (header, payload, applied) = match entry.payload {
                EntryPayload::Normal(data) => {
                    let command = Command::decode(&data.header)
                        .map_err(|error| self.broken(format!("entry {at}: {error}")))?;
                    (data.header, data.payload, machine.apply(at, &command))
                }
                EntryPayload::Blank => (Bytes::new(), Bytes::new(), machine.skip(at)),
                EntryPayload::Membership(membership) => {
                    *self.replica.membership.lock() = StoredMembership::new(Some(entry.log_id), membership);
                    (Bytes::new(), Bytes::new(), machine.skip(at))
                }
            };
            let Applied { outcome, changes, checkpoint, purge_to } =
                applied.map_err(|broken| self.broken(format!("entry {at}: {broken}")))?;
            let index = batch.changes.index.len()..batch.changes.index.len() + changes.index.len();
            batch.changes.index.extend(changes.index);
            batch.changes.state.extend(changes.state);
            batch.purge_to = purge_to.or(batch.purge_to);
            batch.told.push(Told { id: entry.log_id, header, payload, outcome, index, responder });
            if checkpoint {
                let membership = self.replica.membership.lock().clone();
                let checkpoint = Checkpoint { at: entry.log_id, membership, rows: machine.rows() };
                batch.checkpoint = Some((at.index, checkpoint.encode()));
                break;
            }
        }
        batch.audit_due = machine.audit_due().is_some();
        Ok((batch, progress_of(&machine)))
    }

    /// Queues the change set, tells, publishes, answers.
    async fn finish(&self, batch: Batch, progress: crate::status::Progress) {
        let replica = &self.replica;
        let Batch { changes, told, checkpoint, purge_to, audit_due } = batch;
        let Some(last) = told.last().map(|told| from_raft(&told.id)) else { return };
        let index = changes.index.clone();
        let membership = encode_stored_membership(&replica.membership.lock());
        let write = Write::Apply { shard: replica.shard, changes, applied: last, membership, checkpoint };
        let room = replica.store.reserve(write.weight()).await;
        let stored = replica.clone();
        replica.store.submit(
            write,
            Box::new(move |result| {
                drop(room);
                if result.is_ok() {
                    stored.stored_to.fetch_max(progress.high_watermark.0, Ordering::AcqRel);
                    // Only now the checkpoint can be read back.
                    if let Some(purge_to) = purge_to {
                        *stored.purge_wanted.lock() = Some(purge_to);
                        stored.changed.notify_one();
                    }
                }
            }),
        );
        let entries: Vec<AppliedEntry<'_>> = told
            .iter()
            .map(|told| AppliedEntry {
                id: from_raft(&told.id),
                header: &told.header,
                payload: &told.payload,
                outcome: &told.outcome,
                index: &index[told.index.clone()],
            })
            .collect();
        replica.observer.applied(replica.shard, &entries);
        drop(entries);
        replica.touch();
        let before = replica.progress.send_replace(progress).applied;
        let is_first_of_term = before.is_none_or(|before| before.term < last.term);
        let passes_start = before.is_none_or(|before| before.index.0 < replica.log_end_at_start)
            && last.index.0 >= replica.log_end_at_start;
        for told in told {
            if let Some(responder) = told.responder {
                responder.send(told.outcome);
            }
        }
        // The first of a term, or the last of what was there at start: its leader may be ready to serve.
        if is_first_of_term || passes_start || audit_due {
            replica.changed.notify_one();
        }
    }
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.replica.applied(), self.replica.membership.lock().clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(BATCH_MAX_ENTRIES);
        while let Some(chunk) = chunks.next().await {
            let mut entries = chunk.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
            while entries.len() > 0 {
                let (batch, progress) = self.apply_some(&mut entries)?;
                self.finish(batch, progress).await;
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        // Even if forced: a snapshot later than the retained records would purge them.
        Some(self.get_snapshot_builder().await).filter(|builder| builder.ready.is_some())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let replica = self.replica.clone();
        let ready = replica.take_purge_wanted().and_then(|wanted| match replica.checkpoint_at(wanted.index) {
            Ok(found) => found.map(|(meta, snapshot)| (wanted, meta, snapshot)),
            Err(why) => {
                tracing::error!(shard = %replica.shard, why, "a checkpoint cannot be read; the log is not purged");
                None
            }
        });
        Builder { replica, ready }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        let replica = &self.replica;
        let checkpoint = Checkpoint::decode(snapshot.clone()).map_err(io::Error::other)?;
        let loaded = machine::Shard::load(replica.kind, &checkpoint.rows)
            .map_err(|broken| self.broken(format!("snapshot at {}: {broken}", checkpoint.at)))?;
        let at = from_raft(&checkpoint.at);
        if meta.last_log_id != Some(checkpoint.at) || loaded.applied() != Some(at) {
            return Err(self.broken(format!("snapshot at {at} has the state of {:?}", loaded.applied())));
        }
        let write = Write::Install {
            shard: replica.shard,
            applied: at,
            membership: encode_stored_membership(&checkpoint.membership),
            mark: encode_log_id(&checkpoint.at),
            rows: checkpoint.rows,
            checkpoint: snapshot,
        };
        let room = replica.store.reserve(write.weight()).await;
        let (done, wait) = oneshot::channel();
        replica.store.submit(
            write,
            Box::new(move |result| {
                drop(room);
                let _ = done.send(result);
            }),
        );
        match wait.await {
            Ok(result) => result.map_err(io::Error::other)?,
            Err(_) => return Err(io::Error::other("the store is closed")),
        }
        replica.log.installed(checkpoint.at);
        let progress = progress_of(&loaded);
        *replica.membership.lock() = checkpoint.membership;
        *replica.snapshot.lock() = Some(meta.clone());
        *replica.machine.lock() = loaded;
        replica.stored_to.store(progress.high_watermark.0, Ordering::Release);
        replica.observer.installed(replica.shard);
        replica.touch();
        replica.progress.send_replace(progress);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let Some(at) = self.replica.snapshot.lock().as_ref().and_then(|meta| meta.last_log_id) else {
            return Ok(None);
        };
        let found = self.replica.checkpoint_at(LogIndex(at.index)).map_err(|why| self.broken(why))?;
        Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Gives a checkpoint that is already written to consensus as its snapshot.
#[derive(Debug)]
pub struct Builder {
    replica: Arc<Replica>,
    ready: Option<(machine::PurgeTo, SnapshotMeta, Bytes)>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some((wanted, meta, snapshot)) = self.ready.take() else {
            return Err(io::Error::other("there is no checkpoint that may become the snapshot"));
        };
        self.replica.log.set_index_floor(wanted.index, wanted.index_rows_below);
        *self.replica.snapshot.lock() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot })
    }
}
