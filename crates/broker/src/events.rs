//! What happened on this node that people watch for: rebalances, changes of leaders.
//!
//! The latest are kept in memory for who comes late. A subscriber that reads too slowly loses the oldest and is
//! told how many; it never makes anybody wait.

use crate::broker::Broker;
use crate::forward::{Answer, Call};
use flotilla_types::{NodeId, TimestampMs};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// Events kept for late subscribers, and events that may wait for a slow one.
const KEPT: usize = 1024;
/// Events on their way to one listener, besides those that are kept for it.
const WAITING: usize = 64;
/// Another node is asked for its events anew after this.
const HOLD: Duration = Duration::from_secs(10);
/// A node that did not answer is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Kinds of events.
pub mod kind {
    /// A group's members or what they are to own changed; every step of it is one event.
    pub const GROUP_REBALANCE: &str = "GROUP_REBALANCE";
    /// A group's members own what they are to own again.
    pub const GROUP_STABLE: &str = "GROUP_STABLE";
    /// A shard got another leader, as this node sees it.
    pub const LEADER_CHANGE: &str = "LEADER_CHANGE";
    /// The subscriber was too slow; `count` tells how many events it lost.
    pub const EVENTS_DROPPED: &str = "EVENTS_DROPPED";
    /// All there are, for filters.
    pub const ALL: [&str; 4] = [GROUP_REBALANCE, GROUP_STABLE, LEADER_CHANGE, EVENTS_DROPPED];
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the clock of the node that noticed.
    pub time: TimestampMs,
    /// One of [`kind`].
    pub kind: String,
    /// Who noticed.
    pub node: NodeId,
    /// For people.
    pub message: String,
    /// For programs.
    pub attributes: Vec<(String, String)>,
}

/// The events of this node.
#[derive(Debug)]
pub(crate) struct Events {
    recent: Mutex<Recent>,
    sender: broadcast::Sender<(u64, Arc<Event>)>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The number of the next event. Starts at 1.
    next: u64,
    kept: VecDeque<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let recent = Recent { next: 1, kept: VecDeque::new() };
        Self { recent: Mutex::new(recent), sender: broadcast::Sender::new(KEPT) }
    }
}

impl Events {
    /// Keeps an event and hands it to whoever listens.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut recent = self.recent.lock();
        if recent.kept.len() == KEPT {
            recent.kept.pop_front();
        }
        recent.kept.push_back(event.clone());
        let number = recent.next;
        recent.next += 1;
        // Nobody listening is no error. Sent under the lock, so that a subscriber misses none.
        let _ = self.sender.send((number, event));
    }

    /// The latest `recent` ones, then every later one.
    pub fn subscribe(&self, recent: usize) -> Subscriber {
        let kept = self.recent.lock();
        let skip = kept.kept.len().saturating_sub(recent);
        let waiting = kept.kept.iter().skip(skip).cloned().collect();
        Subscriber { waiting, receiver: self.sender.subscribe() }
    }

    /// Those after `number` that are still kept, and the number of the last there is.
    pub fn after(&self, number: u64) -> (Vec<Arc<Event>>, u64) {
        let kept = self.recent.lock();
        let last = kept.next - 1;
        let first = kept.next - kept.kept.len() as u64;
        let skip = (number + 1).saturating_sub(first) as usize;
        (kept.kept.iter().skip(skip).cloned().collect(), last)
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.recent.lock().next - 1
    }
}

/// One that listens.
#[derive(Debug)]
pub(crate) struct Subscriber {
    waiting: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<(u64, Arc<Event>)>,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Event(Arc<Event>),
    /// So many were lost, because they were not taken in time.
    Dropped(u64),
}

