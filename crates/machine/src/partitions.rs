//! A partition: dense offsets, a start that only moves up, and checkpoints to purge the log to.
//!
//! An append is decided in this order: is it the producer's next batch ([`crate::producers`]), are its
//! message ids new ([`crate::message_ids`]), would it get the offset that was asked for. A repeat found
//! by either of the first two is answered with the first copy's place, whatever was asked for.

mod checkpoints;
mod refusal;
mod settings;

pub use checkpoints::Checkpoint;
pub use refusal::{KnownMessageId, Refusal};
pub use settings::Settings;

use crate::command::{Append, Command};
use crate::encoding::fields;
use crate::message_ids::{self, MessageIds};
use crate::outcome::{Broken, Outcome, PurgeTo};
use crate::producers::{self, Producers};
use crate::row::{self, Row, RowKind};
use crate::shard::Ruled;
use bytes::Bytes;
use checkpoints::Checkpoints;
use flotilla_types::{ChangeSet, IndexRow, LogId, Offset, TimestampMs};

/// Batches of message ids that have left the window and that an append clears away at most: more than it
/// adds, and few enough that a window's end after a busy day costs no pause.
const UPKEEP_PER_APPEND: usize = 8;
/// The same for the rare commands, which come when there is no append for a while.
const UPKEEP_PER_COMMAND: usize = 1024;

/// A partition's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partition {
    head: Head,
    settings: Settings,
    checkpoints: Checkpoints,
    producers: Producers,
    message_ids: MessageIds,
}

/// What every timed command changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Head {
    /// Of the next record.
    next_offset: Offset,
    /// Of the first record kept.
    log_start: Offset,
    /// The latest time that any command brought. Only this time passes here.
    log_time: TimestampMs,
    /// Of the newest batch.
    last_append_time: TimestampMs,
    /// Bodies of all entries ever, in bytes, also of batches that were refused: they fill the log too.
    bytes_logged: u64,
    /// Producers forgotten for idleness.
    producers_expired: u64,
}

fields!(Head { next_offset, log_start, log_time, last_append_time, bytes_logged, producers_expired });

/// What is decided on an append before anything changes.
enum Verdict {
    /// It gets the next offset.
    Fresh,
    /// The producer sent it before, under this sequence.
    Repeated { base_offset: Offset, append_time: TimestampMs },
    /// Its records are there, from another batch: the producer's sequence moves on nevertheless.
    KnownIds { base_offset: Offset, append_time: TimestampMs },
}

impl Partition {
    /// Offset of the next record: the end of the log.
    pub fn next_offset(&self) -> Offset {
        self.head.next_offset
    }

    /// Offset of the first record kept.
    pub fn log_start(&self) -> Offset {
        self.head.log_start
    }

    /// First offset that is not decided yet: the end, as long as there are no transactions.
    pub fn last_stable_offset(&self) -> Offset {
        self.head.next_offset
    }

    /// When the newest batch was appended; 0 if none was.
    pub fn last_append_time(&self) -> TimestampMs {
        self.head.last_append_time
    }

    /// The latest time that any command brought. Propose nothing earlier.
    pub fn log_time(&self) -> TimestampMs {
        self.head.log_time
    }

    /// Bytes of bodies in the log from the last purge point on, refused and repeated ones included.
    pub fn bytes(&self) -> u64 {
        self.head.bytes_logged.saturating_sub(self.checkpoints.purged().map_or(0, |purged| purged.bytes))
    }

    /// Bytes of bodies ever written to the log; what [`Checkpoint::bytes`] counts.
    pub fn bytes_logged(&self) -> u64 {
        self.head.bytes_logged
    }

    /// Checkpoints that still exist, oldest first; the first may be the one the log is purged to.
    pub fn checkpoints(&self) -> impl DoubleEndedIterator<Item = &Checkpoint> {
        self.checkpoints.iter()
    }

    /// The producers it remembers.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Producers forgotten because they were idle for too long, or idle when the room was needed.
    pub fn producers_expired(&self) -> u64 {
        self.head.producers_expired
    }

    /// The message ids it remembers.
    pub fn message_ids(&self) -> &MessageIds {
        &self.message_ids
    }

    /// Its limits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How far the log may be purged.
    pub fn purge_to(&self) -> Option<PurgeTo> {
        self.checkpoints.purged().map(Checkpoint::purge_to)
    }

