//! Idle shards rest, cost nothing, and wake: by a write, by a peer that died or started again.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_raft::Config;
use flotilla_types::{NodeId, ShardId};
use harness::{Cluster, SHARD, command, config, eventually, offset, offset_of};
use std::time::{Duration, Instant};

fn resting() -> Config {
    Config { rest_after_ms: 300, ..config() }
}

async fn all_rest(cluster: &Cluster, shard: ShardId) {
    eventually("a shard at rest", || {
        cluster.nodes.keys().all(|id| cluster.shard(*id, shard).is_resting()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_shard_rests_undisturbed_and_wakes_by_a_write() {
    let cluster = Cluster::start(3, resting()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    all_rest(&cluster, SHARD).await;
    let before = cluster.shard(NodeId(1), SHARD).leadership();
    // Several election timeouts.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    all_rest(&cluster, SHARD).await;
    assert_eq!(cluster.shard(NodeId(1), SHARD).leadership(), before);
    let leader = cluster.shard(cluster.leader(SHARD).await, SHARD);
    let start = Instant::now();
    // Several at once keep their order behind the gate.
    let proposals: Vec<_> =
        (0..20).map(|_| leader.propose(command(b"y"), Bytes::from_static(b"y"))).collect();
    for (number, proposal) in proposals.into_iter().enumerate() {
        assert_eq!(offset_of(proposal.await), number as u64 + 1);
    }
    println!("woken and 20 written in {:?}", start.elapsed());
    eventually("all awake", || {
        cluster.nodes.keys().all(|id| !cluster.shard(*id, SHARD).is_resting()).then_some(())
    })
    .await;
    assert_eq!(leader.leadership().term, before.term);
    all_rest(&cluster, SHARD).await;
    assert_eq!(leader.leadership().term, before.term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resting_shard_elects_when_its_leader_dies() {
    let mut cluster = Cluster::start(3, resting()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    all_rest(&cluster, SHARD).await;
    let leader = cluster.leader(SHARD).await;
    let start = Instant::now();
    cluster.kill(leader);
    assert_eq!(offset(&cluster.append(SHARD, b"y").await), 1);
    println!("appended {:?} after the kill", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(3500));
    // It comes back, learns what it missed, and all rest again.
    cluster.revive(leader).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.converge(SHARD).await;
    all_rest(&cluster, SHARD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resting_shard_elects_when_its_leader_is_silent() {
    let cluster = Cluster::start(3, resting()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    all_rest(&cluster, SHARD).await;
    let old = cluster.leader(SHARD).await;
    cluster.isolate(old);
    let start = Instant::now();
    let term = cluster.shard(old, SHARD).leadership().term;
    eventually("another leader", || {
        cluster.nodes.keys().find(|id| {
            let leadership = cluster.shard(**id, SHARD).leadership();
            leadership.is_leader && leadership.term > term
        })
    })
    .await;
    println!("another leader after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(3500));
    cluster.heal();
    cluster.converge(SHARD).await;
    all_rest(&cluster, SHARD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lost_link_does_not_depose_a_resting_leader() {
    let cluster = Cluster::start(3, resting()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    all_rest(&cluster, SHARD).await;
    let leader = cluster.leader(SHARD).await;
    let before = cluster.shard(leader, SHARD).leadership();
    let other = cluster.nodes.keys().copied().find(|id| *id != leader).unwrap();
    cluster.cut(leader, other);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let third = cluster.nodes.keys().copied().find(|id| *id != leader && *id != other).unwrap();
    assert_eq!(cluster.shard(third, SHARD).leadership().known(), before.known());
    assert_eq!(offset(&cluster.append(SHARD, b"y").await), 1);
    cluster.heal();
    cluster.converge(SHARD).await;
    assert_eq!(cluster.shard(leader, SHARD).leadership().known(), before.known());
    all_rest(&cluster, SHARD).await;
}
