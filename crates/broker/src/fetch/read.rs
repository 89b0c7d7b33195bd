//! Batches of one partition from an offset on: from memory where they are, else from disk on the pool.

use super::{Error, FetchedBatch};
use crate::broker::Broker;
use crate::metrics::SourceLabel;
use crate::observer::fetched;
use flotilla_machine::Command;
use flotilla_raft::Shard;
use flotilla_store::{LogRow, ReadError, Store};
use flotilla_types::{IndexRow, LogIndex, Offset, ShardId};
use std::collections::HashMap;
use std::sync::Arc;

/// Index rows looked at in one go.
const ROWS_MAX: usize = 512;

impl Broker {
    /// Batches below `bound`, up to `room` bytes; with `one_fits`, the first even if it is larger.
    pub(super) async fn read(
        &self,
        shard: &Arc<Shard>,
        from: Offset,
        bound: Offset,
        room: usize,
        one_fits: bool,
    ) -> Result<Vec<FetchedBatch>, Error> {
        let id = shard.id();
        let mut batches: Vec<FetchedBatch> = Vec::new();
        let (mut next, mut left) = (from, room);
        while next < bound {
            let one_fits = one_fits && batches.is_empty();
            if let Some(hit) = self.observer.tail.read(id, next, bound, left, one_fits) {
                self.count_read("tail");
                batches.extend(hit.batches);
                break;
            }
            self.count_read("store");
            let more = self.read_stored(id, next, bound, left, one_fits).await?;
            let Some(last) = more.last() else { break };
            next = last.end_offset();
            left = left.saturating_sub(more.iter().map(FetchedBatch::weight).sum());
            batches.extend(more);
            if left == 0 {
                break;
            }
        }
        Ok(batches)
    }

    async fn read_stored(
        &self,
        shard: ShardId,
        from: Offset,
        bound: Offset,
        room: usize,
        one_fits: bool,
    ) -> Result<Vec<FetchedBatch>, Error> {
        let store = self.serving().map_err(crate::routes::RouteError::Quarantined)?.store.clone();
        let work = move || read_blocking(&*store, shard, from, bound, room, one_fits);
        let read = self.pool.run(work).await.map_err(|full| Error::Overloaded(full.0))?;
        if let Err(Error::Corrupt { .. } | Error::Store(ReadError::Corrupt { .. })) = &read {
            self.corrupt_read(shard, read.as_ref().err());
        }
        read
    }

    /// Corrupt bytes are never served. Another replica should lead: this one has to be rebuilt.
    fn corrupt_read(&self, shard: ShardId, error: Option<&Error>) {
        self.metrics.corrupt_reads.inc();
        let why = error.map(ToString::to_string).unwrap_or_default();
        tracing::error!(%shard, why, "bytes on disk are not what was written: another replica should lead");
        self.suspect(shard, &why);
    }

    fn count_read(&self, source: &'static str) {
        self.metrics.fetch_reads.get_or_create(&SourceLabel { source }).inc();
    }
}

/// Reads index rows, then the entries they point to, and checks that the two say the same and that every
/// batch is as its maker sealed it.
fn read_blocking(
    store: &dyn Store,
    shard: ShardId,
    from: Offset,
    bound: Offset,
    room: usize,
    one_fits: bool,
) -> Result<Vec<FetchedBatch>, Error> {
    let floor = store.index_floor(shard, from)?.filter(|row| row.end_offset() > from);
    let start = floor.map_or(from, |row| row.base_offset);
    let mut rows = store.index_range(shard, start, ROWS_MAX)?;
    clip(&mut rows, bound, room, one_fits);
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
    let mut entries = entries(store, shard, first.log_index, last.log_index)?;
    let corrupt = |at: Offset, why: &str| Error::Corrupt { shard, at, why: why.to_owned() };
    let mut next = rows[0].base_offset;
    let mut batches = Vec::with_capacity(rows.len());
    for row in rows {
        if row.base_offset != next {
            return Err(corrupt(next, "the index has a hole"));
        }
        next = row.end_offset();
        let entry = entries.remove(&row.log_index);
        // A trim may have taken it between the two reads: what follows is then gone as well.
        let Some(entry) = entry else { break };
        let Ok(Command::Append(append)) = Command::decode(&entry.header) else {
            return Err(corrupt(row.base_offset, "the index points to an entry that is no batch"));
        };
        if append.batch.record_count != row.record_count || entry.id.term != row.term {
            return Err(corrupt(row.base_offset, "the index and the entry differ"));
        }
        if !append.batch.is_sound(&entry.payload) {
            return Err(corrupt(row.base_offset, "the batch's checksum does not match"));
        }
        batches.push(fetched(&row, &append, entry.payload));
    }
    Ok(batches)
}

/// Keeps rows that end at or below `bound`, and as many as fit.
fn clip(rows: &mut Vec<IndexRow>, bound: Offset, room: usize, one_fits: bool) {
    let mut bytes = 0;
    let mut kept = 0;
    for row in rows.iter() {
        bytes += row.body_bytes as usize + flotilla_types::BatchHeader::ENCODED_LEN + 24;
        let fits = bytes <= room || (one_fits && kept == 0);
        if row.end_offset() > bound || !fits {
            break;
        }
        kept += 1;
    }
    rows.truncate(kept);
}

/// Every entry from `first` to `last`, as far as they are there.
fn entries(
    store: &dyn Store,
    shard: ShardId,
    first: LogIndex,
    last: LogIndex,
) -> Result<HashMap<LogIndex, LogRow>, Error> {
    let mut found = HashMap::new();
    let mut next = first;
    while next <= last {
        let rows = store.log(shard, next..last.next(), flotilla_types::limits::BATCH_MAX_BYTES)?;
        let Some(end) = rows.last() else { break };
        next = end.id.index.next();
        found.extend(rows.into_iter().map(|row| (row.id.index, row)));
    }
    Ok(found)
}
