//! Commands on their way: who waits for them, in which order they go, and what became of them.

use crate::error::ProposeError;
use crate::types::{Data, Types};
use flotilla_machine::Outcome;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// A command on its way. Resolves to its outcome once it is committed and applied here. Dropping it does not
/// take the command back.
#[derive(Debug)]
#[must_use = "the outcome tells whether the command took effect"]
pub struct Proposal {
    answer: oneshot::Receiver<Result<Outcome, ProposeError>>,
}

impl Future for Proposal {
    type Output = Result<Outcome, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A closed channel: the shard was stopped with the command inside, so nothing is known of it.
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(ProposeError::Lost { leader: None })))
    }
}

/// Who waits for a command's outcome.
#[derive(Debug)]
pub(crate) struct Asker(Mutex<Option<oneshot::Sender<Result<Outcome, ProposeError>>>>);

impl Asker {
    pub fn new() -> (Arc<Self>, Proposal) {
        let (tell, answer) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(tell)))), Proposal { answer })
    }

    /// The first answer counts.
    pub fn answer(&self, answer: Result<Outcome, ProposeError>) {
        if let Some(tell) = self.0.lock().take() {
            let _ = tell.send(answer);
        }
    }
}

/// A command that was not written yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub data: Data,
    pub asker: Arc<Asker>,
    /// It was refused once because the leader's lease had run out, and waited for a new one.
    pub waited: bool,
}

/// Whether commands go straight to consensus, or wait here, in order, until the leader is sure of itself.
#[derive(Debug, Default)]
pub(crate) enum Gate {
    #[default]
    Open,
    Closed(VecDeque<Waiting>),
}

/// What became of a command that was given to consensus.
pub(crate) enum Fate {
    Answered(Result<Outcome, ProposeError>),
    /// Refused before anything was written: the leader's lease has run out, and may be had again.
    LeaseExpired,
}

/// Exactly: refused before append is definite; discarded after append is not.
pub(crate) fn fate(
    result: ClientWriteResult<Types>,
    known: impl Fn(&ForwardToLeader<Types>) -> Known,
) -> Fate {
    Fate::Answered(match result {
        Ok(response) => Ok(response.data),
        Err(ClientWriteError::ForwardToLeader(to)) => match to.reason {
            ForwardReason::LeaseExpired => return Fate::LeaseExpired,
            _ => Err(ProposeError::NotLeader { leader: known(&to) }),
        },
        Err(ClientWriteError::LogEntryDiscarded(to)) => Err(ProposeError::Lost { leader: known(&to) }),
        Err(_) => Err(ProposeError::Unavailable { why: "consensus refused the command" }),
    })
}

/// Who leads, as far as is known.
pub(crate) type Known = Option<(flotilla_types::NodeId, flotilla_types::Term)>;
