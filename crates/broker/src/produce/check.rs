//! Is this batch what it says it is? Everything that `machine` takes for granted is checked here.
//!
//! The body is walked once. A compressed one is decompressed into a scratch that cannot outgrow its bound
//! and is given back afterwards; nothing of it is kept but the hashes of message ids.

use super::{Error, Request};
use flotilla_types::{BatchHeader, Compression, compression, limits, record};
use xxhash_rust::xxh3::xxh3_128;

/// What the check found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Sealed.
    pub header: BatchHeader,
    /// Record number and hash of its message id, where the topic has a window.
    pub message_ids: Vec<(u32, u128)>,
}

/// Cheap checks, before anything is reserved or waited for.
pub(crate) fn before(request: &Request, max_batch_bytes: usize) -> Result<(), Error> {
    let bytes = request.body.len();
    if bytes > max_batch_bytes {
        return Err(Error::TooLarge { bytes, limit: max_batch_bytes });
    }
    let header = &request.header;
    if header.record_count == 0 {
        return Err(Error::Header("record_count is 0, expected at least 1"));
    }
    if header.record_count > limits::BATCH_MAX_RECORDS {
        return Err(Error::Body(record::WalkError::TooManyRecords));
    }
    if header.base_timestamp < 0 {
        return Err(Error::Header("base_timestamp is negative"));
    }
    if header.transactional {
        return Err(Error::Unsupported("a transactional batch"));
    }
    Ok(())
}

/// The dear checks. Blocks for as long as the CRC and, for compressed bodies, the decompression take.
pub(crate) fn check(request: &Request, hash_ids: bool) -> Result<Checked, Error> {
    let mut header = request.header;
    let found = header.checksum(&request.body);
    if request.sealed && header.crc32c != found {
        return Err(Error::Checksum { said: header.crc32c, found });
    }
    header.crc32c = found;
    let mut message_ids = Vec::new();
    let mut note = |index: u32, id: &[u8]| {
        if hash_ids {
            message_ids.push((index, xxh3_128(id)));
        }
    };
    if header.compression == Compression::None {
        record::walk(&request.body, header.record_count, &mut note)?;
    } else {
        let mut scratch = Vec::new();
        compression::decompress(header.compression, &request.body, &mut scratch)?;
        record::walk(&scratch, header.record_count, &mut note)?;
    }
    Ok(Checked { header, message_ids })
}

#[cfg(test)]
mod tests;
