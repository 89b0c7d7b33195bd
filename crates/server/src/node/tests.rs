//! A whole node in this process, `--dev` like: what a client of the contract sees.

use super::*;
use crate::grpc::status;
use bytes::Bytes;
use flotilla_proto::v1;
use flotilla_proto::v1::admin_client::AdminClient;
use flotilla_proto::v1::cluster_client::ClusterClient;
use flotilla_proto::v1::health::Status::Healthy;
use flotilla_proto::v1::log_client::LogClient;
use flotilla_proto::v1::transactions_client::TransactionsClient;
use flotilla_types::{Batch, BatchHeader, Compression, ProducerEpoch, ProducerId, ProducerStamp, Sequence};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

mod groups;

struct Dev {
    node: Node,
    channel: Channel,
    data: tempfile::TempDir,
}

fn config(data: &std::path::Path) -> Config {
    let mut config = Config::default().dev(data.to_owned());
    for address in [&mut config.listen.client, &mut config.listen.peer, &mut config.listen.http] {
        "127.0.0.1:0".clone_into(address);
    }
    config.store.memory = flotilla_types::bytesize::ByteSize(64 << 20);
    // A test's disk may be as full as it likes.
    config.broker.disk.soft_free_percent = 0;
    config.broker.disk.hard_free_percent = 0;
    config.broker.disk.soft_free_bytes = flotilla_types::bytesize::ByteSize(0);
    config.broker.disk.hard_free_bytes = flotilla_types::bytesize::ByteSize(0);
    config
}

async fn channel(node: &Node) -> Channel {
    Endpoint::from_shared(format!("http://{}", node.addresses.client)).unwrap().connect().await.unwrap()
}

/// A copy of a stopped node's directory: the original is locked for as long as this process lives.
fn copied(data: &std::path::Path) -> std::path::PathBuf {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let to = data.join("copy");
    copy(&data.join("data"), &to);
    to
}

async fn dev() -> Dev {
    dev_with(|_| ()).await
}

async fn dev_with(change: impl FnOnce(&mut Config)) -> Dev {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data.path().join("data"));
    change(&mut config);
    let node = Node::start(config, OpenMode::Init).await.unwrap();
    assert!(node.wait_ready(Duration::from_secs(20)).await, "ready");
    let channel = channel(&node).await;
    Dev { node, channel, data }
}

async fn create(channel: &Channel, topic: &str, partitions: i32) -> v1::Topic {
    let topic = v1::Topic { topic: topic.to_owned(), partition_count: partitions, ..Default::default() };
    let request = v1::CreateTopicRequest { topic: Some(topic), validate_only: false };
    AdminClient::new(channel.clone()).create_topic(request).await.unwrap().into_inner()
}

/// A body of `values.len()` records, each with its value only.
fn body(values: &[&str]) -> Bytes {
    let record = |value: &&str| {
        let value = value.as_bytes();
        let record = [&[0x22, value.len() as u8], value].concat();
        [&[0x0a, record.len() as u8][..], &record].concat()
    };
    values.iter().flat_map(record).collect::<Vec<u8>>().into()
}

fn request(correlation_id: u64, topic: &str, partition: i32, values: &[&str]) -> v1::ProduceRequest {
    let body = body(values);
    let header = BatchHeader {
        record_count: values.len() as u32,
        base_timestamp: 1_700_000_000_000,
        producer: None,
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0,
    };
    let batch = Batch { header: header.seal(&body), body };
    v1::ProduceRequest {
        correlation_id,
        topic: topic.to_owned(),
        partition,
        batch: Some(flotilla_proto::convert::records::batch_to_wire(&batch)),
        ..Default::default()
    }
}

/// Sends all, half-closes, and gives back all answers in the order they came.
async fn produce(channel: &Channel, requests: Vec<v1::ProduceRequest>) -> Vec<v1::ProduceResponse> {
    let mut answers =
        LogClient::new(channel.clone()).produce(futures::stream::iter(requests)).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        all.push(answer);
    }
    all
}

