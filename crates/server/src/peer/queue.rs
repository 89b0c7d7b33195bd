//! What waits for one lane of one peer: frames in order, bounded in bytes.

use crate::peer::frames;
use flotilla_proto::peer::v1 as wire;
use flotilla_raft::Frame;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Frames that wait. Open while the lane's connection stands; whoever waits for room when it closes is
/// told so, and what was queued is forgotten.
#[derive(Debug)]
pub(super) struct Queue {
    room: Arc<Semaphore>,
    bytes: usize,
    state: Mutex<State>,
    filled: Notify,
    open: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    frames: VecDeque<(Frame, OwnedSemaphorePermit)>,
}

/// Frames that leave together.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) wire: wire::Packet,
    /// Bytes of the frames, nearly.
    pub(super) bytes: usize,
}

impl Queue {
    /// Closed and empty.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(bytes)),
            bytes,
            state: Mutex::default(),
            filled: Notify::new(),
            open: watch::Sender::new(false),
        }
    }

    /// Queues a frame; waits for room. `Err` says why it never will leave.
    pub(super) async fn push(&self, frame: Frame) -> Result<(), String> {
        let mut closed = self.open.subscribe();
        if !*closed.borrow_and_update() {
            return Err(NOT_CONNECTED.to_owned());
        }
        // A frame larger than the whole queue takes all of it.
        let weight = frame.weight().min(self.bytes) as u32;
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.room).acquire_many_owned(weight) => permit.map_err(|e| e.to_string())?,
            _ = closed.wait_for(|open| !open) => return Err(LOST.to_owned()),
        };
        let mut state = self.state.lock();
        if !state.open {
            return Err(LOST.to_owned());
        }
        state.frames.push_back((frame, permit));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until something is there and takes it, up to some `max_bytes` but at least one frame.
    pub(super) async fn pop(&self, max_bytes: usize) -> Packet {
        loop {
            let filled = self.filled.notified();
            if let Some(packet) = self.take(max_bytes) {
                return packet;
            }
            filled.await;
        }
    }

    fn take(&self, max_bytes: usize) -> Option<Packet> {
        let mut state = self.state.lock();
        let mut packet = Packet { wire: wire::Packet::default(), bytes: 0 };
        while let Some((frame, _)) = state.frames.front() {
            let weight = frame.weight();
            if packet.bytes > 0 && packet.bytes + weight > max_bytes {
                break;
            }
            let Some((frame, _permit)) = state.frames.pop_front() else { break };
            packet.bytes += weight;
            packet.wire.frames.push(frames::to_wire(frame));
        }
        (!packet.wire.frames.is_empty()).then_some(packet)
    }

    /// The connection stands.
    pub(super) fn open(&self) {
        self.state.lock().open = true;
        self.open.send_replace(true);
    }

    /// The connection is lost.
    pub(super) fn close(&self) {
        let forgotten = {
            let mut state = self.state.lock();
            state.open = false;
            std::mem::take(&mut state.frames)
        };
        self.open.send_replace(false);
        drop(forgotten);
    }

    /// Whether the connection stands.
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes - self.room.available_permits()
    }
}

const NOT_CONNECTED: &str = "not connected";
const LOST: &str = "the connection was lost";

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use flotilla_raft::Lane;
    use flotilla_types::ShardId;
    use std::time::Duration;

    fn frame(call: u64, bytes: usize) -> Frame {
        let payloads = vec![Bytes::from(vec![0; bytes])];
        Frame { shard: ShardId(1), call, kind: 1, lane: Lane::Data, header: Bytes::new(), payloads }
    }

    fn calls(packet: &Packet) -> Vec<u64> {
        packet.wire.frames.iter().map(|frame| frame.call).collect()
    }

    #[tokio::test]
    async fn frames_leave_together_and_in_order() {
        let queue = Queue::new(1 << 20);
        assert!(queue.push(frame(1, 10)).await.is_err(), "closed");
        queue.open();
        for call in 1..=5 {
            queue.push(frame(call, 1000)).await.unwrap();
        }
        queue.push(frame(6, 100_000)).await.unwrap();
        assert_eq!(calls(&queue.pop(3500).await), [1, 2, 3]);
        assert_eq!(calls(&queue.pop(3500).await), [4, 5]);
        assert_eq!(calls(&queue.pop(3500).await), [6], "a large frame goes alone");
        assert_eq!(queue.waiting(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_makes_its_senders_wait() {
        let queue = Queue::new(5000);
        queue.open();
        queue.push(frame(1, 4000)).await.unwrap();
        let second = queue.push(frame(2, 4000));
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err(), "waits");
        assert_eq!(calls(&queue.pop(1 << 20).await), [1]);
        second.await.unwrap();
        assert_eq!(calls(&queue.pop(1 << 20).await), [2]);
        // Larger than the queue: takes all of it, and is not stuck for ever.
        queue.push(frame(3, 50_000)).await.unwrap();
        assert_eq!(calls(&queue.pop(1 << 20).await), [3]);
    }

    #[tokio::test]
    async fn a_lost_connection_forgets_and_frees() {
        let queue = Queue::new(5000);
        queue.open();
        queue.push(frame(1, 4000)).await.unwrap();
        let waiting = queue.push(frame(2, 4000));
        let lose = async { queue.close() };
        let (waiting, ()) = tokio::join!(waiting, lose);
        assert_eq!(waiting, Err(LOST.to_owned()));
        assert_eq!(queue.waiting(), 0);
        queue.open();
        queue.push(frame(3, 10)).await.unwrap();
        assert_eq!(calls(&queue.pop(1 << 20).await), [3], "nothing of before");
    }
}
