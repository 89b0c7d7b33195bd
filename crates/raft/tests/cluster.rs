//! Three nodes in one process keep what they acknowledge: appends, kills, partitions, restarts, transfers.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_raft::ProposeError;
use flotilla_types::{NodeId, ShardId};
use futures::future::join_all;
use harness::{Cluster, SHARD, command, config, eventually, offset, offset_of};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_shard_has_a_leader_in_milliseconds_and_appends_in_order() {
    let cluster = Cluster::start(3, config()).await;
    let start = Instant::now();
    cluster.start_shard(SHARD, &[2, 3, 1]).await;
    assert_eq!(cluster.leader(SHARD).await, NodeId(2));
    println!("leader after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    let shard = cluster.shard(NodeId(2), SHARD);
    let proposals: Vec<_> = (0..500u32)
        .map(|number| {
            shard.propose(command(&number.to_le_bytes()), Bytes::copy_from_slice(&number.to_le_bytes()))
        })
        .collect();
    for (number, outcome) in join_all(proposals).await.into_iter().enumerate() {
        assert_eq!(offset_of(outcome), number as u64);
    }
    println!("appended {:?}", start.elapsed());
    cluster.converge(SHARD).await;
    println!("converged {:?}", start.elapsed());
    for node in cluster.nodes.values() {
        assert_eq!(node.host.shard(SHARD).unwrap().progress().high_watermark.0, 500);
        assert!(node.witness.fatal.lock().unwrap().is_empty());
    }
    let known = cluster.host(NodeId(1)).known_leaders();
    eventually("known leaders", || known.borrow().get(&SHARD).filter(|(id, _)| *id == NodeId(2)).map(|_| ()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing_and_returns() {
    let mut cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for number in 0..50u64 {
        assert_eq!(offset(&cluster.append(SHARD, b"before").await), number);
    }
    let leader = cluster.leader(SHARD).await;
    let start = Instant::now();
    cluster.kill(leader);
    assert_eq!(offset(&cluster.append(SHARD, b"after").await), 50);
    println!("appended again {:?} after the kill", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(3500));
    cluster.revive(leader).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for _ in 0..10 {
        cluster.append(SHARD, b"more").await;
    }
    cluster.converge(SHARD).await;
    assert_eq!(cluster.shard(leader, SHARD).progress().high_watermark.0, 61);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_acknowledges_nothing_and_says_what_it_does_not_know() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"first").await;
    let old = cluster.leader(SHARD).await;
    cluster.isolate(old);
    // Written to its own log while it believed in its lease: unknown, in the end.
    let written = cluster.shard(old, SHARD).propose(command(b"lost"), Bytes::from_static(b"lost"));
    let new = eventually("another leader", || {
        cluster
            .nodes
            .keys()
            .copied()
            .filter(|id| *id != old)
            .find(|id| cluster.shard(*id, SHARD).leadership().is_leader)
    })
    .await;
    // By now its lease has run out: refused before anything is written.
    let refused = cluster.shard(old, SHARD).propose(command(b"late"), Bytes::from_static(b"late")).await;
    assert!(
        matches!(refused, Err(ProposeError::Unavailable { .. } | ProposeError::NotLeader { .. })),
        "{refused:?}"
    );
    let barrier = cluster.shard(old, SHARD).read_barrier().await;
    assert!(barrier.as_ref().is_err_and(|error| !error.is_indefinite()), "{barrier:?}");
    let second = cluster.shard(new, SHARD).propose(command(b"second"), Bytes::from_static(b"second"));
    assert_eq!(offset_of(second.await), 1);
    cluster.heal();
    let written = written.await;
    assert!(matches!(written, Err(ProposeError::Lost { .. })), "{written:?}");
    cluster.converge(SHARD).await;
    let refused = cluster.shard(old, SHARD).propose(command(b"x"), Bytes::from_static(b"x")).await;
    assert!(
        matches!(refused, Err(ProposeError::NotLeader { leader: Some((id, _)) }) if id == new),
        "{refused:?}"
    );
    assert_eq!(cluster.shard(old, SHARD).progress().high_watermark.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_restarts_and_is_there() {
    let mut cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for _ in 0..100 {
        cluster.append(SHARD, &[7; 1000]).await;
    }
    let hash = cluster.converge(SHARD).await;
    let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    ids.iter().for_each(|id| cluster.kill(*id));
    for id in &ids {
        cluster.revive(*id).await;
    }
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    assert_eq!(offset(&cluster.append(SHARD, b"again").await), 100);
    let after = cluster.converge(SHARD).await;
    assert_ne!(hash, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_where_it_is_told_without_losing_appends() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    let mut expected = 0;
    for round in 0..6u32 {
        let from = cluster.leader(SHARD).await;
        assert_eq!(offset(&cluster.append(SHARD, b"x").await), expected);
        expected += 1;
        let to = NodeId((from.0 + round % 2) % 3 + 1);
        let start = Instant::now();
        cluster.shard(from, SHARD).transfer_leadership(to).await.unwrap();
        assert_eq!(offset(&cluster.append(SHARD, b"y").await), expected);
        expected += 1;
        println!("{from} to {to}: appended after {:?}", start.elapsed());
        assert_eq!(cluster.leader(SHARD).await, to);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_hands_over_first() {
    let mut cluster = Cluster::start(3, config()).await;
    for number in 0..20 {
        cluster.start_shard(ShardId(2000 + number), &[1, 2, 3]).await;
    }
    for number in 0..20 {
        cluster.append(ShardId(2000 + number), b"x").await;
    }
    let start = Instant::now();
    cluster.host(NodeId(1)).shutdown().await;
    println!("handed over and stopped in {:?}", start.elapsed());
    cluster.kill(NodeId(1));
    for number in 0..20 {
        assert_eq!(offset(&cluster.append(ShardId(2000 + number), b"y").await), 1);
    }
    println!("all appended after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_what_was_acknowledged_before() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    let leader = cluster.shard(cluster.leader(SHARD).await, SHARD);
    let read = join_all((0..100).map(|_| leader.read_barrier())).await;
    let applied = leader.progress().applied.unwrap().index;
    assert!(read.into_iter().all(|index| index.unwrap() <= applied));
    let follower =
        cluster.nodes.keys().find(|id| !cluster.shard(**id, SHARD).leadership().is_leader).unwrap();
    let refused = cluster.shard(*follower, SHARD).read_barrier().await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { leader: Some(_) })), "{refused:?}");
}
