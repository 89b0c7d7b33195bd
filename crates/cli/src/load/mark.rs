//! What a load run writes into each value, so that any reader can tell loss, repeats and disorder.
//!
//! | Bytes | Content, little-endian |
//! | --- | --- |
//! | 0–7 | `flotload` |
//! | 8–15 | run |
//! | 16–19 | producer within the run |
//! | 20–23 | partition |
//! | 24–31 | sequence within run, producer and partition, from 0 |
//! | 32–39 | when it was due, microseconds on the producer's own clock |
//! | 40–47 | a hash of bytes 0–39 |
//!
//! The rest is filling that follows from run and sequence, so that a reader can tell whether it is whole.

use bytes::{BufMut, Bytes, BytesMut};

const MAGIC: &[u8; 8] = b"flotload";
/// The smallest value that holds a mark.
pub const MARK_BYTES: usize = 48;

/// Which sequence a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The run.
    pub run: u64,
    /// The producer within the run.
    pub producer: u32,
    /// The partition it was meant for.
    pub partition: u32,
}

/// What a value turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not written by a load run.
    Foreign,
    /// Written by a load run, and not as it was written any more.
    Corrupt,
    /// Whole.
    Mark(Mark),
}

/// One record's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose sequence.
    pub lane: Lane,
    /// Its place there.
    pub sequence: u64,
    /// When it was due, microseconds.
    pub due_us: u64,
}

impl Mark {
    /// A value of `size` bytes with this mark.
    pub fn value(&self, size: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(size.max(MARK_BYTES));
        value.put_slice(MAGIC);
        value.put_u64_le(self.lane.run);
        value.put_u32_le(self.lane.producer);
        value.put_u32_le(self.lane.partition);
        value.put_u64_le(self.sequence);
        value.put_u64_le(self.due_us);
        value.put_u64_le(hash(&value));
        let mut filling = self.filling();
        while value.len() < size {
            let word = filling.next_word();
            let room = (size - value.len()).min(word.len());
            value.put_slice(&word[..room]);
        }
        value.freeze()
    }

    fn filling(&self) -> Filling {
        Filling(self.sequence ^ self.lane.run)
    }

    /// Looks at every byte of a value.
    pub fn check(value: &[u8]) -> Found {
        if value.get(..MAGIC.len()) != Some(MAGIC) {
            return Found::Foreign;
        }
        let Some(mark) = Self::read(value) else { return Found::Corrupt };
        let mut filling = mark.filling();
        let whole = value[MARK_BYTES..].chunks(4).all(|chunk| filling.next_word().starts_with(chunk));
        if whole { Found::Mark(mark) } else { Found::Corrupt }
    }

    fn read(value: &[u8]) -> Option<Self> {
        let (mark, sum) = value.get(..MARK_BYTES)?.split_at(40);
        if sum != hash(mark).to_le_bytes() {
            return None;
        }
        let long = |at: usize| mark[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let short = |at: usize| mark[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        Some(Self {
            lane: Lane { run: long(8)?, producer: short(16)?, partition: short(20)? },
            sequence: long(24)?,
            due_us: long(32)?,
        })
    }
}

/// Differs from word to word and record to record, so that compression has something to do.
struct Filling(u64);

impl Filling {
    fn next_word(&mut self) -> [u8; 4] {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32).to_le_bytes()
    }
}

/// FNV-1a: enough to tell a mark from other values.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_as_it_was_written() {
        let lane = Lane { run: 7, producer: 2, partition: 5 };
        let mark = Mark { lane, sequence: 41, due_us: 1_234_567 };
        for size in [0, MARK_BYTES, 51, 1024] {
            let value = mark.value(size);
            assert_eq!(value.len(), size.max(MARK_BYTES));
            assert_eq!(Mark::check(&value), Found::Mark(mark));
        }
        assert_eq!(Mark::check(b"a line"), Found::Foreign);
    }

    #[test]
    fn a_flipped_bit_is_seen_wherever_it_is() {
        let mark = Mark { lane: Lane { run: 7, producer: 2, partition: 5 }, sequence: 41, due_us: 9 };
        let whole = mark.value(131).to_vec();
        for byte in 8..whole.len() {
            let mut broken = whole.clone();
            broken[byte] ^= 4;
            assert_eq!(Mark::check(&broken), Found::Corrupt, "byte {byte}");
        }
        assert_eq!(Mark::check(&whole[..40]), Found::Corrupt, "cut short");
    }
}
