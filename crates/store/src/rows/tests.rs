//! Every kind of row comes back as it was, and no changed bit and no wrong place goes unnoticed.

use super::*;
use crate::interface::{Applied, Purged};
use crate::write::{EntryKind, LogRow};
use bytes::Bytes;
use flotilla_types::{IndexRow, LogId, LogIndex, Offset, ProducerEpoch, ProducerId, ShardId, Term};
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>()).prop_map(|(t, i)| LogId { term: Term(t), index: LogIndex(i) })
}

fn log_row() -> impl Strategy<Value = LogRow> {
    let kind = prop_oneof![Just(EntryKind::Blank), Just(EntryKind::Command), Just(EntryKind::Membership)];
    (log_id(), kind, bytes(200), bytes(2000)).prop_map(|(id, kind, header, payload)| LogRow {
        id,
        kind,
        header,
        payload,
    })
}

prop_compose! {
    fn index_row()(
        base in any::<u64>(), index in any::<u64>(), count in any::<u32>(), body in any::<u32>(),
        time in any::<i64>(), term in any::<u64>(), producer in any::<Option<(u64, u64)>>(),
        transactional in any::<bool>(),
    ) -> IndexRow {
        IndexRow {
            base_offset: Offset(base), log_index: LogIndex(index), record_count: count, body_bytes: body,
            append_time: time, term: Term(term), transactional,
            producer: producer.map(|(id, epoch)| (ProducerId(id), ProducerEpoch(epoch))),
        }
    }
}

proptest! {
    #[test]
    fn entries_come_back(shard in any::<u32>(), row in log_row()) {
        let shard = ShardId(shard);
        let mut value = Vec::new();
        entry::encode(shard, &row, &mut value);
        prop_assert_eq!(entry::index_of(&entry::key(shard, row.id.index)), Some(row.id.index));
        prop_assert!(entry::key(shard, row.id.index)[..] < entry::keys_end(shard)[..]);
        prop_assert_eq!(entry::decode(shard, row.id.index, &value.into()), Ok(row));
    }

    #[test]
    fn index_rows_come_back(shard in any::<u32>(), row in index_row()) {
        let shard = ShardId(shard);
        let value = index::encode(shard, &row);
        prop_assert_eq!(index::decode(shard, row.base_offset, &value), Ok(row));
    }

    #[test]
    fn votes_come_back(shard in any::<u32>(), vote in bytes(100)) {
        let shard = ShardId(shard);
        prop_assert_eq!(vote::decode(shard, vote::encode(shard, &vote).into()), Ok(vote));
    }

    #[test]
    fn purge_points_come_back(shard in any::<u32>(), upto in any::<u64>(), mark in bytes(100)) {
        let (shard, upto) = (ShardId(shard), LogIndex(upto));
        let value = purged::encode(shard, upto, &mark);
        prop_assert_eq!(purged::decode(shard, value.into()), Ok(Purged { upto, mark }));
    }

    #[test]
    fn applied_positions_come_back(shard in any::<u32>(), id in log_id(), membership in bytes(100)) {
        let shard = ShardId(shard);
        let value = applied::encode(shard, id, &membership);
        prop_assert_eq!(applied::decode(shard, value.into()), Ok(Applied { id, membership }));
    }

    #[test]
    fn state_rows_come_back(shard in any::<u32>(), key in bytes(50), value in bytes(500)) {
        let full = state::key(ShardId(shard), &key);
        prop_assert!(full < state::keys_end(ShardId(shard)));
        prop_assert_eq!(state::decode(&full, state::encode(&full, &value).into()), Ok((key, value)));
    }

    #[test]
    fn checkpoints_come_back(shard in any::<u32>(), at in any::<u64>(), body in bytes(500)) {
        let (shard, at) = (ShardId(shard), LogIndex(at));
        let value = checkpoint::encode(shard, at, &body);
        prop_assert_eq!(checkpoint::decode(shard, at, value.into()), Ok(body));
    }

    #[test]
    fn batch_numbers_come_back(number in any::<u64>()) {
        prop_assert_eq!(batch_number::decode(&batch_number::encode(number)), Ok(number));
    }

    /// Readers get bytes that nobody wrote: they may refuse them, but not fall over.
    #[test]
    fn garbage_is_refused(value in bytes(300)) {
        let shard = ShardId(1);
        prop_assert!(entry::decode(shard, LogIndex(1), &value).is_err());
        prop_assert!(index::decode(shard, Offset(1), &value).is_err());
        prop_assert!(purged::decode(shard, value.clone()).is_err());
        prop_assert!(applied::decode(shard, value.clone()).is_err());
        prop_assert!(batch_number::decode(&value).is_err());
    }
}

