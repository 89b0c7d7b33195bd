//! A state row: the machine's key behind the shard, its opaque value sealed.

use super::seal;
use bytes::Bytes;
use flotilla_types::ShardId;

const VERSION: u8 = 1;
const KIND: u8 = b's';
/// Bytes before the machine's key.
const PREFIX: usize = 5;

/// Shard, `s`, the machine's key.
pub(crate) fn key(shard: ShardId, key: &[u8]) -> Vec<u8> {
    [&shard.get().to_be_bytes()[..], &[KIND], key].concat()
}

/// The key after the last a shard can have.
pub(crate) fn keys_end(shard: ShardId) -> Vec<u8> {
    [&shard.get().to_be_bytes()[..], &[KIND + 1]].concat()
}

pub(crate) fn encode(full_key: &[u8], value: &[u8]) -> Vec<u8> {
    seal::seal(full_key, VERSION, value)
}

/// The machine's key and value.
pub(crate) fn decode(full_key: &[u8], value: Bytes) -> Result<(Bytes, Bytes), String> {
    let key = full_key.get(PREFIX..).ok_or("its key is too short")?;
    Ok((Bytes::copy_from_slice(key), seal::open_bytes(full_key, VERSION, value)?))
}
