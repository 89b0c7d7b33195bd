//! A store that must not be used: why, and what to do about it.
//!
//! Records it acknowledged may be gone from it, so its node must not vote, acknowledge or campaign: it
//! might elect a leader that lacks them. Nothing in it is deleted or repaired.

use crate::error::ReadError;
use crate::identity::Identity;
use flotilla_types::{LogId, LogIndex, ShardId};
use std::fmt;
use std::path::PathBuf;

/// A store that must not be used.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// Its directory.
    pub path: PathBuf,
    /// Whose it is, if that can be read.
    pub identity: Option<Identity>,
    /// Why.
    pub why: Why,
}

/// Why a store must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There is a database, and no file that says whose.
    #[error("the identity file is missing")]
    IdentityMissing,
    /// The identity file changed.
    #[error("the identity file is unreadable: {0}")]
    IdentityUnreadable(String),
    /// File and database belong to different stores.
    #[error("the identity file says {file}, the database says {database}")]
    IdentitiesDiffer {
        /// What the file says.
        file: String,
        /// What the database says.
        database: String,
    },
    /// The marker is gone or damaged, so nobody knows how far the log must come.
    #[error("the durable-tail marker cannot be believed: {0}")]
    Marker(String),
    /// What was synced is gone.
    #[error("the log ends at batch {found}, but batch {marker} was synced: acknowledged records are missing")]
    Behind {
        /// Last batch in the database.
        found: u64,
        /// Last batch known to be synced.
        marker: u64,
    },
    /// The database cannot be read.
    #[error("the database cannot be read: {0}")]
    Database(String),
    /// A shard's state has entries its log never had.
    #[error("shard {shard} applied {applied}, but its log ends at {end:?}", end = end.map(LogIndex::get))]
    AppliedAhead {
        /// The shard.
        shard: ShardId,
        /// How far its state is.
        applied: LogId,
        /// Last row or purge point.
        end: Option<LogIndex>,
    },
    /// Entries are missing.
    #[error("shard {shard} has a hole in its log: {found} follows {after:?}", after = after.map(LogIndex::get))]
    Hole {
        /// The shard.
        shard: ShardId,
        /// Last before the hole, or the purge point.
        after: Option<LogIndex>,
        /// First after it.
        found: LogIndex,
    },
    /// A row is damaged.
    #[error(transparent)]
    Row(#[from] ReadError),
}

impl Quarantine {
    /// What an operator does, as commands where there are any.
    pub fn advice(&self) -> String {
        let path = self.path.display();
        format!(
            "keep the directory for examination: mv {path} {path}.quarantined; \
             give the node a new node_id in its configuration, because it may have voted for what is missing here; \
             start it with an empty directory: flotilla-server --config FILE --init; \
             its replicas are copied from the others"
        )
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store in {} is quarantined: {}", self.path.display(), self.why)
    }
}
