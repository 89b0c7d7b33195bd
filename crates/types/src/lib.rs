//! The vocabulary: ids, names, offsets, record batches, errors, limits, clock and chance.
//!
//! Everything that two crates must agree on and that is not a rule, a row or a wire message is here.
//!
//! Start with [`id`] and [`offset`] (the numbers), then [`batch`] (the unit of everything), [`change`]
//! (what applying a command writes) and [`error`] (what a failed call says and what to do about it).
//!
//! This crate does not know async, I/O or serialization frameworks; the few protobuf bytes it reads, in
//! [`record`], it walks by hand, because a batch is checked on the hot path and never decoded there.
//!
//! # Invariants
//!
//! - A number with a meaning is a type: `Offset` and `LogIndex` never mix (compiler).
//! - Length fields from outside are never trusted (`record::tests`).

pub mod batch;
pub mod bytesize;
pub mod change;
pub mod compression;
pub mod duration;
pub mod error;
pub mod group;
pub mod id;
pub mod limits;
pub mod name;
pub mod offset;
pub mod principal;
pub mod random;
pub mod record;
pub mod time;
pub mod topic;

pub use batch::{Batch, BatchHeader, Compression, ProducerStamp};
pub use change::{ChangeSet, IndexRow, StateWrite};
pub use error::{Action, Failure, LeaderHint, Reason};
pub use group::{GroupEpoch, GroupId, InstanceId, MemberId};
pub use id::{
    ClusterId, NodeId, PartitionId, ProducerEpoch, ProducerId, Sequence, ShardId, StoreId, TopicId,
};
pub use name::TopicName;
pub use offset::{LogId, LogIndex, Offset, Term};
pub use principal::Principal;
pub use random::Random;
pub use time::{Clock, Monotonic, TimestampMs};
