//! What a leader does with every batch before it proposes: check the seal, walk the records, and
//! decompress where it must. Run by hand: `cargo bench -p flotilla-benches --profile release`.

use flotilla_types::batch::{BatchHeader, Compression};
use flotilla_types::compression::{compress, decompress};
use flotilla_types::record;
use std::hint::black_box;
use std::time::Duration;

const RECORDS: u32 = 100;
const VALUE_BYTES: usize = 1024;

fn main() {
    let body = body();
    let header = BatchHeader {
        record_count: RECORDS,
        base_timestamp: 0,
        producer: None,
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0,
    }
    .seal(&body);
    println!("a batch of {RECORDS} records of {VALUE_BYTES} bytes, {} bytes in all", body.len());
    measure("seal checked", body.len(), || assert!(header.is_sound(black_box(&body))));
    measure("records walked", body.len(), || {
        record::walk(black_box(&body), RECORDS, |_, id| {
            black_box(id);
        })
        .expect("the body is sound");
    });
    for compression in [Compression::Lz4, Compression::Zstd] {
        let small = compress(compression, &body);
        let mut scratch = Vec::new();
        measure(&format!("{compression:?} decompressed from {} bytes", small.len()), body.len(), || {
            decompress(compression, black_box(&small), &mut scratch).expect("it was compressed just now");
        });
    }
}

/// The best of several rounds: the one that was disturbed least.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
fn measure(what: &str, bytes: usize, mut act: impl FnMut()) {
    const ROUNDS: u32 = 20;
    const REPEATS: u32 = 200;
    let best = (0..ROUNDS)
        .map(|_| {
            let start = std::time::Instant::now();
            (0..REPEATS).for_each(|_| act());
            start.elapsed() / REPEATS
        })
        .min()
        .unwrap_or(Duration::MAX);
    let rate = bytes as f64 / best.as_secs_f64() / 1e9;
    println!("{what:<45} {:>9.2} us  {rate:>6.2} GB/s", best.as_secs_f64() * 1e6);
}

/// `Records` by hand: each record is a key and a value that compresses about as text does.
fn body() -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..RECORDS {
        let words = ["offset ", "shard ", "leader ", "record ", "batch ", "term "];
        let mut value = format!("{number:08} ").into_bytes();
        let mut state = number;
        while value.len() < VALUE_BYTES {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            value.extend_from_slice(words[(state >> 16) as usize % words.len()].as_bytes());
        }
        value.truncate(VALUE_BYTES);
        let mut record = Vec::new();
        field(&mut record, 3, format!("key-{number}").as_bytes());
        field(&mut record, 4, &value);
        field(&mut body, 1, &record);
    }
    body
}

fn field(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
}
