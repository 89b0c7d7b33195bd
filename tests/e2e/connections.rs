//! Connections that only cost: too many of them, and those that never say anything.

use flotilla_proto::v1;
use flotilla_tests::cluster::Cluster;
use flotilla_tests::wire::{self, Wire};
use flotilla_types::time::{Clock, SystemClock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOPIC: &str = "orders";
/// What HTTP/2 begins with, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_capped_and_others_are_served() {
    const ASKED: usize = 10_000;
    const CAP: usize = 4096;
    const GROWTH_LIMIT: u64 = 512 << 20;
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(ASKED as u64 + 2000), maximum: Some(20_000) },
    )
    .expect("10,000 connections need as many file handles");
    let mut cluster = Cluster::start(1, "").await;
    let address = cluster.nodes[0].client();
    let mut wire = Wire::to(&address);
    wire.create_topic(TOPIC, 1, 1, v1::TopicConfig::default()).await;
    let before = cluster.nodes[0].resident_bytes();

    let mut idle = Vec::with_capacity(ASKED);
    for _ in 0..ASKED {
        let mut connection = TcpStream::connect(&address).await.expect("the kernel takes it");
        // One that is closed at once may already refuse to be written to.
        connection.write_all(PREFACE).await.ok();
        idle.push(connection);
    }
    // Those that were taken have been greeted; the others are at their end.
    let mut open = 0;
    for connection in &mut idle {
        let mut byte = [0];
        let greeted = tokio::time::timeout(Duration::from_secs(10), connection.read(&mut byte)).await;
        open += usize::from(matches!(greeted, Ok(Ok(1))));
    }
    let grown = cluster.nodes[0].resident_bytes().saturating_sub(before);
    println!("figure: {open} of {ASKED} idle connections held, for {} MiB", grown >> 20);
    assert!(open <= CAP, "{open} connections are open, the limit is {CAP}");
    assert!(open > CAP / 2, "only {open} connections are open");
    assert!(grown < GROWTH_LIMIT, "{grown} bytes for {open} idle connections");

    // The client that was there first is served as before.
    let answer = wire.produce(wire::request(TOPIC, 0, wire::batch(&[b"x"]))).await.expect("an answer");
    assert_eq!(answer.error, None);
    assert!(cluster.nodes[0].ready(), "health has a listener of its own");
    drop(idle);
    // And when they are gone, others can come.
    for attempt in 0.. {
        let answer = Wire::to(&address).produce(wire::request(TOPIC, 0, wire::batch(&[b"y"]))).await;
        match answer {
            Ok(answer) if answer.error.is_none() => break,
            _ if attempt < 100 => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
    }
    cluster.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_finish_its_greeting_is_closed() {
    let mut cluster = Cluster::start(1, "").await;
    let clock = SystemClock::new();
    for sent in [&b""[..], &PREFACE[..10]] {
        let mut connection = TcpStream::connect(cluster.nodes[0].client()).await.expect("it listens");
        connection.write_all(sent).await.expect("it is open");
        let began = clock.monotonic();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(15), connection.read_to_end(&mut rest)).await;
        let waited = clock.monotonic().since(began);
        assert!(closed.is_ok(), "{} bytes of greeting: still open after 15 s", sent.len());
        println!("figure: closed {waited:?} after {} bytes of greeting, limit 5 s", sent.len());
        assert!(waited < Duration::from_secs(8), "closed after {waited:?} only");
    }
    cluster.assert_healthy();
}
