//! Input that nobody should send: each is answered with its code and reason, and the node goes on.

use flotilla_proto::v1::{self, record_batch::Body};
use flotilla_tests::cluster::Cluster;
use flotilla_tests::wire::{self, Wire, told};
use flotilla_types::Compression;
use prost::Message;
use tonic::Code;

const TOPIC: &str = "orders";
const MEMORY_LIMIT: u64 = 1 << 30;

async fn cluster() -> (Cluster, Wire) {
    let cluster = Cluster::start(1, "").await;
    let mut wire = Wire::to(&cluster.nodes[0].client());
    wire.create_topic(TOPIC, 1, 1, v1::TopicConfig::default()).await;
    (cluster, wire)
}

/// Names that file systems, URLs, terminals or people would stumble over.
fn bad_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../../etc/passwd",
        "a\0b",
        "%2f\n",
        "\u{202e}gnp",
        "\x1b[31mred",
        "a b",
        "é",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(250));
    names.push("x".repeat(10 << 10));
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_are_invalid_arguments_everywhere() {
    let (mut cluster, mut wire) = cluster().await;
    let invalid = (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned());
    for name in bad_names() {
        let topic = v1::Topic { topic: name.clone(), partition_count: 1, ..v1::Topic::default() };
        let create = v1::CreateTopicRequest { topic: Some(topic), validate_only: false };
        let status = wire.admin.create_topic(create).await.expect_err("a bad name");
        assert_eq!(told(&status), invalid, "create {name:?}: {status:?}");
        assert!(!status.message().contains(['\n', '\0', '\x1b']), "escaped: {:?}", status.message());
        let status =
            wire.admin.get_topic(v1::GetTopicRequest { topic: name.clone() }).await.expect_err("a bad name");
        assert_eq!(told(&status), invalid, "get {name:?}: {status:?}");
        let status = wire
            .admin
            .delete_topic(v1::DeleteTopicRequest { topic: name.clone() })
            .await
            .expect_err("a bad name");
        assert_eq!(told(&status), invalid, "delete {name:?}: {status:?}");
        let answer =
            wire.produce(wire::request(&name, 0, wire::batch(&[b"x"]))).await.expect("an item's error");
        assert_eq!(
            answer.error.map(|e| e.reason()),
            Some(v1::ErrorReason::InvalidArgument),
            "produce {name:?}"
        );
    }
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_are_refused_with_their_reason_and_nothing_is_written() {
    use v1::ErrorReason as Reason;
    let (mut cluster, mut wire) = cluster().await;
    let sound = wire::batch(&[b"one", b"two"]);
    let broken_seal = v1::RecordBatch { crc32c: Some(1), ..sound.clone() };
    let bomb = flotilla_types::compression::compress(Compression::Zstd, &vec![0u8; 64 << 20]);
    let noise: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let records = |count: usize| {
        let one = v1::Record { value: Some(b"x".to_vec().into()), ..v1::Record::default() };
        v1::Records { records: vec![one; count] }.encode_to_vec()
    };
    let huge = v1::Records {
        records: vec![v1::Record { value: Some(vec![7; 1_100_000].into()), ..v1::Record::default() }],
    };
    let delta = v1::Records { records: vec![v1::Record { offset_delta: Some(5), ..v1::Record::default() }] };
    let unknown_compression = v1::RecordBatch { compression: 77, ..sound.clone() };
    let no_body = v1::RecordBatch { body: None, ..sound.clone() };
    let said_compressed =
        v1::RecordBatch { body: Some(Body::CompressedRecords(noise.clone().into())), ..sound.clone() };
    let half_a_producer = v1::RecordBatch { producer_id: Some(7), crc32c: None, ..sound.clone() };
    let negative_sequence = v1::RecordBatch {
        producer_id: Some(7),
        producer_epoch: Some(0),
        base_sequence: Some(-2),
        crc32c: None,
        ..sound.clone()
    };
    let cases: Vec<(&str, v1::ProduceRequest, &[Reason])> = vec![
        (
            "no batch",
            v1::ProduceRequest { batch: None, ..wire::request(TOPIC, 0, sound.clone()) },
            &[Reason::InvalidArgument],
        ),
        (
            "unknown topic",
            wire::request("nobody-made-this", 0, sound.clone()),
            &[Reason::UnknownTopicOrPartition],
        ),
        ("unknown partition", wire::request(TOPIC, 9, sound.clone()), &[Reason::UnknownTopicOrPartition]),
        ("negative partition", wire::request(TOPIC, -1, sound.clone()), &[Reason::InvalidArgument]),
        ("broken seal", wire::request(TOPIC, 0, broken_seal), &[Reason::CorruptBatch]),
        (
            "count too large",
            wire::request(TOPIC, 0, wire::sealed(3, Compression::None, records(2))),
            &[Reason::CorruptBatch],
        ),
        (
            "count too small",
            wire::request(TOPIC, 0, wire::sealed(1, Compression::None, records(2))),
            &[Reason::CorruptBatch],
        ),
        (
            "count zero",
            wire::request(TOPIC, 0, wire::sealed(0, Compression::None, Vec::new())),
            &[Reason::InvalidArgument],
        ),
        (
            "count negative",
            wire::request(TOPIC, 0, v1::RecordBatch { record_count: -1, crc32c: None, ..sound.clone() }),
            &[Reason::InvalidArgument],
        ),
        (
            "too many records",
            wire::request(TOPIC, 0, wire::sealed(10_001, Compression::None, records(10_001))),
            &[Reason::BatchTooLarge, Reason::InvalidArgument],
        ),
        (
            "record too large",
            wire::request(TOPIC, 0, wire::sealed(1, Compression::None, huge.encode_to_vec())),
            &[Reason::BatchTooLarge],
        ),
        (
            "offset delta",
            wire::request(TOPIC, 0, wire::sealed(1, Compression::None, delta.encode_to_vec())),
            &[Reason::InvalidArgument],
        ),
        (
            "noise as records",
            wire::request(TOPIC, 0, wire::sealed(2, Compression::None, noise.clone())),
            &[Reason::CorruptBatch],
        ),
        (
            "noise as lz4",
            wire::request(TOPIC, 0, wire::sealed(2, Compression::Lz4, noise.clone())),
            &[Reason::CorruptBatch],
        ),
        (
            "noise as zstd",
            wire::request(TOPIC, 0, wire::sealed(2, Compression::Zstd, noise)),
            &[Reason::CorruptBatch],
        ),
        (
            "zip bomb",
            wire::request(TOPIC, 0, wire::sealed(1, Compression::Zstd, bomb)),
            &[Reason::BatchTooLarge],
        ),
        ("unknown compression", wire::request(TOPIC, 0, unknown_compression), &[Reason::UnsupportedVersion]),
        ("no body", wire::request(TOPIC, 0, no_body), &[Reason::InvalidArgument, Reason::CorruptBatch]),
        (
            "compressed body, compression none",
            wire::request(TOPIC, 0, said_compressed),
            &[Reason::InvalidArgument, Reason::CorruptBatch],
        ),
        ("half a producer", wire::request(TOPIC, 0, half_a_producer), &[Reason::InvalidArgument]),
        ("negative sequence", wire::request(TOPIC, 0, negative_sequence), &[Reason::InvalidArgument]),
        (
            "negative expected offset",
            v1::ProduceRequest { expected_offset: Some(-1), ..wire::request(TOPIC, 0, sound.clone()) },
            &[Reason::InvalidArgument],
        ),
        (
            "wrong expected offset",
            v1::ProduceRequest { expected_offset: Some(5), ..wire::request(TOPIC, 0, sound.clone()) },
            &[Reason::OffsetConflict],
        ),
        (
            "topic id of another",
            v1::ProduceRequest {
                topic_id: Some("00000000000000ff".to_owned()),
                ..wire::request(TOPIC, 0, sound.clone())
            },
            &[Reason::UnknownTopicOrPartition],
        ),
        (
            "topic id that is none",
            v1::ProduceRequest { topic_id: Some("zz".to_owned()), ..wire::request(TOPIC, 0, sound.clone()) },
            &[Reason::InvalidArgument],
        ),
        (
            "transaction",
            v1::ProduceRequest {
                transactional_id: Some("t".to_owned()),
                ..wire::request(TOPIC, 0, sound.clone())
            },
            &[Reason::UnsupportedVersion],
        ),
    ];
    for (what, request, expected) in cases {
        let answer = wire.produce(request).await.unwrap_or_else(|e| panic!("{what} ended the stream: {e:?}"));
        let error = answer.error.unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(expected.contains(&error.reason()), "{what}: {error:?}, expected {expected:?}");
        assert!(!error.outcome_unknown, "{what} was refused before anything could happen: {error:?}");
    }
    assert_eq!(wire.bounds(TOPIC, 0).await.expect("an answer"), (0, 0), "nothing was written");
    let answer = wire.produce(wire::request(TOPIC, 0, sound)).await.expect("an answer");
    assert_eq!((answer.error, answer.base_offset), (None, 0), "the node goes on");
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_with_exact_codes() {
    let (mut cluster, mut wire) = cluster().await;
    let partition = |topic: &str, partition, fetch_offset| v1::FetchPartition {
        topic: topic.to_owned(),
        partition,
        fetch_offset,
        max_bytes: 1 << 20,
        ..v1::FetchPartition::default()
    };
    let fetch =
        |partitions| v1::FetchRequest { partitions, max_bytes: 1 << 20, ..v1::FetchRequest::default() };

    let unknown =
        wire.log.fetch(fetch(vec![partition("nobody-made-this", 0, 0)])).await.expect("an item's error");
    let error = unknown.into_inner().partitions.remove(0).error.expect("an error");
    assert_eq!(error.reason(), v1::ErrorReason::UnknownTopicOrPartition);
    for bad in [partition(TOPIC, 0, -1), partition(TOPIC, -1, 0), partition("..", 0, 0)] {
        match wire.log.fetch(fetch(vec![bad.clone()])).await {
            Ok(answer) => {
                let error = answer.into_inner().partitions.remove(0).error.expect("an error");
                assert_eq!(error.reason(), v1::ErrorReason::InvalidArgument, "{bad:?}");
            }
            Err(status) => assert_eq!(told(&status).0, Code::InvalidArgument, "{bad:?}: {status:?}"),
        }
    }
    let status =
        wire.log.fetch(fetch(vec![partition(TOPIC, 0, 0); 1025])).await.expect_err("too many partitions");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

    let get = v1::GetTopicRequest { topic: "nobody-made-this".to_owned() };
    let status = wire.admin.get_topic(get).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let impossible = [
        (-1, 1, Code::InvalidArgument),
        (10_001, 1, Code::InvalidArgument),
        (1, -1, Code::InvalidArgument),
        (1, 8, Code::InvalidArgument),
        // Two replicas would be possible, if there were another node.
        (1, 2, Code::Unavailable),
    ];
    for (partitions, replication, code) in impossible {
        let topic = v1::Topic {
            topic: "never".to_owned(),
            partition_count: partitions,
            replication_factor: replication,
            ..v1::Topic::default()
        };
        let create = v1::CreateTopicRequest { topic: Some(topic), validate_only: false };
        let status = wire.admin.create_topic(create).await.expect_err("impossible");
        assert_eq!(status.code(), code, "{partitions} partitions, {replication} replicas: {status:?}");
    }
    let status = wire.admin.create_topic(v1::CreateTopicRequest::default()).await.expect_err("no topic");
    assert_eq!(told(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_and_malformed_messages_cost_a_call_and_no_memory() {
    let (mut cluster, mut wire) = cluster().await;
    for _ in 0..20 {
        let large = wire::sealed(1, Compression::None, vec![0x0a; 16 << 20]);
        let status = wire.produce(wire::request(TOPIC, 0, large)).await.expect_err("16 MiB is too much");
        let expected = [Code::OutOfRange, Code::ResourceExhausted];
        assert!(expected.contains(&status.code()), "{status:?}");
    }
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", cluster.nodes[0].client()))
        .expect("an address")
        .connect_lazy();
    for path in ["/flotilla.v1.Admin/GetTopic", "/flotilla.v1.Log/Fetch", "/flotilla.v1.Cluster/GetMetadata"]
    {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.expect("the node listens");
        let path = path.parse().expect("a path");
        let noise = bytes::Bytes::from_static(&[0xff; 64]);
        let status = grpc.unary(tonic::Request::new(noise), path, Raw).await.expect_err("noise");
        assert!([Code::Internal, Code::InvalidArgument].contains(&status.code()), "{status:?}");
    }
    let resident = cluster.nodes[0].resident_bytes();
    println!("figure: {} MiB resident after oversize messages", resident >> 20);
    assert!(resident < MEMORY_LIMIT, "{resident} bytes");
    let answer = wire.produce(wire::request(TOPIC, 0, wire::batch(&[b"x"]))).await.expect("an answer");
    assert_eq!(answer.error, None, "the node goes on");
    cluster.assert_healthy();
}

/// Sends bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = bytes::Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = bytes::Bytes;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: bytes::Bytes,
        to: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        bytes::BufMut::put(to, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        Ok(Some(()))
    }
}
