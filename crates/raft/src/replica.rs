//! A shard's applied state on this node: written by the applier, looked at by everybody.

use crate::encoding::{Checkpoint, decode_stored_membership};
use crate::health::Health;
use crate::log_store::{LogStore, blocking};
use crate::observer::Observer;
use crate::status::Progress;
use crate::types::{LogId, SnapshotMeta, StoredMembership, from_raft, to_raft};
use bytes::Bytes;
use flotilla_machine::{self as machine, Command, Kind, PurgeTo};
use flotilla_store::Store;
use flotilla_types::{Clock, LogIndex, Offset, ShardId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// One shard's applied state and how far it has come.
pub(crate) struct Replica {
    pub shard: ShardId,
    pub kind: Kind,
    pub store: Arc<dyn Store>,
    pub observer: Arc<dyn Observer>,
    pub health: Arc<Health>,
    pub log: LogStore,
    pub machine: Mutex<machine::Shard>,
    pub membership: Mutex<StoredMembership>,
    pub progress: watch::Sender<Progress>,
    /// Index rows below this offset are written.
    pub stored_to: AtomicU64,
    /// Where the log ended at start: a leader that restarts with its vote appends nothing, so only this says
    /// what it had before.
    pub log_end_at_start: u64,
    /// What consensus has as its snapshot.
    pub snapshot: Mutex<Option<SnapshotMeta>>,
    /// A checkpoint that is written and should become the snapshot.
    pub purge_wanted: Mutex<Option<PurgeTo>>,
    /// Index of the newest audit that this node proposed.
    pub audited_at: AtomicU64,
    /// Something changed that the shard's watcher acts on.
    pub changed: Arc<Notify>,
    /// When something was last proposed or applied, in milliseconds of the monotonic clock.
    pub active_at_ms: AtomicU64,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// What all shards of a node share and a replica needs.
pub(crate) struct Parts {
    pub store: Arc<dyn Store>,
    pub observer: Arc<dyn Observer>,
    pub clock: Arc<dyn Clock>,
}

impl Replica {
    /// Loads the state rows as of the last entry whose change set was written.
    pub fn load(
        shard: ShardId,
        kind: Kind,
        parts: Parts,
        health: Arc<Health>,
        log: LogStore,
    ) -> Result<Self, String> {
        let Parts { store, observer, clock } = parts;
        let rows = store.state(shard).map_err(|error| error.to_string())?;
        let machine = machine::Shard::load(kind, &rows).map_err(|broken| broken.to_string())?;
        let applied = store.shard_marks(shard).map_err(|error| error.to_string())?.applied;
        let membership = match &applied {
            Some(applied) => decode_stored_membership(applied.membership.clone())
                .map_err(|error| format!("membership {error}"))?,
            None => StoredMembership::default(),
        };
        if machine.applied() != applied.as_ref().map(|applied| applied.id) {
            return Err(format!(
                "state rows are as of {:?}, but {:?} is applied",
                machine.applied(),
                applied.map(|applied| applied.id)
            ));
        }
        let progress = progress_of(&machine);
        let snapshot = match log.purged() {
            Some(purged) => read_checkpoint(&*store, shard, purged)?.map(|checkpoint| meta_of(&checkpoint)),
            None => None,
        };
        let replica = Self {
            shard,
            kind,
            store,
            observer,
            health,
            log_end_at_start: log.last().map_or(0, |id| id.index),
            log,
            stored_to: AtomicU64::new(progress.high_watermark.0),
            progress: watch::Sender::new(progress),
            purge_wanted: Mutex::new(machine.purge_to()),
            machine: Mutex::new(machine),
            membership: Mutex::new(membership),
            snapshot: Mutex::new(snapshot),
            audited_at: AtomicU64::new(0),
            changed: Arc::new(Notify::new()),
            active_at_ms: AtomicU64::new(0),
            clock,
        };
        replica.touch();
        Ok(replica)
    }

    /// Notes that the shard is not idle.
    pub fn touch(&self) {
        self.active_at_ms.store(self.clock.monotonic().0.as_millis() as u64, Ordering::Relaxed);
    }

    pub fn stored_to(&self) -> Offset {
        Offset(self.stored_to.load(Ordering::Acquire))
    }

    /// Whether everything from before the leadership of `term` is applied: its leader's first entry is, and
    /// what the log held at start.
    pub fn has_begun(&self, term: u64) -> bool {
        self.progress
            .borrow()
            .applied
            .is_some_and(|applied| applied.term.0 >= term && applied.index.0 >= self.log_end_at_start)
    }

    pub fn applied(&self) -> Option<LogId> {
        self.progress.borrow().applied.map(to_raft)
    }

    /// The checkpoint that should become the snapshot, if it would move the purge point.
    pub fn take_purge_wanted(&self) -> Option<PurgeTo> {
        let purged = self.log.purged().map(|id| id.index);
        let snapshot = self.snapshot.lock().as_ref().and_then(|meta| meta.last_log_id).map(|id| id.index);
        let mut wanted = self.purge_wanted.lock();
        let is_news = |purge: &PurgeTo| purged.max(snapshot).is_none_or(|at| purge.index.0 > at);
        if !wanted.as_ref().is_some_and(is_news) {
            *wanted = None;
        }
        *wanted
    }

    /// The audit that a leader should propose now; each index once.
    pub fn take_audit_due(&self) -> Option<Command> {
        let due = self.machine.lock().audit_due()?;
        let Command::Audit { at, .. } = &due else { return None };
        (self.audited_at.fetch_max(at.0, Ordering::AcqRel) < at.0).then_some(due)
    }

    /// The checkpoint at exactly `index`, if there is one.
    pub fn checkpoint_at(&self, index: LogIndex) -> Result<Option<(SnapshotMeta, Bytes)>, String> {
        let bytes = blocking(|| self.store.checkpoint(self.shard, index)).map_err(|e| e.to_string())?;
        let Some(bytes) = bytes else { return Ok(None) };
        let checkpoint =
            Checkpoint::decode(bytes.clone()).map_err(|error| format!("checkpoint at {index}: {error}"))?;
        if from_raft(&checkpoint.at).index != index {
            return Err(format!("checkpoint at {index} is of {}", from_raft(&checkpoint.at)));
        }
        Ok(Some((meta_of(&checkpoint), bytes)))
    }
}

pub(crate) fn meta_of(checkpoint: &Checkpoint) -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(checkpoint.at), last_membership: checkpoint.membership.clone() }
}

fn read_checkpoint(store: &dyn Store, shard: ShardId, at: LogId) -> Result<Option<Checkpoint>, String> {
    let bytes = store.checkpoint(shard, LogIndex(at.index)).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let checkpoint = Checkpoint::decode(bytes).map_err(|error| format!("checkpoint at {at}: {error}"))?;
    if checkpoint.at == at {
        Ok(Some(checkpoint))
    } else {
        Err(format!("checkpoint at {at} is of another entry"))
    }
}

pub(crate) fn progress_of(machine: &machine::Shard) -> Progress {
    let mut progress = Progress { applied: machine.applied(), chain: machine.chain(), ..Progress::default() };
    if let Some(partition) = machine.partition() {
        progress.high_watermark = partition.next_offset();
        progress.last_stable = partition.last_stable_offset();
        progress.log_start = partition.log_start();
    }
    progress
}
