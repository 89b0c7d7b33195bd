//! One exchange per pair of nodes: who lives, who leads what, and which shards rest.
//!
//! Every node keeps a table of the shards it leads, with a version. Each frame brings the receiver from the
//! version it has to a newer one; what is lost on the way is sent again, because the receiver says in its own
//! frames how far it is. A node that starts again has another incarnation, and its table begins anew.

use crate::status::KnownLeaders;
use crate::wire::{Led, Liveness};
use flotilla_types::{Monotonic, NodeId, ShardId, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most table entries in one frame; the rest follow in the next.
const FRAME_MAX_ENTRIES: usize = 4096;

/// What this node tells and knows.
#[derive(Debug)]
pub(crate) struct Table {
    node: NodeId,
    incarnation: u64,
    version: u64,
    /// What this node leads, and the version at which that was last changed.
    led: BTreeMap<ShardId, (Led, u64)>,
    changes: BTreeMap<u64, ShardId>,
    peers: BTreeMap<NodeId, Peer>,
    known: KnownLeaders,
    known_changed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// Its incarnation; 0 before its first frame.
    incarnation: u64,
    /// How far we have its table.
    have: u64,
    /// How far it has ours.
    has: u64,
    /// How far we have sent ours; it may be lost.
    sent: u64,
    heard_at: Option<Monotonic>,
    is_alive: bool,
}

/// What a frame from a peer means for this node's shards.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// It has started again since its last frame.
    pub restarted: bool,
    /// It was not alive before.
    pub returned: bool,
    /// What it tells of shards that it leads.
    pub led: Vec<Led>,
}

