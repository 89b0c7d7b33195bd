//! `records.proto`: batches, whose bodies stay bytes.

use crate::convert::{Invalid, count};
use crate::v1;
use crate::v1::record_batch::Body;
use bytes::Bytes;
use flotilla_types::{
    Batch, BatchHeader, Compression, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence, Term,
    TimestampMs,
};

/// A batch as a producer sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The batch; its header's `crc32c` is 0 where the producer left it absent.
    pub batch: Batch,
    /// The producer's seal; `None` = a thin client leaves it to the broker.
    pub crc32c: Option<u32>,
}

/// Reads a batch that a producer sent. The body is shared with the message, not copied, and not looked
/// into; `base_offset` and `leader_epoch` are the broker's to give and ignored.
pub fn batch_from_wire(wire: v1::RecordBatch) -> Result<Sent, Invalid> {
    let (header, body) = parts(wire)?;
    let (header, crc32c) = header;
    Ok(Sent { batch: Batch { header, body }, crc32c })
}

/// A batch as it is sent to a broker.
pub fn batch_to_wire(batch: &Batch) -> v1::RecordBatch {
    fetched_to_wire(Offset(0), Term(0), &batch.header, batch.body.clone())
}

/// A batch as it was fetched: place and leadership beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The leadership that wrote it.
    pub term: Term,
    /// The batch. Its CRC has not been checked.
    pub batch: Batch,
}

/// A stored batch as a fetch answers it.
pub fn fetched_to_wire(
    base_offset: Offset,
    term: Term,
    header: &BatchHeader,
    body: Bytes,
) -> v1::RecordBatch {
    v1::RecordBatch {
        base_offset: base_offset.get() as i64,
        leader_epoch: term.get() as i64,
        record_count: header.record_count as i32,
        base_timestamp: header.base_timestamp,
        producer_id: header.producer.map(|p| p.id.get() as i64),
        producer_epoch: header.producer.map(|p| p.epoch.get() as i64),
        base_sequence: header.producer.map(|p| p.base_sequence.get() as i64),
        transactional: header.transactional,
        compression: i32::from(header.compression as u8),
        crc32c: Some(header.crc32c),
        schema_id: header.schema_id,
        body: Some(match header.compression {
            Compression::None => Body::Records(body),
            Compression::Lz4 | Compression::Zstd => Body::CompressedRecords(body),
        }),
    }
}

/// The same for a batch whose maker left its time to the broker (`base_timestamp` 0): readers are given
/// the append time, and the header is sealed again because the seal covers it. Everything else, and all
/// bodies, go out as they came in. Check the stored seal before.
pub fn stamped(header: &BatchHeader, append_time: TimestampMs, body: &[u8]) -> BatchHeader {
    match header.base_timestamp {
        0 => BatchHeader { base_timestamp: append_time, ..*header }.seal(body),
        _ => *header,
    }
}

/// Reads a batch that a broker answered; a broker always seals.
pub fn fetched_from_wire(wire: v1::RecordBatch) -> Result<Fetched, Invalid> {
    let base_offset = Offset(count("batch.base_offset", wire.base_offset)?);
    let term = Term(count("batch.leader_epoch", wire.leader_epoch)?);
    let ((header, crc32c), body) = parts(wire)?;
    crc32c.ok_or_else(|| Invalid::missing("batch.crc32c"))?;
    Ok(Fetched { base_offset, term, batch: Batch { header, body } })
}

type HeaderAndSeal = (BatchHeader, Option<u32>);

fn parts(wire: v1::RecordBatch) -> Result<(HeaderAndSeal, Bytes), Invalid> {
    let compression = u8::try_from(wire.compression)
        .ok()
        .and_then(Compression::from_number)
        .ok_or_else(|| Invalid::unknown("batch.compression", wire.compression))?;
    let record_count = u32::try_from(wire.record_count).ok().filter(|n| *n > 0).ok_or_else(|| {
        Invalid::new("batch.record_count", format!("is {}, expected at least 1", wire.record_count))
    })?;
    let header = BatchHeader {
        record_count,
        base_timestamp: wire.base_timestamp,
        producer: producer(&wire)?,
        transactional: wire.transactional,
        compression,
        schema_id: wire.schema_id,
        crc32c: wire.crc32c.unwrap_or(0),
    };
    let body = match (wire.body, compression) {
        (Some(Body::Records(body)), Compression::None) => body,
        (Some(Body::CompressedRecords(body)), Compression::Lz4 | Compression::Zstd) => body,
        (Some(Body::Records(_)), _) => {
            return Err(Invalid::new(
                "batch.records",
                "is set where compression asks for compressed_records",
            ));
        }
        (Some(Body::CompressedRecords(_)), _) => {
            return Err(Invalid::new("batch.compressed_records", "is set where compression is none"));
        }
        (None, _) => return Err(Invalid::missing("batch.body")),
    };
    Ok(((header, wire.crc32c), body))
}

