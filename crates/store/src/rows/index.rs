//! Where a batch is: from its base offset to the log entry that holds it.
//!
//! | bytes | field |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | flags: 1 has a producer, 2 transactional |
//! | 2–9 | log index |
//! | 10–13 | records |
//! | 14–17 | bytes of the body |
//! | 18–25 | append time |
//! | 26–33 | term |
//! | 34–49 | producer id and epoch, 0 if none |
//! | 50–53 | CRC32C of the key and bytes 0–49 |

use super::{Fields, seal};
use flotilla_types::{IndexRow, LogIndex, Offset, ProducerEpoch, ProducerId, ShardId, Term};

const VERSION: u8 = 1;
const LEN: usize = 49;
const HAS_PRODUCER: u8 = 1;
const TRANSACTIONAL: u8 = 2;

/// Shard, base offset.
pub(crate) fn key(shard: ShardId, base: Offset) -> [u8; 12] {
    super::place(shard, base.get())
}

pub(crate) fn encode(shard: ShardId, row: &IndexRow) -> Vec<u8> {
    let flags = if row.producer.is_some() { HAS_PRODUCER } else { 0 }
        | if row.transactional { TRANSACTIONAL } else { 0 };
    let (producer, epoch) = row.producer.map_or((0, 0), |(id, epoch)| (id.get(), epoch.get()));
    let mut body = Vec::with_capacity(LEN);
    body.push(flags);
    body.extend_from_slice(&row.log_index.get().to_le_bytes());
    body.extend_from_slice(&row.record_count.to_le_bytes());
    body.extend_from_slice(&row.body_bytes.to_le_bytes());
    body.extend_from_slice(&row.append_time.to_le_bytes());
    body.extend_from_slice(&row.term.get().to_le_bytes());
    body.extend_from_slice(&producer.to_le_bytes());
    body.extend_from_slice(&epoch.to_le_bytes());
    seal::seal(&key(shard, row.base_offset), VERSION, &body)
}

pub(crate) fn decode(shard: ShardId, base: Offset, value: &[u8]) -> Result<IndexRow, String> {
    let body = seal::open(&key(shard, base), VERSION, value)?;
    if body.len() != LEN {
        return Err(format!("its body has {} bytes and should have {LEN}", body.len()));
    }
    fields(base, Fields(body)).ok_or_else(|| "it has unknown flags".to_owned())
}

fn fields(base_offset: Offset, mut fields: Fields<'_>) -> Option<IndexRow> {
    let flags = fields.u8().filter(|flags| *flags <= HAS_PRODUCER | TRANSACTIONAL)?;
    Some(IndexRow {
        base_offset,
        log_index: LogIndex(fields.u64()?),
        record_count: fields.u32()?,
        body_bytes: fields.u32()?,
        append_time: fields.u64()? as i64,
        term: Term(fields.u64()?),
        producer: Some((ProducerId(fields.u64()?), ProducerEpoch(fields.u64()?)))
            .filter(|_| flags & HAS_PRODUCER != 0),
        transactional: flags & TRANSACTIONAL != 0,
    })
}
