//! A few nodes that know each other, on loopback addresses of their own.

use crate::node::Node;
use crate::wire::Wire;
use parking_lot::{Mutex, MutexGuard};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// Longest wait for a node to become ready, RocksDB's recovery included.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// Nodes 1 to N. Dropped, it kills them; logs and data stay on disk if the test failed, and their path is
/// printed.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of their ids.
    pub nodes: Vec<Node>,
    directory: Option<TempDir>,
    _turn: MutexGuard<'static, ()>,
}

/// One cluster at a time in one test program: tests measure, and share the machine.
static TURN: Mutex<()> = Mutex::new(());

impl Cluster {
    /// Nodes that do not run yet. `settings` is TOML that is added to each node's configuration: top-level
    /// keys are not possible, tables are.
    pub fn new(count: u32, settings: &str) -> Self {
        Self::with_data(count, settings, |_| None)
    }

    /// As [`Cluster::new`], with data directories elsewhere.
    pub fn with_data(count: u32, settings: &str, data: impl Fn(u32) -> Option<PathBuf>) -> Self {
        let turn = TURN.lock();
        let directory =
            tempfile::Builder::new().prefix("flotilla-test-").tempdir().expect("temporary directory");
        let network = own_network();
        let cluster_id = Uuid::new_v4();
        let mut nodes: Vec<Node> = (1..=count)
            .map(|id| {
                let place = directory.path().join(format!("node-{id}"));
                std::fs::create_dir(&place).expect("within a new directory");
                Node::new(id, format!("{network}.{id}"), place)
            })
            .collect();
        let mut members = String::new();
        for n in &nodes {
            let (id, peer, client) = (n.id, n.peer(), n.client());
            members += &format!("  {{ node_id = {id}, peer = \"{peer}\", client = \"{client}\" }},\n");
        }
        for node in &mut nodes {
            if let Some(elsewhere) = data(node.id) {
                node.data = elsewhere;
            }
            let text = format!(
                "node_id = {}\ncluster_id = \"{cluster_id}\"\ndata_dir = \"{}\"\ninitial_nodes = [\n{members}]\n\n\
                 [listen]\nclient = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\n\n{settings}\n",
                node.id,
                node.data.display(),
                node.client(),
                node.peer(),
                node.http(),
            );
            std::fs::write(node.config(), text).expect("within a new directory");
        }
        Self { nodes, directory: Some(directory), _turn: turn }
    }

    /// Starts every node and waits until all are ready.
    pub async fn start(count: u32, settings: &str) -> Self {
        let mut cluster = Self::new(count, settings);
        cluster.start_all().await;
        cluster
    }

    /// Starts the nodes that do not run and waits until all are ready.
    pub async fn start_all(&mut self) {
        for node in &mut self.nodes {
            if !node.runs() {
                node.kill();
                node.start();
            }
        }
        for node in &mut self.nodes {
            node.wait_ready(START_LIMIT).await;
        }
    }

    /// Where clients connect.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::client).collect()
    }

    /// Who leads a partition by the newest news of all nodes that run.
    pub async fn leader(&mut self, topic: &str, partition: i32) -> u32 {
        for _ in 0..1000 {
            let mut newest = None;
            for node in &mut self.nodes {
                if node.runs() {
                    newest = newest.max(Wire::to(&node.client()).leadership(topic, partition).await);
                }
            }
            if let Some((_, node)) = newest {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{topic}/{partition} has no leader after 20 s");
    }

    /// By its id.
    pub fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// Where configuration, logs and, by default, data are.
    pub fn path(&self) -> &Path {
        self.directory.as_ref().expect("present until dropped").path()
    }

    /// Asserts that every node runs and printed no word of a panic or a failed assertion.
    pub fn assert_healthy(&mut self) {
        for node in &mut self.nodes {
            assert!(node.runs(), "node {} does not run\n{}", node.id, node.log_end());
            let log = std::fs::read(node.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let bad = log.lines().find(|line| line.contains("panicked at") || line.contains("assertion"));
            assert!(bad.is_none(), "node {} printed: {}", node.id, bad.unwrap_or_default());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("configuration, logs and data of the nodes: {}", directory.keep().display());
        }
    }
}

/// The first three parts of addresses that no other cluster on this machine uses: loopback has 16 million.
fn own_network() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    // 64 clusters of a process, 1,000 neighbouring processes.
    let number = (process % 1000) * 64 + count % 64;
    format!("127.{}.{}", 1 + number / 256, number % 256)
}
