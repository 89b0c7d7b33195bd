//! The checked-in code is what the contract says.

#[path = "../generate/mod.rs"]
mod generate;

#[test]
fn generated_code_is_the_contract_s() {
    let fresh = tempfile::tempdir().unwrap();
    generate::generate(fresh.path()).unwrap();
    for name in ["flotilla.v1.rs", "flotilla.peer.v1.rs", "descriptors.bin"] {
        let read = |dir: &std::path::Path| std::fs::read(dir.join(name)).unwrap();
        assert!(
            read(fresh.path()) == read(&generate::generated()),
            "{name} is not what proto/ says; run: cargo run --release -p flotilla-proto --example regenerate"
        );
    }
}

#[test]
fn a_body_of_plain_records_and_one_of_bytes_are_the_same_on_the_wire() {
    use flotilla_proto::v1;
    use prost::Message;
    let records = v1::Records {
        records: vec![v1::Record { value: Some("hello".into()), timestamp_delta: 7, ..Default::default() }],
    };
    let body = v1::record_batch::Body::Records(records.encode_to_vec().into());
    let batch = v1::RecordBatch { record_count: 1, body: Some(body), ..Default::default() };
    // Field 11 of RecordBatch, length-delimited, holding the serialised Records.
    let wire = batch.encode_to_vec();
    let inner = records.encode_to_vec();
    let expected = [&[11 << 3 | 2, inner.len() as u8][..], &inner].concat();
    assert!(wire.windows(expected.len()).any(|window| window == expected));
}
