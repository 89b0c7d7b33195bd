//! A partition's window of message ids: a record whose id was seen lately is not appended again.
//!
//! An id is remembered from its first append until the window's end or until the record leaves the log,
//! whichever is first; a repeat does not refresh it. A batch that stands, record for record, in one earlier
//! batch is a repeat and gets the first copy's offset. A batch of which only some records are there is
//! refused whole, because half an append cannot be said in one answer.

use crate::command::Append;
use crate::encoding::fields;
use crate::outcome::Broken;
use crate::partitions::{KnownMessageId, Refusal};
use crate::row::{self, Row, RowKind};
use bytes::Bytes;
use flotilla_types::{ChangeSet, Offset, TimestampMs};
use std::collections::BTreeMap;

/// Most ids that a partition remembers; about 100 MiB of memory. A batch that does not fit is refused
/// until older ids have left the window: forgetting them early would break the promise silently.
pub const REMEMBERED_MAX: usize = 1_000_000;

/// The ids that a partition remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageIds {
    by_offset: BTreeMap<Offset, Batch>,
    /// Id hash to the first record that has it. Newer batches take over what has left the window.
    by_id: BTreeMap<u128, Place>,
    /// Ids in all batches.
    remembered: usize,
}

/// One batch's ids; a row's value.
#[derive(Clone, Debug, PartialEq)]
struct Batch {
    append_time: TimestampMs,
    /// The last moment of the window.
    until: TimestampMs,
    record_count: u32,
    ids: Vec<(u32, u128)>,
}

fields!(Batch { append_time, until, record_count, ids });

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    base_offset: Offset,
    record: u32,
}

impl Place {
    fn offset(self) -> Offset {
        Offset(self.base_offset.get().saturating_add(u64::from(self.record)))
    }
}

/// What a batch is to the ones in the window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Repeated { base_offset: Offset, append_time: TimestampMs },
}

impl MessageIds {
    /// How many there are. Some may have left the window and merely not be cleared away yet.
    pub fn len(&self) -> usize {
        self.remembered
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.remembered == 0
    }

    pub(crate) fn judge(
        &self,
        append: &Append,
        now: TimestampMs,
        log_start: Offset,
    ) -> Result<Verdict, Refusal> {
        check_ids(append)?;
        let known: Vec<(u32, Place)> = append
            .message_ids
            .iter()
            .filter_map(|(record, id)| Some((*record, self.find(*id, now, log_start)?)))
            .collect();
        if let Some(verdict) = self.find_whole(append, &known) {
            return Ok(verdict);
        }
        if !known.is_empty() {
            let name = |(record, place): &(u32, Place)| KnownMessageId {
                record: *record,
                first_offset: place.offset(),
            };
            return Err(Refusal::MessageIdsKnown { known: known.iter().map(name).collect() });
        }
        if self.remembered.saturating_add(append.message_ids.len()) > REMEMBERED_MAX {
            return Err(Refusal::TooManyMessageIds { known: self.remembered, limit: REMEMBERED_MAX });
        }
        Ok(Verdict::New)
    }

    /// Where the first record with this id is, if it still counts.
    fn find(&self, id: u128, now: TimestampMs, log_start: Offset) -> Option<Place> {
        let place = self.by_id.get(&id)?;
        let batch = self.by_offset.get(&place.base_offset)?;
        (batch.until >= now && place.offset() >= log_start).then_some(*place)
    }

    /// The place where the batch stands as a whole in one earlier batch, each record where it should be.
    fn find_whole(&self, append: &Append, known: &[(u32, Place)]) -> Option<Verdict> {
        if known.len() != append.message_ids.len() {
            return None;
        }
        let (record, place) = known.first()?;
        let shift = place.record.checked_sub(*record)?;
        let earlier = self.by_offset.get(&place.base_offset)?;
        let aligned = known.iter().all(|(record, other)| {
            other.base_offset == place.base_offset && other.record.checked_sub(shift) == Some(*record)
        });
        let fits =
            shift.checked_add(append.batch.record_count).is_some_and(|end| end <= earlier.record_count);
        // Records without an id are only known to be the same ones if the whole batch is.
        let anonymous = append.message_ids.len() < append.batch.record_count as usize;
        let same = append.batch.record_count == earlier.record_count && append.message_ids == earlier.ids;
        (aligned && fits && (!anonymous || same)).then_some(Verdict::Repeated {
            base_offset: Offset(place.base_offset.get().saturating_add(u64::from(shift))),
            append_time: earlier.append_time,
        })
    }

