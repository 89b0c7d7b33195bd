//! Commands on their way: who waits for them, in which order they go, and what became of them.

use crate::error::ProposeError;
use crate::types::{Data, Types};
use flotilla_machine::Outcome;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
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

/// Whether commands go straight to consensus, or wait here until the leader is sure of itself; and in which
/// order they go on then.
///
/// Consensus decides on commands in the order it was given them, and says at once which it refuses. One that
/// it refused for the lease goes again only if everything that was given after it was refused too: else it
/// would be overtaken.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: bool,
    /// Commands that were given to consensus, ever.
    given: u64,
    /// The newest unbroken run of commands that were refused for the lease, by their number.
    refused_run: Range<u64>,
    /// Refused for the lease, to be given again, with their number.
    refused: Vec<(u64, Waiting)>,
    /// Not given yet.
    queue: VecDeque<Waiting>,
}

/// What a gate that opens lets go.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// In the order of calls.
    pub go: Vec<Waiting>,
    /// Something later was written meanwhile, or may have been.
    pub overtaken: Vec<Waiting>,
}

impl Gate {
    pub fn is_open(&self) -> bool {
        !self.closed
    }

    /// Says if it was open.
    pub fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }

    /// The number of a command that is given to consensus now.
    pub fn give(&mut self) -> u64 {
        self.given += 1;
        self.given - 1
    }

    /// The command that was just numbered was not taken.
    pub fn take_back(&mut self) {
        self.given -= 1;
    }

    /// Commands that wait here without ever having been given.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn queue(&mut self, waiting: Waiting) {
        self.queue.push_back(waiting);
    }

    /// Consensus refused a command for the lease. `again`: it is to be given again; the gate is closed then.
    pub fn refuse(&mut self, number: u64, again: Option<Waiting>) {
        if self.refused_run.end == number {
            self.refused_run.end = number + 1;
        } else {
            self.refused_run = number..number + 1;
        }
        self.refused.extend(again.map(|waiting| (number, waiting)));
    }

    /// Opens. Consensus must have decided on everything that it was given.
    pub fn open(&mut self) -> Released {
        self.closed = false;
        // The run reaches to the last command given, or something later than all of it was not refused.
        let safe_from = if self.refused_run.end == self.given { self.refused_run.start } else { self.given };
        let mut released = Released::default();
        for (number, waiting) in self.refused.drain(..) {
            let to = if number >= safe_from { &mut released.go } else { &mut released.overtaken };
            to.push(waiting);
        }
        released.go.extend(self.queue.drain(..));
        released
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn waiting(name: &'static str) -> Waiting {
        let data = Data { header: Bytes::from_static(name.as_bytes()), payload: Bytes::new() };
        Waiting { data, asker: Asker::new().0, waited: false }
    }

    fn names(waiting: &[Waiting]) -> Vec<&str> {
        waiting.iter().map(|one| std::str::from_utf8(&one.data.header).unwrap()).collect()
    }

    /// Gives commands to consensus and closes at the first refusal, as a shard does.
    fn given(count: u64) -> Gate {
        let mut gate = Gate::default();
        (0..count).for_each(|number| assert_eq!(gate.give(), number));
        gate
    }

    fn refuse(gate: &mut Gate, number: u64, name: &'static str) {
        gate.refuse(number, Some(waiting(name)));
        gate.close();
    }

    #[test]
    fn refused_commands_go_again_before_those_that_came_meanwhile() {
        let mut gate = given(5);
        // 0 and 1 were written. A new one comes between two refusals.
        refuse(&mut gate, 2, "2");
        gate.queue(waiting("5"));
        refuse(&mut gate, 3, "3");
        refuse(&mut gate, 4, "4");
        gate.queue(waiting("6"));
        let released = gate.open();
        assert_eq!(names(&released.go), ["2", "3", "4", "5", "6"]);
        assert!(released.overtaken.is_empty() && gate.is_open());
    }

    #[test]
    fn what_was_overtaken_does_not_go_again() {
        // The lease came back between 2 and 3.
        let mut gate = given(4);
        refuse(&mut gate, 1, "1");
        refuse(&mut gate, 2, "2");
        gate.queue(waiting("4"));
        let released = gate.open();
        assert_eq!((names(&released.go), names(&released.overtaken)), (vec!["4"], vec!["1", "2"]));
    }

    #[test]
    fn a_lease_that_comes_and_goes_keeps_the_last_run_only() {
        // 2 was written between two refusals.
        let mut gate = given(5);
        refuse(&mut gate, 1, "1");
        refuse(&mut gate, 3, "3");
        refuse(&mut gate, 4, "4");
        let released = gate.open();
        assert_eq!((names(&released.go), names(&released.overtaken)), (vec!["3", "4"], vec!["1"]));
    }

    #[test]
    fn one_that_was_not_taken_is_not_counted() {
        let mut gate = given(2);
        gate.give();
        gate.take_back();
        refuse(&mut gate, 1, "1");
        assert_eq!(names(&gate.open().go), ["1"]);
        // Given again it has a new number; a second refusal is final but belongs to the run.
        assert_eq!(gate.give(), 2);
        assert_eq!(gate.give(), 3);
        gate.refuse(2, None);
        refuse(&mut gate, 3, "3");
        assert_eq!(names(&gate.open().go), ["3"]);
    }
}
