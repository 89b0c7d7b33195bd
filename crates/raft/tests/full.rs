//! A follower whose disk is full: it takes no records, and everything else goes on.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_machine::controller::{Command as Intent, NodeSpec};
use flotilla_machine::{Command, Kind};
use flotilla_types::{ClusterId, NodeId, Offset, ShardId};
use harness::{Cluster, SHARD, command, config, eventually, offset, offset_of};
use std::time::Duration;

fn applied(cluster: &Cluster, node: NodeId) -> u64 {
    cluster.shard(node, SHARD).progress().high_watermark.0
}

/// Somebody who follows.
async fn follower(cluster: &Cluster) -> NodeId {
    let leader = cluster.leader(SHARD).await;
    cluster.nodes.keys().copied().find(|id| *id != leader).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_follower_takes_no_records_and_catches_up_when_there_is_room() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"before").await;
    cluster.converge(SHARD).await;
    let (leader, full) = (cluster.leader(SHARD).await, follower(&cluster).await);
    let before = cluster.shard(leader, SHARD).leadership();
    cluster.host(full).set_full(true);
    for number in 1..200 {
        assert_eq!(offset(&cluster.append(SHARD, &[7; 1000]).await), number);
    }
    // Longer than an election takes: it still hears its leader, and does not campaign.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(applied(&cluster, full), 1);
    assert_eq!(cluster.stores[&full].shard_marks(SHARD).unwrap().last.unwrap().index.0, 2);
    assert_eq!(cluster.shard(leader, SHARD).leadership(), before);
    let status = cluster.shard(leader, SHARD).replicas();
    assert!(status.iter().find(|replica| replica.node == full).unwrap().lag >= 199, "{status:?}");
    assert!(cluster.host(full).metrics().frames_refused_full.get() > 0);
    cluster.host(full).set_full(false);
    cluster.converge(SHARD).await;
    assert_eq!(applied(&cluster, full), 200);
    assert_eq!(cluster.shard(leader, SHARD).leadership(), before);
    for node in cluster.nodes.values() {
        assert!(node.witness.fatal.lock().unwrap().is_empty());
        assert!(node.witness.reverted.lock().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_follower_votes_and_acknowledges_nothing_it_does_not_have() {
    let mut cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"before").await;
    cluster.converge(SHARD).await;
    let (leader, full) = (cluster.leader(SHARD).await, follower(&cluster).await);
    cluster.host(full).set_full(true);
    assert_eq!(offset(&cluster.append(SHARD, b"on two of three").await), 1);
    cluster.kill(leader);
    let third = cluster.nodes.keys().copied().find(|id| *id != full).unwrap();
    // With the full one's vote; but nothing can be committed without it, so nothing is served yet.
    eventually("a leader by the full one's vote", || {
        (cluster.shard(third, SHARD).leadership().leader == Some(third)).then_some(())
    })
    .await;
    let proposal = cluster.shard(third, SHARD).propose(command(b"waits"), Bytes::from_static(b"waits"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!cluster.shard(third, SHARD).leadership().is_leader);
    assert_eq!(applied(&cluster, full), 1);
    cluster.host(full).set_full(false);
    assert_eq!(offset_of(proposal.await), 2);
    cluster.converge(SHARD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_without_records_and_what_makes_room_go_on() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for node in cluster.nodes.values() {
        let voters = Some([1, 2, 3].map(NodeId).to_vec());
        node.host.start_shard(ShardId::CONTROLLER, Kind::Controller, voters).await.unwrap();
    }
    for _ in 0..10 {
        cluster.append(SHARD, b"x").await;
    }
    cluster.converge(SHARD).await;
    for node in cluster.nodes.values() {
        node.host.set_full(true);
    }
    let controller = cluster.shard(cluster.leader(ShardId::CONTROLLER).await, ShardId::CONTROLLER);
    let nodes = vec![NodeSpec {
        id: NodeId(1),
        peer: "127.0.0.1:1".into(),
        client: "127.0.0.1:2".into(),
        rack: None,
    }];
    let bootstrap = Intent::Bootstrap { cluster: ClusterId(uuid::Uuid::from_u128(1)), nodes };
    controller.propose(Command::Controller(bootstrap), Bytes::new()).await.unwrap();
    cluster.converge(ShardId::CONTROLLER).await;
    // All are level, so the trim that makes room reaches all.
    let leader = cluster.shard(cluster.leader(SHARD).await, SHARD);
    leader.propose(Command::Trim { log_start: Offset(5), now: 3 }, Bytes::new()).await.unwrap();
    cluster.converge(SHARD).await;
    for id in cluster.nodes.keys() {
        assert_eq!(cluster.shard(*id, SHARD).progress().log_start, Offset(5));
    }
}
