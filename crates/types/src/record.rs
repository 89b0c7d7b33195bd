//! A look into a body without decoding it: how many records, how large, which message ids.
//!
//! A body is a serialised `flotilla.v1.Records`. The broker walks it once, before it proposes a batch;
//! nothing is copied and no length field is trusted.

use crate::limits;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Not a serialised `Records`.
    #[error("body is not a serialised Records message: {why} at byte {at}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
        /// Where.
        at: usize,
    },
    /// The header's count and the body differ.
    #[error("batch says {said} records, its body holds {found}")]
    Count {
        /// `record_count`.
        said: u32,
        /// Records in the body.
        found: u32,
    },
    /// One record is too large.
    #[error("record {index} has {bytes} bytes, limit {max}", max = limits::RECORD_MAX_BYTES)]
    RecordTooLarge {
        /// Its place in the batch.
        index: u32,
        /// Its encoded size.
        bytes: usize,
    },
    /// One record has too many headers.
    #[error("record {index} has more than {max} headers", max = limits::RECORD_MAX_HEADERS)]
    TooManyHeaders {
        /// Its place in the batch.
        index: u32,
    },
    /// More records than a batch may have.
    #[error("batch has more than {max} records", max = limits::BATCH_MAX_RECORDS)]
    TooManyRecords,
    /// Producers leave `offset_delta` absent.
    #[error("record {index} sets offset_delta, which only the broker may")]
    OffsetDelta {
        /// Its place in the batch.
        index: u32,
    },
}

const RECORDS_FIELD: u64 = 1;
const OFFSET_DELTA_FIELD: u64 = 1;
const HEADERS_FIELD: u64 = 5;
const MESSAGE_ID_FIELD: u64 = 6;

/// Walks an uncompressed body and checks count and sizes. `message_id` is called for each record that
/// has one, with its place in the batch.
pub fn walk<'a>(
    body: &'a [u8],
    expected_count: u32,
    mut message_id: impl FnMut(u32, &'a [u8]),
) -> Result<(), WalkError> {
    let mut cursor = Cursor { bytes: body, at: 0 };
    let mut found = 0u32;
    while let Some((field, value)) = cursor.field()? {
        if field != RECORDS_FIELD {
            continue;
        }
        let Value::Bytes(record) = value else {
            return Err(WalkError::Malformed { why: "records is not length-delimited", at: cursor.at });
        };
        if found >= limits::BATCH_MAX_RECORDS {
            return Err(WalkError::TooManyRecords);
        }
        check_record(record, found, &mut message_id)?;
        found += 1;
    }
    if found != expected_count {
        return Err(WalkError::Count { said: expected_count, found });
    }
    Ok(())
}

fn check_record<'a>(
    record: &'a [u8],
    index: u32,
    message_id: &mut impl FnMut(u32, &'a [u8]),
) -> Result<(), WalkError> {
    if record.len() > limits::RECORD_MAX_BYTES {
        return Err(WalkError::RecordTooLarge { index, bytes: record.len() });
    }
    let mut headers = 0usize;
    let mut cursor = Cursor { bytes: record, at: 0 };
    while let Some((field, value)) = cursor.field()? {
        match (field, value) {
            (OFFSET_DELTA_FIELD, _) => return Err(WalkError::OffsetDelta { index }),
            (HEADERS_FIELD, _) => headers += 1,
            (MESSAGE_ID_FIELD, Value::Bytes(id)) => message_id(index, id),
            _ => {}
        }
        if headers > limits::RECORD_MAX_HEADERS {
            return Err(WalkError::TooManyHeaders { index });
        }
    }
    Ok(())
}

enum Value<'a> {
    Number,
    Bytes(&'a [u8]),
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, WalkError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => {
                self.varint()?;
                Value::Number
            }
            1 => self.take(8).map(|_| Value::Number)?,
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Number)?,
            _ => return Err(self.malformed("unknown wire type")),
        };
        if key >> 3 == 0 {
            return Err(self.malformed("field number 0"));
        }
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, WalkError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let &byte = self.bytes.get(self.at).ok_or_else(|| self.malformed("cut short"))?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.malformed("varint of more than 10 bytes"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WalkError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.malformed("cut short"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn malformed(&self, why: &'static str) -> WalkError {
        WalkError::Malformed { why, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &[u8], message_id: Option<&str>) -> Vec<u8> {
        let mut record = vec![0x10, 5];
        record.extend([0x22, value.len() as u8]);
        record.extend(value);
        if let Some(id) = message_id {
            record.extend([0x32, id.len() as u8]);
            record.extend(id.as_bytes());
        }
        record
    }

    fn records(all: &[Vec<u8>]) -> Vec<u8> {
        all.iter().flat_map(|r| [vec![0x0a, r.len() as u8], r.clone()].concat()).collect()
    }

    #[test]
    fn counts_records_and_finds_message_ids() {
        let body = records(&[record(b"a", Some("x")), record(b"b", None), record(b"", Some("y"))]);
        let mut ids = Vec::new();
        walk(&body, 3, |index, id| ids.push((index, id))).unwrap();
        assert_eq!(ids, [(0, &b"x"[..]), (2, &b"y"[..])]);
        assert_eq!(walk(&body, 2, |_, _| ()), Err(WalkError::Count { said: 2, found: 3 }));
    }

    #[test]
    fn length_fields_are_not_trusted() {
        let body = records(&[record(b"hello", None)]);
        for cut in 1..body.len() {
            assert!(walk(&body[..cut], 1, |_, _| ()).is_err(), "cut at {cut}");
        }
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(walk(&huge, 1, |_, _| ()), Err(WalkError::Malformed { why: "cut short", .. })));
        let endless = [0xffu8; 40];
        assert!(walk(&endless, 1, |_, _| ()).is_err());
    }

    #[test]
    fn a_producer_may_not_set_offsets() {
        let body = records(&[vec![0x08, 1]]);
        assert_eq!(walk(&body, 1, |_, _| ()), Err(WalkError::OffsetDelta { index: 0 }));
    }
}
