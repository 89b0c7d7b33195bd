//! Bounds of connections, shown with plain sockets: what a client does that does not behave.

use super::io::PREFACE;
use super::*;
use flotilla_types::time::SystemClock;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Running {
    address: SocketAddr,
    phases: Phases,
    metrics: Metrics,
    served: tokio::task::JoinHandle<()>,
}

async fn running(change: impl FnOnce(&mut Settings)) -> Running {
    let mut settings = Settings::client(&crate::config::Limits::default());
    change(&mut settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (phases, metrics) = (Phases::default(), Metrics::default());
    let clock = Arc::new(SystemClock::new());
    let serving =
        serve(listener, Routes::default(), settings, phases.clone(), Phase::Closing, metrics.clone(), clock);
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let served = tokio::spawn(serving);
    Running { address, phases, metrics, served }
}

const LABEL: ListenerLabel = ListenerLabel { listener: "client" };
const SOON: Duration = Duration::from_secs(5);

/// Whether the other side closes within [`SOON`], whatever it says before.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await.is_ok()
}

/// Connects, says the preface and empty SETTINGS, and reads the beginning of the answer.
async fn greeted(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut settings = [0; 9];
    tokio::time::timeout(SOON, stream.read_exact(&mut settings)).await.unwrap().unwrap();
    assert_eq!(settings[3], 4, "SETTINGS first");
    stream
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let running = running(|s| s.handshake_timeout = Duration::from_millis(50)).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(&PREFACE[..10]).await.unwrap();
    assert!(is_closed(&mut silent).await && is_closed(&mut slow).await);
    let mut other = TcpStream::connect(running.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(is_closed(&mut other).await, "another protocol");
    assert_eq!(running.metrics.handshakes_failed.get_or_create(&LABEL).get(), 3);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let running = running(|s| s.connections = 2).await;
    let first = greeted(running.address).await;
    let mut second = greeted(running.address).await;
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert!(is_closed(&mut third).await);
    assert_eq!(running.metrics.connections_refused.get_or_create(&LABEL).get(), 1);
    // A ping on an old one is answered.
    second.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
    let mut heard = Vec::new();
    while !heard.windows(8).any(|w| w == [1, 2, 3, 4, 5, 6, 7, 8]) {
        let read = tokio::time::timeout(SOON, second.read_buf(&mut heard)).await.unwrap().unwrap();
        assert!(read > 0, "still open");
    }
    // And a place that is given up can be had again.
    drop(first);
    for _ in 0..500 {
        if running.metrics.connections.get_or_create(&LABEL).get() < 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    greeted(running.address).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let running = running(|s| s.idle_timeout = Duration::from_millis(100)).await;
    let mut idle = greeted(running.address).await;
    let mut heard = Vec::new();
    let goodbye = async {
        while !heard.chunks(1).any(|_| heard.windows(4).any(|w| w[3] == 7)) {
            if idle.read_buf(&mut heard).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, goodbye).await.unwrap();
    assert_eq!(running.metrics.connections_idle_closed.get_or_create(&LABEL).get(), 1);
}

#[tokio::test]
async fn stopping_closes_what_does_not_end_by_itself() {
    let running = running(|s| s.drain_timeout = Duration::from_millis(100)).await;
    let mut stubborn = greeted(running.address).await;
    running.phases.reach(Phase::Closing);
    tokio::time::timeout(SOON, running.served).await.unwrap().unwrap();
    assert!(is_closed(&mut stubborn).await);
    assert!(TcpStream::connect(running.address).await.is_err());
    assert_eq!(running.metrics.connections.get_or_create(&LABEL).get(), 0);
}
