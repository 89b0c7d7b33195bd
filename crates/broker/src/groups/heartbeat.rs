//! Members: they join, say that they live, hear of their assignment, acknowledge it, leave. One call, held while
//! there is nothing to say.
//!
//! A heartbeat that changes nothing writes nothing: it moves a deadline in memory. It proves nothing to others
//! than this leader, and a leader that was deposed without knowing it can only tell old news: what members commit
//! is checked by the log.

mod check;
mod hold;
mod step;

use super::lead::look;
use super::memory::{Place, Timer, Told};
use super::{Answer, Call};
use super::{Assigned, Assignment, Error, Heartbeat, HeartbeatAnswer, Leave, Subscription};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_machine::groups::{self as rules, Answer as Decided, Assignor, Command, Join, Refusal};
use flotilla_raft::Shard;
use flotilla_types::GroupEpoch;
use step::Step;

impl Broker {
    /// One heartbeat of a member, by way of any node.
    pub async fn heartbeat(&self, context: &Context, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Error> {
        let group = heartbeat.group.clone();
        let answer = match check::check(&heartbeat) {
            Ok(()) => self.ask_coordinator(context, &group, Call::Heartbeat(heartbeat)).await,
            Err(error) => Err(error),
        };
        match self.counted_group(answer)? {
            Answer::Heartbeat(answer) => Ok(answer),
            other => Err(Error::Lost(format!("the coordinator answered {other:?}"))),
        }
    }

    pub(super) async fn heartbeat_here(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Error> {
        let shard = self.coordinator(&heartbeat.group)?;
        let place = (shard.id(), heartbeat.group.clone(), heartbeat.member.clone());
        if let Some(leave) = heartbeat.leave {
            return self.leave(&shard, &place, &heartbeat, leave).await;
        }
        if heartbeat.member_epoch == 0 {
            return self.join(&shard, &place, &heartbeat).await;
        }
        self.renew(&shard, &place, heartbeat).await
    }

    async fn join(
        &self,
        shard: &Shard,
        place: &Place,
        heartbeat: &Heartbeat,
    ) -> Result<HeartbeatAnswer, Error> {
        let wanted = heartbeat
            .subscription
            .as_ref()
            .ok_or_else(|| Error::invalid("subscription", "", "expected when joining"))?;
        let subscription = self.subscription(wanted)?;
        let sight = self.sight_of(&subscription)?;
        let holder_gone = match &heartbeat.instance {
            None => false,
            Some(instance) => {
                let holder = look(shard, |groups| {
                    groups.get(&place.1).and_then(|group| group.instance(instance).cloned())
                })?;
                let silence = self.config.groups.heartbeat_interval;
                holder.is_some_and(|holder| {
                    let holder = (place.0, place.1.clone(), holder);
                    self.groups.memory.is_gone(&holder, self.clock.monotonic(), silence)
                })
            }
        };
        // Before it is a member: should its caller go away meanwhile, its session ends all the same.
        self.is_heard(place, heartbeat);
        let join = Join {
            group: place.1.clone(),
            member: place.2.clone(),
            instance: heartbeat.instance.clone(),
            holder_gone,
            subscription,
            peer: heartbeat.peer.clone(),
            members_max: self.config.groups.members_max,
            sight,
            now: self.clock.wall(),
        };
        let outcome = self.decide(&place.1, shard, Command::Join(Box::new(join))).await?;
        match outcome.answer {
            Ok(Decided::Member(assignment)) => self.tell(shard, place, *assignment),
            Ok(other) => Err(Error::Lost(format!("the coordinator answered {other:?} to a join"))),
            Err(refusal) => {
                let is_member = look(shard, |groups| {
                    groups.get(&place.1).is_some_and(|group| group.members().contains_key(&place.2))
                })?;
                if !is_member {
                    self.groups.memory.forget(place);
                }
                Err(Error::Rules(Box::new(refusal)))
            }
        }
    }

    async fn leave(
        &self,
        shard: &Shard,
        place: &Place,
        heartbeat: &Heartbeat,
        leave: Leave,
    ) -> Result<HeartbeatAnswer, Error> {
        let temporary = leave == Leave::Temporarily;
        let command = Command::Leave {
            group: place.1.clone(),
            member: place.2.clone(),
            epoch: GroupEpoch(heartbeat.member_epoch),
            temporary,
            now: self.clock.wall(),
        };
        match self.decide(&place.1, shard, command).await?.answer {
            // Whoever wants to be out and is out has what he wants.
            Ok(_) | Err(Refusal::MemberUnknown { .. } | Refusal::GroupUnknown { .. }) => {
                let stays = look(shard, |groups| {
                    groups.get(&place.1).is_some_and(|group| group.members().contains_key(&place.2))
                })?;
                if stays {
                    // It is expected back within a session from now.
                    self.is_heard(place, heartbeat);
                } else {
                    self.groups.memory.forget(place);
                }
                Ok(self.answer(GroupEpoch(0), None))
            }
            Err(refusal) => Err(Error::Rules(Box::new(refusal))),
        }
    }

    /// A member that is in: it may want other topics, or acknowledge, or just live.
    async fn renew(
        &self,
        shard: &Shard,
        place: &Place,
        heartbeat: Heartbeat,
    ) -> Result<HeartbeatAnswer, Error> {
        let arrived = self.clock.monotonic();
        let epoch = GroupEpoch(heartbeat.member_epoch);
        self.check_member(shard, place, epoch).await?;
        self.is_heard(place, &heartbeat);
        if let Some(wanted) = &heartbeat.subscription {
            let subscription = self.subscription(wanted)?;
            let differs = look(shard, |groups| {
                let member = groups.get(&place.1).and_then(|group| group.members().get(&place.2));
                member.is_none_or(|member| *member.subscription() != subscription)
            })?;
            if differs {
                let sight = self.sight_of(&subscription)?;
                let (group, member, now) = (place.1.clone(), place.2.clone(), self.clock.wall());
                let command = Command::Resubscribe { group, member, epoch, subscription, sight, now };
                return self.decided(shard, place, command).await;
            }
        }
        let last = self.groups.memory.told(place);
        let step = look(shard, |groups| self.step(groups, (place, last), &heartbeat))?;
        match step {
            Step::Acknowledge(command) => self.decided(shard, place, command).await,
            Step::Tell(assignment) => self.tell(shard, place, assignment),
            Step::Hold => {
                let most = self.config.groups.session_timeout / 3;
                self.hold(shard, place, epoch, arrived, heartbeat.max_wait.min(most)).await
            }
        }
    }

    /// A member that a command is about: what it is to own after it.
    async fn decided(
        &self,
        shard: &Shard,
        place: &Place,
        command: Command,
    ) -> Result<HeartbeatAnswer, Error> {
        match self.decide(&place.1, shard, command).await?.answer {
            Ok(Decided::Member(assignment)) => self.tell(shard, place, *assignment),
            Ok(other) => Err(Error::Lost(format!("the coordinator answered {other:?} to a heartbeat"))),
            Err(refusal) => Err(Error::Rules(Box::new(refusal))),
        }
    }

    /// Refuses who is no member, or has not its epoch. A refusal costs a member all it owns, so it is given only
    /// by a leader that a majority confirms.
    async fn check_member(&self, shard: &Shard, place: &Place, epoch: GroupEpoch) -> Result<(), Error> {
        let check = || look(shard, |groups| groups.check(&place.1, &place.2, epoch).map(|_| ()));
        if check()?.is_ok() {
            return Ok(());
        }
        self.settled(&place.1, shard).await?;
        check()?.map_err(|refusal| Error::Rules(Box::new(refusal)))
    }

    /// A sign of life.
    fn is_heard(&self, place: &Place, heartbeat: &Heartbeat) {
        let now = (self.clock.monotonic(), self.clock.wall());
        let session = self.config.groups.session_timeout;
        if self.groups.memory.heard(place, &heartbeat.peer, now, session) {
            self.groups.nudge();
        }
    }

    /// The answer that brings an assignment, remembered as told.
    fn tell(
        &self,
        shard: &Shard,
        place: &Place,
        assignment: rules::Assignment,
    ) -> Result<HeartbeatAnswer, Error> {
        let paused = look(shard, |groups| groups.get(&place.1).is_some_and(|group| self.is_paused(group)))?;
        self.groups.memory.tell(place, Told { revision: assignment.revision, paused });
        if !assignment.must_acknowledge {
            self.groups.memory.disarm(&Timer::Revocation(place.clone()));
        }
        // What it owns stays its own: it only has nothing to read meanwhile.
        let partitions = if paused { Vec::new() } else { assignment.partitions };
        let entries = partitions.into_iter().map(|p| Assigned {
            topic: p.topic,
            topic_id: p.topic_id,
            partition: p.partition,
            assignment_epoch: p.assignment_epoch.get(),
            committed: p.committed.map(flotilla_types::Offset::get),
        });
        let told = Assignment { group_epoch: assignment.group_epoch.get(), entries: entries.collect() };
        Ok(self.answer(assignment.member_epoch, Some(told)))
    }

    /// Whether a group's members are to have nothing to read now.
    fn is_paused(&self, group: &rules::Group) -> bool {
        group.paused_until().is_some_and(|until| until > self.clock.wall())
    }

    fn answer(&self, epoch: GroupEpoch, assignment: Option<Assignment>) -> HeartbeatAnswer {
        HeartbeatAnswer {
            member_epoch: epoch.get(),
            heartbeat_interval: self.config.groups.heartbeat_interval,
            session_timeout: self.config.groups.session_timeout,
            assignment,
        }
    }

    /// A subscription as the rules take it.
    fn subscription(&self, wanted: &Subscription) -> Result<rules::Subscription, Error> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let assignor = some(&wanted.assignor).map(|name| Assignor::parse(&name)).transpose();
        let most = self.config.groups.rebalance_timeout_max;
        let time = wanted.rebalance_timeout.unwrap_or(most).min(most);
        Ok(rules::Subscription {
            topics: wanted.topics.iter().cloned().collect(),
            pattern: some(&wanted.pattern),
            assignor: assignor.map_err(|refusal| Error::Rules(Box::new(refusal)))?,
            rack: some(&wanted.rack),
            rebalance_timeout_ms: time.as_millis() as u32,
            client: wanted.client_id.clone(),
        })
    }
}
