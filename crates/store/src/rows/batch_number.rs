//! The number of the batch that wrote it. It is in every batch, so after a start it says how far the
//! write-ahead log came; the marker file says how far it must have come.

use super::{Fields, seal};

const VERSION: u8 = 1;

/// `b`.
pub(crate) const KEY: &[u8] = b"b";

pub(crate) fn encode(number: u64) -> Vec<u8> {
    seal::seal(KEY, VERSION, &number.to_le_bytes())
}

pub(crate) fn decode(value: &[u8]) -> Result<u64, String> {
    let body = seal::open(KEY, VERSION, value)?;
    Fields(body).u64().filter(|_| body.len() == 8).ok_or_else(|| format!("it has {} bytes", body.len()))
}
