//! One peer: its address, its two lanes, and the tasks that keep them connected.

use crate::metrics::LinkLabels;
use crate::peer::queue::Queue;
use crate::peer::{Settings, Shared, lane_name, wire_lane};
use bytes::Bytes;
use flotilla_broker::ForwardError;
use flotilla_proto::peer::v1 as wire;
use flotilla_proto::peer::v1::peer_client::PeerClient;
use flotilla_raft::{Lane, PeerState};
use flotilla_types::NodeId;
use futures::StreamExt;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// Largest packet taken or sent: frames with several of the largest batches still fit.
pub(super) const PACKET_MAX_BYTES: usize = 64 << 20;

/// One peer.
#[derive(Debug)]
pub(super) struct Link {
    peer: NodeId,
    endpoint: Mutex<String>,
    lanes: [Arc<Queue>; 2],
    /// Where the peer's hello was accepted last; only there a refused connection says that it is gone.
    greeted: Mutex<Option<String>>,
    /// The last try to connect there was refused: nobody listens.
    refused: AtomicBool,
    /// Streams that the peer has open to this node. While there is one, it lives.
    arrived: AtomicUsize,
    /// What was reported last, so that each change is reported once and in order.
    reported: Mutex<PeerState>,
    /// For forwarded calls; connects when first used.
    calls: Mutex<Option<(String, Channel)>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Link {
    /// Not connected.
    pub(super) fn new(peer: NodeId, endpoint: &str, settings: &Settings) -> Self {
        let queue = || Arc::new(Queue::new(settings.queue_bytes.get()));
        Self {
            peer,
            endpoint: Mutex::new(endpoint.to_owned()),
            lanes: [queue(), queue()],
            greeted: Mutex::default(),
            refused: AtomicBool::new(false),
            arrived: AtomicUsize::new(0),
            reported: Mutex::new(PeerState::Down),
            calls: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Starts the two tasks that own the connections.
    pub(super) fn start(self: &Arc<Self>, shared: &Arc<Shared>, runtime: &tokio::runtime::Handle) {
        let mut tasks = self.tasks.lock();
        for lane in [Lane::Control, Lane::Data] {
            // The tasks must not keep the link alive: dropping the transport ends them.
            let keeper =
                Keeper { link: Arc::downgrade(self), shared: Arc::clone(shared), lane, peer: self.peer };
            tasks.push(runtime.spawn(keeper.keep_connected()));
        }
    }

    /// Ends the tasks and closes the connections.
    pub(super) fn stop(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.lanes.iter().for_each(|lane| lane.close());
        *self.calls.lock() = None;
    }

    /// Takes effect at the next connect.
    pub(super) fn moved_to(&self, endpoint: &str) {
        let mut known = self.endpoint.lock();
        if *known != endpoint {
            tracing::info!(peer = %self.peer, from = %known, to = endpoint, "peer moved");
            endpoint.clone_into(&mut known);
        }
    }

    /// The queue of a lane.
    pub(super) fn lane(&self, lane: Lane) -> &Arc<Queue> {
        &self.lanes[lane as usize]
    }

    /// Up while both lanes stand; refused while none does, neither way, and nobody listens.
    pub(super) fn state(&self) -> PeerState {
        let open = self.lanes.iter().filter(|lane| lane.is_open()).count();
        let is_silent = open == 0 && self.arrived.load(Ordering::Acquire) == 0;
        if open == self.lanes.len() {
            PeerState::Up
        } else if is_silent && self.refused.load(Ordering::Acquire) {
            PeerState::Refused
        } else {
            PeerState::Down
        }
    }

    /// The peer has opened a stream to this node. Keep what is returned for as long as it stands.
    pub(super) fn arrive(self: &Arc<Self>, shared: &Arc<Shared>) -> Arrived {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        self.report(shared);
        Arrived { link: Arc::clone(self), shared: Arc::clone(shared) }
    }

    /// What the last try to connect to `address` came to.
    fn tried(&self, shared: &Shared, address: &str, refused: bool) {
        let is_gone = refused && self.greeted.lock().as_deref() == Some(address);
        self.refused.store(is_gone, Ordering::Release);
        self.report(shared);
    }

    /// Tells Raft, if the state is another one than it knows.
    fn report(&self, shared: &Shared) {
        let mut reported = self.reported.lock();
        let state = self.state();
        if *reported != state {
            *reported = state;
            if let Some(inbound) = shared.inbound() {
                inbound.peer_changed(self.peer, state);
            }
        }
    }

    /// A call that the peer answers, on a connection of its own.
    pub(super) async fn forward(&self, shared: &Shared, request: Bytes) -> Result<Bytes, ForwardError> {
        let node = self.peer;
        let unreachable = |why: String| ForwardError::Unreachable { node, why };
        let channel = self.call_channel(&shared.settings).map_err(unreachable)?;
        let hello = shared.book.hello(self.peer, wire::Lane::Control);
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(PACKET_MAX_BYTES)
            .max_encoding_message_size(PACKET_MAX_BYTES);
        match client.forward(wire::ForwardRequest { hello: Some(hello), request }).await {
            Ok(answer) => Ok(answer.into_inner().response),
            // Refused at the door: certainly not carried out.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                Err(unreachable(status.message().to_owned()))
            }
            Err(status) if is_connect_error(&status) => Err(unreachable(status.message().to_owned())),
            Err(status) => Err(ForwardError::NoAnswer { node, why: status.message().to_owned() }),
        }
    }

    fn call_channel(&self, settings: &Settings) -> Result<Channel, String> {
        let address = self.endpoint.lock().clone();
        let mut calls = self.calls.lock();
        if let Some((to, channel)) = calls.as_ref()
            && *to == address
        {
            return Ok(channel.clone());
        }
        let channel = endpoint(&address, settings)?.connect_lazy();
        *calls = Some((address, channel.clone()));
        Ok(channel)
    }
}

/// Whether a call failed before it left.
fn is_connect_error(status: &tonic::Status) -> bool {
    is_refused(status)
}

/// Whether nobody listens there.
fn is_refused(error: &dyn std::error::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn endpoint(address: &str, settings: &Settings) -> Result<Endpoint, String> {
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("address {address:?}: {error}"))?
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(settings.stream_window_bytes.0 as u32)
        .initial_connection_window_size(settings.connection_window_bytes.0 as u32)
        .http2_keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .keep_alive_while_idle(true))
}

/// Keeps one lane connected for as long as its link exists.
struct Keeper {
    link: Weak<Link>,
    shared: Arc<Shared>,
    lane: Lane,
    peer: NodeId,
}

impl Keeper {
    async fn keep_connected(self) {
        let settings = self.shared.settings.clone();
        let labels = LinkLabels { peer: self.peer.get(), lane: lane_name(self.lane) };
        let metrics = &self.shared.metrics;
        let mut pause = settings.reconnect_min;
        let mut said = String::new();
        loop {
            let stood = self.converse(&labels).await;
            metrics.link_up.get_or_create(&labels).set(0);
            let why = match stood {
                Ok(why) => {
                    metrics.link_losses.get_or_create(&labels).inc();
                    pause = settings.reconnect_min;
                    said.clear();
                    tracing::info!(peer = %self.peer, lane = labels.lane, "connection lost: {why}");
                    continue;
                }
                Err(Some(why)) => why,
                Err(None) => return,
            };
            // The same refusal again and again is one line, not one per try.
            if said != why {
                tracing::warn!(peer = %self.peer, lane = labels.lane, "not connected: {why}");
                said = why;
            }
            let jitter = self.shared.random.below(1 + pause.as_micros() as u64 / 2);
            tokio::time::sleep(pause / 2 + Duration::from_micros(jitter)).await;
            pause = (pause * 2).min(settings.reconnect_max);
        }
    }

