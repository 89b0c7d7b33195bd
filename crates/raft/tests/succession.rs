//! Who leads after a leader whose process is gone, or was wrongly said to be: at once, one in a term, and
//! with everything that was acknowledged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_raft::metrics::{Cause, CauseLabel};
use flotilla_raft::{Config, Inbound, PeerState, Shard};
use flotilla_types::{NodeId, Offset, ShardId, Term};
use harness::{Cluster, SHARD, Witness, command, config, eventually, offset};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Who waits for these clocks has no leader for five seconds.
fn patient() -> Config {
    Config { heartbeat_ms: 500, election_min_ms: 5000, election_max_ms: 7000, ..config() }
}

/// Far above what it takes, far below [`patient`].
const AT_ONCE: Duration = Duration::from_millis(1500);

fn elections(cluster: &Cluster, cause: Cause) -> u64 {
    let of = |node: &harness::Node| node.host.metrics().elections.get_or_create(&CauseLabel { cause }).get();
    cluster.nodes.values().map(of).sum()
}

/// Every witness that ever was agrees on the leader of each term.
fn assert_one_leader_per_term(witnesses: &[Arc<Witness>]) {
    let mut leaders: BTreeMap<(ShardId, Term), NodeId> = BTreeMap::new();
    for witness in witnesses {
        for (shard, term, leader) in witness.leaders.lock().unwrap().iter().copied() {
            let known = *leaders.entry((shard, term)).or_insert(leader);
            assert_eq!(known, leader, "two leaders of {shard} in term {term}");
        }
        assert!(witness.fatal.lock().unwrap().is_empty());
        assert!(witness.broken.lock().unwrap().is_empty());
        assert!(witness.reverted.lock().unwrap().is_empty());
    }
}

