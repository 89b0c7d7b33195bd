//! A shard's vote: opaque bytes, sealed.

use super::seal;
use bytes::Bytes;
use flotilla_types::ShardId;

const VERSION: u8 = 1;

/// `m`, shard, `v`.
pub(crate) fn key(shard: ShardId) -> [u8; 6] {
    let [a, b, c, d] = shard.get().to_be_bytes();
    [b'm', a, b, c, d, b'v']
}

pub(crate) fn encode(shard: ShardId, vote: &[u8]) -> Vec<u8> {
    seal::seal(&key(shard), VERSION, vote)
}

pub(crate) fn decode(shard: ShardId, value: Bytes) -> Result<Bytes, String> {
    seal::open_bytes(&key(shard), VERSION, value)
}
