//! What is on disk.
//!
//! A node has one store. Every shard writes through it: many small writes of many shards become one batch
//! and one sync, in the order they came. Votes, log rows and purge points are synced before anybody hears
//! of them; what applying a command writes is not, because the log can replay it.
//!
//! Start with [`interface`] (what can be asked) and [`write`] (what can be written), then [`memory`], the
//! whole in a page.
//!
//! This crate does not know what a row means, and has never heard of Raft.
//!
//! # Invariants
//!
//! - `done` of a synced write is called only after the sync.
//! - A shard's log has no holes (asserted by [`tails`] when written, checked again when read).
//! - After a failed sync nothing more is written until the process restarts.

pub mod interface;
pub mod write;
pub mod error;
pub mod identity;
pub mod tails;
pub mod memory;

pub use error::{OpenError, ReadError, WriteError};
pub use identity::Identity;
pub use interface::{Applied, DiskUsage, Purged, Room, ShardMarks, Store};
pub use memory::MemoryStore;
pub use write::{Done, EntryKind, LogRow, Write};