const SHARD: ShardId = ShardId(0x0102_0304);
const AT: LogIndex = LogIndex(77);

/// Some 4 KiB that are not all alike.
fn sample() -> Bytes {
    (0..4096u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>().into()
}

/// Flips each bit of `value` in turn.
fn every_flip_is_noticed(mut value: Vec<u8>, is_sound: impl Fn(Bytes) -> bool) {
    assert!(is_sound(Bytes::copy_from_slice(&value)), "the untouched value");
    for bit in 0..value.len() * 8 {
        value[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_sound(Bytes::copy_from_slice(&value)), "bit {} of byte {}", bit % 8, bit / 8);
        value[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 0..value.len() {
        assert!(!is_sound(Bytes::copy_from_slice(&value[..len])), "cut to {len} bytes");
    }
}

fn sample_entry() -> LogRow {
    LogRow {
        id: LogId { term: Term(3), index: AT },
        kind: EntryKind::Command,
        header: sample().slice(..128),
        payload: sample(),
    }
}

#[test]
fn every_flipped_bit_of_an_entry_is_noticed() {
    let mut value = Vec::new();
    entry::encode(SHARD, &sample_entry(), &mut value);
    every_flip_is_noticed(value, |value| entry::decode(SHARD, AT, &value).is_ok());
}

#[test]
fn every_flipped_bit_of_a_sealed_row_is_noticed() {
    let id = LogId { term: Term(3), index: AT };
    every_flip_is_noticed(vote::encode(SHARD, &sample()), |value| vote::decode(SHARD, value).is_ok());
    every_flip_is_noticed(purged::encode(SHARD, AT, &sample()), |v| purged::decode(SHARD, v).is_ok());
    every_flip_is_noticed(applied::encode(SHARD, id, &sample()), |v| applied::decode(SHARD, v).is_ok());
    every_flip_is_noticed(checkpoint::encode(SHARD, AT, &sample()), |v| {
        checkpoint::decode(SHARD, AT, v).is_ok()
    });
    every_flip_is_noticed(batch_number::encode(9), |value| batch_number::decode(&value).is_ok());
    let key = state::key(SHARD, b"producer");
    every_flip_is_noticed(state::encode(&key, &sample()), |value| state::decode(&key, value).is_ok());
}

#[test]
fn every_flipped_bit_of_an_index_row_is_noticed() {
    let row = IndexRow {
        base_offset: Offset(5),
        log_index: AT,
        record_count: 3,
        body_bytes: 900,
        append_time: 1_700_000_000_000,
        term: Term(3),
        producer: Some((ProducerId(7), ProducerEpoch(1))),
        transactional: true,
    };
    every_flip_is_noticed(index::encode(SHARD, &row), |v| index::decode(SHARD, Offset(5), &v).is_ok());
}

#[test]
fn a_row_in_the_wrong_place_is_noticed() {
    let other = ShardId(SHARD.get() + 1);
    let mut value = Vec::new();
    entry::encode(SHARD, &sample_entry(), &mut value);
    let value = Bytes::from(value);
    assert!(entry::decode(other, AT, &value).unwrap_err().contains("belongs to shard"));
    assert!(entry::decode(SHARD, AT.next(), &value).is_err());
    assert!(vote::decode(other, vote::encode(SHARD, b"me").into()).is_err());
    assert!(checkpoint::decode(SHARD, AT.next(), checkpoint::encode(SHARD, AT, b"x").into()).is_err());
    let key = state::key(SHARD, b"a");
    assert!(state::decode(&state::key(SHARD, b"b"), state::encode(&key, b"x").into()).is_err());
}
