//! What can go wrong: with a write, with a read, at opening.

use flotilla_types::{LogIndex, ShardId};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a write was not done. All but [`WriteError::QueueFull`] leave it unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store was closed, or its simulated machine lost power.
    #[error("the store is closed")]
    Closed,
    /// A write, a sync or the marker failed, this one or an earlier one. Nothing is written any more until
    /// the process starts again.
    #[error("the store stopped writing: {0}")]
    Failed(Arc<str>),
    /// The caller did not [`reserve`](crate::Store::reserve), and the queue reached its last bound. Definite.
    #[error("the write queue is full: {queued_bytes} bytes in {queued} writes")]
    QueueFull {
        /// Writes that wait.
        queued: usize,
        /// Their weight.
        queued_bytes: usize,
    },
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Bytes on disk are not what was written. Do not serve the row; the replica has to be rebuilt.
    #[error("shard {shard}: {what} at {index:?} is corrupt: {why}", index = index.map(LogIndex::get))]
    Corrupt {
        /// Whose row.
        shard: ShardId,
        /// Its log index, where it has one.
        index: Option<LogIndex>,
        /// Which kind of row.
        what: &'static str,
        /// How it shows.
        why: String,
    },
    /// The database could not read.
    #[error("shard {shard}: reading {what} failed: {why}")]
    Io {
        /// Whose row.
        shard: ShardId,
        /// Which kind of row.
        what: &'static str,
        /// What the database says.
        why: String,
    },
}

/// Why a store was not opened. Nothing was changed on disk. A store that opens but must not be used is
/// [`Quarantined`](crate::Opened) instead.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory without a store needs an explicit wish to make one.
    #[error("{} holds no store; start once with --init to make one", .0.display())]
    Empty(PathBuf),
    /// Making a store in a directory that holds something else.
    #[error("{} is not empty and holds no store of ours ({found}); choose another directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// A file that is in the way.
        found: String,
    },
    /// The store belongs to another node or cluster than the configuration says.
    #[error("{} belongs to {found}, but the configuration says {expected}", path.display())]
    WrongIdentity {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Written by a newer program.
    #[error("{} has format {found}; this program reads up to {known}", path.display())]
    TooNew {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A setting that cannot work.
    #[error("setting {key}: {why}")]
    Config {
        /// Which.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// The file system said no.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The database said no, for a reason that is not damage.
    #[error("open the database in {}: {why}", path.display())]
    Database {
        /// The directory.
        path: PathBuf,
        /// What it said.
        why: String,
    },
}
