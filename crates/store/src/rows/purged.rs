//! The purge point: the last index that went (8 bytes), then the mark, opaque.

use super::{Fields, seal};
use crate::interface::Purged;
use bytes::Bytes;
use flotilla_types::{LogIndex, ShardId};

const VERSION: u8 = 1;

/// `m`, shard, `p`.
pub(crate) fn key(shard: ShardId) -> [u8; 6] {
    let [a, b, c, d] = shard.get().to_be_bytes();
    [b'm', a, b, c, d, b'p']
}

pub(crate) fn encode(shard: ShardId, upto: LogIndex, mark: &[u8]) -> Vec<u8> {
    let body = [&upto.get().to_le_bytes(), mark].concat();
    seal::seal(&key(shard), VERSION, &body)
}

pub(crate) fn decode(shard: ShardId, value: Bytes) -> Result<Purged, String> {
    let body = seal::open_bytes(&key(shard), VERSION, value)?;
    let upto = Fields(&body).u64().ok_or("it has no index")?;
    Ok(Purged { upto: LogIndex(upto), mark: body.slice(8..) })
}
