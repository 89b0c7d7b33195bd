//! Where: a record in its partition, an entry in its shard's log.

use crate::id::number;

number! {
    /// A record's place in its partition, from 0, dense: every offset below the high watermark and at or
    /// above the log start offset is one record.
    Offset(u64)
}
number! {
    /// An entry's place in its shard's Raft log. Several offsets share one entry (a batch); Raft's own
    /// entries and commands without records have an index and no offset.
    LogIndex(u64)
}
number! {
    /// A Raft leadership. At most one node leads a shard in a term; `leader_epoch` on the wire.
    Term(u64)
}

impl Offset {
    /// The offset that is `count` records later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// An entry of a shard's log: where it is and in which leadership it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The leadership that wrote it.
    pub term: Term,
    /// Its place.
    pub index: LogIndex,
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.term, self.index)
    }
}
