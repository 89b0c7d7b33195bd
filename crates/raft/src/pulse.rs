//! What a host does by the clock and on news: liveness, known leaders, putting shards to rest and waking them;
//! and the watcher of each shard.

use crate::host::Host;
use crate::metrics::CauseLabel;
use crate::shard::Shard;
use crate::status::Leadership;
use crate::transport::{Frame, PeerState};
use crate::wire::{self, Answer, Led, Restable};
use flotilla_types::{NodeId, ShardId};
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// News of many shards that come at the same time travel together.
const NEWS_PAUSE: Duration = Duration::from_millis(1);
/// Most shards that are asked to rest at a time.
const REST_MAX_SHARDS: usize = 4096;

impl Host {
    /// Starts the task that beats.
    pub(crate) fn start_pulse(self: &Arc<Self>) {
        let host = Arc::downgrade(self);
        let period = self.links.config.liveness();
        self.runtime.spawn(async move {
            let mut beat = tokio::time::interval(period);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let Some(this) = host.upgrade().filter(|host| !host.stopping.load(Ordering::Acquire)) else {
                    return;
                };
                tokio::select! {
                    _ = beat.tick() => this.beat(),
                    () = this.news.notified() => {
                        tokio::time::sleep(NEWS_PAUSE).await;
                        this.tell(true);
                    }
                }
                this.publish();
            }
        });
    }

    fn beat(self: &Arc<Self>) {
        self.tell(false);
        let now = self.clock.monotonic();
        let silent = self.table.lock().newly_silent(now, self.links.config.liveness_timeout());
        for peer in silent {
            tracing::warn!(%peer, "a peer is silent");
            self.wake_shards_with(peer, "a peer is silent");
        }
        if let Some(idle) = self.links.config.rest_after() {
            self.offer_rest(idle);
        }
    }

    /// Sends a liveness frame to every peer, or only to those for whom there is news.
    fn tell(&self, news_only: bool) {
        for peer in self.links.transport.peers() {
            if peer == self.links.node || self.links.transport.state(peer) != PeerState::Up {
                continue;
            }
            let frame = self.table.lock().frame(peer, news_only);
            if let Some(frame) = frame {
                self.post(peer, wire::liveness(&frame));
            }
        }
    }

    fn publish(&self) {
        let known = self.table.lock().take_known();
        if let Some(known) = known {
            self.known.send_replace(Arc::new(known));
        }
    }

    /// Sends without waiting for room.
    fn post(&self, peer: NodeId, frame: Frame) {
        let links = self.links.clone();
        self.runtime.spawn(async move {
            let _ = links.send(peer, frame).await;
        });
    }

    /// A liveness frame came.
    pub(crate) fn hear(self: &Arc<Self>, from: NodeId, frame: &Frame) {
        let Ok(frame) = wire::read_liveness(frame) else {
            self.links.metrics.frames_malformed.inc();
            return;
        };
        let news = self.table.lock().hear(from, frame, self.clock.monotonic());
        if news.restarted {
            self.wake_shards_with(from, "a peer has started again");
        }
        if news.returned {
            // It may have lost what it knew; and it wants to know that it is heard.
            self.news.notify_one();
        }
        for led in &news.led {
            self.follow(from, *led);
        }
        if !news.led.is_empty() {
            self.publish();
        }
    }

    /// A leader says whether its shard rests; this replica does the same.
    fn follow(&self, leader: NodeId, led: Led) {
        let Some(shard) = self.shard(led.shard) else { return };
        if !led.leads || !shard.is_with(leader, led.term) {
            return;
        }
        if shard.is_resting() && !led.rests {
            shard.wake_as_follower("its leader woke", self.links.config.election_max());
        } else if led.rests
            && !shard.is_resting()
            && let Some(last) = shard.is_settled()
        {
            shard.agree_to_rest(leader, &Restable { shard: led.shard, last, term: led.term });
        }
    }

    pub(crate) fn peer_up(self: &Arc<Self>, peer: NodeId) {
        self.news.notify_one();
        let shards = self.shards();
        self.runtime.spawn(async move {
            for shard in shards {
                if !shard.is_resting() && shard.leads() {
                    let _ = shard.raft.trigger().reset_backoff([u64::from(peer.0)]).await;
                }
            }
        });
    }

    pub(crate) fn peer_down(self: &Arc<Self>, peer: NodeId) {
        self.links.lost(peer);
        self.forget(|from, _| from == peer);
        if self.table.lock().lose(peer) {
            self.wake_shards_with(peer, "the connection to a peer is lost");
        }
    }

    /// The exchange with `peer` no longer stands for the heartbeats of shards that have a replica there.
    fn wake_shards_with(self: &Arc<Self>, peer: NodeId, why: &'static str) {
        for shard in self.shards() {
            if !shard.is_resting() {
                continue;
            }
            let leadership = shard.leadership();
            if leadership.leader == Some(peer) {
                // Its followers wake at nearly the same time; one of them should be first. And all of them
                // give the news a moment that its process is gone.
                let spread = self.links.config.election_min_ms;
                let grace = Duration::from_millis(spread / 5 + self.random.below(spread - spread / 5));
                shard.wake_as_follower(why, grace);
            } else if leadership.leader == Some(self.links.node)
                && (leadership.voters.contains(&peer) || leadership.learners.contains(&peer))
            {
                shard.wake(why);
            }
        }
    }

    /// Offers rest to the replicas of idle shards that this node leads.
    fn offer_rest(self: &Arc<Self>, idle: Duration) {
        let now = self.clock.monotonic();
        let offers: Vec<(Restable, BTreeSet<NodeId>)> = self
            .shards()
            .into_iter()
            .filter_map(|shard| {
                let offer = shard.restable(now, idle)?;
                let leadership = shard.leadership();
                let mut others: BTreeSet<NodeId> = &leadership.voters | &leadership.learners;
                others.remove(&self.links.node);
                others.iter().all(|node| self.is_alive(*node)).then_some((offer, others))
            })
            .take(REST_MAX_SHARDS)
            .collect();
        if offers.is_empty() {
            return;
        }
        let host = self.clone();
        self.runtime.spawn(async move { host.rest(offers, idle).await });
    }

    async fn rest(&self, offers: Vec<(Restable, BTreeSet<NodeId>)>, idle: Duration) {
        let mut by_peer: BTreeMap<NodeId, Vec<Restable>> = BTreeMap::new();
        for (offer, others) in &offers {
            for peer in others {
                by_peer.entry(*peer).or_default().push(*offer);
            }
        }
        let asked = by_peer.into_iter().map(async |(peer, offers)| {
            let answer = self.links.ask(peer, wire::rest(&offers), self.links.config.call_timeout()).await;
            let agreed = match answer {
                Ok(Answer::Rest(agreed)) => agreed.into_iter().collect::<BTreeSet<ShardId>>(),
                _ => BTreeSet::new(),
            };
            (peer, agreed)
        });
        let agreed: BTreeMap<NodeId, BTreeSet<ShardId>> =
            futures::future::join_all(asked).await.into_iter().collect();
        let now = self.clock.monotonic();
        let mut not_after_all: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
        for (offer, others) in offers {
            let Some(shard) = self.shard(offer.shard) else { continue };
            let all = others
                .iter()
                .all(|peer| agreed.get(peer).is_some_and(|agreed| agreed.contains(&offer.shard)));
            if all
                && others.iter().all(|peer| self.is_alive(*peer))
                && shard.rest_as_leader(&offer, now, idle)
            {
                self.announce(&shard, &shard.leadership());
                continue;
            }
            for peer in others {
                if agreed.get(&peer).is_some_and(|agreed| agreed.contains(&offer.shard)) {
                    not_after_all.entry(peer).or_default().push(offer.shard);
                }
            }
        }
        for (peer, shards) in not_after_all {
            self.post(peer, wire::wake(&shards));
        }
    }

    /// A leader offers rest.
    pub(crate) fn rest_asked(&self, from: NodeId, frame: &Frame) {
        let Ok(offers) = wire::read_rest(frame) else {
            self.links.metrics.frames_malformed.inc();
            return;
        };
        let agreed: Vec<ShardId> = offers
            .iter()
            .filter(|offer| self.shard(offer.shard).is_some_and(|shard| shard.agree_to_rest(from, offer)))
            .map(|offer| offer.shard)
            .collect();
        let answer = wire::answer(ShardId(0), frame.call, &Answer::Rest(agreed));
        self.post(from, answer);
    }

    /// A peer says that shards must not rest: as their leader, or because it saw somebody campaign.
    pub(crate) fn wake_asked(&self, from: NodeId, frame: &Frame) {
        let Ok(woken) = wire::read_wake(frame) else {
            self.links.metrics.frames_malformed.inc();
            return;
        };
        for shard in woken.into_iter().filter_map(|shard| self.shard(shard)) {
            if shard.leads() {
                if shard.wake("a replica asks") {
                    let shard = shard.clone();
                    self.runtime.spawn(async move { shard.raft.trigger().heartbeat().await });
                }
            } else if shard.leadership().leader == Some(from) {
                shard.wake_as_follower("its leader asks", self.links.config.election_max());
            }
        }
    }

    pub(crate) fn ask_to_wake(&self, leader: NodeId, shard: ShardId) {
        self.post(leader, wire::wake(&[shard]));
    }

    /// Puts into the table what this node's shard says of its leadership.
    fn announce(&self, shard: &Shard, now: &Leadership) {
        let leads = now.leader == Some(self.links.node) && !shard.is_stopped();
        let led = Led { shard: shard.id(), term: now.term, leads, rests: shard.is_resting() };
        let mut table = self.table.lock();
        let is_news = table.lead(led);
        if let Some(leader) = now.leader {
            table.observe(led.shard, leader, now.term);
        }
        drop(table);
        if is_news {
            self.news.notify_one();
        }
    }

    /// Follows one shard: publishes its leadership, purges its log, notices its end.
    pub(crate) fn watch(self: &Arc<Self>, shard: Arc<Shard>) {
        let host = Arc::downgrade(self);
        let mut server = shard.raft.server_metrics();
        self.runtime.spawn(async move {
            loop {
                let Some(this) = host.upgrade() else { return };
                this.look(&shard).await;
                drop(this);
                let is_over = tokio::select! {
                    changed = server.changed() => changed.is_err(),
                    () = shard.replica.changed.notified() => shard.is_stopped(),
                };
                if is_over {
                    break;
                }
            }
            if let Some(this) = host.upgrade() {
                this.ended(&shard).await;
            }
        });
    }

    async fn look(&self, shard: &Arc<Shard>) {
        let (before, now) = (shard.leadership(), shard.observe());
        if before != now {
            if (before.leader, before.term) != (now.leader, now.term) {
                self.links.metrics.leader_changes.inc();
                if now.leader.is_some() {
                    let cause = shard.take_cause();
                    if now.leader == Some(self.links.node) {
                        self.links.metrics.elections.get_or_create(&CauseLabel { cause }).inc();
                    }
                }
                shard.wake("another leader");
            }
            if before.is_leader != now.is_leader {
                self.links.metrics.shards_led.inc_by(i64::from(now.is_leader) - i64::from(before.is_leader));
            }
            shard.leadership.send_replace(now.clone());
            self.observer().leadership(shard.id(), &now);
        }
        self.announce(shard, &now);
        if now.is_leader
            && let Some(audit) = shard.replica.take_audit_due()
        {
            // Its outcome is the replicas' own business: one that differs breaks down.
            drop(shard.propose(audit, bytes::Bytes::new()));
        }
        if shard.replica.take_purge_wanted().is_some() {
            let _ = shard.raft.trigger().snapshot().await;
        }
    }

    /// Consensus of this shard has ended: because it was stopped, is broken, or cannot go on.
    async fn ended(&self, shard: &Arc<Shard>) {
        self.links.metrics.shards_led.dec_by(i64::from(shard.leadership().is_leader));
        let mut now = shard.observe();
        (now.leader, now.is_leader) = (now.leader.filter(|leader| *leader != self.links.node), false);
        shard.leadership.send_replace(now.clone());
        self.announce(shard, &now);
        if let Some(why) = shard.broken() {
            self.links.metrics.shards_broken.inc();
            tracing::error!(shard = %shard.id(), why, "the shard is broken on this node");
            self.observer().broken(shard.id(), &why);
            shard.stop().await;
        } else if !shard.is_stopped() {
            let running = shard.raft.metrics().borrow_watched().running_state.clone();
            let why = running.err().map_or_else(|| "consensus stopped".to_owned(), |fatal| fatal.to_string());
            tracing::error!(shard = %shard.id(), why, "consensus cannot go on");
            self.observer().fatal(shard.id(), &why);
        }
    }
}