impl Table {
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        Self {
            node,
            incarnation: incarnation.max(1),
            version: 0,
            led: BTreeMap::new(),
            changes: BTreeMap::new(),
            peers: BTreeMap::new(),
            known: KnownLeaders::new(),
            known_changed: false,
        }
    }

    /// Whether the peer was heard of lately.
    pub fn is_alive(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.is_alive)
    }

    /// This node leads the shard, or no longer does, or it rests, or no longer does. Says if that is news.
    pub fn lead(&mut self, led: Led) -> bool {
        let before = self.led.get(&led.shard).copied();
        match before {
            Some((before, _)) if before == led => return false,
            None if !led.leads => return false,
            Some((_, version)) => {
                self.changes.remove(&version);
            }
            None => {}
        }
        self.version += 1;
        self.changes.insert(self.version, led.shard);
        self.led.insert(led.shard, (led, self.version));
        self.learn(self.node, led);
        true
    }

    /// This node heard from consensus that `leader` leads a shard.
    pub fn observe(&mut self, shard: ShardId, leader: NodeId, term: Term) {
        if leader != self.node {
            self.learn(leader, Led { shard, term, leads: true, rests: false });
        }
    }

    fn learn(&mut self, leader: NodeId, led: Led) {
        let Led { shard, term, leads, .. } = led;
        let known = self.known.get(&shard).copied();
        if leads {
            if known.is_none_or(|(_, known)| known < term) {
                self.known.insert(shard, (leader, term));
                self.known_changed = true;
            }
        } else if known == Some((leader, term)) {
            self.known.remove(&shard);
            self.known_changed = true;
        }
    }

    /// Who leads what, if that has changed since the last call.
    pub fn take_known(&mut self) -> Option<KnownLeaders> {
        std::mem::take(&mut self.known_changed).then(|| self.known.clone())
    }

    /// The next frame for `peer`. `news_only`: only if it brings something that was not sent yet.
    pub fn frame(&mut self, peer: NodeId, news_only: bool) -> Option<Liveness> {
        let life = self.peers.entry(peer).or_default();
        // The regular frame repeats what was not confirmed; news follow what was sent.
        let from_version = if news_only { life.sent.max(life.has) } else { life.has };
        if news_only && from_version == self.version {
            return None;
        }
        let mut to_version = self.version;
        let mut led = Vec::new();
        for (version, shard) in self.changes.range(from_version + 1..) {
            if led.len() == FRAME_MAX_ENTRIES {
                to_version = version - 1;
                break;
            }
            led.extend(self.led.get(shard).map(|(led, _)| *led));
        }
        life.sent = to_version;
        let seen = (life.incarnation, life.have);
        Some(Liveness { incarnation: self.incarnation, seen, from_version, to_version, led })
    }

    /// A frame came.
    pub fn hear(&mut self, from: NodeId, frame: Liveness, now: Monotonic) -> News {
        let life = self.peers.entry(from).or_default();
        let mut news = News {
            restarted: life.incarnation != 0 && life.incarnation != frame.incarnation,
            returned: !life.is_alive,
            led: Vec::new(),
        };
        if life.incarnation != frame.incarnation {
            (life.incarnation, life.have, life.has, life.sent) = (frame.incarnation, 0, 0, 0);
        }
        life.heard_at = Some(now);
        life.is_alive = true;
        if frame.seen.0 == self.incarnation {
            life.has = life.has.max(frame.seen.1.min(self.version));
        }
        // A frame that skips something is heard as a sign of life only; the next one begins where we are.
        if frame.from_version <= life.have && frame.to_version > life.have {
            life.have = frame.to_version;
            news.led = frame.led;
        }
        for led in &news.led {
            self.learn(from, *led);
        }
        news
    }

    /// The connections to a peer are lost. Says if it was alive until now.
    pub fn lose(&mut self, peer: NodeId) -> bool {
        self.peers.get_mut(&peer).is_some_and(|life| {
            life.heard_at = None;
            life.sent = 0;
            std::mem::replace(&mut life.is_alive, false)
        })
    }

    /// Peers that were alive until now and have been silent for `timeout`.
    pub fn newly_silent(&mut self, now: Monotonic, timeout: Duration) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (peer, life) in &mut self.peers {
            if life.is_alive && life.heard_at.is_none_or(|heard| now.since(heard) > timeout) {
                life.is_alive = false;
                life.sent = 0;
                silent.push(*peer);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn led(shard: u32, term: u64, rests: bool) -> Led {
        Led { shard: ShardId(shard), term: Term(term), leads: true, rests }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    /// Sends both ways once.
    fn exchange(a: &mut Table, b: &mut Table, now: u64) -> (News, News) {
        let to_b = b.hear(A, a.frame(B, false).unwrap(), at(now));
        let to_a = a.hear(B, b.frame(A, false).unwrap(), at(now));
        (to_a, to_b)
    }

    #[test]
    fn leaders_travel_as_deltas() {
        let (mut a, mut b) = (Table::new(A, 7), Table::new(B, 8));
        a.lead(led(5, 1, false));
        a.lead(led(6, 1, false));
        let (_, news) = exchange(&mut a, &mut b, 0);
        assert_eq!(news.led, [led(5, 1, false), led(6, 1, false)]);
        assert_eq!(b.take_known().unwrap().get(&ShardId(5)), Some(&(A, Term(1))));
        // Confirmed: nothing is told twice, only what changed.
        assert!(!a.lead(led(5, 1, false)));
        a.lead(led(5, 1, true));
        assert_eq!(a.frame(B, true).unwrap().led, [led(5, 1, true)]);
        assert_eq!(a.frame(B, true), None);
        // That frame was lost: the regular one brings it again.
        let (_, news) = exchange(&mut a, &mut b, 10);
        assert_eq!(news.led, [led(5, 1, true)]);
        assert_eq!(exchange(&mut a, &mut b, 20).1.led, []);
    }

    #[test]
    fn older_terms_do_not_come_back() {
        let mut b = Table::new(B, 8);
        b.observe(ShardId(5), B, Term(3));
        b.lead(led(5, 3, false));
        let mut a = Table::new(A, 7);
        a.lead(led(5, 2, false));
        exchange(&mut a, &mut b, 0);
        assert_eq!(b.take_known().unwrap().get(&ShardId(5)), Some(&(B, Term(3))));
        assert_eq!(a.take_known().unwrap().get(&ShardId(5)), Some(&(B, Term(3))));
    }

    #[test]
    fn a_restart_is_noticed_and_its_table_told_anew() {
        let (mut a, mut b) = (Table::new(A, 7), Table::new(B, 8));
        b.lead(led(1, 1, false));
        exchange(&mut a, &mut b, 0);
        exchange(&mut a, &mut b, 1);
        let mut b = Table::new(B, 9);
        b.lead(led(2, 1, false));
        let (news, _) = exchange(&mut a, &mut b, 2);
        assert!(news.restarted && news.led == [led(2, 1, false)]);
        // And the restarted one is told all of ours.
        a.lead(led(3, 1, false));
        let (_, news) = exchange(&mut a, &mut b, 3);
        assert_eq!(news.led, [led(3, 1, false)]);
    }

    #[test]
    fn silence_is_noticed_once() {
        let (mut a, mut b) = (Table::new(A, 7), Table::new(B, 8));
        exchange(&mut a, &mut b, 0);
        let timeout = Duration::from_millis(100);
        assert_eq!(a.newly_silent(at(100), timeout), []);
        assert_eq!(a.newly_silent(at(101), timeout), [B]);
        assert_eq!(a.newly_silent(at(300), timeout), []);
        assert!(!a.is_alive(B));
        assert!(exchange(&mut a, &mut b, 400).0.returned);
    }

    #[test]
    fn a_long_table_takes_several_frames() {
        let (mut a, mut b) = (Table::new(A, 7), Table::new(B, 8));
        for shard in 0..FRAME_MAX_ENTRIES as u32 + 10 {
            a.lead(led(shard, 1, false));
        }
        let (_, first) = exchange(&mut a, &mut b, 0);
        let (_, second) = exchange(&mut a, &mut b, 1);
        assert_eq!((first.led.len(), second.led.len()), (FRAME_MAX_ENTRIES, 10));
        assert_eq!(b.take_known().unwrap().len(), FRAME_MAX_ENTRIES + 10);
    }
}
