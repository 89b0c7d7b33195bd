//! Makes what a member owns equal to what it is assigned. Partitions to give up are drained (the
//! application asks for more, so it is done with what it had), told to the listener, committed, and only
//! then acknowledged; all of it within the rebalance timeout, because the coordinator waits no longer.
//! Partitions that stay are not touched.

use super::GroupHandle;
use super::commits;
use super::event::Event;
use super::ledger::{Begin, Key};
use super::member::{State, Target, Work};
use super::shared::{Shared, named};
use super::{GroupOptions, OffsetReset};
use crate::consumer::Position;
use crate::error::Result;
use flotilla_types::Monotonic;
use std::sync::Arc;
use std::time::Duration;

/// Shares of the rebalance timeout, in tenths: by then the application has polled again, the listener has
/// returned, and the offsets are stored, or are not waited for.
const DRAIN_TENTHS: u32 = 6;
const LISTEN_TENTHS: u32 = 7;
const COMMIT_TENTHS: u32 = 9;
/// Who stopped polling leaves after this at the latest, committed or not.
const STALE_COMMIT: Duration = Duration::from_secs(5);

/// Runs for as long as the consumer lives.
pub(crate) async fn run(shared: Arc<Shared>, busy: Arc<tokio::sync::Mutex<()>>) {
    let group = GroupHandle { shared: Arc::clone(&shared) };
    loop {
        let job = tokio::select! {
            work = shared.until(|inside| inside.member.work()) => Some(work),
            () = poll_missed(&shared) => None,
            () = shared.session_over() => {
                shared.check_session();
                continue;
            }
        };
        let _busy = busy.lock().await;
        match job {
            // It may have been closed while this waited.
            Some(work) if shared.look(|inside| inside.member.work()).as_ref() != Some(&work) => {}
            Some(Work::Reconcile { revoke, take }) => reconcile(&group, revoke, take).await,
            Some(Work::Drop) => drop_everything(&group).await,
            None => go_stale(&shared).await,
        }
    }
}