/// Asks again for as long as it is told to.
async fn fetch(channel: &Channel, topic: &str, offset: i64, max_wait_ms: i32) -> v1::FetchedPartition {
    for _ in 0..500 {
        let fetched = fetch_once(channel, topic, offset, max_wait_ms).await;
        if fetched.error.as_ref().is_none_or(|e| e.action != v1::ErrorAction::Retry as i32) {
            return fetched;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody leads {topic}");
}

async fn fetch_once(channel: &Channel, topic: &str, offset: i64, max_wait_ms: i32) -> v1::FetchedPartition {
    let partition =
        v1::FetchPartition { topic: topic.to_owned(), fetch_offset: offset, ..Default::default() };
    let request = v1::FetchRequest { partitions: vec![partition], max_wait_ms, ..Default::default() };
    let answer = LogClient::new(channel.clone()).fetch(request).await.unwrap().into_inner();
    answer.partitions.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_in_and_come_out_and_are_there_after_a_restart() {
    let dev = dev().await;
    let topic = create(&dev.channel, "orders", 2).await;
    assert_eq!((topic.partition_count, topic.replication_factor), (2, 1));

    let requests = (0..100).map(|i| request(i, "orders", (i % 2) as i32, &[&format!("v{i}"), "second"]));
    let answers = produce(&dev.channel, requests.collect()).await;
    assert_eq!(answers.len(), 100, "half-close flushes");
    for partition in 0..2 {
        let of: Vec<_> = answers.iter().filter(|a| a.partition == partition).collect();
        let offsets: Vec<i64> = of.iter().map(|a| a.base_offset).collect();
        assert_eq!(offsets, (0..50).map(|i| i * 2).collect::<Vec<_>>(), "{of:?}");
        assert!(of.iter().map(|a| a.correlation_id).is_sorted(), "send order");
    }
    let fetched = fetch(&dev.channel, "orders", 0, 0).await;
    assert_eq!((fetched.high_watermark, fetched.next_offset, fetched.error), (100, 100, None));
    let fetched =
        fetched.batches.into_iter().map(|b| flotilla_proto::convert::records::fetched_from_wire(b).unwrap());
    for (place, batch) in fetched.enumerate() {
        assert!(batch.batch.header.is_sound(&batch.batch.body));
        assert_eq!(batch.batch.body, body(&[&format!("v{}", place * 2), "second"]));
    }

    let Dev { node, channel: old, data } = dev;
    drop(old);
    node.stop().await;
    let node = Node::start(config(&copied(data.path())), OpenMode::Existing).await.unwrap();
    assert!(node.wait_ready(Duration::from_secs(20)).await, "ready again");
    let channel = channel(&node).await;
    let fetched = fetch(&channel, "orders", 98, 5000).await;
    assert_eq!((fetched.batches.len(), fetched.next_offset, fetched.error), (1, 100, None));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_repeats_itself_is_told_so_and_thin_clients_are_served() {
    let dev = dev().await;
    create(&dev.channel, "t", 1).await;
    let init = TransactionsClient::new(dev.channel.clone())
        .init_producer(v1::InitProducerRequest::default())
        .await
        .unwrap()
        .into_inner();
    let stamp = ProducerStamp {
        id: ProducerId(init.producer_id as u64),
        epoch: ProducerEpoch(init.producer_epoch as u64),
        base_sequence: Sequence(0),
    };
    let body = body(&["a"]);
    let header = BatchHeader {
        record_count: 1,
        base_timestamp: 5,
        producer: Some(stamp),
        transactional: false,
        compression: Compression::None,
        schema_id: None,
        crc32c: 0,
    };
    let batch = flotilla_proto::convert::records::batch_to_wire(&Batch { header: header.seal(&body), body });
    let stamped = |correlation_id| v1::ProduceRequest {
        batch: Some(batch.clone()),
        ..request(correlation_id, "t", 0, &["a"])
    };
    let answers = produce(&dev.channel, vec![stamped(1), stamped(2)]).await;
    let heard: Vec<_> = answers.iter().map(|a| (a.correlation_id, a.base_offset, a.duplicate)).collect();
    assert_eq!(heard, [(1, 0, false), (2, 0, true)], "{answers:?}");

    // Neither seal nor time: the broker gives both.
    let mut thin = request(3, "t", 0, &["b"]);
    let batch = thin.batch.as_mut().unwrap();
    (batch.crc32c, batch.base_timestamp) = (None, 0);
    let answers = produce(&dev.channel, vec![thin]).await;
    assert_eq!(answers[0].error, None);
    let fetched = fetch(&dev.channel, "t", 1, 0).await;
    let fetched = flotilla_proto::convert::records::fetched_from_wire(fetched.batches[0].clone()).unwrap();
    assert_eq!(fetched.batch.header.base_timestamp, answers[0].log_append_time);
    assert!(fetched.batch.header.is_sound(&fetched.batch.body));
    dev.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_with_its_exact_code() {
    let dev = dev().await;
    create(&dev.channel, "t", 1).await;
    let mut admin = AdminClient::new(dev.channel.clone());
    let mut log = LogClient::new(dev.channel.clone()).max_encoding_message_size(64 << 20);

    for name in ["", "..", "/", "a\0b", "a b", "%2f\n", "\u{202e}", &"x".repeat(10_000)] {
        let topic = v1::Topic { topic: name.to_owned(), ..Default::default() };
        let request = v1::CreateTopicRequest { topic: Some(topic), validate_only: false };
        let status = admin.create_topic(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_ARGUMENT");
        assert_eq!(details.error_info().unwrap().metadata["outcome"], "definite");
    }
    let again = v1::Topic { topic: "t".to_owned(), ..Default::default() };
    let request_again = v1::CreateTopicRequest { topic: Some(again), validate_only: false };
    assert_eq!(admin.create_topic(request_again).await.unwrap_err().code(), Code::AlreadyExists);
    let missing = v1::GetTopicRequest { topic: "missing".to_owned() };
    assert_eq!(admin.get_topic(missing).await.unwrap_err().code(), Code::NotFound);

    // Within a stream an error is an item's, and the stream goes on.
    let mut corrupt = request(1, "t", 0, &["a"]);
    corrupt.batch.as_mut().unwrap().crc32c = Some(1);
    let mut count = request(2, "t", 0, &["a"]);
    count.batch.as_mut().unwrap().record_count = -1;
    let unknown = request(3, "nope", 0, &["a"]);
    let mut odd = request(4, "t", 0, &["a"]);
    odd.batch.as_mut().unwrap().compression = 42;
    let none = v1::ProduceRequest { correlation_id: 5, topic: "t".to_owned(), ..Default::default() };
    let good = request(6, "t", 0, &["a"]);
    let mut answers = produce(&dev.channel, vec![corrupt, count, unknown, odd, none, good]).await;
    answers.sort_by_key(|a| a.correlation_id);
    let reasons: Vec<i32> = answers.iter().map(|a| a.error.as_ref().map_or(0, |e| e.reason)).collect();
    let expected = [
        v1::ErrorReason::CorruptBatch,
        v1::ErrorReason::InvalidArgument,
        v1::ErrorReason::UnknownTopicOrPartition,
        v1::ErrorReason::UnsupportedVersion,
        v1::ErrorReason::InvalidArgument,
        v1::ErrorReason::Unspecified,
    ];
    assert_eq!(reasons, expected.map(|r| r as i32), "{answers:?}");

    let big = vec![v1::ProduceRequest { traceparent: "x".repeat(5 << 20), ..request(1, "t", 0, &["a"]) }];
    let mut stream = log.produce(futures::stream::iter(big)).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::OutOfRange, "oversize");

    let negative = v1::FetchPartition { topic: "t".to_owned(), fetch_offset: -1, ..Default::default() };
    let request = v1::FetchRequest { partitions: vec![negative], ..Default::default() };
    assert_eq!(log.fetch(request).await.unwrap_err().code(), Code::InvalidArgument);
    let beyond = fetch(&dev.channel, "t", 77, 0).await.error.unwrap();
    assert_eq!(beyond.reason, v1::ErrorReason::OffsetOutOfRange as i32);

    let later = log.consume(futures::stream::empty()).await.unwrap_err();
    assert_eq!(later.code(), Code::Unimplemented);
    assert!(later.message().contains("use Fetch"), "{}", later.message());
    let receive = v1::queue_client::QueueClient::new(dev.channel.clone())
        .pull(v1::PullRequest::default())
        .await
        .unwrap_err();
    assert_eq!(receive.code(), Code::Unimplemented);
    assert!(receive.message().contains("flotilla.v1.Queue/Pull"), "{}", receive.message());
    assert_eq!(status::comes_later("x", "").code(), Code::Unimplemented);
    dev.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_watched_and_health_and_reflection_answer() {
    let dev = dev().await;
    let mut cluster = ClusterClient::new(dev.channel.clone());
    let mut watch = cluster.watch_metadata(v1::GetMetadataRequest::default()).await.unwrap().into_inner();
    let whole = watch.message().await.unwrap().unwrap();
    assert_eq!(whole.nodes.len(), 1);
    assert_eq!(whole.nodes[0].endpoint, dev.node.addresses.client.to_string());
    create(&dev.channel, "seen", 3).await;
    let route = loop {
        let news = watch.message().await.unwrap().unwrap();
        let route = news.topics.into_iter().find(|t| t.topic == "seen");
        if let Some(route) = route.filter(|r| r.leaders.iter().all(|l| l.node_id == 1)) {
            break route;
        }
    };
    assert_eq!(route.leaders.len(), 3);
    let deleted = v1::DeleteTopicRequest { topic: "seen".to_owned() };
    AdminClient::new(dev.channel.clone()).delete_topic(deleted).await.unwrap();
    while !watch.message().await.unwrap().unwrap().topics.iter().any(|t| t.topic == "seen" && t.deleted) {}

    let well = async {
        // A new cluster places its coordinators in its first moments.
        while cluster.get_health(v1::GetHealthRequest {}).await.unwrap().into_inner().status() != Healthy {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), well).await.expect("it becomes healthy");
    let mut probe = tonic_health::pb::health_client::HealthClient::new(dev.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "flotilla.v1.Log".to_owned() };
    let answer = probe.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status, tonic_health::ServingStatus::Serving as i32);

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let ask = |ask| tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ask),
    };
    let asked = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("flotilla.v1.Log".to_owned())),
    ];
    let mut reflection = ServerReflectionClient::new(dev.channel.clone());
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter(asked)).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    assert!(listed.service.iter().any(|s| s.name == "flotilla.v1.Log"), "{listed:?}");
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
    drop(watch);
    dev.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantined_node_stays_up_and_says_why() {
    let dev = dev().await;
    create(&dev.channel, "t", 1).await;
    let Dev { node, channel: old, data } = dev;
    drop(old);
    node.stop().await;
    let directory = copied(data.path());
    let identity = directory.join("identity");
    let mut bytes = std::fs::read(&identity).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&identity, bytes).unwrap();

    let node = Node::start(config(&directory), OpenMode::Existing).await.unwrap();
    assert!(node.quarantined.as_ref().is_some_and(|why| why.contains("identity")), "{:?}", node.quarantined);
    assert!(!node.wait_ready(Duration::from_millis(300)).await);
    let channel = channel(&node).await;
    let health = ClusterClient::new(channel.clone()).get_health(v1::GetHealthRequest {}).await.unwrap();
    let health = health.into_inner();
    assert_eq!(health.status(), v1::health::Status::Unhealthy);
    assert_eq!(health.checks[0].name, "quarantine");
    let refused = produce(&channel, vec![request(1, "t", 0, &["a"])]).await;
    assert!(refused[0].error.is_some(), "{refused:?}");
    node.stop().await;
}
