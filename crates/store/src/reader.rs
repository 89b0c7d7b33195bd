//! Reads of everything but entries, each checked against its seal.

use crate::error::ReadError;
use crate::interface::ShardMarks;
use crate::metrics::Metrics;
use crate::rows::{self, applied, batch_number, checkpoint, entry, family, index, purged, state, vote};
use bytes::Bytes;
use flotilla_types::{IndexRow, LogIndex, Offset, ShardId, TimestampMs};
use rocksdb::{ColumnFamily, DB, ErrorKind, ReadOptions};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads rows; clones read the same database.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    db: Arc<DB>,
    metrics: Metrics,
}

/// A column family that the database was opened with.
pub(crate) fn family<'a>(db: &'a DB, name: &'static str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("every family was named when the database was opened")
}

impl Reader {
    pub fn new(db: Arc<DB>, metrics: Metrics) -> Self {
        Self { db, metrics }
    }

    pub fn db(&self) -> &Arc<DB> {
        &self.db
    }

    pub fn options() -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options
    }

    /// Counts a damaged row and names it.
    pub fn corrupt(
        &self,
        shard: ShardId,
        index: Option<LogIndex>,
        what: &'static str,
        why: String,
    ) -> ReadError {
        self.metrics.corrupt_rows.inc();
        ReadError::Corrupt { shard, index, what, why }
    }

    /// What the database said.
    pub fn failed(&self, shard: ShardId, what: &'static str, error: &rocksdb::Error) -> ReadError {
        match error.kind() {
            ErrorKind::Corruption => self.corrupt(shard, None, what, error.to_string()),
            _ => ReadError::Io { shard, what, why: error.to_string() },
        }
    }

    fn get(
        &self,
        shard: ShardId,
        name: &'static str,
        what: &'static str,
        key: &[u8],
    ) -> Result<Option<Bytes>, ReadError> {
        self.db
            .get_cf_opt(family(&self.db, name), key, &Self::options())
            .map(|value| value.map(Bytes::from))
            .map_err(|error| self.failed(shard, what, &error))
    }

    /// Number of the last batch written.
    pub fn batch_number(&self) -> Result<Option<u64>, String> {
        let log = family(&self.db, family::LOG);
        let value = self.db.get_cf(log, batch_number::KEY).map_err(|error| error.to_string())?;
        value.map(|value| batch_number::decode(&value)).transpose()
    }

    /// All marks but `last`, which is the log's to say.
    pub fn marks(&self, shard: ShardId) -> Result<ShardMarks, ReadError> {
        let (vote_what, purged_what, applied_what) = ("the vote", "the purge point", "the applied position");
        let vote = self.get(shard, family::LOG, vote_what, &vote::key(shard))?;
        let purged = self.get(shard, family::LOG, purged_what, &purged::key(shard))?;
        let applied = self.get(shard, family::STATE, applied_what, &applied::key(shard))?;
        let sound = |what| move |why| self.corrupt(shard, None, what, why);
        Ok(ShardMarks {
            vote: vote.map(|value| vote::decode(shard, value)).transpose().map_err(sound(vote_what))?,
            purged: purged
                .map(|value| purged::decode(shard, value))
                .transpose()
                .map_err(sound(purged_what))?,
            last: None,
            applied: applied
                .map(|value| applied::decode(shard, value))
                .transpose()
                .map_err(sound(applied_what))?,
        })
    }

    pub fn state(&self, shard: ShardId) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        const WHAT: &str = "a state row";
        let mut rows = Vec::new();
        self.scan(
            shard,
            family::STATE,
            WHAT,
            &state::key(shard, &[]),
            state::keys_end(shard),
            |key, value| {
                let row = state::decode(key, Bytes::copy_from_slice(value));
                rows.push(row.map_err(|why| self.corrupt(shard, None, WHAT, why))?);
                Ok(true)
            },
        )?;
        Ok(rows)
    }

    pub fn index_floor(&self, shard: ShardId, offset: Offset) -> Result<Option<IndexRow>, ReadError> {
        let mut options = Self::options();
        options.set_iterate_lower_bound(index::key(shard, Offset(0)).to_vec());
        let mut iterator = self.db.raw_iterator_cf_opt(family(&self.db, family::INDEX), options);
        iterator.seek_for_prev(index::key(shard, offset));
        let row = match iterator.item() {
            Some((key, value)) => Some(self.index_row(shard, key, value)?),
            None => None,
        };
        iterator.status().map_err(|error| self.failed(shard, INDEX_ROW, &error))?;
        Ok(row)
    }

    pub fn index_range(
        &self,
        shard: ShardId,
        from: Offset,
        max_rows: usize,
    ) -> Result<Vec<IndexRow>, ReadError> {
        let mut rows = Vec::new();
        if max_rows == 0 {
            return Ok(rows);
        }
        let end = place_end(shard);
        self.scan(shard, family::INDEX, INDEX_ROW, &index::key(shard, from), end, |key, value| {
            rows.push(self.index_row(shard, key, value)?);
            Ok(rows.len() < max_rows)
        })?;
        Ok(rows)
    }

    /// Halves the range of offsets until the first row with that append time is found: some twenty seeks
    /// for a million batches.
    pub fn index_at_time(&self, shard: ShardId, time: TimestampMs) -> Result<Option<IndexRow>, ReadError> {
        let Some(last) = self.index_floor(shard, Offset(u64::MAX))?.filter(|row| row.append_time >= time)
        else {
            return Ok(None);
        };
        let Some(first) = self.index_range(shard, Offset(0), 1)?.pop() else {
            return Ok(None);
        };
        if first.append_time >= time {
            return Ok(Some(first));
        }
        // `early` is before the time, `late` at or after it.
        let (mut early, mut late) = (first, last);
        while early.end_offset() < late.base_offset {
            let middle = early.base_offset.get().midpoint(late.base_offset.get());
            // A row in the middle of the gap may start before it, but never at or before `early`: then the
            // gap is empty there and the next row after `early` decides.
            let row = match self.index_floor(shard, Offset(middle))? {
                Some(row) if row.base_offset > early.base_offset => row,
                _ => match self.index_range(shard, early.base_offset.next(), 1)?.pop() {
                    Some(row) => row,
                    None => return Ok(Some(late)),
                },
            };
            if row.append_time >= time {
                if row.base_offset == late.base_offset {
                    break;
                }
                late = row;
            } else {
                early = row;
            }
        }
        Ok(Some(late))
    }

    fn index_row(&self, shard: ShardId, key: &[u8], value: &[u8]) -> Result<IndexRow, ReadError> {
        let base = Offset(rows::number_of(key).unwrap_or_default());
        index::decode(shard, base, value).map_err(|why| self.corrupt(shard, None, INDEX_ROW, why))
    }

    pub fn checkpoint(&self, shard: ShardId, at: LogIndex) -> Result<Option<Bytes>, ReadError> {
        const WHAT: &str = "a checkpoint";
        let value = self.get(shard, family::CHECKPOINT, WHAT, &checkpoint::key(shard, at))?;
        let body = value.map(|value| checkpoint::decode(shard, at, value)).transpose();
        body.map_err(|why| self.corrupt(shard, Some(at), WHAT, why))
    }

    pub fn checkpoints(&self, shard: ShardId) -> Result<Vec<LogIndex>, ReadError> {
        let mut found = Vec::new();
        let start = checkpoint::key(shard, LogIndex(0));
        self.scan(shard, family::CHECKPOINT, "checkpoints", &start, place_end(shard), |key, _| {
            found.extend(rows::number_of(key).map(LogIndex));
            Ok(true)
        })?;
        Ok(found)
    }

    /// Every shard with any row: one seek per shard and kind.
    pub fn shards(&self) -> Result<Vec<ShardId>, ReadError> {
        let mut shards = BTreeSet::new();
        self.collect_shards(family::LOG, b"e", &mut shards)?;
        self.collect_shards(family::LOG, b"m", &mut shards)?;
        for name in [family::INDEX, family::STATE, family::CHECKPOINT] {
            self.collect_shards(name, b"", &mut shards)?;
        }
        Ok(shards.into_iter().collect())
    }

    fn collect_shards(
        &self,
        name: &'static str,
        prefix: &[u8],
        shards: &mut BTreeSet<ShardId>,
    ) -> Result<(), ReadError> {
        let mut iterator = self.db.raw_iterator_cf_opt(family(&self.db, name), Self::options());
        let mut next = Some(ShardId(0));
        while let Some(from) = next {
            iterator.seek([prefix, &from.get().to_be_bytes()].concat());
            let found = iterator.key().filter(|key| key.starts_with(prefix));
            let Some(shard) = found.and_then(|key| rows::shard_of(key, prefix.len())) else { break };
            shards.insert(shard);
            next = shard.get().checked_add(1).map(ShardId);
        }
        iterator.status().map_err(|error| self.failed(next.unwrap_or_default(), "the shards", &error))
    }

    /// Calls `each` for every row from `start` until `end`, exclusive, or until it says it has enough.
    fn scan(
        &self,
        shard: ShardId,
        name: &'static str,
        what: &'static str,
        start: &[u8],
        end: Vec<u8>,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut options = Self::options();
        options.set_iterate_upper_bound(end);
        let mut iterator = self.db.raw_iterator_cf_opt(family(&self.db, name), options);
        iterator.seek(start);
        while let Some((key, value)) = iterator.item() {
            if !each(key, value)? {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status().map_err(|error| self.failed(shard, what, &error))
    }
}

const INDEX_ROW: &str = "an index row";

/// The key after the last that [`rows::place`] can make for a shard.
pub(crate) fn place_end(shard: ShardId) -> Vec<u8> {
    let next = shard.get().checked_add(1).map(|next| next.to_be_bytes().to_vec());
    next.unwrap_or_else(|| [u8::MAX; 13].to_vec())
}

/// The keys of the log's family that mark a shard.
pub(crate) fn mark_keys(shard: ShardId) -> [[u8; 6]; 2] {
    [vote::key(shard), purged::key(shard)]
}

/// All keys a shard's entries can have.
pub(crate) fn entry_keys(shard: ShardId) -> (Vec<u8>, Vec<u8>) {
    (entry::key(shard, LogIndex(0)).to_vec(), entry::keys_end(shard))
}