fn producer(wire: &v1::RecordBatch) -> Result<Option<ProducerStamp>, Invalid> {
    match (wire.producer_id, wire.producer_epoch, wire.base_sequence) {
        (None, None, None) => Ok(None),
        (Some(id), Some(epoch), Some(sequence)) => Ok(Some(ProducerStamp {
            id: ProducerId(count("batch.producer_id", id)?),
            epoch: ProducerEpoch(count("batch.producer_epoch", epoch)?),
            base_sequence: Sequence(count("batch.base_sequence", sequence)?),
        })),
        _ => Err(Invalid::new(
            "batch.producer_id",
            "comes with producer_epoch and base_sequence, or none of the three",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::Reason;

    fn batch(compression: Compression) -> Batch {
        let body = Bytes::from_static(b"\x0a\x02\x10\x05");
        let header = BatchHeader {
            record_count: 1,
            base_timestamp: 1_700_000_000_000,
            producer: Some(ProducerStamp {
                id: ProducerId(7),
                epoch: ProducerEpoch(1),
                base_sequence: Sequence(3),
            }),
            transactional: true,
            compression,
            schema_id: Some(4),
            crc32c: 0,
        };
        Batch { header: header.seal(&body), body }
    }

    #[test]
    fn batches_survive_the_wire_with_their_seal() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batch = batch(compression);
            let sent = batch_from_wire(batch_to_wire(&batch)).unwrap();
            assert_eq!(sent.crc32c, Some(batch.header.crc32c));
            assert!(sent.batch.header.is_sound(&sent.batch.body));
            assert_eq!(sent.batch, batch);
            let wire = fetched_to_wire(Offset(40), Term(2), &batch.header, batch.body.clone());
            let fetched = fetched_from_wire(wire).unwrap();
            assert_eq!(fetched, Fetched { base_offset: Offset(40), term: Term(2), batch });
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let good = || batch_to_wire(&batch(Compression::Lz4));
        let refused = |wire: v1::RecordBatch| batch_from_wire(wire).unwrap_err();
        assert_eq!(refused(v1::RecordBatch { body: None, ..good() }).field, "batch.body");
        assert_eq!(refused(v1::RecordBatch { compression: 0, ..good() }).field, "batch.compressed_records");
        assert_eq!(refused(v1::RecordBatch { compression: 77, ..good() }).reason, Reason::UnsupportedVersion);
        assert_eq!(
            refused(v1::RecordBatch { compression: 256, ..good() }).reason,
            Reason::UnsupportedVersion
        );
        assert_eq!(refused(v1::RecordBatch { record_count: 0, ..good() }).field, "batch.record_count");
        assert_eq!(refused(v1::RecordBatch { record_count: -1, ..good() }).field, "batch.record_count");
        assert_eq!(refused(v1::RecordBatch { base_sequence: None, ..good() }).field, "batch.producer_id");
        assert_eq!(
            refused(v1::RecordBatch { producer_epoch: Some(-1), ..good() }).field,
            "batch.producer_epoch"
        );
    }

    #[test]
    fn a_thin_client_may_leave_the_seal_and_the_time_to_the_broker() {
        let mut wire = batch_to_wire(&batch(Compression::None));
        wire.crc32c = None;
        assert_eq!(batch_from_wire(wire.clone()).unwrap().crc32c, None);
        assert_eq!(fetched_from_wire(wire).unwrap_err().field, "batch.crc32c");

        let timeless = Batch {
            header: BatchHeader { base_timestamp: 0, ..batch(Compression::None).header }.seal(b"x"),
            body: Bytes::from_static(b"x"),
        };
        let shown = stamped(&timeless.header, 55, &timeless.body);
        assert!(shown.base_timestamp == 55 && shown.is_sound(&timeless.body));
        assert_eq!(stamped(&batch(Compression::None).header, 55, b""), batch(Compression::None).header);
    }
}
