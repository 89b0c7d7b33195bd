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

    /// All of them, by id. Some may be expired already and merely not cleared away yet.
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
        let known = self.get(producer).filter(|known| !known.is_expired(now, settings));
        let Some(known) = known else {
            self.check_room(producer, now, settings)?;
            return match given {
                Sequence(0) => Ok(Verdict::Next),
                given => Err(Refusal::ProducerStateExpired { producer, given }),
            };
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

    /// Whether a new producer may come in: there is room, or someone idle (or expired) to make it.
    fn check_room(&self, id: ProducerId, now: TimestampMs, settings: &Settings) -> Result<(), Refusal> {
        let limit = settings.producers_max.max(1);
        if self.len() < limit as usize || self.by_id.contains_key(&id) {
            return Ok(());
        }
        match self.by_last_append.first() {
            Some((last_append, _)) if now.saturating_sub(*last_append) >= IDLE_MS => Ok(()),
            _ => Err(Refusal::TooManyProducers { limit }),
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
        let fresh = Producer::new(stamp.epoch);
        let mut producer = match self.by_id.remove(&stamp.id) {
            Some(known) => {
                self.by_last_append.remove(&(known.last_append, stamp.id));
                let expired = known.is_expired(now, settings);
                forgotten += u64::from(expired);
                if expired || known.epoch != stamp.epoch { fresh } else { known }
            }
            None => {
                forgotten += self.make_room(settings, changes);
                fresh
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

    /// Forgets the longest idle until there is room for one more. More than one goes, over some appends,
    /// where the limit was lowered.
    fn make_room(&mut self, settings: &Settings, changes: &mut ChangeSet) -> u64 {
        let limit = settings.producers_max.max(1) as usize;
        let mut forgotten = 0;
        while self.len() >= limit && forgotten < 2 && self.forget_first(changes) {
            forgotten += 1;
        }
        forgotten
    }

    /// Clears away at most `rows` expired producers, and answers how many it were.
    pub(crate) fn expire(
        &mut self,
        now: TimestampMs,
        settings: &Settings,
        rows: usize,
        changes: &mut ChangeSet,
    ) -> u64 {
        let mut forgotten = 0;
        while forgotten < rows as u64
            && let Some((last_append, _)) = self.by_last_append.first()
            && is_expired(*last_append, now, settings)
            && self.forget_first(changes)
        {
            forgotten += 1;
        }
        forgotten
    }

    fn forget_first(&mut self, changes: &mut ChangeSet) -> bool {
        let Some((_, id)) = self.by_last_append.pop_first() else { return false };
        self.by_id.remove(&id);
        row::delete(changes, RowKind::Producer, &id.get().to_be_bytes());
        true
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

    fn is_expired(&self, now: TimestampMs, settings: &Settings) -> bool {
        is_expired(self.last_append, now, settings)
    }
}

fn is_expired(last_append: TimestampMs, now: TimestampMs, settings: &Settings) -> bool {
    now.saturating_sub_unsigned(settings.producer_expiry_ms) > last_append
}
