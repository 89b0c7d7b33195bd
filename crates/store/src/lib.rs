//! What is on disk.
//!
//! A node has one store. Every shard writes through it: many small writes of many shards become one batch
//! and one sync, in the order they came. Votes and log rows are synced before anybody hears of them; what
//! applying a command writes is not, because the log can replay it. A store that lost what it acknowledged
//! says so at the next start and is not used.
//!
//! Start with [`interface`] (what can be asked) and [`mod@write`] (what can be written); then `rows`, which
//! lists each kind of row, and `log_writer`, where they are written. [`memory`] is the whole in a page.
//!
//! This crate does not know what a row means, and has never heard of Raft.
//!
//! # Invariants
//!
//! - `done` of a synced write is called only after the sync (power-cut tests).
//! - A shard's log has no holes (asserted by `tails` when written, checked again by `log_rows` when read).
//! - State is never ahead of the log (asserted by `tails`, checked at the start by `checks`).
//! - After a failed sync nothing more is written until the process restarts (`tests::failures`).
//! - What was acknowledged is there after a start, or the store is quarantined (`tests::damage`).

mod ballast;
mod checks;
mod compaction;
pub mod config;
mod database;
mod directory;
mod disk;
pub mod error;
pub mod fault;
pub mod identity;
pub mod interface;
mod log_rows;
mod log_writer;
mod marker;
pub mod memory;
pub mod metrics;
pub mod opening;
pub mod quarantine;
mod queue;
mod reader;
mod rocks;
mod rows;
mod tails;
#[cfg(test)]
mod tests;
pub mod write;

pub use config::Config;
pub use error::{OpenError, ReadError, WriteError};
pub use identity::Identity;
pub use interface::{Applied, DiskUsage, Purged, Room, ShardMarks, Store};
pub use log_writer::OnFatal;
pub use memory::MemoryStore;
pub use metrics::Metrics;
pub use opening::{Expected, OpenMode, Opened};
pub use quarantine::{Quarantine, Why};
pub use rocks::RocksStore;
pub use write::{Done, EntryKind, LogRow, Write};
