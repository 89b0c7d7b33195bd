//! Where entries live: behind a trait, so that segment files can be measured against the database's.
//!
//! Keys, votes and purge points stay in the database either way; only the entries' bytes would move.

use crate::error::ReadError;
use crate::reader::{self, Reader};
use crate::rows::{entry, family};
use crate::write::LogRow;
use bytes::Bytes;
use flotilla_types::{LogId, LogIndex, ShardId};
use rocksdb::{DB, WriteBatch};
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// Entries of all shards.
pub(crate) trait LogRows: Send + Sync + Debug {
    /// Adds an entry to the batch.
    fn put(&self, batch: &mut WriteBatch, shard: ShardId, row: &LogRow);
    /// Removes entries, as of the batch.
    fn remove(&self, batch: &mut WriteBatch, shard: ShardId, range: Range<LogIndex>);
    /// Makes durable what the batch's entries need besides the batch. Called before the batch is synced.
    fn sync(&self) -> Result<(), String>;
    /// Entries of the range in index order, checked, until `max_bytes`, but at least one. May start late.
    fn read(
        &self,
        shard: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
    ) -> Result<Vec<LogRow>, ReadError>;
    /// Where the last entry is that lies below `end`, checked.
    fn last_below(&self, shard: ShardId, end: Option<LogIndex>) -> Result<Option<LogId>, ReadError>;
    /// Where the first entry is.
    fn first(&self, shard: ShardId) -> Result<Option<LogIndex>, ReadError>;
    /// Gives back the space of entries that were removed. Takes its time.
    fn reclaim(&self, shard: ShardId, upto: LogIndex);
}

/// Entries as rows of the database, their values in blob files.
#[derive(Debug)]
pub(crate) struct BlobRows {
    reader: Reader,
}

/// From this many bytes on a read is worth reading ahead.
const READ_AHEAD_FROM: usize = 256 << 10;
/// How far: of keys and references, not of payloads.
const READ_AHEAD: usize = 256 << 10;
/// Up to this many entries are removed one by one; a range tombstone costs readers more than that.
const REMOVED_SINGLY: u64 = 64;
const WHAT: &str = "a log entry";

impl BlobRows {
    pub fn new(reader: Reader) -> Self {
        Self { reader }
    }

    fn db(&self) -> &Arc<DB> {
        self.reader.db()
    }

    fn decode(&self, shard: ShardId, index: LogIndex, value: &[u8]) -> Result<LogRow, ReadError> {
        // The only copy on the way out: header and payload are slices of it.
        let value = Bytes::copy_from_slice(value);
        entry::decode(shard, index, &value).map_err(|why| self.reader.corrupt(shard, Some(index), WHAT, why))
    }

    fn index_of(&self, shard: ShardId, key: &[u8]) -> Result<LogIndex, ReadError> {
        let misplaced = || self.reader.corrupt(shard, None, WHAT, "its key is no entry's".to_owned());
        entry::index_of(key).ok_or_else(misplaced)
    }
}

impl LogRows for BlobRows {
    fn put(&self, batch: &mut WriteBatch, shard: ShardId, row: &LogRow) {
        let mut value = Vec::new();
        entry::encode(shard, row, &mut value);
        batch.put_cf(reader::family(self.db(), family::LOG), entry::key(shard, row.id.index), value);
    }

    fn remove(&self, batch: &mut WriteBatch, shard: ShardId, range: Range<LogIndex>) {
        let log = reader::family(self.db(), family::LOG);
        let (from, to) = (range.start.get(), range.end.get());
        if to.saturating_sub(from) <= REMOVED_SINGLY {
            (from..to).for_each(|index| batch.delete_cf(log, entry::key(shard, LogIndex(index))));
        } else {
            batch.delete_range_cf(log, entry::key(shard, range.start), entry::key(shard, range.end));
        }
    }

    fn sync(&self) -> Result<(), String> {
        Ok(())
    }

    fn read(
        &self,
        shard: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
    ) -> Result<Vec<LogRow>, ReadError> {
        let mut rows: Vec<LogRow> = Vec::new();
        if range.start >= range.end {
            return Ok(rows);
        }
        let mut options = Reader::options();
        options.set_iterate_upper_bound(entry::key(shard, range.end).to_vec());
        // A log is read from its end to its beginning once; keeping it would push out what is read often.
        options.fill_cache(false);
        if max_bytes >= READ_AHEAD_FROM {
            options.set_readahead_size(READ_AHEAD);
        }
        let log = reader::family(self.db(), family::LOG);
        let mut iterator = self.db().raw_iterator_cf_opt(log, options);
        iterator.seek(entry::key(shard, range.start));
        let mut bytes = 0;
        while let Some((key, value)) = iterator.item() {
            let index = self.index_of(shard, key)?;
            if let Some(before) = rows.last().filter(|row| row.id.index.next() != index) {
                let why = format!("the one after {} is missing: a log has no holes", before.id.index);
                return Err(self.reader.corrupt(shard, Some(index), WHAT, why));
            }
            bytes += value.len();
            if !rows.is_empty() && bytes > max_bytes {
                return Ok(rows);
            }
            rows.push(self.decode(shard, index, value)?);
            iterator.next();
        }
        iterator.status().map_err(|error| self.reader.failed(shard, WHAT, &error))?;
        Ok(rows)
    }

    fn last_below(&self, shard: ShardId, end: Option<LogIndex>) -> Result<Option<LogId>, ReadError> {
        let mut options = Reader::options();
        options.set_iterate_lower_bound(entry::key(shard, LogIndex(0)).to_vec());
        let end = end.map_or_else(|| entry::keys_end(shard), |end| entry::key(shard, end).to_vec());
        options.set_iterate_upper_bound(end);
        let log = reader::family(self.db(), family::LOG);
        let mut iterator = self.db().raw_iterator_cf_opt(log, options);
        iterator.seek_to_last();
        let last = match iterator.item() {
            Some((key, value)) => Some(self.decode(shard, self.index_of(shard, key)?, value)?.id),
            None => None,
        };
        iterator.status().map_err(|error| self.reader.failed(shard, WHAT, &error))?;
        Ok(last)
    }

    fn first(&self, shard: ShardId) -> Result<Option<LogIndex>, ReadError> {
        let mut options = Reader::options();
        options.set_iterate_upper_bound(entry::keys_end(shard));
        let log = reader::family(self.db(), family::LOG);
        let mut iterator = self.db().raw_iterator_cf_opt(log, options);
        iterator.seek(entry::key(shard, LogIndex(0)));
        let first = iterator.key().map(|key| self.index_of(shard, key)).transpose()?;
        iterator.status().map_err(|error| self.reader.failed(shard, WHAT, &error))?;
        Ok(first)
    }

    fn reclaim(&self, shard: ShardId, upto: LogIndex) {
        let log = reader::family(self.db(), family::LOG);
        let mut options = rocksdb::CompactOptions::default();
        // Beside the automatic ones, not instead of them.
        options.set_exclusive_manual_compaction(false);
        // Dropped ranges that already sank to the last level must be rewritten there to go.
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::ForceOptimized);
        let (from, to) = (entry::key(shard, LogIndex(0)), entry::key(shard, upto.next()));
        self.db().compact_range_cf_opt(log, Some(from), Some(to), &options);
    }
}