    /// Connects, exchanges hellos, and carries packets until the connection is lost: `Ok` with the reason.
    /// `Err` if it never stood: why, or nothing where the link is gone.
    async fn converse(&self, labels: &LinkLabels) -> Result<String, Option<String>> {
        let settings = &self.shared.settings;
        let link = self.link.upgrade().ok_or(None)?;
        let address = link.endpoint.lock().clone();
        let queue = Arc::clone(link.lane(self.lane));
        // Dropped with this conversation. The connection alone would keep an abandoned stream of packets
        // alive: it would take frames from the queue, and the peer would see a stream that stands.
        let (_converses, ended) = tokio::sync::oneshot::channel::<()>();
        let connect = async {
            let channel = endpoint(&address, settings)?.connect().await.map_err(|error| {
                link.tried(&self.shared, &address, is_refused(&error));
                full_text(&error)
            })?;
            link.tried(&self.shared, &address, false);
            let mut client = PeerClient::new(channel).max_encoding_message_size(PACKET_MAX_BYTES);
            let packets = self.packets(&queue, labels.clone()).take_until(ended);
            let mut receipts =
                client.exchange(packets).await.map_err(|status| status.message().to_owned())?.into_inner();
            let receipt = receipts.message().await.map_err(|status| status.message().to_owned())?;
            let hello =
                receipt.and_then(|receipt| receipt.hello).ok_or("the peer did not answer the hello")?;
            let expected = |node: NodeId| node == self.peer;
            self.shared.book.check(&hello, expected).map_err(|refused| refused.to_string())?;
            Ok::<_, String>(receipts)
        };
        let mut receipts = tokio::time::timeout(settings.connect_timeout, connect)
            .await
            .unwrap_or_else(|_| Err(format!("no hello from {address} within {:?}", settings.connect_timeout)))
            .map_err(Some)?;

        let stands = Stands { link: &link, queue: &queue, shared: &self.shared };
        *link.greeted.lock() = Some(address.clone());
        queue.open();
        self.shared.metrics.link_up.get_or_create(labels).set(1);
        tracing::info!(peer = %self.peer, lane = labels.lane, %address, "connected");
        link.report(&self.shared);
        let why = loop {
            match receipts.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break "the peer ended the stream".to_owned(),
                Err(status) => break status.message().to_owned(),
            }
        };
        drop(stands);
        Ok(why)
    }

