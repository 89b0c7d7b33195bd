//! What a shard replicates: the header of a log entry. A batch's body is not in it, it is the payload.
//!
//! The first byte is a version, the second the kind; numbers are little-endian. Kinds and versions are
//! never reused, and a command is always written in the lowest version that can carry it, so that an
//! entry has the same bytes in every build that can read it. Two builds may then replicate side by side
//! as long as only commands known to both are proposed (`controller::features` says which those are).

use crate::controller;
use crate::encoding::{Bad, Field, Reader, fields};
use crate::partitions::Settings;
use bytes::Bytes;
use flotilla_types::{BatchHeader, LogIndex, Offset, TimestampMs};

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Partition: append the batch whose body is the entry's payload.
    Append(Append),
    /// Partition: let the log start here. Moves exactly and never back; bytes go with the next checkpoint.
    Trim {
        /// First offset to keep.
        log_start: Offset,
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Partition: make a checkpoint now, on quiet partitions where bytes alone would not.
    Checkpoint {
        /// The leader's clock.
        now: TimestampMs,
    },
    /// Any shard: compare the hash chain with the proposer's.
    Audit {
        /// A multiple of [`crate::chain::MARK_EVERY`].
        at: LogIndex,
        /// The proposer's chain there.
        chain: u128,
    },
    /// Partition: from here on, these limits.
    Configure(Settings),
    /// Controller: see there.
    Controller(controller::Command),
    /// Coordinator: see there.
    Group(crate::groups::Command),
}

/// A batch to append. The broker has checked the batch, hashed its message ids and clamped the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's clock when it proposed. Raised to the log's time if that is later.
    pub append_time: TimestampMs,
    /// Append only if the first record would get this offset.
    pub expected_offset: Option<Offset>,
    /// The batch, but for its body.
    pub batch: BatchHeader,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Record number within the batch and 128-bit hash of its message id, for records that have one, in
    /// record order. Empty where the topic has no window.
    pub message_ids: Vec<(u32, u128)>,
    /// How long the ids are remembered, from now. Absent = not at all.
    pub dedup_window_ms: Option<u64>,
}

fields!(Append { append_time, expected_offset, batch, body_bytes, message_ids, dedup_window_ms });

/// Why an entry's header could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Written by a later build. Stop before applying; nothing is wrong with the entry.
    #[error("command version {version} kind {kind} is unknown to this build")]
    Unknown {
        /// As found.
        version: u8,
        /// As found.
        kind: u8,
    },
    /// Not a command.
    #[error("command has {why}")]
    Corrupt {
        /// What is wrong.
        why: &'static str,
    },
}

impl From<Bad> for Malformed {
    fn from(Bad(why): Bad) -> Self {
        Self::Corrupt { why }
    }
}

const VERSION: u8 = 1;

/// The second byte. The controller's are from 32 on, in its own file.
mod kind {
    pub const APPEND: u8 = 1;
    pub const TRIM: u8 = 2;
    pub const CHECKPOINT: u8 = 3;
    pub const AUDIT: u8 = 4;
    pub const CONFIGURE: u8 = 5;
}

impl Command {
    /// As it stands in the entry's header.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(128);
        self.encode_to(&mut out);
        out.into()
    }

    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Append(append) => {
                out.push(kind::APPEND);
                append.put(out);
            }
            Self::Trim { log_start, now } => {
                out.push(kind::TRIM);
                log_start.put(out);
                now.put(out);
            }
            Self::Checkpoint { now } => {
                out.push(kind::CHECKPOINT);
                now.put(out);
            }
            Self::Audit { at, chain } => {
                out.push(kind::AUDIT);
                at.put(out);
                chain.put(out);
            }
            Self::Configure(settings) => {
                out.push(kind::CONFIGURE);
                settings.put(out);
            }
            Self::Controller(command) => command.encode_to(out),
            Self::Group(command) => command.encode_to(out),
        }
    }

    /// Reads what [`Command::encode`] wrote, in this build or an earlier one, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (version, kind) = (u8::take(&mut reader)?, u8::take(&mut reader)?);
        if version != VERSION {
            return Err(Malformed::Unknown { version, kind });
        }
        let command = match kind {
            kind::APPEND => Self::Append(Field::take(&mut reader)?),
            kind::TRIM => Self::Trim { log_start: Field::take(&mut reader)?, now: Field::take(&mut reader)? },
            kind::CHECKPOINT => Self::Checkpoint { now: Field::take(&mut reader)? },
            kind::AUDIT => Self::Audit { at: Field::take(&mut reader)?, chain: Field::take(&mut reader)? },
            kind::CONFIGURE => Self::Configure(Field::take(&mut reader)?),
            _ => match controller::Command::take(kind, &mut reader)? {
                Some(command) => Self::Controller(command),
                None => match crate::groups::Command::take(kind, &mut reader)? {
                    Some(command) => Self::Group(command),
                    None => return Err(Malformed::Unknown { version, kind }),
                },
            },
        };
        reader.end()?;
        Ok(command)
    }
}
