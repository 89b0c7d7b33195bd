//! Wrong seals, counts, bodies and bombs are refused before anything is proposed.

use super::*;
use crate::testing::{body, record};
use bytes::Bytes;
use flotilla_types::{PartitionId, TopicName};
use std::time::Duration;

fn request(body: Vec<u8>, record_count: u32, compression: Compression) -> Request {
    let header = BatchHeader {
        record_count,
        base_timestamp: 0,
        producer: None,
        transactional: false,
        compression,
        schema_id: None,
        crc32c: 0,
    };
    Request {
        topic: TopicName::new("t").unwrap(),
        partition: PartitionId(0),
        topic_id: None,
        header: header.seal(&body),
        body: Bytes::from(body),
        sealed: true,
        expected_offset: None,
        timeout: Duration::ZERO,
    }
}

#[test]
fn a_sound_batch_passes_in_every_compression() {
    let plain = body(&[record(b"a", Some("x")), record(b"b", None)]);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let small = compression::compress(compression, &plain);
        let checked = check(&request(small, 2, compression), true).unwrap();
        assert_eq!(checked.message_ids, [(0, xxh3_128(b"x"))]);
    }
}

#[test]
fn a_wrong_seal_is_refused_and_a_missing_one_filled_in() {
    let mut wrong = request(body(&[record(b"a", None)]), 1, Compression::None);
    let right = wrong.header.crc32c;
    wrong.header.crc32c ^= 1;
    assert!(matches!(check(&wrong, false), Err(Error::Checksum { .. })));
    wrong.sealed = false;
    assert_eq!(check(&wrong, false).unwrap().header.crc32c, right);
}

#[test]
fn counts_and_garbage_are_refused() {
    let plain = body(&[record(b"a", None)]);
    assert!(matches!(check(&request(plain.clone(), 2, Compression::None), false), Err(Error::Body(_))));
    assert!(matches!(check(&request(plain, 1, Compression::Lz4), false), Err(Error::Compression(_))));
    assert!(check(&request(vec![0xff; 40], 1, Compression::None), false).is_err());
}

#[test]
fn a_bomb_is_refused_small() {
    let bomb = compression::compress(Compression::Zstd, &vec![0u8; 256 << 20]);
    let error = check(&request(bomb, 1, Compression::Zstd), false).unwrap_err();
    assert!(matches!(error, Error::Compression(_)), "{error}");
}

#[test]
fn headers_that_cannot_be_are_refused_before_any_work() {
    let good = request(body(&[record(b"a", None)]), 1, Compression::None);
    assert_eq!(before(&good, 1 << 20), Ok(()));
    assert!(matches!(before(&good, 3), Err(Error::TooLarge { .. })));
    for header in [
        BatchHeader { record_count: 0, ..good.header },
        BatchHeader { record_count: 10_001, ..good.header },
        BatchHeader { base_timestamp: -1, ..good.header },
        BatchHeader { transactional: true, ..good.header },
    ] {
        assert!(before(&Request { header, ..good.clone() }, 1 << 20).is_err());
    }
}
