//! Replicas come, go, fall behind the purge point, lose their log: what each must end with.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_machine::{Command, Kind, Outcome};
use flotilla_raft::Config;
use flotilla_raft::store::{MemoryStore, Store};
use flotilla_types::{NodeId, Offset};
use harness::{Cluster, SHARD, command, config, eventually, identity, offset};
use std::collections::BTreeSet;
use std::sync::Arc;

async fn propose(cluster: &Cluster, command: Command) -> Outcome {
    let leader = cluster.leader(SHARD).await;
    cluster.shard(leader, SHARD).propose(command, Bytes::new()).await.unwrap()
}

/// Appends, makes a checkpoint, appends more, and trims to the checkpoint, so that the log is purged to it.
async fn purge(cluster: &Cluster) {
    for _ in 0..300 {
        cluster.append(SHARD, &[1; 5000]).await;
    }
    propose(cluster, Command::Checkpoint { now: 2 }).await;
    for _ in 0..50 {
        cluster.append(SHARD, &[2; 5000]).await;
    }
    let trimmed = propose(cluster, Command::Trim { log_start: Offset(310), now: 3 }).await;
    assert_eq!(trimmed, Outcome::Trimmed { log_start: Offset(310) });
    for node in cluster.nodes.values() {
        let store = &cluster.stores[&node.id];
        eventually("a purged log", || store.shard_marks(SHARD).unwrap().purged).await;
        assert_eq!(store.checkpoints(SHARD).unwrap().len(), 1);
        let first = store.index_range(SHARD, Offset(0), 1).unwrap()[0].base_offset;
        assert!((Offset(300)..=Offset(301)).contains(&first), "{first}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_the_purge_point_gets_snapshot_then_log_and_ends_equal() {
    // Small messages, so that the snapshot takes several.
    let mut cluster = Cluster::start(3, Config { message_max_bytes: 200, ..config() }).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    cluster.converge(SHARD).await;
    let leader = cluster.leader(SHARD).await;
    let behind = cluster.nodes.keys().copied().find(|id| *id != leader).unwrap();
    cluster.kill(behind);
    purge(&cluster).await;
    cluster.revive(behind).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.converge(SHARD).await;
    assert!(cluster.nodes[&behind].witness.installed.load(std::sync::atomic::Ordering::Relaxed) >= 1);
    let retained = cluster.stores[&behind].index_range(SHARD, Offset(0), 100).unwrap();
    assert!(retained.iter().any(|row| row.base_offset == Offset(310)), "{:?}", retained.first());
    // And it is so after it starts again.
    let hash = cluster.converge(SHARD).await;
    cluster.kill(behind);
    cluster.revive(behind).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    let again = cluster.converge(SHARD).await;
    println!("hash {hash:x} then {again:x}");
    assert_eq!(offset(&cluster.append(SHARD, b"y").await), 351);
    cluster.converge(SHARD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_change_by_learner_promotion_and_removal() {
    let cluster = Cluster::start(4, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for _ in 0..50 {
        cluster.append(SHARD, b"x").await;
    }
    cluster.host(NodeId(4)).start_shard(SHARD, Kind::Partition, None).await.unwrap();
    let leader = cluster.shard(cluster.leader(SHARD).await, SHARD);
    leader.add_learner(NodeId(4)).await.unwrap();
    eventually("a learner that caught up", || {
        leader
            .replicas()
            .into_iter()
            .find(|replica| replica.node == NodeId(4) && !replica.voter && replica.lag == 0)
    })
    .await;
    let gone =
        [1, 2, 3].map(NodeId).into_iter().find(|id| *id != leader.leadership().leader.unwrap()).unwrap();
    let voters: BTreeSet<NodeId> = [1, 2, 3, 4].map(NodeId).into_iter().filter(|id| *id != gone).collect();
    leader.change_voters(voters.clone()).await.unwrap();
    cluster.host(gone).destroy_shard(SHARD).await.unwrap();
    assert_eq!(cluster.stores[&gone].shards().unwrap(), []);
    eventually("the new voters", || (leader.leadership().voters == voters).then_some(())).await;
    assert!(leader.leadership().learners.is_empty());
    leader.transfer_leadership(NodeId(4)).await.unwrap();
    assert_eq!(offset(&cluster.append(SHARD, b"y").await), 50);
    cluster.converge(SHARD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_log_does_not_take_the_leader_with_it() {
    let mut cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for _ in 0..20 {
        cluster.append(SHARD, b"x").await;
    }
    cluster.converge(SHARD).await;
    let leader = cluster.leader(SHARD).await;
    let robbed = cluster.nodes.keys().copied().find(|id| *id != leader).unwrap();
    cluster.kill(robbed);
    cluster.stores.insert(robbed, Arc::new(MemoryStore::new(identity(robbed))) as Arc<dyn Store>);
    cluster.revive(robbed).await;
    cluster.host(robbed).start_shard(SHARD, Kind::Partition, None).await.unwrap();
    eventually("an alarm", || {
        cluster.nodes[&leader].witness.reverted.lock().unwrap().contains(&robbed).then_some(())
    })
    .await;
    assert_eq!(offset(&cluster.append(SHARD, b"y").await), 20);
    assert_eq!(cluster.leader(SHARD).await, leader);
    assert!(cluster.nodes[&leader].witness.fatal.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_shard_stops_alone() {
    let cluster = Cluster::start(3, config()).await;
    let other = flotilla_types::ShardId(SHARD.0 + 1);
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.start_shard(other, &[1, 2, 3]).await;
    cluster.append(SHARD, b"x").await;
    // An audit that no replica agrees with breaks its leader, then whoever leads next; with two of three gone
    // the last one never hears that it was committed.
    for _ in 0..4200 {
        let leader = cluster.shard(cluster.leader(SHARD).await, SHARD);
        drop(leader.propose(command(b"x"), Bytes::from_static(b"x")));
    }
    cluster.append(SHARD, b"x").await;
    let bad = Command::Audit { at: flotilla_types::LogIndex(4096), chain: 7 };
    let leader = cluster.shard(cluster.leader(SHARD).await, SHARD);
    let outcome = leader.propose(bad, Bytes::new()).await;
    assert!(outcome.is_err_and(|error| error.is_indefinite()));
    eventually("alarms", || {
        let broken = |node: &&harness::Node| !node.witness.broken.lock().unwrap().is_empty();
        (cluster.nodes.values().filter(broken).count() >= 2).then_some(())
    })
    .await;
    let refused = leader.propose(command(b"x"), Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(flotilla_raft::ProposeError::Broken { .. })), "{refused:?}");
    for node in cluster.nodes.values() {
        assert!(node.witness.fatal.lock().unwrap().is_empty());
    }
    assert_eq!(offset(&cluster.append(other, b"z").await), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_writing_ends_the_process_and_nothing_acknowledged_is_lost() {
    let stores: Vec<_> = (1..=3).map(|id| Arc::new(MemoryStore::new(identity(NodeId(id))))).collect();
    let by_id = |store: &Arc<MemoryStore>| (store.identity().node, store.clone() as Arc<dyn Store>);
    let mut cluster = Cluster::start_with(config(), stores.iter().map(by_id).collect(), 1).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for _ in 0..10 {
        cluster.append(SHARD, b"x").await;
    }
    let leader = cluster.leader(SHARD).await;
    let store = &stores[leader.0 as usize - 1];
    store.fail("the disk is gone");
    let unknown = cluster.shard(leader, SHARD).propose(command(b"y"), Bytes::from_static(b"y")).await;
    eventually("the end of the process", || {
        cluster.nodes[&leader].witness.fatal.lock().unwrap().first().cloned()
    })
    .await;
    // Its followers had it, so it may have been committed; it was not said to be refused.
    assert!(unknown.as_ref().is_ok() || unknown.as_ref().is_err_and(|e| e.is_indefinite()), "{unknown:?}");
    cluster.kill(leader);
    store.crash();
    let next = offset(&cluster.append(SHARD, b"z").await);
    assert!((10..=11).contains(&next), "{next}");
    cluster.revive(leader).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.converge(SHARD).await;
}
