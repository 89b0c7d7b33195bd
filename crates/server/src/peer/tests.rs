//! Two endpoints in one process, over real sockets: delivery, loss, reconnect, refusal, backpressure.

use super::*;
use crate::identity::{Identity, KnownStores};
use crate::listener;
use crate::shutdown::{Phase, Phases};
use flotilla_types::random::Seeded;
use flotilla_types::time::SystemClock;
use flotilla_types::{ClusterId, ShardId, StoreId};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use uuid::Uuid;

/// Keeps what arrives.
#[derive(Default)]
struct Ear {
    frames: Mutex<Vec<(NodeId, Frame)>>,
    states: Mutex<Vec<(NodeId, PeerState)>>,
}

impl Inbound for Ear {
    fn receive(&self, from: NodeId, frame: Frame) {
        self.frames.lock().push((from, frame));
    }

    fn peer_changed(&self, peer: NodeId, state: PeerState) {
        self.states.lock().push((peer, state));
    }
}

struct Echo;

impl Answer for Echo {
    fn answer(self: Arc<Self>, from: NodeId, request: Bytes) -> BoxFuture<'static, Bytes> {
        let text = format!("{from}: {}", String::from_utf8_lossy(&request));
        Box::pin(async move { Bytes::from(text) })
    }
}

struct End {
    transport: Arc<PeerTransport>,
    ear: Arc<Ear>,
    metrics: Metrics,
}

