//! A batch that was refused because of single records goes on without them.
//!
//! A topic with a dedup window refuses a batch of which some records are known and some are not, and
//! names the known ones with their first offsets. Those have their answer; the others are still to be
//! stored. Only batches that this producer put together are split, never one whose caller asked for it
//! to be atomic, nor one whose earlier attempt may have been stored.

use super::{Sent, State};
use crate::batcher::{Stored, pack};
use crate::error::{Error, Result};
use crate::record::WireRecords;
use bytes::Bytes;
use flotilla_types::{Offset, Reason, compression};
use prost::Message;

/// What a record error names when the record is stored already, as `ALREADY_EXISTS`.
const FIRST_OFFSET: &str = "offset";

/// How some records of a batch ended, and which are still on the way.
#[derive(Debug)]
pub(super) struct Remainder {
    /// By place in the batch as it was gathered.
    settled: Vec<Option<Result<Stored>>>,
    /// Places of the records that are still on the way, in order.
    rest: Vec<u32>,
}

type Ended = (Sent, Vec<Result<Stored>>);

impl Remainder {
    /// The batch without the named records, or the outcome of all if none is left.
    pub(super) fn without(mut sent: Sent, named: &[(u32, Error)]) -> std::result::Result<Sent, Box<Ended>> {
        let count = sent.batch.header.record_count;
        let before = sent
            .remainder
            .take()
            .unwrap_or_else(|| Self { settled: vec![None; count as usize], rest: (0..count).collect() });
        let Self { mut settled, rest } = before;
        let mut left = Vec::new();
        for (place, original) in rest.iter().enumerate() {
            match named.iter().find(|(index, _)| *index as usize == place) {
                Some((_, error)) => settled[*original as usize] = Some(record_outcome(error)),
                None => left.push((place, *original)),
            }
        }
        let body = if left.len() == rest.len() { None } else { keep(&sent, &left) };
        let (Some(body), false) = (body, left.is_empty()) else {
            let undecided = || Err(Error::fatal(Reason::InvalidRecord, "batch was refused"));
            let all = settled.into_iter().map(|outcome| outcome.unwrap_or_else(undecided)).collect();
            return Err(Box::new((sent, all)));
        };
        let (compression, body) = pack(sent.batch.header.compression, body);
        sent.batch.header.compression = compression;
        sent.batch.header.record_count = left.len() as u32;
        sent.batch.body = body;
        sent.state = State::Pending;
        sent.remainder =
            Some(Self { settled, rest: left.into_iter().map(|(_, original)| original).collect() });
        Ok(sent)
    }

    /// How every record of the batch as gathered ended, now that the rest has.
    pub(super) fn complete(self, outcome: Result<Stored>) -> Vec<Result<Stored>> {
        let Self { mut settled, rest } = self;
        for (place, original) in rest.into_iter().enumerate() {
            settled[original as usize] = Some(
                outcome
                    .clone()
                    .map(|stored| Stored { base_offset: stored.base_offset.plus(place as u64), ..stored }),
            );
        }
        let undecided = || Err(Error::lost("the batch did not say how this record ended"));
        settled.into_iter().map(|outcome| outcome.unwrap_or_else(undecided)).collect()
    }
}

fn record_outcome(error: &Error) -> Result<Stored> {
    let first = error.metadata().get(FIRST_OFFSET).and_then(|offset| offset.parse().ok());
    match first.filter(|_| error.reason() == Some(Reason::AlreadyExists)) {
        Some(offset) => Ok(Stored { base_offset: Offset(offset), append_time: 0, duplicate: true }),
        None => Err(error.clone()),
    }
}

/// The body with only these records; `None` if it cannot be read, which this producer wrote itself.
fn keep(sent: &Sent, left: &[(usize, u32)]) -> Option<Bytes> {
    let mut raw = Vec::new();
    compression::decompress(sent.batch.header.compression, &sent.batch.body, &mut raw).ok()?;
    let records = WireRecords::decode(Bytes::from(raw)).ok()?.records;
    let kept = left.iter().map(|(place, _)| records.get(*place).cloned()).collect::<Option<Vec<_>>>()?;
    Some(WireRecords { records: kept }.encode_to_vec().into())
}
