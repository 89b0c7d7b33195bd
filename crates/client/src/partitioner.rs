//! Which partition a record goes to. The hash is part of the contract: producers in any language must
//! send one key to one partition.
//!
//! | Record has | Partition |
//! | --- | --- |
//! | a key | `(murmur2(key) & 0x7fffffff) % partitions` |
//! | no key, but a `message_id` | the same over the id's UTF-8 bytes, so that repeats meet their first copy |
//! | neither | sticky: one partition for a whole batch, then another |
//!
//! `murmur2` is the 32-bit MurmurHash2 by Austin Appleby with seed `0x9747b28c`, as Kafka's clients use
//! it; a topic copied from there keeps its keys together. Vectors are in [`murmur2`]'s example. Adding
//! partitions to a topic moves keys.

use flotilla_types::PartitionId;

/// The published hash.
///
/// ```
/// use flotilla_client::partitioner::murmur2;
/// assert_eq!(murmur2(b"21") as i32, -973_932_308);
/// assert_eq!(murmur2(b"abc") as i32, 479_470_107);
/// assert_eq!(murmur2(b"foobar") as i32, -790_332_482);
/// assert_eq!(murmur2(b"a-little-bit-long-string") as i32, -985_981_536);
/// assert_eq!(murmur2(b"a-little-bit-longer-string") as i32, -1_486_304_829);
/// ```
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key (or of a `message_id`) in a topic of `partitions` partitions, at least 1.
///
/// ```
/// use flotilla_client::partitioner::partition_for;
/// assert_eq!(partition_for(b"abc", 6).get(), 3);
/// assert_eq!(partition_for(b"21", 7).get(), 3);
/// ```
pub fn partition_for(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn keys_spread_and_stay() {
        let mut counts = [0u32; 6];
        for key in 0..6_000u32 {
            let key = key.to_string();
            let partition = partition_for(key.as_bytes(), 6);
            assert_eq!(partition, partition_for(key.as_bytes(), 6));
            counts[partition.get() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(partition_for(b"", 0), PartitionId(0));
    }
}