    pub(crate) fn apply(&mut self, at: LogId, command: &Command) -> Result<Ruled, Broken> {
        match command {
            Command::Append(append) => self.append(at, append),
            Command::Trim { log_start, now } => Ok(self.trim(*log_start, *now)),
            Command::Checkpoint { now } => Ok(self.checkpoint(at, *now)),
            Command::Configure(settings) => Ok(self.configure(settings)),
            Command::Audit { .. } | Command::Controller(_) | Command::Group(_) => {
                Ok(Ruled::unchanged(Outcome::Misdirected))
            }
        }
    }

    fn append(&mut self, at: LogId, append: &Append) -> Result<Ruled, Broken> {
        let mut ruled = Ruled::unchanged(Outcome::Noop);
        let changes = &mut ruled.changes;
        self.pass_time(append.append_time, changes);
        let bytes = self.head.bytes_logged.checked_add(u64::from(append.body_bytes));
        self.head.bytes_logged =
            bytes.ok_or_else(|| Broken::new(format!("bytes ever logged overflow at entry {at}")))?;
        ruled.outcome = match self.judge(append) {
            Err(refusal) => Outcome::AppendRefused(refusal),
            Ok(Verdict::Repeated { base_offset, append_time }) => {
                self.appended(base_offset, append_time, true)
            }
            Ok(Verdict::KnownIds { base_offset, append_time }) => {
                self.record_producer(append, base_offset, append_time, changes);
                self.appended(base_offset, append_time, true)
            }
            Ok(Verdict::Fresh) => self.append_fresh(at, append, changes),
        };
        self.message_ids.expire(self.head.log_time, self.head.log_start, UPKEEP_PER_APPEND, changes);
        if self.checkpoints.due(self.head.bytes_logged, self.settings.checkpoint_bytes) {
            self.make_checkpoint(at, &mut ruled);
        }
        self.finish(&mut ruled);
        Ok(ruled)
    }

    /// Decides without changing anything.
    fn judge(&self, append: &Append) -> Result<Verdict, Refusal> {
        let count = append.batch.record_count;
        if count == 0 {
            return Err(Refusal::Malformed { why: "a batch without records" });
        }
        let end = self.head.next_offset.get().checked_add(u64::from(count));
        if end.is_none() {
            return Err(Refusal::Malformed { why: "more records than offsets" });
        }
        if let Some(stamp) = append.batch.producer {
            let now = self.head.log_time;
            match self.producers.judge(stamp, count, now, &self.settings)? {
                producers::Verdict::Next => {}
                producers::Verdict::Repeated { base_offset, append_time } => {
                    return Ok(Verdict::Repeated { base_offset, append_time });
                }
            }
        }
        if append.dedup_window_ms.is_some() {
            match self.message_ids.judge(append, self.head.log_time, self.head.log_start)? {
                message_ids::Verdict::New => {}
                message_ids::Verdict::Repeated { base_offset, append_time } => {
                    return Ok(Verdict::KnownIds { base_offset, append_time });
                }
            }
        }
        match append.expected_offset {
            Some(expected) if expected != self.head.next_offset => {
                Err(Refusal::OffsetConflict { expected, actual: self.head.next_offset })
            }
            _ => Ok(Verdict::Fresh),
        }
    }

    fn append_fresh(&mut self, at: LogId, append: &Append, changes: &mut ChangeSet) -> Outcome {
        let row = IndexRow {
            base_offset: self.head.next_offset,
            log_index: at.index,
            record_count: append.batch.record_count,
            body_bytes: append.body_bytes,
            append_time: self.head.log_time,
            term: at.term,
            producer: append.batch.producer.map(|stamp| (stamp.id, stamp.epoch)),
            transactional: append.batch.transactional,
        };
        changes.index.push(row);
        self.record_producer(append, row.base_offset, row.append_time, changes);
        if let Some(window_ms) = append.dedup_window_ms {
            self.message_ids.remember(append, window_ms, row.base_offset, row.append_time, changes);
        }
        self.head.next_offset = row.end_offset();
        self.head.last_append_time = row.append_time;
        self.appended(row.base_offset, row.append_time, false)
    }

    fn record_producer(
        &mut self,
        append: &Append,
        base_offset: Offset,
        append_time: TimestampMs,
        changes: &mut ChangeSet,
    ) {
        if let Some(stamp) = append.batch.producer {
            let batch = producers::Remembered {
                base_sequence: stamp.base_sequence,
                record_count: append.batch.record_count,
                base_offset,
                append_time,
            };
            let now = self.head.log_time;
            let forgotten = self.producers.record(stamp, batch, now, &self.settings, changes);
            self.head.producers_expired = self.head.producers_expired.saturating_add(forgotten);
        }
    }

