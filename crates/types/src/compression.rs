//! Bodies of batches, smaller: LZ4 frames and Zstandard, with a bound on what they may grow to.

use crate::batch::Compression;
use crate::limits;
use std::io::Read;

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// It would grow beyond the bound: a zip bomb or a batch that must be split.
    #[error("body of {compressed} bytes grows beyond {limit} bytes when decompressed")]
    TooLarge {
        /// Bytes as sent.
        compressed: usize,
        /// The bound for a body of that size.
        limit: usize,
    },
    /// It is not what its batch says it is.
    #[error("body is not valid {compression:?}: {why}")]
    Corrupt {
        /// As the batch says.
        compression: Compression,
        /// The decoder's reason.
        why: String,
    },
}

/// Compresses a body. `None` is returned as it is, at no cost beyond a copy.
pub fn compress(compression: Compression, body: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => body.to_vec(),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::with_capacity(body.len() / 2 + 64));
            std::io::Write::write_all(&mut encoder, body).expect("writing to memory cannot fail");
            encoder.finish().expect("writing to memory cannot fail")
        }
        Compression::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL).expect("writing to memory cannot fail"),
    }
}

/// Speed over size: the producer compresses on its own critical path.
const ZSTD_LEVEL: i32 = 1;

/// The most bytes a body of `compressed` bytes may grow to.
pub fn expansion_limit(compressed: usize) -> usize {
    compressed
        .saturating_mul(limits::BATCH_MAX_EXPANSION)
        .clamp(limits::BATCH_FREE_EXPANSION, limits::BATCH_MAX_DECOMPRESSED_BYTES)
}

/// Decompresses into `scratch`, which is cleared first and never grows beyond [`expansion_limit`].
pub fn decompress(
    compression: Compression,
    body: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    scratch.clear();
    let limit = expansion_limit(body.len());
    let corrupt = |e: std::io::Error| DecompressError::Corrupt { compression, why: e.to_string() };
    let read = match compression {
        Compression::None => {
            scratch.extend_from_slice(body);
            return Ok(());
        }
        Compression::Lz4 => {
            lz4_flex::frame::FrameDecoder::new(body).take(limit as u64 + 1).read_to_end(scratch)
        }
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(body)
            .map_err(corrupt)?
            .take(limit as u64 + 1)
            .read_to_end(scratch),
    }
    .map_err(corrupt)?;
    if read > limit {
        return Err(DecompressError::TooLarge { compressed: body.len(), limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_as_they_were() {
        let body: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let mut scratch = Vec::new();
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            for body in [&body[..], &[]] {
                let small = compress(compression, body);
                decompress(compression, &small, &mut scratch).unwrap();
                assert_eq!(scratch, body, "{compression:?}");
            }
        }
    }

    #[test]
    fn a_zip_bomb_is_refused_before_it_unfolds() {
        let bomb = vec![0u8; 64 << 20];
        let mut scratch = Vec::new();
        for compression in [Compression::Lz4, Compression::Zstd] {
            let small = compress(compression, &bomb);
            let error = decompress(compression, &small, &mut scratch).unwrap_err();
            assert!(matches!(error, DecompressError::TooLarge { .. }), "{error}");
            assert!(scratch.capacity() <= 2 * limits::BATCH_MAX_DECOMPRESSED_BYTES + 4096);
        }
    }

    #[test]
    fn garbage_is_corrupt_not_a_panic() {
        let mut scratch = Vec::new();
        for compression in [Compression::Lz4, Compression::Zstd] {
            let error = decompress(compression, b"\x04\x22\x4d\x18 no such frame", &mut scratch).unwrap_err();
            assert!(matches!(error, DecompressError::Corrupt { .. }), "{error}");
        }
    }
}
