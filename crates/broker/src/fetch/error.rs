//! Why a partition was not read.

use crate::routes::RouteError;
use flotilla_store::ReadError;
use flotilla_types::error::Describe;
use flotilla_types::{Failure, Offset, Reason, ShardId};
use std::time::Duration;

/// Why a partition (or a whole fetch) was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such partition, or it is led elsewhere.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The log does not hold this offset.
    #[error("offset {asked} is out of range, valid is {log_start} to {high_watermark}")]
    OutOfRange {
        /// Asked for.
        asked: Offset,
        /// First offset that is kept.
        log_start: Offset,
        /// First offset that is not committed.
        high_watermark: Offset,
    },
    /// The offset is beyond what this node knows, and it could not confirm that it still leads.
    #[error("leadership could not be confirmed in time")]
    Unconfirmed,
    /// More than one request may ask for.
    #[error("request names {asked} partitions, limit {limit}")]
    TooManyPartitions {
        /// Asked for.
        asked: usize,
        /// The limit.
        limit: usize,
    },
    /// More reads wait than the pool allows.
    #[error("reads from disk are at their limit: {0} waiting")]
    Overloaded(usize),
    /// The disk did not give back what was written.
    #[error("shard {shard} cannot be read at {at}: {why}")]
    Corrupt {
        /// Which shard.
        shard: ShardId,
        /// Which offset.
        at: Offset,
        /// How it shows.
        why: String,
    },
    /// The store could not read.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl Describe for Error {
    fn describe(&self) -> Failure {
        let message = self.to_string();
        match self {
            Self::Route(error) => error.describe(),
            Self::OutOfRange { log_start, high_watermark, .. } => {
                Failure::new(Reason::OffsetOutOfRange, message)
                    .with("log_start_offset", log_start)
                    .with("high_watermark", high_watermark)
            }
            Self::Unconfirmed => {
                Failure::new(Reason::LeaderNotAvailable, message).retry_after(Duration::from_millis(50))
            }
            Self::TooManyPartitions { .. } => Failure::new(Reason::InvalidArgument, message),
            Self::Overloaded(_) => {
                Failure::new(Reason::Overloaded, message).retry_after(Duration::from_millis(100))
            }
            Self::Corrupt { .. } | Self::Store(_) => {
                Failure::new(Reason::StorageFailure, message).retry_after(Duration::from_secs(1))
            }
        }
    }
}
