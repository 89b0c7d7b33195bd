//! Offset commits. One attempt is on its way at a time; one that was given up may still arrive late, so
//! attempts are numbered and the coordinator passes over what a later one has overtaken. Between attempts
//! nobody waits for anybody. They never wait for a heartbeat that is held, nor a heartbeat for them.

use super::ledger::{Ledger, Pending};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::retry::Backoff;
use flotilla_proto::v1;
use flotilla_types::{Action, Reason};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// One attempt takes no longer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// A refusal for a stale epoch waits this long for the heartbeat that brings the new one.
const EPOCH_WAIT: Duration = Duration::from_secs(5);

/// The order of attempts.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// The number of the last attempt.
    lane: tokio::sync::Mutex<i64>,
}

/// What came of an attempt that was made.
struct Attempt {
    session: u64,
    epoch: i64,
    /// The refusal that matters most, if there was one.
    refused: Option<Error>,
}

/// Stores what `pick` says, again and again until it is stored, refused for good, or `within` has passed.
/// Each attempt picks anew: what was processed meanwhile goes along, what was lost stays behind.
pub(crate) async fn store(
    shared: &Shared,
    pick: impl Fn(&Ledger) -> Vec<Pending>,
    within: Duration,
) -> Result<()> {
    let deadline = shared.clock().monotonic().plus(within);
    let left = || deadline.since(shared.clock().monotonic());
    let mut backoff = Backoff::default();
    loop {
        let attempt = tokio::time::timeout(left(), attempt(shared, &pick, left())).await;
        let attempt =
            attempt.unwrap_or_else(|_| Err(Error::lost(format!("not stored within {within:?}"))))?;
        let Some(Attempt { session, epoch, refused: Some(refused) }) = attempt else { return Ok(()) };
        match refused.action() {
            Action::Rejoin => {
                shared.fence(session);
                return Err(refused);
            }
            Action::RefreshMember => {
                let moved = epoch_after(shared, session, epoch);
                let _ = tokio::time::timeout(EPOCH_WAIT.min(left()), moved).await;
                if shared.look(|inside| inside.member.session() != session) {
                    return Err(refused);
                }
                // An epoch that did not move is no reason to ask without pause.
                tokio::time::sleep(backoff.pause(&*shared.client.options.random, None).min(left())).await;
            }
            _ if refused.class() == crate::Class::Fatal => return Err(refused),
            _ => {
                let pause = backoff.pause(&*shared.client.options.random, refused.retry_after());
                tokio::time::sleep(pause.min(left())).await;
            }
        }
        if left().is_zero() {
            return Err(refused);
        }
    }
}

/// Commits what was processed, every so often. One attempt each time: what failed goes along next time.
pub(crate) async fn run(shared: Arc<Shared>, every: Duration) {
    let mut backoff = Backoff::default();
    let mut pause = every;
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        let ended = attempt(&shared, &|ledger: &Ledger| ledger.processed(|_| true), ATTEMPT_TIMEOUT).await;
        let Ok(Some(Attempt { session, epoch, refused })) = ended else { continue };
        let Some(refused) = refused else {
            backoff.reset();
            continue;
        };
        tracing::debug!(group = %shared.group, member = %shared.member_id, error = %refused, "auto-commit failed");
        match refused.action() {
            Action::Rejoin => shared.fence(session),
            Action::RefreshMember => {
                let moved = epoch_after(&shared, session, epoch);
                let _ = tokio::time::timeout(EPOCH_WAIT, moved).await;
                pause = backoff.pause(&*shared.client.options.random, None).min(every);
            }
            _ if refused.class() == crate::Class::Fatal => {
                tracing::warn!(group = %shared.group, error = %refused, "auto-commit was refused");
            }
            _ => pause = backoff.pause(&*shared.client.options.random, refused.retry_after()).min(every),
        }
    }
}

async fn epoch_after(shared: &Shared, session: u64, epoch: i64) {
    let moved = |inside: &mut super::shared::Inside| {
        (inside.member.session() != session || inside.member.epoch() != epoch).then_some(())
    };
    shared.until(moved).await;
}

/// One attempt. `None`: there was nothing to store.
async fn attempt(
    shared: &Shared,
    pick: &impl Fn(&Ledger) -> Vec<Pending>,
    left: Duration,
) -> Result<Option<Attempt>> {
    let mut number = shared.commits.lane.lock().await;
    shared.check_session();
    // Offsets and epoch are of one moment: an epoch heard later may belong to other places.
    let (picked, session, epoch, joined) = shared.look(|inside| {
        let member = &inside.member;
        (pick(&inside.ledger), member.session(), member.epoch(), member.is_joined())
    });
    if picked.is_empty() {
        return Ok(None);
    }
    if !joined {
        let message = format!("not a member of group {} now, so offsets cannot be stored", shared.group);
        return Err(Error::fatal(Reason::UnknownMemberId, message));
    }
    *number += 1;
    let request = v1::CommitOffsetsRequest {
        commit_number: *number,
        group_id: shared.group.clone(),
        member_id: shared.member_id.clone(),
        member_epoch: epoch,
        offsets: picked.iter().map(|pending| to_wire(shared, pending)).collect(),
    };
    let answer = shared.coordinator.commit(&request, ATTEMPT_TIMEOUT.min(left)).await;
    let errors = match answer {
        Ok(answer) => answer.errors,
        Err(error) => return Ok(Some(Attempt { session, epoch, refused: Some(error) })),
    };
    let mut errors: HashMap<(String, i32), Error> = errors
        .into_iter()
        .filter_map(|e| Some(((e.topic, e.partition), Error::from_wire(e.error?))))
        .collect();
    let mut refused: Option<Error> = None;
    shared.change(|inside| {
        for pending in &picked {
            let name = (pending.key.0.as_str().to_owned(), pending.key.1.get() as i32);
            match errors.remove(&name) {
                None => inside.ledger.stored(pending),
                Some(error) if refused.as_ref().is_none_or(|worst| weight(&error) > weight(worst)) => {
                    let what = format!("offset commit of {}/{}", pending.key.0, pending.key.1);
                    refused = Some(error.context(what));
                }
                Some(_) => {}
            }
        }
    });
    Ok(Some(Attempt { session, epoch, refused }))
}

/// Which of several refusals decides what to do.
fn weight(error: &Error) -> u8 {
    match error.action() {
        Action::Rejoin => 3,
        Action::RefreshMember => 2,
        _ if error.class() == crate::Class::Fatal => 1,
        _ => 0,
    }
}

fn to_wire(shared: &Shared, pending: &Pending) -> v1::OffsetCommit {
    let (topic, partition) = &pending.key;
    let known = || shared.client.metadata.routes().topic(topic.as_str()).map(|route| route.topic_id.clone());
    v1::OffsetCommit {
        topic: topic.as_str().to_owned(),
        partition: partition.get() as i32,
        committed_offset: pending.offset.get() as i64,
        committed_leader_epoch: pending.leader_epoch.map(|term| term.get() as i64),
        metadata: pending.metadata.clone(),
        topic_id: pending.topic_id.clone().or_else(known).filter(|id| !id.is_empty()),
    }
}
