//! An answer on its way. Dropping it stops the waiting, not the batch.

use super::{Answer, Error};
use crate::admission::{Permit, Seat};
use crate::broker::Broker;
use flotilla_machine::Outcome;
use flotilla_raft::{Proposal, ProposeError};
use flotilla_types::Monotonic;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// The answer to a produce, in time or at its deadline.
#[derive(Debug)]
pub struct Pending(State);

#[derive(Debug)]
enum State {
    Refused(Option<Error>),
    Waiting(Box<InFlight>),
}

/// A proposed batch: what it holds until its outcome is known.
pub(super) struct InFlight {
    broker: Arc<Broker>,
    proposal: Option<Pin<Box<Proposal>>>,
    held: Option<(Permit, Seat)>,
    size: (u32, usize),
    begun: Monotonic,
    proposed: Monotonic,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Pending {
    pub(super) fn refused(error: Error) -> Self {
        Self(State::Refused(Some(error)))
    }

    pub(super) fn waiting(in_flight: InFlight) -> Self {
        Self(State::Waiting(Box::new(in_flight)))
    }
}

impl InFlight {
    pub fn new(
        broker: Arc<Broker>,
        proposal: Proposal,
        held: (Permit, Seat),
        size: (u32, usize),
        begun: Monotonic,
        patience: Duration,
    ) -> Self {
        let proposed = broker.clock.monotonic();
        let deadline = Box::pin(tokio::time::sleep(patience));
        Self {
            broker,
            proposal: Some(Box::pin(proposal)),
            held: Some(held),
            size,
            begun,
            proposed,
            patience,
            deadline,
        }
    }

    /// Nobody waits any more, but the batch may still be in memory: its permit stays with it.
    fn abandon(&mut self) {
        if let (Some(proposal), Some(held)) = (self.proposal.take(), self.held.take()) {
            self.broker.metrics.produce_abandoned.inc();
            self.broker.runtime.spawn(async move {
                let _ = proposal.await;
                drop(held);
            });
        }
    }

    fn answer(&self, outcome: Result<Outcome, ProposeError>) -> Result<Answer, Error> {
        match outcome {
            Ok(Outcome::Appended { base_offset, append_time, log_start, duplicate }) => {
                let took = self.broker.clock.monotonic().since(self.proposed);
                self.broker.metrics.stage("commit", took);
                Ok(Answer { base_offset, append_time, log_start, duplicate })
            }
            Ok(Outcome::AppendRefused(refusal)) => Err(Error::Refused(refusal)),
            Ok(other) => Err(Error::Lost(format!("the partition answered {other:?} to an append"))),
            Err(ProposeError::NotLeader { leader }) => {
                Err(Error::LeaderMoved(self.broker.routes().hint(leader)))
            }
            Err(ProposeError::Unavailable { why }) => Err(Error::Unavailable(why.to_owned())),
            Err(ProposeError::Stopped) => Err(Error::Unavailable("it is stopped on this node".to_owned())),
            Err(ProposeError::Broken { why }) => Err(Error::Broken(why)),
            Err(error @ ProposeError::Lost { .. }) => Err(Error::Lost(error.to_string())),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Future for InFlight {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let proposal = this.proposal.as_mut().expect("not polled after it was ready");
        let answer = if let Poll::Ready(outcome) = proposal.as_mut().poll(context) {
            this.proposal = None;
            this.held = None;
            this.answer(outcome)
        } else if this.deadline.as_mut().poll(context).is_ready() {
            this.abandon();
            Err(Error::TimedOut(this.patience))
        } else {
            return Poll::Pending;
        };
        this.broker.note_answer(&answer, this.size, this.begun);
        Poll::Ready(answer)
    }
}

impl Future for Pending {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.take().expect("not polled after it was ready"))),
            State::Waiting(in_flight) => Pin::new(&mut **in_flight).poll(context),
        }
    }
}