    /// Takes in the ids of a batch that was appended.
    pub(crate) fn remember(
        &mut self,
        append: &Append,
        window_ms: u64,
        base_offset: Offset,
        append_time: TimestampMs,
        changes: &mut ChangeSet,
    ) {
        if append.message_ids.is_empty() {
            return;
        }
        let batch = Batch {
            append_time,
            until: append_time.saturating_add_unsigned(window_ms),
            record_count: append.batch.record_count,
            ids: append.message_ids.clone(),
        };
        row::put(changes, RowKind::MessageIds, &base_offset.get().to_be_bytes(), &batch);
        self.insert(base_offset, batch);
    }

    fn insert(&mut self, base_offset: Offset, batch: Batch) {
        for (record, id) in &batch.ids {
            self.by_id.insert(*id, Place { base_offset, record: *record });
        }
        self.remembered = self.remembered.saturating_add(batch.ids.len());
        self.by_offset.insert(base_offset, batch);
    }

    /// Clears away at most `rows` of the oldest batches, as long as none of their ids counts any more.
    /// A batch whose window is shorter than an older one's waits for that: the window rarely changes.
    pub(crate) fn expire(
        &mut self,
        now: TimestampMs,
        log_start: Offset,
        rows: usize,
        changes: &mut ChangeSet,
    ) {
        for _ in 0..rows {
            let Some(first) = self.by_offset.first_entry() else { return };
            let end = first.key().get().saturating_add(u64::from(first.get().record_count));
            if first.get().until >= now && end > log_start.get() {
                return;
            }
            let (base_offset, batch) = first.remove_entry();
            row::delete(changes, RowKind::MessageIds, &base_offset.get().to_be_bytes());
            self.remembered = self.remembered.saturating_sub(batch.ids.len());
            for (_, id) in &batch.ids {
                if self.by_id.get(id).is_some_and(|place| place.base_offset == base_offset) {
                    self.by_id.remove(id);
                }
            }
        }
    }

    pub(crate) fn rows(&self, out: &mut Vec<(Bytes, Bytes)>) {
        let row = |(base_offset, batch): (&Offset, _)| {
            row::row(RowKind::MessageIds, &base_offset.get().to_be_bytes(), batch)
        };
        out.extend(self.by_offset.iter().map(row));
    }

    pub(crate) fn load(&mut self, row: Row<'_>) -> Result<(), Broken> {
        let base_offset = Offset(row.id_u64()?);
        if self.by_offset.last_key_value().is_some_and(|(last, _)| *last >= base_offset) {
            return Err(Broken::new(format!("message ids at offset {base_offset} are not in key order")));
        }
        self.insert(base_offset, row.value()?);
        Ok(())
    }
}

/// Ids come in record order, each once, each on a record of the batch.
fn check_ids(append: &Append) -> Result<(), Refusal> {
    let ids = &append.message_ids;
    if ids.iter().zip(ids.iter().skip(1)).any(|((earlier, _), (later, _))| earlier >= later) {
        return Err(Refusal::Malformed { why: "message ids that are not in record order" });
    }
    if ids.last().is_some_and(|(record, _)| *record >= append.batch.record_count) {
        return Err(Refusal::Malformed { why: "a message id beyond the batch's records" });
    }
    let mut sorted: Vec<(u128, u32)> = ids.iter().map(|(record, id)| (*id, *record)).collect();
    sorted.sort_unstable();
    let twice = sorted.iter().zip(sorted.iter().skip(1)).find(|(one, other)| one.0 == other.0);
    match twice {
        Some(((_, first), (_, second))) => Err(Refusal::MessageIdTwice { first: *first, second: *second }),
        None => Ok(()),
    }
}