impl Subscriber {
    /// The next one; `None` when there will be none.
    pub async fn next(&mut self) -> Option<News> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(News::Event(event));
        }
        match self.receiver.recv().await {
            Ok((_, event)) => Some(News::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(News::Dropped(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Broker {
    /// The events of the whole cluster, from the latest `recent` of this node on. Other nodes' come as they happen
    /// there, a round trip later; those of a node that cannot be reached are missing.
    pub fn watch_events(self: &Arc<Self>, recent: usize) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let own = self.clone().tell_own_events(self.observer.events.subscribe(recent), sender.clone());
        self.runtime.spawn(own);
        for node in self.routes().nodes.keys().filter(|node| **node != self.info.id) {
            self.runtime.spawn(self.clone().tell_events_of(*node, sender.clone()));
        }
        receiver
    }

    /// Ends with its listener.
    async fn tell_own_events(self: Arc<Self>, mut from: Subscriber, to: mpsc::Sender<Event>) {
        loop {
            let news = tokio::select! {
                news = from.next() => news,
                () = to.closed() => return,
            };
            let event = match news {
                None => return,
                Some(News::Event(event)) => Event::clone(&event),
                Some(News::Dropped(count)) => {
                    self.metrics.events_dropped.inc_by(count);
                    self.dropped(count)
                }
            };
            // Waits for a slow listener; what comes meanwhile is kept for it up to a bound, then dropped.
            if to.send(event).await.is_err() {
                return;
            }
        }
    }

    fn dropped(&self, count: u64) -> Event {
        Event {
            time: self.clock.wall(),
            kind: kind::EVENTS_DROPPED.to_owned(),
            node: self.info.id,
            message: format!("{count} events were lost, because they were not taken in time"),
            attributes: vec![("count".to_owned(), count.to_string())],
        }
    }

    async fn tell_events_of(self: Arc<Self>, node: NodeId, to: mpsc::Sender<Event>) {
        let mut after = None;
        loop {
            let call = Call::Events { after, wait_ms: HOLD.as_millis() as u64 };
            let asked = self.ask_within(node, call, self.config.forward_timeout + HOLD);
            let answer = tokio::select! {
                answer = asked => answer,
                () = to.closed() => return,
            };
            match answer {
                Ok(Answer::Events { events, last }) => {
                    // A node that started again counts from the beginning.
                    after = Some(last);
                    for event in events {
                        if to.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                _ => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    /// This node's events after a number, as soon as there are any; without a number, where it counts now.
    pub(crate) async fn events_here(&self, after: Option<u64>, wait_ms: u64) -> Answer {
        let events = &self.observer.events;
        let Some(after) = after else { return Answer::Events { events: Vec::new(), last: events.last() } };
        let mut subscriber = events.subscribe(0);
        let after = after.min(events.last());
        if events.last() == after {
            let wait = Duration::from_millis(wait_ms).min(HOLD);
            let _ = tokio::time::timeout(wait, subscriber.next()).await;
        }
        let (found, last) = events.after(after);
        Answer::Events { events: found.iter().map(|event| Event::clone(event)).collect(), last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> Event {
        Event {
            time: number,
            kind: kind::LEADER_CHANGE.to_owned(),
            node: NodeId(1),
            message: String::new(),
            attributes: Vec::new(),
        }
    }

    async fn time(subscriber: &mut Subscriber) -> i64 {
        match subscriber.next().await {
            Some(News::Event(event)) => event.time,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn who_comes_late_gets_the_latest_and_misses_none_after() {
        let events = Events::default();
        (1..=5).for_each(|n| events.publish(event(n)));
        let mut subscriber = events.subscribe(2);
        events.publish(event(6));
        assert_eq!(
            [time(&mut subscriber).await, time(&mut subscriber).await, time(&mut subscriber).await],
            [4, 5, 6]
        );
        let (after, last) = events.after(4);
        assert_eq!((after.len(), last), (2, 6));
        assert_eq!(events.after(6).0, []);
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many() {
        let events = Events::default();
        let mut subscriber = events.subscribe(0);
        (0..KEPT as i64 + 7).for_each(|n| events.publish(event(n)));
        assert_eq!(subscriber.next().await, Some(News::Dropped(7)));
        assert_eq!(time(&mut subscriber).await, 7);
        assert_eq!(events.after(0).0.len(), KEPT, "only so many are kept");
    }
}
