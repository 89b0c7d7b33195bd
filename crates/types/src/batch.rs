//! A record batch: the unit of append, replication, storage and fetch, sealed by its maker with CRC32C.

use crate::id::{ProducerEpoch, ProducerId, Sequence};
use crate::time::TimestampMs;
use bytes::Bytes;

/// How a body is compressed. The numbers are the contract's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    #[default]
    None = 0,
    /// An LZ4 frame.
    Lz4 = 1,
    /// A Zstandard frame.
    Zstd = 2,
}

impl Compression {
    /// Reads the contract's number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Whose batch it is and where it stands among that producer's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch when it made the batch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub base_sequence: Sequence,
}

/// What a batch says of itself. Offsets are not part of it: they live beside the batch, never inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Records in the body, at least 1.
    pub record_count: u32,
    /// The producer's clock; record timestamps are relative to it. 0 = the append time.
    pub base_timestamp: TimestampMs,
    /// Present for idempotent and transactional producers.
    pub producer: Option<ProducerStamp>,
    /// Part of the producer's open transaction.
    pub transactional: bool,
    /// How the body is compressed.
    pub compression: Compression,
    /// The schema all records share.
    pub schema_id: Option<i32>,
    /// See [`BatchHeader::seal`].
    pub crc32c: u32,
}

/// A batch: header and body, the body exactly as its maker sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What it says of itself.
    pub header: BatchHeader,
    /// A serialised `flotilla.v1.Records`, compressed as the header says. Shared, not copied.
    pub body: Bytes,
}

impl BatchHeader {
    /// The CRC32C that the contract defines over this header's fields (but `crc32c`) and the body.
    pub fn checksum(&self, body: &[u8]) -> u32 {
        let mut fields = [0u8; 42];
        let producer =
            self.producer.map_or([-1i64; 3], |p| [p.id.0 as i64, p.epoch.0 as i64, p.base_sequence.0 as i64]);
        fields[0..4].copy_from_slice(&(self.record_count as i32).to_le_bytes());
        fields[4..12].copy_from_slice(&self.base_timestamp.to_le_bytes());
        for (place, number) in producer.iter().enumerate() {
            fields[12 + place * 8..20 + place * 8].copy_from_slice(&number.to_le_bytes());
        }
        fields[36] = u8::from(self.transactional);
        fields[37] = self.compression as u8;
        fields[38..42].copy_from_slice(&self.schema_id.unwrap_or(-1).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&fields), body)
    }

    /// Sets `crc32c` to what it must be.
    #[must_use]
    pub fn seal(mut self, body: &[u8]) -> Self {
        self.crc32c = self.checksum(body);
        self
    }

    /// Whether the seal is whole.
    pub fn is_sound(&self, body: &[u8]) -> bool {
        self.crc32c == self.checksum(body)
    }

    /// Bytes of the encoded form.
    pub const ENCODED_LEN: usize = 48;
    const VERSION: u8 = 1;
    const HAS_PRODUCER: u8 = 1;
    const TRANSACTIONAL: u8 = 2;
    const HAS_SCHEMA: u8 = 4;

    /// As it stands in a command and on disk: version, flags, compression, 0, then count, timestamp,
    /// producer id, epoch, sequence, schema id and CRC, little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.producer.is_some() { Self::HAS_PRODUCER } else { 0 }
            | if self.transactional { Self::TRANSACTIONAL } else { 0 }
            | if self.schema_id.is_some() { Self::HAS_SCHEMA } else { 0 };
        let producer = self.producer.map_or([0; 3], |p| [p.id.0, p.epoch.0, p.base_sequence.0]);
        out.extend_from_slice(&[Self::VERSION, flags, self.compression as u8, 0]);
        out.extend_from_slice(&self.record_count.to_le_bytes());
        out.extend_from_slice(&self.base_timestamp.to_le_bytes());
        producer.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(&self.schema_id.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.crc32c.to_le_bytes());
    }

    /// Reads what [`BatchHeader::encode`] wrote, from the front of `bytes`. `None` if it is not that.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::ENCODED_LEN] = bytes.get(..Self::ENCODED_LEN)?.try_into().ok()?;
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let half = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let [version, flags, compression, zero, ..] = *bytes;
        if version != Self::VERSION || zero != 0 || flags > 7 {
            return None;
        }
        let producer = ProducerStamp {
            id: ProducerId(word(16)?),
            epoch: ProducerEpoch(word(24)?),
            base_sequence: Sequence(word(32)?),
        };
        Some(Self {
            record_count: half(4)?,
            base_timestamp: word(8)? as i64,
            producer: (flags & Self::HAS_PRODUCER != 0).then_some(producer),
            transactional: flags & Self::TRANSACTIONAL != 0,
            compression: Compression::from_number(compression)?,
            schema_id: if flags & Self::HAS_SCHEMA != 0 { Some(half(40)? as i32) } else { None },
            crc32c: half(44)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            record_count: 3,
            base_timestamp: 1_700_000_000_000,
            producer: Some(ProducerStamp {
                id: ProducerId(7),
                epoch: ProducerEpoch(2),
                base_sequence: Sequence(41),
            }),
            transactional: false,
            compression: Compression::Lz4,
            schema_id: None,
            crc32c: 0,
        }
    }

    #[test]
    fn headers_come_back_as_they_were() {
        for header in [header(), BatchHeader { producer: None, schema_id: Some(-5), ..header() }] {
            let header = header.seal(b"body");
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            assert_eq!(bytes.len(), BatchHeader::ENCODED_LEN);
            assert_eq!(BatchHeader::decode(&bytes), Some(header));
        }
    }

    #[test]
    fn every_flipped_bit_of_the_body_breaks_the_seal() {
        let mut body = vec![0x5au8; 512];
        let header = header().seal(&body);
        assert!(header.is_sound(&body));
        for bit in 0..body.len() * 8 {
            body[bit / 8] ^= 1 << (bit % 8);
            assert!(!header.is_sound(&body), "bit {bit}");
            body[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_seal_is_the_published_one() {
        // Anyone can compute this: record_count 1, timestamp 0, no producer, no schema, empty body.
        let header = BatchHeader {
            record_count: 1,
            base_timestamp: 0,
            producer: None,
            transactional: false,
            compression: Compression::None,
            schema_id: None,
            crc32c: 0,
        };
        let mut fields = Vec::new();
        fields.extend_from_slice(&1i32.to_le_bytes());
        fields.extend_from_slice(&0i64.to_le_bytes());
        [-1i64; 3].iter().for_each(|n| fields.extend_from_slice(&n.to_le_bytes()));
        fields.extend_from_slice(&[0, 0]);
        fields.extend_from_slice(&(-1i32).to_le_bytes());
        assert_eq!(header.checksum(b""), crc32c::crc32c(&fields));
    }
}
