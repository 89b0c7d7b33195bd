//! Whose directory this is: cluster, node, store and format, sealed with a CRC.
//!
//! It stands twice, in the file `identity` and as a row of the database, so that mixed-up directories and
//! half-restored backups are noticed before anything is read from them.

use flotilla_types::{ClusterId, NodeId, StoreId};
use std::fmt;
use uuid::Uuid;

/// Whose directory it is. Never changes once written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node. A node id is never reused, so another store under the same id is a mistake.
    pub node: NodeId,
    /// This directory, random.
    pub store: StoreId,
    /// Version of the formats in it.
    pub format: u32,
}

/// What is wrong with bytes that should be an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// Not the length of one.
    #[error("it has {0} bytes instead of {len}", len = Identity::ENCODED_LEN)]
    Length(usize),
    /// Not the start of one.
    #[error("it does not start with its magic")]
    Magic,
    /// Its bytes changed.
    #[error("its checksum does not match")]
    Checksum,
}

impl Identity {
    /// The version this program writes.
    pub const FORMAT: u32 = 1;
    /// Bytes of the encoded form.
    pub const ENCODED_LEN: usize = 52;
    const MAGIC: [u8; 8] = *b"flotilla";

    /// A new store's.
    pub fn new(cluster: ClusterId, node: NodeId) -> Self {
        Self { cluster, node, store: StoreId(Uuid::new_v4()), format: Self::FORMAT }
    }

    /// Magic, format, node, cluster, store, CRC32C of all before; numbers little-endian.
    pub fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        let mut out = [0; Self::ENCODED_LEN];
        out[..8].copy_from_slice(&Self::MAGIC);
        out[8..12].copy_from_slice(&self.format.to_le_bytes());
        out[12..16].copy_from_slice(&self.node.get().to_le_bytes());
        out[16..32].copy_from_slice(self.cluster.0.as_bytes());
        out[32..48].copy_from_slice(self.store.0.as_bytes());
        let crc = crc32c::crc32c(&out[..48]);
        out[48..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what [`Identity::encode`] wrote; every changed bit is noticed.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadIdentity> {
        let bytes: &[u8; Self::ENCODED_LEN] =
            bytes.try_into().map_err(|_| BadIdentity::Length(bytes.len()))?;
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).unwrap_or_default();
        if bytes[..8] != Self::MAGIC {
            return Err(BadIdentity::Magic);
        }
        if half(48) != crc32c::crc32c(&bytes[..48]) {
            return Err(BadIdentity::Checksum);
        }
        Ok(Self {
            cluster: ClusterId(uuid(16)),
            node: NodeId(half(12)),
            store: StoreId(uuid(32)),
            format: half(8),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {}, store {}", self.node, self.cluster, self.store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_back_and_every_flipped_bit_is_noticed() {
        let identity = Identity::new(ClusterId(Uuid::from_u128(7)), NodeId(3));
        let mut bytes = identity.encode();
        assert_eq!(Identity::decode(&bytes), Ok(identity));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Identity::decode(&bytes[..51]), Err(BadIdentity::Length(51)));
    }
}