fn settings() -> Settings {
    Settings {
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn end_with(node: u32, cluster: u128, settings: Settings) -> End {
    let me = Identity {
        cluster: ClusterId(Uuid::from_u128(cluster)),
        node: NodeId(node),
        store: StoreId(Uuid::from_u128(u128::from(node) + 100)),
        incarnation: 1,
    };
    let metrics = Metrics::default();
    let runtime = tokio::runtime::Handle::current();
    let random = Arc::new(Seeded::new(7));
    let transport =
        PeerTransport::new(Book::new(me, KnownStores::default()), settings, metrics.clone(), random, runtime);
    End { transport, ear: Arc::default(), metrics }
}

fn end(node: u32) -> End {
    end_with(node, 1, settings())
}

impl End {
    fn start(&self) {
        self.transport.start(&(Arc::clone(&self.ear) as Arc<dyn Inbound>));
    }

    /// Serves on `address` until the phases reach closing.
    fn serve(&self, listener: TcpListener) -> (Phases, tokio::task::JoinHandle<()>) {
        let service = PeerService::new(Arc::clone(&self.transport));
        service.answer_with(Arc::new(Echo));
        let routes = tonic::service::Routes::new(service.into_server());
        let limits = crate::config::Limits::default();
        let settings = listener::Settings::peer(&Settings::default(), &limits);
        let phases = Phases::default();
        let serving = listener::serve(
            listener,
            routes,
            settings,
            phases.clone(),
            Phase::Closing,
            self.metrics.clone(),
            Arc::new(SystemClock::new()),
        );
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        let served = tokio::spawn(serving);
        (phases, served)
    }
}

async fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

fn frame(call: u64, lane: Lane, bytes: usize) -> Frame {
    let payloads = if bytes == 0 { Vec::new() } else { vec![Bytes::from(vec![7; bytes])] };
    Frame { shard: ShardId(1024), call, kind: 3, lane, header: Bytes::from_static(b"head"), payloads }
}

const TWO: NodeId = NodeId(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_as_they_were_and_in_order_per_lane() {
    let (one, two) = (end(1), end(2));
    let (one_listener, one_at) = listen("127.0.0.1:0").await;
    let (two_listener, two_at) = listen("127.0.0.1:0").await;
    one.transport.learn(TWO, &two_at.to_string());
    two.transport.learn(NodeId(1), &one_at.to_string());
    one.start();
    two.start();
    let _serving = (one.serve(one_listener), two.serve(two_listener));
    until("up", || {
        one.transport.state(TWO) == PeerState::Up && two.transport.state(NodeId(1)) == PeerState::Up
    })
    .await;
    assert_eq!(*one.ear.states.lock(), [(TWO, PeerState::Up)]);

    for call in 0..500 {
        let lane = if call % 5 == 0 { Lane::Control } else { Lane::Data };
        one.transport.send(TWO, frame(call, lane, (call as usize % 7) * 10_000)).await.unwrap();
    }
    two.transport.send(NodeId(1), frame(1, Lane::Control, 0)).await.unwrap();
    until("all arrived", || two.ear.frames.lock().len() == 500 && one.ear.frames.lock().len() == 1).await;
    let frames = two.ear.frames.lock().clone();
    for lane in [Lane::Control, Lane::Data] {
        let calls: Vec<u64> = frames.iter().filter(|(_, f)| f.lane == lane).map(|(_, f)| f.call).collect();
        assert!(calls.is_sorted(), "{lane:?}: {calls:?}");
    }
    let (from, thirteenth) = frames.iter().find(|(_, f)| f.call == 13).unwrap();
    assert_eq!((*from, thirteenth), (NodeId(1), &frame(13, Lane::Data, 60_000)));

    let answer = one.transport.call(TWO, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(answer, "1: hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_peer_is_reported_and_found_again() {
    let (one, two) = (end(1), end(2));
    two.transport.learn(NodeId(1), "127.0.0.1:1");
    two.start();
    let (listener, at) = listen("127.0.0.1:0").await;
    one.transport.learn(TWO, &at.to_string());
    one.start();
    let (phases, served) = two.serve(listener);
    until("up", || one.transport.state(TWO) == PeerState::Up).await;

    phases.reach(Phase::Closing);
    served.await.unwrap();
    until("gone", || one.transport.state(TWO) == PeerState::Refused).await;
    for lane in [Lane::Control, Lane::Data] {
        // One lane may be lost a moment before the other.
        while one.transport.send(TWO, frame(1, lane, 10)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let not_sent = one.transport.call(TWO, Bytes::new()).await.unwrap_err();
    assert!(matches!(not_sent, ForwardError::Unreachable { .. }), "{not_sent:?}");

    let (listener, _) = listen(&at.to_string()).await;
    let _serving = two.serve(listener);
    until("up again", || one.transport.state(TWO) == PeerState::Up).await;
    one.transport.send(TWO, frame(2, Lane::Data, 10)).await.unwrap();
    until("arrived", || two.ear.frames.lock().len() == 1).await;
    assert_eq!(two.ear.frames.lock()[0].1.call, 2, "what was sent while it was away is forgotten");
    let states: Vec<PeerState> = one.ear.states.lock().iter().map(|(_, state)| *state).collect();
    let states: Vec<PeerState> = states.into_iter().filter(|state| *state != PeerState::Down).collect();
    assert_eq!(states, [PeerState::Up, PeerState::Refused, PeerState::Up], "gone is said once");
}

/// Refused on one side only, as behind a wall: the other's own streams show that it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_still_sends_is_not_gone_though_it_refuses_connections() {
    let (one, two) = (end(1), end(2));
    let (one_listener, one_at) = listen("127.0.0.1:0").await;
    let (two_listener, two_at) = listen("127.0.0.1:0").await;
    one.transport.learn(TWO, &two_at.to_string());
    two.transport.learn(NodeId(1), &one_at.to_string());
    one.start();
    two.start();
    let _serving = one.serve(one_listener);
    let (phases, served) = two.serve(two_listener);
    until("up", || {
        one.transport.state(TWO) == PeerState::Up && two.transport.state(NodeId(1)) == PeerState::Up
    })
    .await;
    phases.reach(Phase::Closing);
    served.await.unwrap();
    until("down", || one.transport.state(TWO) == PeerState::Down).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(one.transport.state(TWO), PeerState::Down);
    two.transport.stop();
    until("gone", || one.transport.state(TWO) == PeerState::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_who_it_should_be_is_refused() {
    let two = end(2);
    two.transport.learn(NodeId(1), "127.0.0.1:1");
    two.start();
    let (listener, at) = listen("127.0.0.1:0").await;
    let _serving = two.serve(listener);

    let other_cluster = end_with(1, 99, settings());
    let unknown = end(5);
    let mistaken = end(1); // means node 3, reaches node 2
    for (stranger, target) in [(&other_cluster, 2), (&unknown, 2), (&mistaken, 3)] {
        stranger.transport.learn(NodeId(target), &at.to_string());
        stranger.start();
        let refused = two.metrics.peer_refused.get();
        until("refused", || two.metrics.peer_refused.get() >= refused + 2).await;
        assert_eq!(stranger.transport.state(NodeId(target)), PeerState::Down);
        let error = stranger.transport.call(NodeId(target), Bytes::new()).await.unwrap_err();
        assert!(matches!(error, ForwardError::Unreachable { .. }), "definite: {error:?}");
        stranger.transport.stop();
    }
    assert!(two.ear.frames.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_makes_senders_wait_and_memory_stays_bounded() {
    // Accepts, and never reads on after the hello: stands for a paused process.
    let two = end(2);
    two.transport.learn(NodeId(1), "127.0.0.1:1");
    let paused = Arc::new(Paused::default());
    two.transport.start(&(Arc::clone(&paused) as Arc<dyn Inbound>));
    let (listener, at) = listen("127.0.0.1:0").await;
    let _serving = two.serve(listener);
    let small = Settings { queue_bytes: flotilla_types::bytesize::ByteSize(8 << 20), ..settings() };
    let one = end_with(1, 1, small);
    one.transport.learn(TWO, &at.to_string());
    one.start();
    until("up", || one.transport.state(TWO) == PeerState::Up).await;

    paused.holds.store(true, Ordering::Relaxed);
    let mut sent = 0u64;
    let limit = Duration::from_secs(2);
    while tokio::time::timeout(limit, one.transport.send(TWO, frame(sent, Lane::Data, 1 << 20))).await.is_ok()
    {
        sent += 1;
        assert!(sent < 200, "nobody waits");
    }
    assert!(sent >= 8, "only {sent} frames before the first wait");
    paused.holds.store(false, Ordering::Relaxed);
    one.transport.send(TWO, frame(sent, Lane::Data, 10)).await.unwrap();
    until("all arrived", || *paused.calls.lock() == (0..=sent).collect::<Vec<_>>()).await;
}

/// Stands still in `receive` for as long as it is told to.
#[derive(Default)]
struct Paused {
    holds: AtomicBool,
    calls: Mutex<Vec<u64>>,
}

impl Inbound for Paused {
    fn receive(&self, _from: NodeId, frame: Frame) {
        while self.holds.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.calls.lock().push(frame.call);
    }

    fn peer_changed(&self, _peer: NodeId, _state: PeerState) {}
}