fn witnesses(cluster: &Cluster) -> Vec<Arc<Witness>> {
    cluster.nodes.values().map(|node| node.witness.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_process_is_gone_is_replaced_at_once() {
    let mut cluster = Cluster::start(3, patient()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for number in 0..10 {
        assert_eq!(offset(&cluster.append(SHARD, b"x").await), number);
    }
    let leader = cluster.leader(SHARD).await;
    let start = Instant::now();
    cluster.crash(leader);
    assert_eq!(offset(&cluster.append(SHARD, b"y").await), 10);
    println!("appended again after {:?}", start.elapsed());
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(elections(&cluster, Cause::Gone), 1);
    assert_eq!(elections(&cluster, Cause::Silent), 0);
    // Every node is told, without a tick.
    let new = cluster.leader(SHARD).await;
    for node in cluster.nodes.values() {
        let known = node.host.known_leaders();
        eventually("the new leader", || known.borrow().get(&SHARD).filter(|(id, _)| *id == new).map(|_| ()))
            .await;
    }
    println!("known everywhere after {:?}", start.elapsed());
    cluster.revive(leader).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.converge(SHARD).await;
    assert_eq!(cluster.leader(SHARD).await, new);
    assert_one_leader_per_term(&witnesses(&cluster));
}

/// The same with the machine gone, the process paused, the network cut: nothing is refused, so the lease
/// that its voters granted must pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_only_silent_keeps_its_lease() {
    for lost in [true, false] {
        let mut cluster = Cluster::start(3, config()).await;
        cluster.start_shard(SHARD, &[1, 2, 3]).await;
        cluster.append(SHARD, b"x").await;
        let leader = cluster.leader(SHARD).await;
        let term = cluster.shard(leader, SHARD).leadership().term;
        let start = Instant::now();
        if lost {
            cluster.kill(leader);
        } else {
            cluster.isolate(leader);
        }
        eventually("another leader", || {
            let others = cluster.nodes.keys().filter(|id| **id != leader);
            others
                .map(|id| cluster.shard(*id, SHARD).leadership())
                .find(|now| now.term > term && now.is_leader)
        })
        .await;
        println!("another leader after {:?}", start.elapsed());
        let lease = Duration::from_millis(cluster.config.election_max_ms - 2 * cluster.config.heartbeat_ms);
        assert!(start.elapsed() > lease, "{:?} is within the lease", start.elapsed());
        assert_eq!((elections(&cluster, Cause::Gone), elections(&cluster, Cause::Silent)), (0, 1));
    }
}

/// The first in turn may be the one with the shorter log. The other does not wait for its own turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_lacks_entries_gives_way_to_one_that_has_them() {
    for number in 0..4 {
        let shard = ShardId(SHARD.0 + number);
        let mut cluster = Cluster::start(3, patient()).await;
        cluster.start_shard(shard, &[1, 2, 3]).await;
        cluster.append(shard, b"x").await;
        cluster.converge(shard).await;
        let leader = cluster.leader(shard).await;
        let (behind, level) = if number % 2 == 0 { (2, 3) } else { (3, 2) };
        cluster.host(NodeId(behind)).set_full(true);
        for _ in 0..5 {
            cluster.append(shard, b"on two of three").await;
        }
        cluster.crash(leader);
        let start = Instant::now();
        eventually("a leader that has all", || {
            let leads = cluster.shard(NodeId(level), shard).leadership().leader == Some(NodeId(level));
            leads.then_some(())
        })
        .await;
        println!("{shard}: the other leads after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
        cluster.host(NodeId(behind)).set_full(false);
        assert_eq!(offset(&cluster.append(shard, b"y").await), 6);
        cluster.converge(shard).await;
        assert_one_leader_per_term(&witnesses(&cluster));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_shards_elect_together_also_those_at_rest() {
    for rest_after_ms in [0, 300] {
        let mut cluster = Cluster::start(3, Config { rest_after_ms, ..patient() }).await;
        let shards: Vec<ShardId> = (0..300).map(|number| ShardId(2000 + number)).collect();
        for shard in &shards {
            let first = shard.0 % 3;
            cluster.start_shard(*shard, &[first + 1, (first + 1) % 3 + 1, (first + 2) % 3 + 1]).await;
        }
        for shard in &shards {
            cluster.leader(*shard).await;
        }
        let gone = NodeId(1);
        let led: Vec<ShardId> = shards
            .iter()
            .copied()
            .filter(|shard| cluster.shard(gone, *shard).leadership().is_leader)
            .collect();
        if rest_after_ms > 0 {
            eventually("rest", || {
                shards.iter().all(|shard| cluster.shard(gone, *shard).is_resting()).then_some(())
            })
            .await;
        }
        let start = Instant::now();
        cluster.crash(gone);
        let serves = |shard: &ShardId| {
            cluster.nodes.keys().any(|id| cluster.shard(*id, *shard).leadership().is_leader)
        };
        let mut missing = led.clone();
        eventually("all leaders", || {
            missing.retain(|shard| !serves(shard));
            missing.is_empty().then_some(())
        })
        .await;
        println!("rest {rest_after_ms}: {} shards serve again after {:?}", led.len(), start.elapsed());
        assert!(led.len() >= 90 && start.elapsed() < AT_ONCE, "{} {:?}", led.len(), start.elapsed());
        // Spread over both that are left.
        for node in cluster.nodes.values() {
            let leads = |shard: &&ShardId| node.host.shard(**shard).unwrap().leadership().is_leader;
            let count = led.iter().filter(leads).count();
            assert!(count > led.len() / 4, "{} leads {count} of {}", node.id, led.len());
        }
        assert_one_leader_per_term(&witnesses(&cluster));
    }
}

/// Appends bodies that differ, one after the other, wherever there is a leader, and keeps what was
/// acknowledged with its offset.
async fn append_until(
    shards: Arc<std::sync::RwLock<Vec<Arc<Shard>>>>,
    name: u8,
    stop: Arc<AtomicBool>,
) -> Vec<(u64, Bytes)> {
    let mut acknowledged = Vec::new();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let leader = shards.read().unwrap().iter().find(|shard| shard.leadership().is_leader).cloned();
        let Some(leader) = leader else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        number += 1;
        let body = Bytes::from([&[name][..], &number.to_le_bytes()].concat());
        let proposal = leader.propose(command(&body), body.clone());
        match tokio::time::timeout(Duration::from_secs(1), proposal).await {
            Ok(Ok(outcome)) => acknowledged.push((offset(&outcome), body)),
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    acknowledged
}

/// What each acknowledged record's offset holds, on every replica.
fn assert_nothing_is_lost(cluster: &Cluster, acknowledged: &[(u64, Bytes)]) {
    for (id, store) in &cluster.stores {
        for (offset, body) in acknowledged {
            let row = store.index_floor(SHARD, Offset(*offset)).unwrap().unwrap();
            assert_eq!(row.base_offset, Offset(*offset), "{id} lacks an acknowledged record");
            let entry = store.log_row(SHARD, row.log_index).unwrap().unwrap();
            assert_eq!(entry.payload, body, "{id} has another record at {offset}");
        }
    }
}

fn running(cluster: &Cluster) -> Vec<Arc<Shard>> {
    cluster.nodes.keys().map(|id| cluster.shard(*id, SHARD)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_leader_that_is_said_to_be_gone_steps_aside_without_loss() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"first").await;
    let (stop, shards) = (Arc::default(), Arc::new(std::sync::RwLock::new(running(&cluster))));
    let appending: Vec<_> =
        (0..4).map(|name| tokio::spawn(append_until(shards.clone(), name, Arc::clone(&stop)))).collect();
    let (mut deposed, mut waits) = (0, Vec::new());
    for round in 0..40u32 {
        let leader = cluster.leader(SHARD).await;
        let term = cluster.shard(leader, SHARD).leadership().term;
        let mut others: Vec<NodeId> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
        others.rotate_left(round as usize % 2);
        let start = Instant::now();
        // One is wrong about it; every fourth time both are.
        for other in others.iter().take(1 + usize::from(round % 4 == 3)) {
            cluster.host(*other).peer_changed(leader, PeerState::Refused);
            cluster.host(*other).peer_changed(leader, PeerState::Up);
        }
        tokio::time::sleep(Duration::from_millis(u64::from(10 + round * 7 % 60))).await;
        let now = cluster.leader(SHARD).await;
        waits.push(start.elapsed());
        deposed += u32::from(cluster.shard(now, SHARD).leadership().term > term);
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for appending in appending {
        acknowledged.extend(appending.await.unwrap());
    }
    cluster.converge(SHARD).await;
    let longest = waits.iter().max().unwrap();
    println!("{} acknowledged, {deposed} deposed, longest wait {longest:?}", acknowledged.len());
    assert!(deposed >= 10 && acknowledged.len() > 100);
    assert_nothing_is_lost(&cluster, &acknowledged);
    assert_one_leader_per_term(&witnesses(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_crash_again_and_again_lose_nothing() {
    let mut cluster = Cluster::start(3, patient()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"first").await;
    let (stop, shards) = (Arc::default(), Arc::new(std::sync::RwLock::new(running(&cluster))));
    let appending: Vec<_> =
        (0..4).map(|name| tokio::spawn(append_until(shards.clone(), name, Arc::clone(&stop)))).collect();
    let (mut seen, mut waits) = (witnesses(&cluster), Vec::new());
    for round in 0..20u64 {
        let leader = cluster.leader(SHARD).await;
        tokio::time::sleep(Duration::from_millis(20 + round * 13 % 50)).await;
        let start = Instant::now();
        cluster.crash(leader);
        *shards.write().unwrap() = running(&cluster);
        cluster.leader(SHARD).await;
        waits.push(start.elapsed());
        cluster.revive(leader).await;
        cluster.start_shard(SHARD, &[1, 2, 3]).await;
        seen.push(cluster.nodes[&leader].witness.clone());
        *shards.write().unwrap() = running(&cluster);
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for appending in appending {
        acknowledged.extend(appending.await.unwrap());
    }
    cluster.converge(SHARD).await;
    waits.sort();
    println!("{} acknowledged; without a leader: {waits:?}", acknowledged.len());
    assert!(*waits.last().unwrap() < AT_ONCE && acknowledged.len() > 100);
    assert_nothing_is_lost(&cluster, &acknowledged);
    assert_one_leader_per_term(&seen);
}
