//! The task behind all groups of a node: takes coordinators over, ends sessions and revocations that are overdue,
//! tells of changes. It sleeps until something changes or the first deadline comes.

use super::lead::look;
use super::memory::Timer;
use crate::broker::Broker;
use flotilla_machine::groups::{Answer, Command, GroupState, Member, MemberState, Overdue};
use flotilla_raft::Shard;
use flotilla_types::{GroupEpoch, GroupId, MemberId, Term};
use futures::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::Duration;

/// With nothing to do, it looks around this often all the same.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Members that are proposed to be out at once.
const EXPIRED_AT_ONCE: usize = 64;
/// What could not be decided is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Broker {
    pub(crate) async fn keep_groups(self: Arc<Self>) {
        loop {
            self.notice_coordinators();
            self.tell_changes();
            let due = self.groups.memory.due(self.clock.monotonic());
            if !due.is_empty() {
                // Their outcomes are not waited for: without a majority they would stop everything else.
                let broker = self.clone();
                self.runtime.spawn(async move { broker.expire(due).await });
            }
            let next = self.groups.memory.next_due();
            let wait = next.map_or(LOOK_EVERY, |at| at.since(self.clock.monotonic()).min(LOOK_EVERY));
            tokio::select! {
                () = self.groups.work.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes over what this node leads since the last look, and lets go what it does not.
    pub(super) fn notice_coordinators(&self) {
        let routes = self.routes();
        for placed in &routes.coordinators {
            let _ = self.led_coordinator(placed.shard);
        }
    }

    /// A term of leadership begins: every member is given a full session, and who has to give partitions up the
    /// whole time for it.
    pub(super) fn take_over(&self, shard: &Shard, term: Term) {
        // Noted from here on, so that nothing falls between this and the look.
        self.groups.memory.begin(shard.id(), term);
        let now = self.clock.monotonic();
        let session = now.plus(self.config.groups.session_timeout);
        let members = look(shard, |groups| {
            let mut members = Vec::new();
            let mut unsettled = Vec::new();
            for (id, group) in groups.iter() {
                if group.state() == GroupState::Reconciling {
                    unsettled.push(id.clone());
                }
                for (name, member) in group.members() {
                    let unrevoked = group.member_state(member) == MemberState::UnrevokedPartitions;
                    let time = unrevoked.then(|| rebalance_timeout(member));
                    members.push(((shard.id(), id.clone(), name.clone()), time));
                }
            }
            (members, unsettled)
        });
        let (members, unsettled) = members.unwrap_or_default();
        self.resume_rebalances(shard, unsettled);
        tracing::info!(shard = %shard.id(), %term, members = members.len(), "coordinates groups");
        for (place, unrevoked) in members {
            self.groups.memory.expect(&place);
            self.groups.memory.arm_if_absent(Timer::Session(place.clone()), session);
            if let Some(time) = unrevoked {
                self.groups.memory.arm_if_absent(Timer::Revocation(place), now.plus(time));
            }
        }
        self.groups.nudge();
        self.groups.topics_changed.notify_one();
    }

    /// Looks at members whose assignment changed, and tells of what changed in their groups.
    pub(super) fn tell_changes(&self) {
        let now = self.clock.monotonic();
        for place in self.groups.memory.take_revised() {
            let Some(shard) = self.shard(place.0) else { continue };
            let time = look(&shard, |groups| {
                let group = groups.get(&place.1)?;
                let member = group.members().get(&place.2)?;
                let unrevoked = group.member_state(member) == MemberState::UnrevokedPartitions;
                Some(unrevoked.then(|| rebalance_timeout(member)))
            });
            match time {
                // The first demand counts: others that come on top of it give no more time.
                Ok(Some(Some(time))) => {
                    self.groups.memory.arm_if_absent(Timer::Revocation(place), now.plus(time));
                }
                Ok(Some(None)) => self.groups.memory.disarm(&Timer::Revocation(place)),
                Ok(None) => self.groups.memory.forget(&place),
                Err(_) => {}
            }
        }
        let (changes, dropped) = self.groups.memory.take_changes();
        if dropped > 0 {
            self.metrics.group_events_dropped.inc_by(dropped);
        }
        if !changes.is_empty() {
            self.report_changes(changes);
        }
    }

    pub(super) async fn expire(&self, due: Vec<Timer>) {
        stream::iter(due).for_each_concurrent(EXPIRED_AT_ONCE, |timer| self.expire_one(timer)).await;
    }

    async fn expire_one(&self, timer: Timer) {
        let place = timer.place().clone();
        let Some(shard) = self.led_coordinator(place.0) else { return };
        let cause = match timer {
            // It was heard of in the very last moment.
            Timer::Session(_) if self.groups.memory.is_armed(&timer) => return,
            Timer::Session(_) => Overdue::Session,
            Timer::Revocation(_) => Overdue::Revocation,
        };
        let overdue = look(&shard, |groups| {
            let group = groups.get(&place.1)?;
            let member = group.members().get(&place.2)?;
            let state = group.member_state(member);
            let counts = cause == Overdue::Session || state == MemberState::UnrevokedPartitions;
            counts.then(|| group.member_epoch(member))
        });
        let Ok(Some(epoch)) = overdue else {
            if cause == Overdue::Session {
                self.groups.memory.forget(&place);
            }
            return;
        };
        match self.expire_member(&shard, &place.1, &place.2, epoch, cause).await {
            Ok(true) => self.groups.memory.forget(&place),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(group = %place.1, member = %place.2, %error, "member is not removed yet");
                if self.groups.memory.arm_if_absent(timer, self.clock.monotonic().plus(AGAIN_AFTER)) {
                    self.groups.nudge();
                }
            }
        }
    }

    /// Whether the member is out now.
    async fn expire_member(
        &self,
        shard: &Shard,
        group: &GroupId,
        member: &MemberId,
        epoch: GroupEpoch,
        cause: Overdue,
    ) -> Result<bool, super::Error> {
        let now = self.clock.wall();
        let command = Command::Expire { group: group.clone(), member: member.clone(), epoch, cause, now };
        match self.decide(group, shard, command).await?.answer {
            Ok(Answer::NotOverdue) => Ok(false),
            // Also where it is no member any more.
            Ok(_) | Err(_) => Ok(true),
        }
    }
}

/// How long a member may take to give partitions up. The bound was kept when it joined.
fn rebalance_timeout(member: &Member) -> Duration {
    Duration::from_millis(u64::from(member.subscription().rebalance_timeout_ms))
}
