//! What a leader may do after it starts again without entries that it had sent but not synced.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_raft::store::{MemoryStore, Store};
use flotilla_types::NodeId;
use harness::{Cluster, SHARD, command, config, eventually, identity, offset, offset_of};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LEADER: NodeId = NodeId(1);

/// Writes what is queued, until it is told to stop.
async fn write_until(store: Arc<MemoryStore>, stuck: Arc<AtomicBool>) {
    loop {
        store.wait_for_writes().await;
        if stuck.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            store.commit();
        }
    }
}

/// The leader's disk hangs; its followers have and acknowledge what it sends, so it is acknowledged. Then the
/// leader loses power and is back before its lease is over. Were it to go on in its old term, its next entry
/// would bear the log id of one that the followers hold, with another content, and nobody would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_leader_does_not_resume_its_term_over_entries_that_it_lost() {
    let disk = Arc::new(MemoryStore::manual(identity(LEADER)));
    let stuck = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write_until(disk.clone(), stuck.clone()));
    let mut stores: BTreeMap<NodeId, Arc<dyn Store>> =
        [2, 3].map(NodeId).map(|id| (id, Arc::new(MemoryStore::new(identity(id))) as Arc<dyn Store>)).into();
    stores.insert(LEADER, disk.clone());
    let mut cluster = Cluster::start_with(config(), stores, 1).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    for number in 0..10 {
        assert_eq!(offset(&cluster.append(SHARD, b"synced everywhere").await), number);
    }
    assert_eq!(cluster.leader(SHARD).await, LEADER);
    cluster.converge(SHARD).await;
    let term = cluster.shard(LEADER, SHARD).leadership().term;

    stuck.store(true, Ordering::Release);
    let leader = cluster.shard(LEADER, SHARD);
    for number in 10..15 {
        let body = b"synced by the followers only";
        let outcome = leader.propose(command(body), Bytes::from_static(body)).await;
        assert_eq!(offset_of(outcome), number);
    }
    drop(leader);
    cluster.kill(LEADER);
    disk.crash();
    assert_eq!(disk.shard_marks(SHARD).unwrap().last.unwrap().term, term);
    stuck.store(false, Ordering::Release);
    cluster.revive(LEADER).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;

    let next = offset(&cluster.append(SHARD, b"after the restart").await);
    assert_eq!(next, 15, "an acknowledged record was written over");
    cluster.converge(SHARD).await;
    eventually("a new term", || {
        cluster.nodes.keys().all(|id| cluster.shard(*id, SHARD).leadership().term > term).then_some(())
    })
    .await;
    for node in cluster.nodes.values() {
        assert!(node.witness.fatal.lock().unwrap().is_empty());
        assert!(node.witness.broken.lock().unwrap().is_empty());
    }
    writer.abort();
}
