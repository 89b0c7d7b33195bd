//! An entry of a shard's log.
//!
//! | bytes | field |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | kind: 0 blank, 1 command, 2 membership |
//! | 2–3 | 0 |
//! | 4–7 | shard |
//! | 8–15 | log index |
//! | 16–23 | term |
//! | 24–27 | length of the header |
//! | 28–31 | length of the payload |
//! | 32–35 | CRC32C of the payload |
//! | 36–39 | CRC32C of bytes 0–35 and the header |
//! | 40– | header, payload |
//!
//! The header's CRC covers shard, index and term, so an entry in the wrong place is noticed. The payload
//! has its own, because not every payload is a batch with a seal inside.

use super::Fields;
use crate::write::{EntryKind, LogRow};
use bytes::Bytes;
use flotilla_types::{LogId, LogIndex, ShardId, Term};

const VERSION: u8 = 1;
const FIXED: usize = 40;
const CRC_AT: usize = 36;
const PREFIX: u8 = b'e';

/// `e`, shard, index.
pub(crate) fn key(shard: ShardId, index: LogIndex) -> [u8; 13] {
    let mut key = [PREFIX; 13];
    key[1..].copy_from_slice(&super::place(shard, index.get()));
    key
}

/// The key after the last a shard can have.
pub(crate) fn keys_end(shard: ShardId) -> Vec<u8> {
    shard
        .get()
        .checked_add(1)
        .map_or_else(|| vec![PREFIX + 1], |next| key(ShardId(next), LogIndex(0)).to_vec())
}

/// Reads the index out of a key.
pub(crate) fn index_of(key: &[u8]) -> Option<LogIndex> {
    super::number_of(key.strip_prefix(&[PREFIX])?).map(LogIndex)
}

/// Appends the row's value to `out`.
pub(crate) fn encode(shard: ShardId, row: &LogRow, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(FIXED + row.header.len() + row.payload.len());
    out.extend_from_slice(&[VERSION, row.kind as u8, 0, 0]);
    out.extend_from_slice(&shard.get().to_le_bytes());
    out.extend_from_slice(&row.id.index.get().to_le_bytes());
    out.extend_from_slice(&row.id.term.get().to_le_bytes());
    out.extend_from_slice(&(row.header.len() as u32).to_le_bytes());
    out.extend_from_slice(&(row.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&row.payload).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), &row.header);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&row.header);
    out.extend_from_slice(&row.payload);
}

/// Reads and checks the value found under (`shard`, `index`). Header and payload are slices of it.
pub(crate) fn decode(shard: ShardId, index: LogIndex, value: &Bytes) -> Result<LogRow, String> {
    let (id, kind, header, payload_crc) = front(shard, index, value)?;
    let payload = value.slice(FIXED + header.len()..);
    let computed = crc32c::crc32c(&payload);
    if computed != payload_crc {
        return Err(format!("its payload's checksum is {computed:08x} and should be {payload_crc:08x}"));
    }
    Ok(LogRow { id, kind, header: value.slice(FIXED..FIXED + header.len()), payload })
}

type Front<'a> = (LogId, EntryKind, &'a [u8], u32);

/// All but the payload.
fn front(shard: ShardId, index: LogIndex, value: &[u8]) -> Result<Front<'_>, String> {
    let short = || format!("it has only {} bytes", value.len());
    let fixed = value.get(..FIXED).ok_or_else(short)?;
    let mut fields = Fields(fixed);
    let mut next = || fields.u32().unwrap_or_default();
    let [version, kind, zero, nought] = next().to_le_bytes();
    let found_shard = ShardId(next());
    let mut long = || u64::from(next()) | (u64::from(next()) << 32);
    let (found_index, term) = (LogIndex(long()), Term(long()));
    let (header_len, payload_len) = (next() as usize, next() as usize);
    let (payload_crc, header_crc) = (next(), next());

    let header = value.get(FIXED..FIXED + header_len).ok_or_else(short)?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(&fixed[..CRC_AT]), header);
    if computed != header_crc {
        return Err(format!("its header's checksum is {computed:08x} and should be {header_crc:08x}"));
    }
    if version != VERSION {
        return Err(format!("it has version {version} and this program reads {VERSION}"));
    }
    if (found_shard, found_index) != (shard, index) {
        return Err(format!("it belongs to shard {found_shard}, index {found_index}"));
    }
    if value.len() != FIXED + header_len + payload_len {
        return Err(format!(
            "it has {} bytes and should have {}",
            value.len(),
            FIXED + header_len + payload_len
        ));
    }
    let kind = EntryKind::from_number(kind)
        .filter(|_| zero == 0 && nought == 0)
        .ok_or_else(|| format!("it has the unknown kind {kind}"))?;
    Ok((LogId { term, index }, kind, header, payload_crc))
}
