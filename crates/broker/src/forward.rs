//! Control calls that another node must answer: the controller's leader, or a partition's.
//!
//! Any node takes an administrator's call; what it cannot do itself it passes on, one hop. A call that may
//! have been carried out is repeated only where repeating it changes nothing.

mod wire;

pub(crate) use wire::{Answer, Call, ReplicaDto, StateDto, TopicDto, failure, name as checked_name};

use crate::admin::Error;
use crate::broker::Broker;
use bytes::Bytes;
use flotilla_types::error::Describe;
use flotilla_types::{NodeId, Reason};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How a control call reaches another node. The server implements it; the other side gives what arrives
/// to [`Broker::answer_forward`].
pub trait Forward: Send + Sync + std::fmt::Debug + 'static {
    /// Carries a request there and the answer back.
    fn call(&self, to: NodeId, request: Bytes) -> BoxFuture<'_, Result<Bytes, ForwardError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It was not sent. Definite.
    #[error("node {node} cannot be reached: {why}")]
    Unreachable {
        /// Which node.
        node: NodeId,
        /// For people.
        why: String,
    },
    /// It was sent, but no answer came. Indefinite.
    #[error("node {node} did not answer: {why}")]
    NoAnswer {
        /// Which node.
        node: NodeId,
        /// For people.
        why: String,
    },
}

/// A pause between tries, while the controller finds a leader.
const PAUSE: Duration = Duration::from_millis(50);

impl Broker {
    /// Answers what another node passed on.
    pub async fn answer_forward(self: Arc<Self>, from: NodeId, request: Bytes) -> Bytes {
        // On the broker's own threads: whoever calls may be busy with consensus. Ends with its caller.
        let mut task = JoinSet::new();
        let runtime = self.runtime.clone();
        let work = async move {
            let answer = match wire::decode_call(&request) {
                Ok(call) => self.carry_out(call).await,
                Err(why) => {
                    tracing::warn!(%from, why, "a forwarded call could not be read");
                    Err(Error::Refused(format!("forwarded call cannot be read: {why}")))
                }
            };
            wire::encode_answer(answer)
        };
        task.spawn_on(work, &runtime);
        match task.join_next().await {
            Some(Ok(answer)) => answer,
            _ => wire::encode_answer(Err(Error::Lost("the node stopped while it answered".to_owned()))),
        }
    }

    /// Asks one node, this one included.
    pub(crate) async fn ask(&self, node: NodeId, call: Call) -> Result<Answer, Error> {
        self.ask_within(node, call, self.config.forward_timeout).await
    }

    /// The same for calls that may be held on purpose.
    pub(crate) async fn ask_within(
        &self,
        node: NodeId,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, Error> {
        if node == self.info.id {
            return Box::pin(self.carry_out(call)).await;
        }
        self.metrics.forwarded.inc();
        let sent = self.forward.call(node, wire::encode_call(&call));
        match tokio::time::timeout(limit, sent).await {
            Ok(Ok(answer)) => wire::decode_answer(&answer),
            Ok(Err(error @ ForwardError::Unreachable { .. })) => {
                Err(Error::ControllerAway(error.to_string()))
            }
            Ok(Err(error)) => Err(Error::Lost(error.to_string())),
            Err(_) => Err(Error::Lost(format!("node {node} did not answer in time"))),
        }
    }

    /// Asks the controller's leader, wherever it is, until somebody answers or the time is over. A repeat
    /// after a lost answer is safe: each such call gives the same answer again.
    pub(crate) async fn ask_controller(&self, call: Call) -> Result<Answer, Error> {
        self.serving().map_err(Error::Quarantined)?;
        let begun = self.clock.monotonic();
        let mut lost = None;
        let mut away = Error::ControllerAway("nobody leads it".to_owned());
        while self.clock.monotonic().since(begun) < self.config.forward_timeout {
            let leader = match self.leads_controller() {
                Some(_) => Some(self.info.id),
                None => self.routes().controller.map(|(node, _)| node).filter(|node| *node != self.info.id),
            };
            if let Some(node) = leader {
                match self.ask(node, call.clone()).await {
                    Err(Error::Lost(why)) => lost = Some(why),
                    Err(error @ (Error::ControllerAway(_) | Error::NotController(_))) => away = error,
                    // What an earlier, lost try did already.
                    Err(Error::Remote(failure))
                        if failure.reason == Reason::LeaderNotAvailable && !failure.outcome_unknown =>
                    {
                        away = Error::ControllerAway(failure.message.clone());
                    }
                    Err(error)
                        if lost.is_some()
                            && matches!(call, Call::DeleteTopic { .. })
                            && error.describe().reason == Reason::NotFound =>
                    {
                        return Ok(Answer::Done { version: 0 });
                    }
                    answer => return answer,
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(lost.map_or(away, Error::Lost))
    }
}
