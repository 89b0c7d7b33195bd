//! Why a batch was not acknowledged, and whether it may be in the log all the same.

use super::RecordError;
use crate::routes::RouteError;
use flotilla_machine::partitions::Refusal;
use flotilla_types::compression::DecompressError;
use flotilla_types::error::Describe;
use flotilla_types::record::WalkError;
use flotilla_types::{Failure, LeaderHint, Reason};
use std::time::Duration;

/// Why a batch was not acknowledged. All but those marked indefinite mean: it is not in the log.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No such partition, or it is led elsewhere.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Leadership went while the batch waited; it was not written.
    #[error("node is no longer leader of the partition")]
    LeaderMoved(Option<LeaderHint>),
    /// Nobody can take it right now.
    #[error("partition cannot take writes now: {0}")]
    Unavailable(String),
    /// More bytes than the topic allows.
    #[error("batch has {bytes} bytes, limit {limit}")]
    TooLarge {
        /// Of the body as sent.
        bytes: usize,
        /// `max_batch_bytes` of the topic.
        limit: usize,
    },
    /// The header says what cannot be.
    #[error("batch header: {0}")]
    Header(&'static str),
    /// The bytes are not those its maker sealed.
    #[error("batch crc32c is {said:#010x}, its bytes give {found:#010x}")]
    Checksum {
        /// As in the batch.
        said: u32,
        /// As computed here.
        found: u32,
    },
    /// The body cannot be decompressed within bounds.
    #[error(transparent)]
    Compression(#[from] DecompressError),
    /// The body is not what the header says.
    #[error(transparent)]
    Body(#[from] WalkError),
    /// What only a later version understands.
    #[error("{0} is not supported by this version")]
    Unsupported(&'static str),
    /// Too much is under way.
    #[error("{what} is at its limit of {limit}")]
    Overloaded {
        /// Which bound.
        what: &'static str,
        /// Its value, with unit.
        limit: String,
        /// Not before this.
        retry_after: Duration,
    },
    /// No room on the disk.
    #[error("disk of node is nearly full: {free} bytes free, limit {limit}")]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes that must be free.
        limit: u64,
    },
    /// The time was over before the batch was proposed.
    #[error("deadline passed before the batch was proposed")]
    TooLate,
    /// Decided by the partition itself.
    #[error("{0}")]
    Refused(Refusal),
    /// Proposed, but no outcome in time. Indefinite.
    #[error("no outcome within {0:?}, the batch may yet be appended")]
    TimedOut(Duration),
    /// Proposed, then leadership was lost before the outcome was known. Indefinite.
    #[error("outcome unknown: {0}")]
    Lost(String),
    /// The shard stopped on this node.
    #[error("partition is broken on this node: {0}")]
    Broken(String),
    /// This node serves no data.
    #[error("node is quarantined: {0}")]
    Quarantined(String),
}

impl Error {
    /// Whether the batch may be in the log all the same.
    pub fn is_indefinite(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Lost(_))
    }

    /// What is wrong with single records, where that is why the batch was refused.
    pub fn record_errors(&self) -> Vec<RecordError> {
        let one = |index: u32| vec![RecordError { index, failure: self.describe() }];
        match self {
            Self::Body(
                WalkError::RecordTooLarge { index, .. }
                | WalkError::TooManyHeaders { index }
                | WalkError::OffsetDelta { index },
            ) => one(*index),
            Self::Refused(Refusal::MessageIdTwice { second, .. }) => one(*second),
            Self::Refused(Refusal::MessageIdsKnown { known }) => known
                .iter()
                .map(|known| {
                    let message = format!("message id is known already, first at {}", known.first_offset);
                    let failure = Failure::new(Reason::AlreadyExists, message);
                    RecordError { index: known.record, failure: failure.with("offset", known.first_offset) }
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

impl Describe for Error {
    fn describe(&self) -> Failure {
        let message = self.to_string();
        let retry = Duration::from_millis(50);
        match self {
            Self::Route(error) => error.describe(),
            Self::LeaderMoved(hint) => Failure::new(Reason::NotLeader, message).leader(hint.clone()),
            Self::Unavailable(_) => Failure::new(Reason::LeaderNotAvailable, message).retry_after(retry),
            Self::TooLarge { bytes, limit } => {
                Failure::new(Reason::BatchTooLarge, message).with("bytes", bytes).with("limit", limit)
            }
            Self::Header(_) => Failure::new(Reason::InvalidArgument, message),
            Self::Checksum { .. } | Self::Compression(DecompressError::Corrupt { .. }) => {
                Failure::new(Reason::CorruptBatch, message)
            }
            Self::Compression(DecompressError::TooLarge { limit, .. }) => {
                Failure::new(Reason::BatchTooLarge, message).with("limit", limit)
            }
            Self::Body(error) => body(error, message),
            Self::Unsupported(_) => Failure::new(Reason::UnsupportedVersion, message),
            Self::Overloaded { retry_after, .. } => {
                Failure::new(Reason::Overloaded, message).retry_after(*retry_after)
            }
            Self::DiskFull { .. } => {
                Failure::new(Reason::DiskFull, message).retry_after(Duration::from_secs(5))
            }
            Self::TooLate => Failure::new(Reason::RequestTimedOut, message),
            Self::Refused(refusal) => refusal.describe(),
            Self::TimedOut(_) | Self::Lost(_) => Failure::new(Reason::RequestTimedOut, message).indefinite(),
            Self::Broken(_) | Self::Quarantined(_) => {
                Failure::new(Reason::StorageFailure, message).retry_after(Duration::from_secs(1))
            }
        }
    }
}

fn body(error: &WalkError, message: String) -> Failure {
    match error {
        WalkError::Malformed { .. } | WalkError::Count { .. } => Failure::new(Reason::CorruptBatch, message),
        WalkError::RecordTooLarge { index, .. } => {
            Failure::new(Reason::BatchTooLarge, message).with("record", index)
        }
        WalkError::TooManyRecords => Failure::new(Reason::BatchTooLarge, message),
        WalkError::TooManyHeaders { index } | WalkError::OffsetDelta { index } => {
            Failure::new(Reason::InvalidArgument, message).with("record", index)
        }
    }
}
