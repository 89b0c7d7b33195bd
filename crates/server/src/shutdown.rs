//! When to stop: the first SIGTERM or SIGINT asks, the second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How far the node is on its way from start to end. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Parts are being started; not ready.
    Starting,
    /// Serving.
    Serving,
    /// Asked to stop: not ready, no new calls, those under way end, leadership goes to others.
    Draining,
    /// Connections are closed.
    Closing,
}

/// Tells every part how far the node is.
#[derive(Clone, Debug)]
pub struct Phases(watch::Sender<Phase>);

impl Default for Phases {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Phases {
    /// Moves forward; a move back is ignored.
    pub fn reach(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = phase > *now;
            *now = phase.max(*now);
            forward
        });
    }

    /// Where the node is.
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once `phase` is reached or passed.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in self, so the wait cannot fail.
        self.0.subscribe().wait_for(|now| *now >= phase).await.ok();
    }
}

/// The signals that ask a node to stop.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals do not end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward() {
        let phases = Phases::default();
        phases.reach(Phase::Draining);
        phases.reach(Phase::Serving);
        assert_eq!(phases.now(), Phase::Draining);
        phases.reached(Phase::Serving).await;
        let waiting = phases.clone();
        let closed = async move { waiting.reached(Phase::Closing).await };
        let close = async { phases.reach(Phase::Closing) };
        tokio::join!(closed, close);
    }
}