    fn appended(&self, base_offset: Offset, append_time: TimestampMs, duplicate: bool) -> Outcome {
        Outcome::Appended { base_offset, append_time, log_start: self.head.log_start, duplicate }
    }

    fn trim(&mut self, log_start: Offset, now: TimestampMs) -> Ruled {
        if log_start > self.head.next_offset {
            return Ruled::unchanged(Outcome::TrimRefused { next_offset: self.head.next_offset });
        }
        let mut ruled = Ruled::unchanged(Outcome::Noop);
        self.pass_time(now, &mut ruled.changes);
        self.head.log_start = self.head.log_start.max(log_start);
        ruled.outcome = Outcome::Trimmed { log_start: self.head.log_start };
        self.finish_command(&mut ruled);
        ruled
    }

    fn checkpoint(&mut self, at: LogId, now: TimestampMs) -> Ruled {
        let mut ruled = Ruled::unchanged(Outcome::Noop);
        self.pass_time(now, &mut ruled.changes);
        self.make_checkpoint(at, &mut ruled);
        self.finish_command(&mut ruled);
        ruled
    }

    fn configure(&mut self, settings: &Settings) -> Ruled {
        let mut ruled = Ruled::unchanged(Outcome::Noop);
        if self.settings != *settings {
            self.settings = settings.clone();
            if self.settings == Settings::default() {
                row::delete(&mut ruled.changes, RowKind::PartitionSettings, &[]);
            } else {
                row::put(&mut ruled.changes, RowKind::PartitionSettings, &[], settings);
            }
        }
        ruled
    }

    /// What the timed commands other than an append end with.
    fn finish_command(&mut self, ruled: &mut Ruled) {
        let Head { log_time, log_start, .. } = self.head;
        self.message_ids.expire(log_time, log_start, UPKEEP_PER_COMMAND, &mut ruled.changes);
        self.finish(ruled);
    }

    /// What every timed command ends with: a checkpoint or a log start is new, or at least the time is.
    fn finish(&mut self, ruled: &mut Ruled) {
        ruled.purge_to = self.checkpoints.purge_below(self.head.log_start, &mut ruled.changes);
        self.put_head(&mut ruled.changes);
    }

    fn make_checkpoint(&mut self, at: LogId, ruled: &mut Ruled) {
        ruled.checkpoint = true;
        let checkpoint = Checkpoint {
            index: at.index,
            next_offset: self.head.next_offset,
            time: self.head.log_time,
            bytes: self.head.bytes_logged,
        };
        self.checkpoints.add(checkpoint, &mut ruled.changes);
    }

    /// Nothing in it ever goes back, so once it is there it stays.
    fn put_head(&self, changes: &mut ChangeSet) {
        if self.head != Head::default() {
            row::put(changes, RowKind::Partition, &[], &self.head);
        }
    }

    /// Time goes on, and with it go the producers that have been silent for too long.
    fn pass_time(&mut self, now: TimestampMs, changes: &mut ChangeSet) {
        self.head.log_time = self.head.log_time.max(now);
        let forgotten = self.producers.expire(self.head.log_time, &self.settings, changes);
        self.head.producers_expired = self.head.producers_expired.saturating_add(forgotten);
    }

    pub(crate) fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        if self.head != Head::default() {
            out.push(row::row(RowKind::Partition, &[], &self.head));
        }
        if self.settings != Settings::default() {
            out.push(row::row(RowKind::PartitionSettings, &[], &self.settings));
        }
        self.checkpoints.rows(out);
        self.producers.rows(out);
        self.message_ids.rows(out);
    }

    pub(crate) fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        match row.kind {
            RowKind::Partition => row.id_none().and_then(|()| row.value().map(|head| self.head = head)),
            RowKind::PartitionSettings => {
                row.id_none().and_then(|()| row.value().map(|settings| self.settings = settings))
            }
            RowKind::Checkpoint => self.checkpoints.load(row),
            RowKind::Producer => self.producers.load(row),
            RowKind::MessageIds => self.message_ids.load(row),
            _ => Err(row.misplaced()),
        }
    }

    pub(crate) fn check_loaded(&mut self) -> Result<(), Broken> {
        if self.head.log_start > self.head.next_offset {
            return Err(Broken::new(format!(
                "the log starts at {} beyond its end {}",
                self.head.log_start, self.head.next_offset
            )));
        }
        self.checkpoints.check_loaded(self.head.next_offset)
    }
}
