//! Why a batch was not appended. All of these are definite: it never will be by that command.
//! A refused batch does not move its producer's sequence on: the next batch starts where this one did.

use flotilla_types::error::Describe;
use flotilla_types::{Action, Failure, Offset, ProducerEpoch, ProducerId, Reason, Sequence};

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A newer holder of the producer id has appended.
    #[error("producer {producer} has epoch {current} here, the batch has {given}")]
    InvalidProducerEpoch {
        /// Whose batch.
        producer: ProducerId,
        /// The batch's epoch.
        given: ProducerEpoch,
        /// The newest seen.
        current: ProducerEpoch,
    },
    /// A batch before this one is missing, or this one is older than what is remembered.
    #[error("producer {producer} sent sequence {given}, expected {expected}")]
    OutOfOrderSequence {
        /// Whose batch.
        producer: ProducerId,
        /// The batch's first sequence.
        given: Sequence,
        /// The next one in order.
        expected: Sequence,
    },
    /// Nothing is known of this producer, and the batch is not its first.
    #[error("producer {producer} is not known here and sent sequence {given}, expected 0")]
    ProducerStateExpired {
        /// Whose batch.
        producer: ProducerId,
        /// The batch's first sequence.
        given: Sequence,
    },
    /// No producer has been idle for long enough to make room for this one.
    #[error("partition remembers {limit} producers and none is idle, limit {limit}")]
    TooManyProducers {
        /// The limit.
        limit: u32,
    },
    /// The batch would not have got the offset that was asked for.
    #[error("the next offset is {actual}, expected {expected}")]
    OffsetConflict {
        /// What was asked for.
        expected: Offset,
        /// What it would have been.
        actual: Offset,
    },
    /// Some records are in the log and others are not, or not side by side as here.
    #[error("{} of the batch's message ids are known already", known.len())]
    MessageIdsKnown {
        /// Which ones, in record order.
        known: Vec<KnownMessageId>,
    },
    /// One message id stands on two records of the batch.
    #[error("records {first} and {second} of the batch have the same message id")]
    MessageIdTwice {
        /// The earlier record's number.
        first: u32,
        /// The later record's number.
        second: u32,
    },
    /// No room for the batch's message ids until older ones leave the window.
    #[error("partition remembers {known} message ids, limit {limit}")]
    TooManyMessageIds {
        /// Remembered now.
        known: usize,
        /// The limit.
        limit: usize,
    },
    /// The command contradicts itself. The broker should have seen it.
    #[error("command has {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
}

/// A record that is in the log already, by its message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownMessageId {
    /// The record's number in the refused batch, from 0.
    pub record: u32,
    /// Offset of the first record with that id.
    pub first_offset: Offset,
}

impl Describe for Refusal {
    fn describe(&self) -> Failure {
        let reason = match self {
            Self::InvalidProducerEpoch { .. } => Reason::InvalidProducerEpoch,
            Self::OutOfOrderSequence { .. } => Reason::OutOfOrderSequence,
            Self::ProducerStateExpired { .. } => Reason::ProducerStateExpired,
            Self::TooManyProducers { .. } | Self::TooManyMessageIds { .. } => Reason::QuotaExceeded,
            Self::OffsetConflict { .. } => Reason::OffsetConflict,
            Self::MessageIdsKnown { .. } => Reason::AlreadyExists,
            Self::MessageIdTwice { .. } | Self::Malformed { .. } => Reason::InvalidRecord,
        };
        let failure = Failure::new(reason, self.to_string());
        match self {
            // Without a transaction there is none to abort: the id must be asked for again.
            Self::InvalidProducerEpoch { current, .. } => {
                failure.action(Action::ReinitProducer).with("current_epoch", current)
            }
            Self::OutOfOrderSequence { expected, .. } => failure.with("expected_sequence", expected),
            Self::OffsetConflict { actual, .. } => failure.with("actual_offset", actual),
            _ => failure,
        }
    }
}
