//! Fetched batches become records: the seal is checked, the body unpacked, and every offset accounted for.

use crate::error::{Error, Result};
use crate::record::{ConsumedRecord, Header, WireRecord, WireRecords};
use bytes::Bytes;
use flotilla_proto::convert::records::{Fetched, fetched_from_wire};
use flotilla_proto::v1;
use flotilla_types::{Compression, Offset, PartitionId, Reason, Term, TopicName, compression};
use prost::Message;

/// What a fetch brought, read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) records: Vec<ConsumedRecord>,
    /// Where to go on.
    pub(crate) next: Offset,
    /// The leadership of the last batch.
    pub(crate) epoch: Option<Term>,
    /// Bytes of the bodies, unpacked.
    pub(crate) bytes: usize,
}

/// Reads batches from `position` on. A batch may begin before it; none may begin after, since offsets
/// are dense: what is missing is an error, never a silent gap.
pub(crate) fn read(
    topic: &TopicName,
    partition: PartitionId,
    position: Offset,
    batches: Vec<v1::RecordBatch>,
) -> Result<Read> {
    let mut read = Read { records: Vec::new(), next: position, epoch: None, bytes: 0 };
    for wire in batches {
        let broken_at = wire.base_offset;
        let corrupt = |why: String| {
            let message = format!("partition {topic}/{partition}, batch at offset {broken_at}: {why}");
            Error::fatal(Reason::CorruptBatch, message)
                .with("topic", topic)
                .with("partition", partition)
                .with("offset", broken_at)
        };
        let fetched = fetched_from_wire(wire).map_err(|invalid| corrupt(invalid.to_string()))?;
        if !fetched.batch.header.is_sound(&fetched.batch.body) {
            return Err(corrupt("CRC32C does not match".to_owned()));
        }
        if fetched.base_offset > read.next {
            let why =
                format!("offsets {} to {} are missing before it", read.next, fetched.base_offset.get() - 1);
            return Err(corrupt(why));
        }
        let end = fetched.base_offset.plus(u64::from(fetched.batch.header.record_count));
        if end <= read.next {
            continue; // wholly before the position
        }
        let body = unpack(&fetched).map_err(&corrupt)?;
        read.bytes += body.len();
        let records = WireRecords::decode(body).map_err(|error| corrupt(error.to_string()))?.records;
        if records.len() != fetched.batch.header.record_count as usize {
            let said = fetched.batch.header.record_count;
            return Err(corrupt(format!("it says {said} records and holds {}", records.len())));
        }
        for (index, record) in records.into_iter().enumerate() {
            let offset = fetched.base_offset.plus(index as u64);
            if offset >= read.next {
                read.records.push(consumed(topic, partition, offset, &fetched, record));
            }
        }
        read.next = end;
        read.epoch = Some(fetched.term);
    }
    Ok(read)
}

fn unpack(fetched: &Fetched) -> std::result::Result<Bytes, String> {
    let batch = &fetched.batch;
    if batch.header.compression == Compression::None {
        return Ok(batch.body.clone());
    }
    let mut raw = Vec::new();
    compression::decompress(batch.header.compression, &batch.body, &mut raw).map_err(|e| e.to_string())?;
    Ok(raw.into())
}

fn consumed(
    topic: &TopicName,
    partition: PartitionId,
    offset: Offset,
    fetched: &Fetched,
    record: WireRecord,
) -> ConsumedRecord {
    let header = &fetched.batch.header;
    ConsumedRecord {
        topic: topic.clone(),
        partition,
        offset,
        leader_epoch: fetched.term,
        timestamp: header.base_timestamp.wrapping_add(record.timestamp_delta),
        key: record.key,
        value: record.value,
        headers: record.headers.into_iter().map(|h| Header { key: h.key, value: h.value }).collect(),
        message_id: record.message_id,
        producer: header.producer.map(|stamp| (stamp.id, stamp.epoch)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Encodable, Record};
    use bytes::BytesMut;
    use flotilla_proto::convert::records::fetched_to_wire;
    use flotilla_types::BatchHeader;

    fn batch(base: u64, values: &[&str], packed: Compression) -> v1::RecordBatch {
        let mut body = BytesMut::new();
        for value in values {
            Encodable::new(Record::new((*value).to_owned()).timestamp(1_001), 0)
                .unwrap()
                .put(&mut body, 1_000);
        }
        let body = Bytes::from(compression::compress(packed, &body));
        let header = BatchHeader {
            record_count: values.len() as u32,
            base_timestamp: 1_000,
            producer: None,
            transactional: false,
            compression: packed,
            schema_id: None,
            crc32c: 0,
        };
        fetched_to_wire(Offset(base), Term(3), &header.seal(&body), body)
    }

    fn read_from(position: u64, batches: Vec<v1::RecordBatch>) -> Result<Read> {
        read(&TopicName::new("t").unwrap(), PartitionId(2), Offset(position), batches)
    }

    #[test]
    fn records_come_from_the_position_on_whatever_the_batches() {
        let batches = vec![
            batch(4, &["a", "b", "c"], Compression::None),
            batch(7, &["d"], Compression::Lz4),
            batch(8, &["e"], Compression::Zstd),
        ];
        let read = read_from(5, batches).unwrap();
        let seen: Vec<(u64, &[u8])> =
            read.records.iter().map(|r| (r.offset.get(), r.value.as_deref().unwrap())).collect();
        assert_eq!(seen, [(5, &b"b"[..]), (6, b"c"), (7, b"d"), (8, b"e")]);
        assert_eq!((read.next, read.epoch), (Offset(9), Some(Term(3))));
        assert!(read.records.iter().all(|r| r.timestamp == 1_001));
    }

    #[test]
    fn a_gap_is_an_error_and_a_repeat_is_not_shown() {
        let error = read_from(3, vec![batch(4, &["a"], Compression::None)]).unwrap_err();
        assert!(error.message().contains("offsets 3 to 3 are missing"), "{error}");
        let read = read_from(6, vec![batch(4, &["a"], Compression::None)]).unwrap();
        assert!(read.records.is_empty());
        assert_eq!(read.next, Offset(6));
    }

    #[test]
    fn a_broken_batch_is_named_with_partition_and_offset() {
        let mut broken = batch(4, &["a", "b"], Compression::None);
        broken.base_timestamp += 1;
        let error = read_from(4, vec![broken]).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CorruptBatch));
        assert!(error.message().contains("t/2") && error.message().contains("offset 4"), "{error}");
        assert_eq!(error.metadata().get("offset").map(String::as_str), Some("4"));
    }
}
