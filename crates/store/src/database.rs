//! The database: its options, each with its reason, and its column families.

use crate::config::Config;
use crate::rows::family;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, WaitForCompactOptions,
};
use std::path::Path;
use std::sync::Arc;

/// How to treat a database that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Make it, or finish making it.
    Create,
    /// Read it without changing a byte of it.
    Look,
    /// Read it up to the first damage in the write-ahead log, without changing a byte of it.
    LookUpToDamage,
    /// Open it to write.
    Write,
    /// Open it to write and drop the write-ahead log from the first damage on, which is known to lie behind
    /// everything acknowledged.
    WriteUpToDamage,
}

/// Opens the database in `path`.
pub(crate) fn open(path: &Path, config: &Config, access: Access) -> Result<DB, rocksdb::Error> {
    let options = options(config, access);
    let families = families(config);
    match access {
        Access::Look | Access::LookUpToDamage => {
            DB::open_cf_descriptors_read_only(&options, path, families, false)
        }
        Access::Create | Access::Write | Access::WriteUpToDamage => {
            DB::open_cf_descriptors(&options, path, families)
        }
    }
}

/// Stops flushing and compacting, so that the handle can be dropped at once.
pub(crate) fn quiesce(db: &Arc<DB>) {
    db.cancel_all_background_work(true);
    let mut options = WaitForCompactOptions::default();
    options.set_abort_on_pause(true);
    if let Err(error) = db.wait_for_compact(&options) {
        tracing::debug!(%error, "compactions were cut short");
    }
}

fn options(config: &Config, access: Access) -> Options {
    let mut options = Options::default();
    // A database that vanished must be noticed, not made anew.
    options.create_if_missing(access == Access::Create);
    options.create_missing_column_families(access == Access::Create);

    // What follows keeps the order and the tail of the write-ahead log. One writer submits in order; none
    // of the modes that trade this order for speed is on.
    options.set_wal_recovery_mode(match access {
        // The default, PointInTime, silently drops everything after a flipped bit, acknowledged or not
        // (measured). This mode forgives a torn last record only.
        Access::Create | Access::Look | Access::Write => DBRecoveryMode::TolerateCorruptedTailRecords,
        Access::LookUpToDamage | Access::WriteUpToDamage => DBRecoveryMode::PointInTime,
    });
    options.set_paranoid_checks(true);
    // Covers write-ahead logs that are closed; the marker covers the live one.
    options.set_track_and_verify_wals_in_manifest(true);
    // A recycled log ends in old records, which this recovery mode cannot tell from damage.
    options.set_recycle_log_file_num(0);
    options.set_enable_pipelined_write(false);
    options.set_unordered_write(false);
    options.set_manual_wal_flush(false);
    // One thread writes, so the concurrent memtable only costs.
    options.set_allow_concurrent_memtable_write(false);

    // A family that is rarely written would keep every log since alive; beyond this it is flushed.
    options.set_max_total_wal_size(config.wal_max_bytes.0);
    // Hands dirty pages to the disk steadily instead of all at a file's end, where they would delay syncs.
    options.set_bytes_per_sync(1 << 20);
    options.set_max_background_jobs(config.background_jobs as i32);
    options.set_max_open_files(config.files_open_max as i32);
    options.set_db_write_buffer_size(0);
    // RocksDB's own diary: small, few and quiet.
    options.set_max_log_file_size(8 << 20);
    options.set_keep_log_file_num(4);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn families(config: &Config) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(config.cache_bytes());
    let of = |name: &str| match name {
        family::LOG => log_family(config, &cache),
        _ => small_family(config, &cache),
    };
    family::ALL.into_iter().map(|name| ColumnFamilyDescriptor::new(name, of(name))).collect()
}

fn log_family(config: &Config, cache: &Cache) -> Options {
    let mut options = base_family(cache);
    options.set_write_buffer_size(config.log_memtable_bytes());
    // Three may wait for the disk while one is written: fewer stalled when it was measured.
    options.set_max_write_buffer_number(4);
    // Payloads go to files of their own, so that compaction moves keys and references only. Without that
    // each byte was written 2.7 to 3.3 times within seconds, and growing.
    options.set_enable_blob_files(true);
    options.set_min_blob_size(config.blob_min_bytes.0);
    options.set_blob_file_size(config.blob_file_bytes.0);
    // Batches arrive compressed by their makers.
    options.set_blob_compression_type(DBCompressionType::None);
    // Every flush mixes all shards, so one that keeps its log pins what others purged until their rest is
    // moved. Measured: 590 MiB to 267 with it, where 280 to 228 was all without.
    options.set_enable_blob_gc(true);
    options.set_blob_gc_age_cutoff(f64::from(config.blob_gc_percent) / 100.0);
    options
}

fn small_family(config: &Config, cache: &Cache) -> Options {
    let mut options = base_family(cache);
    options.set_write_buffer_size(config.small_memtable_bytes());
    options.set_max_write_buffer_number(2);
    options
}

fn base_family(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Index blocks count against the cache too, so that memory stays what was configured.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Retention per shard needs compactions that drop deleted ranges; FIFO and none never do (measured).
    options.set_compaction_style(rocksdb::DBCompactionStyle::Level);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::None);
    options
}
