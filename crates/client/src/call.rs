//! One request, one answer, at any node: goes round until one answers or the time is up.

use crate::client::Inner;
use crate::connection::Lane;
use crate::error::{Class, Error, Result};
use crate::retry::Backoff;
use flotilla_types::{Action, Reason};
use std::future::Future;
use std::time::Duration;
use tonic::transport::Channel;

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same thing to the same end.
    Freely,
    /// It changes something: once its outcome is unknown, the caller must look.
    WhileNothingHappened,
}

/// Makes a call at one node after the other. A node that does not accept connections costs nothing; one
/// that does not answer costs its share of the call timeout.
pub(crate) async fn anywhere<T, F>(
    client: &Inner,
    repeat: Repeat,
    call: impl Fn(Channel) -> F + Send + Sync,
) -> Result<T>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>> + Send,
{
    let clock = &client.options.clock;
    let deadline = clock.monotonic().plus(client.options.call_timeout);
    let mut backoff = Backoff::default();
    loop {
        let mut failed = Error::invalid("no endpoints were given");
        for endpoint in client.metadata.endpoints() {
            let left = deadline.since(clock.monotonic());
            match at(client, &endpoint, Lane::Control, attempt_timeout(left, repeat), &call).await {
                Ok(answer) => return Ok(answer),
                Err(error) if may_repeat(&error, repeat) => failed = error,
                Err(error) => return Err(error),
            }
        }
        let pause = backoff.pause(&*client.options.random, failed.retry_after());
        if deadline.since(clock.monotonic()) <= pause {
            return Err(failed);
        }
        tracing::debug!(error = %failed, ?pause, "call is tried again");
        tokio::time::sleep(pause).await;
    }
}

/// A read that a hung node swallows should reach another in time; a change is not given up early.
fn attempt_timeout(left: Duration, repeat: Repeat) -> Duration {
    match repeat {
        Repeat::Freely => left.min(Duration::from_secs(5)),
        Repeat::WhileNothingHappened => left,
    }
}

fn may_repeat(error: &Error, repeat: Repeat) -> bool {
    match error.class() {
        Class::OutcomeUnknown => repeat == Repeat::Freely,
        Class::Retriable => {
            matches!(error.action(), Action::Retry | Action::RefreshMetadata)
                && !matches!(error.reason(), Some(Reason::UnknownTopicOrPartition))
        }
        Class::Fatal => false,
    }
}

/// Makes a call at one node.
pub(crate) async fn at<T, F>(
    client: &Inner,
    endpoint: &str,
    lane: Lane,
    timeout: Duration,
    call: impl Fn(Channel) -> F + Send + Sync,
) -> Result<T>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>> + Send,
{
    let connection = client.pool.connect(endpoint, lane).await?;
    let error = match tokio::time::timeout(timeout, call(connection.channel.clone())).await {
        Ok(Ok(answer)) => return Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let error = Error::from_status(&status);
            if !error.is_outcome_unknown() || error.action() != Action::Retry {
                return Err(error);
            }
            error
        }
        Err(_) => Error::lost(format!("no answer within {timeout:.1?}")),
    };
    // Nobody said why: the connection may be half dead, so the next call makes another.
    client.pool.discard(endpoint, lane, &connection).await;
    Err(error.context(format!("node at {endpoint}")))
}
