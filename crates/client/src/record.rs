//! Records: what a producer sends and a consumer gets, and their bytes inside a batch's body.

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_types::{Offset, PartitionId, ProducerEpoch, ProducerId, Term, TimestampMs, TopicName, limits};
use prost::Message;

/// A named value that travels with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name; names may repeat.
    pub key: String,
    /// Its value.
    pub value: Bytes,
}

/// A record to send.
///
/// ```
/// use flotilla_client::Record;
/// let record = Record::new("paid").key("order-7").header("content-type", "text/plain");
/// assert_eq!(record.key.as_deref(), Some(&b"order-7"[..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Chooses the partition; records of one key keep their order.
    pub key: Option<Bytes>,
    /// The content; absent = a tombstone.
    pub value: Option<Bytes>,
    /// In the order given, at most [`limits::RECORD_MAX_HEADERS`].
    pub headers: Vec<Header>,
    /// Idempotency key, checked where the topic has a dedup window.
    pub message_id: Option<String>,
    /// Milliseconds since the Unix epoch; absent = when `send` was called.
    pub timestamp: Option<TimestampMs>,
}

impl Record {
    /// A record with this value and nothing else.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record without a value.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// With a key.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With one more header.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { key: key.into(), value: value.into() });
        self
    }

    /// With an idempotency key.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// With a time, in milliseconds since the Unix epoch.
    pub fn timestamp(mut self, at: TimestampMs) -> Self {
        self.timestamp = Some(at);
        self
    }
}

/// A record as a consumer gets it. Key, value and headers share the fetched batch's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Where from.
    pub topic: TopicName,
    /// Where from.
    pub partition: PartitionId,
    /// Its place in the partition.
    pub offset: Offset,
    /// The leadership that wrote it.
    pub leader_epoch: Term,
    /// Milliseconds since the Unix epoch, by its producer's clock.
    pub timestamp: TimestampMs,
    /// As sent.
    pub key: Option<Bytes>,
    /// As sent; absent = a tombstone.
    pub value: Option<Bytes>,
    /// As sent.
    pub headers: Vec<Header>,
    /// As sent.
    pub message_id: Option<String>,
    /// Who sent it, if it said so.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
}

/// `flotilla.v1.Record`, with bytes that are shared with the body instead of copied.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireRecord {
    #[prost(int64, optional, tag = "1")]
    pub(crate) offset_delta: Option<i64>,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp_delta: i64,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) key: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) value: Option<Bytes>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) headers: Vec<WireHeader>,
    #[prost(string, optional, tag = "6")]
    pub(crate) message_id: Option<String>,
}

/// `flotilla.v1.Header`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireHeader {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `flotilla.v1.Records`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireRecords {
    #[prost(message, repeated, tag = "1")]
    pub(crate) records: Vec<WireRecord>,
}

/// Field 1, length-delimited: the tag before each record of a body.
const RECORDS_TAG: u8 = 0x0a;

/// A record ready to be put into a body, with its size known.
#[derive(Debug)]
pub(crate) struct Encodable {
    wire: WireRecord,
    len: usize,
    timestamp: TimestampMs,
}

/// Why a record cannot be sent, whatever the cluster says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error("record has {bytes} bytes, limit {max}", max = limits::RECORD_MAX_BYTES)]
    TooLarge { bytes: usize },
    #[error("record has {count} headers, limit {max}", max = limits::RECORD_MAX_HEADERS)]
    TooManyHeaders { count: usize },
}

/// A timestamp delta may take this many bytes more than the zero it was measured with.
const DELTA_MAX_BYTES: usize = 11;

impl Encodable {
    /// Measures and checks a record; `now` is its time if it has none.
    pub(crate) fn new(record: Record, now: TimestampMs) -> Result<Self, InvalidRecord> {
        if record.headers.len() > limits::RECORD_MAX_HEADERS {
            return Err(InvalidRecord::TooManyHeaders { count: record.headers.len() });
        }
        let headers = record.headers.into_iter().map(|h| WireHeader { key: h.key, value: h.value }).collect();
        let wire = WireRecord {
            offset_delta: None,
            timestamp_delta: 0,
            key: record.key,
            value: record.value,
            headers,
            message_id: record.message_id,
        };
        let len = wire.encoded_len();
        if len + DELTA_MAX_BYTES > limits::RECORD_MAX_BYTES {
            return Err(InvalidRecord::TooLarge { bytes: len + DELTA_MAX_BYTES });
        }
        Ok(Self { wire, len, timestamp: record.timestamp.unwrap_or(now) })
    }

    /// The most bytes it takes in a body: itself, its tag and its length.
    pub(crate) fn max_len(&self) -> usize {
        self.len + DELTA_MAX_BYTES + 1 + prost::length_delimiter_len(self.len + DELTA_MAX_BYTES)
    }

    /// Its own time, which becomes the batch's base if it is the first.
    pub(crate) fn timestamp(&self) -> TimestampMs {
        self.timestamp
    }

    /// What its partition follows from: the key, else the message id.
    pub(crate) fn routing_key(&self) -> Option<&[u8]> {
        self.wire.key.as_deref().or(self.wire.message_id.as_deref().map(str::as_bytes))
    }

    /// Appends it to a body whose batch has this base timestamp.
    pub(crate) fn put(mut self, body: &mut BytesMut, base: TimestampMs) {
        self.wire.timestamp_delta = self.timestamp.wrapping_sub(base);
        body.put_u8(RECORDS_TAG);
        self.wire.encode_length_delimited(body).expect("a BytesMut grows");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_the_broker_walks_and_prost_reads() {
        let mut body = BytesMut::new();
        let records = [
            Record::new("one").key("k").header("h", "v").message_id("id-1").timestamp(1_000),
            Record::tombstone("gone").timestamp(990),
            Record::default(),
        ];
        for record in records {
            let record = Encodable::new(record, 1_005).unwrap();
            let before = body.len();
            let bound = record.max_len();
            record.put(&mut body, 1_000);
            assert!(body.len() - before <= bound);
        }
        let mut ids = Vec::new();
        flotilla_types::record::walk(&body, 3, |index, id| ids.push((index, id.to_vec()))).unwrap();
        assert_eq!(ids, [(0, b"id-1".to_vec())]);
        let read = WireRecords::decode(body.freeze()).unwrap().records;
        assert_eq!(read.iter().map(|r| r.timestamp_delta).collect::<Vec<_>>(), [0, -10, 5]);
        assert_eq!(read[0].value.as_deref(), Some(&b"one"[..]));
        assert_eq!((read[1].value.as_ref(), read[1].key.as_deref()), (None, Some(&b"gone"[..])));
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused_before_it_is_queued() {
        let record = Record::new(vec![0u8; limits::RECORD_MAX_BYTES]);
        assert!(matches!(Encodable::new(record, 0), Err(InvalidRecord::TooLarge { .. })));
        let fits = Record::new(vec![0u8; limits::RECORD_MAX_BYTES - 64]);
        assert!(Encodable::new(fits, 0).is_ok());
    }
}
