//! A checkpoint: a shard's small state at a log index, opaque, sealed.

use super::seal;
use bytes::Bytes;
use flotilla_types::{LogIndex, ShardId};

const VERSION: u8 = 1;

/// Shard, log index.
pub(crate) fn key(shard: ShardId, at: LogIndex) -> [u8; 12] {
    super::place(shard, at.get())
}

pub(crate) fn encode(shard: ShardId, at: LogIndex, checkpoint: &[u8]) -> Vec<u8> {
    seal::seal(&key(shard, at), VERSION, checkpoint)
}

pub(crate) fn decode(shard: ShardId, at: LogIndex, value: Bytes) -> Result<Bytes, String> {
    seal::open_bytes(&key(shard, at), VERSION, value)
}