/// Ends when the application has not polled for too long.
async fn poll_missed(shared: &Shared) {
    let patience = shared.options.max_poll_interval;
    loop {
        let left = shared.until(|inside| {
            let since = shared.clock().monotonic().since(inside.polled_at);
            let left = if inside.polling { patience } else { patience.saturating_sub(since) };
            inside.member.may_read().then_some(left)
        });
        let left = left.await;
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

async fn go_stale(shared: &Shared) {
    tracing::warn!(
        group = %shared.group, member = %shared.member_id,
        "application did not poll for {:?}; leaving the group until it does", shared.options.max_poll_interval
    );
    shared.change(|inside| inside.ledger.drain(|_| true));
    if shared.options.auto_commit.is_some() {
        let _ = commits::store(shared, |ledger| ledger.processed(|_| true), STALE_COMMIT).await;
    }
    shared.change(|inside| inside.member.go_stale());
}

async fn drop_everything(group: &GroupHandle) {
    let shared = &group.shared;
    let (keys, state, silenced) = shared.change(|inside| {
        inside.session_ends = None;
        let silenced = std::mem::take(&mut inside.silenced);
        (inside.ledger.clear(), inside.member.state(), silenced)
    });
    if !keys.is_empty() {
        let why = match state {
            State::Stale => format!("application did not poll for {:?}", shared.options.max_poll_interval),
            State::Fatal => "member cannot go on".to_owned(),
            _ if silenced => "no heartbeat was answered for a whole session".to_owned(),
            _ => "coordinator does not know the member any more".to_owned(),
        };
        let partitions = named(&keys);
        let heard = shared.listener.lost(&partitions, group);
        let _ = tokio::time::timeout(shared.options.rebalance_timeout, heard).await;
        shared.tell(Event::Lost { partitions, why });
    }
    shared.change(|inside| inside.member.dropped());
}

async fn reconcile(group: &GroupHandle, revoke: Vec<Key>, take: Target) {
    let shared = &group.shared;
    let begun = shared.clock().monotonic();
    let session = shared.look(|inside| inside.member.session());
    let taken: Vec<Key> = take.keys().cloned().collect();
    shared.change(|inside| {
        inside.ledger.drain(|key| revoke.binary_search(key).is_ok());
        for (key, entry) in take {
            let begin = Begin {
                assignment_epoch: entry.assignment_epoch,
                topic_id: entry.topic_id,
                committed: entry.committed,
                otherwise: start(&shared.options),
            };
            inside.ledger.assign(key, begin);
        }
    });
    if !revoke.is_empty()
        && let Err(error) = give_up(group, &revoke, begun).await
    {
        tracing::warn!(
            group = %shared.group, member = %shared.member_id, %error,
            "offsets of revoked partitions were not stored; their next owner repeats records"
        );
    }
    if !taken.is_empty() {
        let partitions = named(&taken);
        let heard = shared.listener.assigned(&partitions, group);
        let _ = tokio::time::timeout(shared.options.rebalance_timeout, heard).await;
        if shared.look(|inside| inside.member.session() == session) {
            shared.change(|inside| inside.ledger.activate());
            shared.tell(Event::Assigned(partitions));
        }
    }
    shared.change(|inside| {
        if inside.member.session() == session {
            let owned = inside.ledger.owned();
            inside.member.reconciled(owned);
        }
    });
}

/// Where a partition without a committed offset begins.
fn start(options: &GroupOptions) -> Option<Position> {
    match options.offset_reset {
        OffsetReset::Earliest => Some(Position::Start),
        OffsetReset::Latest => Some(Position::End),
        OffsetReset::Fail => None,
    }
}

/// Drains, tells and commits partitions (in their order) that are given up, then forgets them. `begun` is
/// when the coordinator asked, as far as this member knows.
pub(crate) async fn give_up(group: &GroupHandle, keys: &[Key], begun: Monotonic) -> Result<()> {
    let shared = &group.shared;
    let session = shared.look(|inside| inside.member.session());
    let left = |tenths: u32| {
        let until = begun.plus(shared.options.rebalance_timeout * tenths / 10);
        until.since(shared.clock().monotonic())
    };
    let drained = shared.until(|inside| {
        let fenced = inside.member.session() != session;
        (fenced || keys.iter().all(|key| inside.ledger.is_drained(key))).then_some(())
    });
    let _ = tokio::time::timeout(left(DRAIN_TENTHS), drained).await;
    if shared.look(|inside| inside.member.session() != session) {
        return Ok(()); // all is lost, which is told once
    }
    let (clean, torn): (Vec<Key>, Vec<Key>) =
        shared.look(|inside| keys.iter().cloned().partition(|key| inside.ledger.is_drained(key)));
    let (revoked, lost) = (named(&clean), named(&torn));
    if !revoked.is_empty() {
        let _ = tokio::time::timeout(left(LISTEN_TENTHS), shared.listener.revoked(&revoked, group)).await;
    }
    if !lost.is_empty() {
        let _ = tokio::time::timeout(left(LISTEN_TENTHS), shared.listener.lost(&lost, group)).await;
    }
    let mut stored = Ok(());
    if shared.options.auto_commit.is_some() {
        let pick = |ledger: &super::ledger::Ledger| ledger.processed(|key| keys.binary_search(key).is_ok());
        stored = commits::store(shared, pick, left(COMMIT_TENTHS)).await;
    }
    shared.change(|inside| keys.iter().for_each(|key| inside.ledger.remove(key)));
    if !revoked.is_empty() {
        shared.tell(Event::Revoked(revoked));
    }
    if !lost.is_empty() {
        let why = "application did not ask for more in time".to_owned();
        shared.tell(Event::Lost { partitions: lost, why });
    }
    stored
}
