//! How far a shard's state has come: term and index (8 bytes each), then the membership, opaque.

use super::{Fields, seal};
use crate::interface::Applied;
use bytes::Bytes;
use flotilla_types::{LogId, LogIndex, ShardId, Term};

const VERSION: u8 = 1;

/// Shard, `a`.
pub(crate) fn key(shard: ShardId) -> [u8; 5] {
    let [a, b, c, d] = shard.get().to_be_bytes();
    [a, b, c, d, b'a']
}

pub(crate) fn encode(shard: ShardId, id: LogId, membership: &[u8]) -> Vec<u8> {
    let body = [&id.term.get().to_le_bytes(), &id.index.get().to_le_bytes(), membership].concat();
    seal::seal(&key(shard), VERSION, &body)
}

pub(crate) fn decode(shard: ShardId, value: Bytes) -> Result<Applied, String> {
    let body = seal::open_bytes(&key(shard), VERSION, value)?;
    let mut fields = Fields(&body);
    let id = (|| Some(LogId { term: Term(fields.u64()?), index: LogIndex(fields.u64()?) }))();
    Ok(Applied { id: id.ok_or("it has no position")?, membership: body.slice(16..) })
}
