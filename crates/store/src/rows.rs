//! Every kind of row: its key and its value.
//!
//! | column family | key | value | file |
//! | --- | --- | --- | --- |
//! | `log` | `b` | number of the last batch written | [`batch_number`] |
//! | `log` | `e` shard, log index | an entry | [`entry`] |
//! | `log` | `i` | the store's identity | [`Identity`](crate::Identity) |
//! | `log` | `m` shard, `p` | purge point | [`purged`] |
//! | `log` | `m` shard, `v` | vote | [`vote`] |
//! | `index` | shard, base offset | where a batch is | [`index`] |
//! | `state` | shard, `a` | how far the state has come | [`applied`] |
//! | `state` | shard, `s`, the machine's key | a state row | [`state`] |
//! | `checkpoint` | shard, log index | a shard's small state | [`checkpoint`] |
//!
//! Numbers are big-endian in keys, so that a shard's rows are one range in order, and little-endian in
//! values. Each value starts with its version and carries a CRC32C that covers its key too, so that a
//! changed bit and a row in the wrong place are both noticed.

pub(crate) mod applied;
pub(crate) mod batch_number;
pub(crate) mod checkpoint;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod purged;
pub(crate) mod seal;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod vote;

/// The column families.
pub(crate) mod family {
    /// Entries, and the few rows that are written with them: a rarely written family of their own would
    /// keep old write-ahead logs alive.
    pub const LOG: &str = "log";
    pub const INDEX: &str = "index";
    pub const STATE: &str = "state";
    pub const CHECKPOINT: &str = "checkpoint";
    pub const ALL: [&str; 4] = [LOG, INDEX, STATE, CHECKPOINT];
}

/// Key of the identity row, in `log`. Its value is [`Identity::encode`](crate::Identity::encode).
pub(crate) const IDENTITY_KEY: &[u8] = b"i";

/// A reader of little-endian fields that never reads past the end.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take(8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    }
}

/// Shard and a number, as most keys end.
pub(crate) fn place(shard: flotilla_types::ShardId, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&shard.get().to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Reads the number of [`place`].
pub(crate) fn number_of(key: &[u8]) -> Option<u64> {
    key.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}

/// Reads the shard that a key has `at` bytes from its start.
pub(crate) fn shard_of(key: &[u8], at: usize) -> Option<flotilla_types::ShardId> {
    let bytes = key.get(at..at + 4)?.try_into().ok()?;
    Some(flotilla_types::ShardId(u32::from_be_bytes(bytes)))
}
