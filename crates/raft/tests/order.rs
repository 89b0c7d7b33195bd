//! Commands of one shard are applied in the order they were proposed, whatever happens to the leader's lease.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test's own clock and its answers")]

mod harness;

use bytes::Bytes;
use flotilla_raft::{Proposal, Shard};
use harness::{Cluster, SHARD, command, config, offset};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROUNDS: u32 = 3;

/// Proposes without waiting for answers, from a thread of its own, until it is told to stop.
fn pipeline(shard: Arc<Shard>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Proposal>> {
    std::thread::spawn(move || {
        let mut proposals = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..400 {
                proposals.push(shard.propose(command(b"x"), Bytes::from_static(b"x")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        proposals
    })
}

/// The leader is cut off until its lease is over, and back before anybody campaigns: some of what is on its
/// way is refused for the lease, some is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_keep_their_order_when_a_lease_lapses_and_returns() {
    let cluster = Cluster::start(3, config()).await;
    cluster.start_shard(SHARD, &[1, 2, 3]).await;
    cluster.append(SHARD, b"first").await;
    let (mut applied, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let leader = cluster.leader(SHARD).await;
        let stop = Arc::new(AtomicBool::new(false));
        let proposing = pipeline(cluster.shard(leader, SHARD), stop.clone());
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.isolate(leader);
        tokio::time::sleep(Duration::from_millis(700 + u64::from(round) * 40)).await;
        cluster.heal();
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.store(true, Ordering::Relaxed);
        let proposals = proposing.join().unwrap();
        let mut last = None;
        for (number, proposal) in proposals.into_iter().enumerate() {
            match proposal.await {
                Ok(outcome) => {
                    let now = Some(offset(&outcome));
                    assert!(
                        last < now,
                        "round {round}: command {number} has offset {now:?}, one before it {last:?}"
                    );
                    last = now;
                    applied += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
        cluster.converge(SHARD).await;
    }
    println!("{applied} applied, {refused} refused or lost");
    assert!(applied > 0);
}
