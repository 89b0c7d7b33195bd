//! A heartbeat that has nothing to tell and nothing to hear waits: for news of the member's assignment, for the end
//! of its time, or for the end of this node's say.

use super::super::lead::look;
use super::super::memory::{Memory, Place, Told};
use super::super::{Error, HeartbeatAnswer, Room};
use crate::broker::Broker;
use flotilla_machine::groups::Refusal;
use flotilla_raft::Shard;
use flotilla_types::{GroupEpoch, Monotonic};
use std::time::Duration;

impl Broker {
    /// Holds a heartbeat until there is news of the member's assignment, or the time is over.
    pub(super) async fn hold(
        &self,
        shard: &Shard,
        place: &Place,
        epoch: GroupEpoch,
        arrived: Monotonic,
        wait: Duration,
    ) -> Result<HeartbeatAnswer, Error> {
        let most = self.config.groups.held_max;
        let room = Room::take(&self.groups.held, most, &self.metrics.group_heartbeats_held);
        let wait = if room.is_some() { wait } else { Duration::ZERO };
        let Some(mut news) = self.groups.memory.hold(place) else { return Err(self.elsewhere(&place.1)) };
        let mut held = Held { memory: &self.groups.memory, place, answered: false };
        let mut draining = self.draining.subscribe();
        loop {
            // Marked as seen before looking, so that nothing is missed in between.
            news.borrow_and_update();
            let last = self.groups.memory.told(place);
            let left = wait.saturating_sub(self.clock.monotonic().since(arrived));
            let looked: Result<_, Refusal> = look(shard, |groups| {
                let (group, member) = groups.check(&place.1, &place.2, epoch)?;
                let known = Told { revision: member.revision(), paused: self.is_paused(group) };
                let fresh = last != Some(known);
                let pause = group.paused_until().filter(|_| known.paused);
                let now = group.member_epoch(member);
                // Whoever is told of another epoch is told what belongs to it.
                let tell = fresh || (left.is_zero() && epoch < now);
                let assignment = if tell { groups.assignment(&place.1, &place.2) } else { None };
                Ok((assignment, now, pause))
            })?;
            let wait = match looked {
                Err(refusal) => {
                    held.answered = true;
                    return Err(Error::Rules(Box::new(refusal)));
                }
                Ok((Some(assignment), ..)) => {
                    held.answered = true;
                    return self.tell(shard, place, assignment);
                }
                Ok((None, now, _)) if left.is_zero() => {
                    held.answered = true;
                    return Ok(self.answer(now, None));
                }
                // The end of a pause is news too.
                Ok((None, _, pause)) => pause.map_or(left, |until| {
                    let ms = until.saturating_sub(self.clock.wall()).max(1) as u64;
                    left.min(Duration::from_millis(ms))
                }),
            };
            let woken = tokio::select! {
                changed = news.changed() => changed.is_ok(),
                _ = draining.wait_for(|draining| *draining) => false,
                () = tokio::time::sleep(wait) => true,
            };
            if !woken {
                // Leadership ended, or the member is out, or this node goes.
                held.answered = true;
                self.check_member(shard, place, epoch).await?;
                return Err(self.elsewhere(&place.1));
            }
        }
    }
}

/// A member whose heartbeat is held. However that ends, it is not held any more; if it was not answered, its
/// caller broke it off.
struct Held<'a> {
    memory: &'a Memory,
    place: &'a Place,
    answered: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.memory.release(self.place, self.answered);
    }
}