    /// The hello, then whatever waits.
    fn packets(
        &self,
        queue: &Arc<Queue>,
        labels: LinkLabels,
    ) -> impl futures::Stream<Item = wire::Packet> + Send + 'static {
        let hello = self.shared.book.hello(self.peer, wire_lane(self.lane));
        let queue = Arc::clone(queue);
        let shared = Arc::clone(&self.shared);
        futures::stream::unfold(Some(hello), move |hello| {
            let (queue, shared, labels) = (Arc::clone(&queue), Arc::clone(&shared), labels.clone());
            async move {
                if hello.is_some() {
                    return Some((wire::Packet { hello, frames: Vec::new() }, None));
                }
                let packet = queue.pop(shared.settings.packet_bytes.get()).await;
                let metrics = &shared.metrics;
                metrics.link_packets.get_or_create(&labels).inc();
                metrics.link_frames.get_or_create(&labels).inc_by(packet.wire.frames.len() as u64);
                metrics.link_sent.get_or_create(&labels).inc_by(packet.bytes as u64);
                metrics.link_queue.get_or_create(&labels).set(queue.waiting() as i64);
                Some((packet.wire, None))
            }
        })
    }
}

/// While it lives the lane stands; however the conversation ends, also by abort, it is closed and reported.
struct Stands<'a> {
    link: &'a Arc<Link>,
    queue: &'a Arc<Queue>,
    shared: &'a Arc<Shared>,
}

impl Drop for Stands<'_> {
    fn drop(&mut self) {
        self.queue.close();
        self.link.report(self.shared);
    }
}

/// While it lives a stream from the peer stands.
pub(super) struct Arrived {
    link: Arc<Link>,
    shared: Arc<Shared>,
}

impl Drop for Arrived {
    fn drop(&mut self) {
        self.link.arrived.fetch_sub(1, Ordering::AcqRel);
        self.link.report(&self.shared);
    }
}

fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
