//! What a partition knows of its idempotent producers: whether a batch is the next one, a repeat or wrong.
//!
//! This is replicated state: it is in checkpoints and snapshots, and retention does not touch it. It goes
//! by log time only: a producer that appended nothing for a long time is forgotten, and when there are too
//! many, the longest idle one makes room.

use crate::encoding::fields;
use crate::outcome::Broken;
use crate::partitions::{Refusal, Settings};
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::limits::PRODUCER_REMEMBERED_BATCHES;
use flotilla_types::{ChangeSet, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs};
use std::collections::{BTreeMap, BTreeSet};

/// A producer that has appended nothing for this long, by log time, may make room for another. Well above
/// the time for which clients repeat a batch, in milliseconds.
pub const IDLE_MS: i64 = 5 * 60 * 1000;

/// The producers that a partition remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    /// Who has been idle for longest comes first.
    by_last_append: BTreeSet<(TimestampMs, ProducerId)>,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The newest seen.
    pub epoch: ProducerEpoch,
    /// What its next batch must start with; 0 in a new epoch.
    pub next_sequence: Sequence,
    /// Log time of its last batch, in milliseconds since 1970.
    pub last_append: TimestampMs,
    /// Its last batches in this epoch, oldest first, at most [`PRODUCER_REMEMBERED_BATCHES`].
    pub batches: Vec<Remembered>,
}

fields!(Producer { epoch, next_sequence, last_append, batches });

/// A batch that a producer may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Sequence of its first record.
    pub base_sequence: Sequence,
    /// Its records.
    pub record_count: u32,
    /// Where the first copy is.
    pub base_offset: Offset,
    /// When the first copy was appended.
    pub append_time: TimestampMs,
}

fields!(Remembered { base_sequence, record_count, base_offset, append_time });

/// What a batch is to its producer's earlier ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Next,
    Repeated { base_offset: Offset, append_time: TimestampMs },
}

impl Producers {
    /// One of them.
    pub fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.by_id.get(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn judge(
        &self,
        stamp: ProducerStamp,
        record_count: u32,
        now: TimestampMs,
        settings: &Settings,
    ) -> Result<Verdict, Refusal> {
        let ProducerStamp { id: producer, epoch, base_sequence: given } = stamp;
        if given.get().checked_add(u64::from(record_count)).is_none() {
            return Err(Refusal::Malformed { why: "more records than sequences" });
        }
        let Some(known) = self.get(producer) else {
            if given != Sequence(0) {
                return Err(Refusal::ProducerStateExpired { producer, given });
            }
            return self.check_room(now, settings).map(|()| Verdict::Next);
        };
        if epoch < known.epoch {
            let current = known.epoch;
            return Err(Refusal::InvalidProducerEpoch { producer, given: epoch, current });
        }
        let expected = if epoch > known.epoch { Sequence(0) } else { known.next_sequence };
        if given == expected {
            return Ok(Verdict::Next);
        }
        let repeated =
            |batch: &&Remembered| batch.base_sequence == given && batch.record_count == record_count;
        match known.batches.iter().find(repeated) {
            Some(first) if epoch == known.epoch => {
                Ok(Verdict::Repeated { base_offset: first.base_offset, append_time: first.append_time })
            }
            _ => Err(Refusal::OutOfOrderSequence { producer, given, expected }),
        }
    }

    /// Whether a new producer may come in: there is room, or someone idle to make it.
    fn check_room(&self, now: TimestampMs, settings: &Settings) -> Result<(), Refusal> {
        let limit = settings.producers_max.max(1);
        match self.by_last_append.first() {
            Some((last_append, _)) if self.len() >= limit as usize && !is_idle(*last_append, now) => {
                Err(Refusal::TooManyProducers { limit })
            }
            _ => Ok(()),
        }
    }

    /// Takes in a batch that [`Producers::judge`] found to be the next. Answers how many producers were
    /// forgotten for it.
    pub(crate) fn record(
        &mut self,
        stamp: ProducerStamp,
        batch: Remembered,
        now: TimestampMs,
        settings: &Settings,
        changes: &mut ChangeSet,
    ) -> u64 {
        let mut forgotten = 0;
        let mut producer = match self.by_id.remove(&stamp.id) {
            Some(known) => {
                self.by_last_append.remove(&(known.last_append, stamp.id));
                if known.epoch == stamp.epoch { known } else { Producer::new(stamp.epoch) }
            }
            None => {
                forgotten = self.make_room(now, settings, changes);
                Producer::new(stamp.epoch)
            }
        };
        producer.next_sequence =
            Sequence(batch.base_sequence.get().saturating_add(u64::from(batch.record_count)));
        producer.last_append = now;
        if producer.batches.len() >= PRODUCER_REMEMBERED_BATCHES {
            producer.batches.remove(0);
        }
        producer.batches.push(batch);
        row::put(changes, RowKind::Producer, &stamp.id.get().to_be_bytes(), &producer);
        self.by_last_append.insert((now, stamp.id));
        self.by_id.insert(stamp.id, producer);
        forgotten
    }

    /// Forgets the longest idle until there is room for one more, or nobody is idle any more: where the
    /// limit was lowered, there may be more than it allows for a while.
    fn make_room(&mut self, now: TimestampMs, settings: &Settings, changes: &mut ChangeSet) -> u64 {
        let limit = settings.producers_max.max(1) as usize;
        let excess = (self.len() + 1).saturating_sub(limit);
        self.forget(excess, |last_append| is_idle(last_append, now), changes)
    }

    /// Forgets everyone whose time is over, and answers how many it were. To be called before a batch is
    /// judged; each producer is cleared away once, so this costs no more than the appends did.
    pub(crate) fn expire(&mut self, now: TimestampMs, settings: &Settings, changes: &mut ChangeSet) -> u64 {
        let oldest = now.saturating_sub_unsigned(settings.producer_expiry_ms);
        self.forget(self.len(), |last_append| last_append < oldest, changes)
    }

    /// Forgets at most `most` of those that `may` go, the longest idle first, and answers how many it were.
    fn forget(&mut self, most: usize, may: impl Fn(TimestampMs) -> bool, changes: &mut ChangeSet) -> u64 {
        let mut forgotten = 0;
        while forgotten < most as u64
            && let Some((last_append, id)) = self.by_last_append.first().copied()
            && may(last_append)
        {
            self.by_last_append.pop_first();
            self.by_id.remove(&id);
            row::delete(changes, RowKind::Producer, &id.get().to_be_bytes());
            forgotten += 1;
        }
        forgotten
    }

    pub(crate) fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        let row =
            |(id, producer): (&ProducerId, _)| row::row(RowKind::Producer, &id.get().to_be_bytes(), producer);
        out.extend(self.by_id.iter().map(row));
    }

    pub(crate) fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        let id = ProducerId(row.id_u64()?);
        let producer: Producer = row.value()?;
        if producer.batches.len() > PRODUCER_REMEMBERED_BATCHES {
            return Err(Broken::new(format!("producer {id} remembers {} batches", producer.batches.len())));
        }
        self.by_last_append.insert((producer.last_append, id));
        self.by_id.insert(id, producer);
        Ok(())
    }
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        let batches = Vec::with_capacity(PRODUCER_REMEMBERED_BATCHES);
        Self { epoch, next_sequence: Sequence(0), last_append: 0, batches }
    }
}

fn is_idle(last_append: TimestampMs, now: TimestampMs) -> bool {
    now.saturating_sub(last_append) >= IDLE_MS
}
