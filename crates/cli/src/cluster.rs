//! `flotilla cluster`.

use crate::args::{OutputArgument, duration};
use crate::exit::Failed;
use crate::output::{Column, Output, Shape, helped, print, print_one};
use crate::session::Session;
use crate::topics::{PARTITION, partition_row};
use clap::{Args, Subcommand};
use flotilla_client::admin::{Health, HealthStatus};
use flotilla_client::{Client, PartitionFilter};
use flotilla_types::{NodeId, PartitionId};
use serde_json::{Value, json};
use std::time::Duration;

/// `flotilla cluster`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the cluster is; exit code 10 if it is unhealthy
    Health(HealthArguments),
    /// The nodes
    Nodes {
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// Partitions with leaders and replicas
    Partitions {
        /// Only those without a leader
        #[arg(long, conflicts_with_all = ["under_replicated", "node"])]
        leaderless: bool,
        /// Only those with a replica that is away or behind
        #[arg(long, conflicts_with = "node")]
        under_replicated: bool,
        /// Only those with a replica on this node
        #[arg(long, value_name = "N")]
        node: Option<u32>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// Move a partition's leadership
    TransferLeader {
        /// The topic
        #[arg(add = crate::completion::topics())]
        topic: String,
        /// The partition
        partition: u32,
        /// To this node (else the cluster chooses)
        #[arg(long, value_name = "NODE")]
        to: Option<u32>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
}

/// `flotilla cluster health`.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// Look again all the time
    #[arg(long)]
    watch: bool,
    /// Look until the cluster is healthy, then stop
    #[arg(long)]
    exit_when_healthy: bool,
    /// Stop looking after this; exit code 10 if the cluster is not healthy by then
    #[arg(long, value_parser = duration, value_name = "TIME")]
    timeout: Option<Duration>,
    #[command(flatten)]
    output: OutputArgument,
}

impl Command {
    /// How the answer is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::Health(arguments) => arguments.output.output,
            Self::Nodes { output }
            | Self::Partitions { output, .. }
            | Self::TransferLeader { output, .. } => output.output,
        }
    }
}

const HEALTH: Shape = Shape {
    what: "a check (in JSON: the cluster's status with its checks)",
    columns: &[
        Column::new("name", "what was looked at"),
        Column::new("status", "HEALTHY, DEGRADED or UNHEALTHY"),
        Column::new("detail", "for people"),
        Column::wide("partitions", "partitions it concerns"),
    ],
};

const NODE: Shape = Shape {
    what: "a node",
    columns: &[
        Column::new("node_id", "its id"),
        Column::new("endpoint", "where clients find it"),
        Column::new("rack_id", "where it stands"),
        Column::new("online", "whether it answers the others"),
        Column::new("controller", "whether it leads the controller"),
        Column::wide("draining", "whether its replicas are being moved away"),
        Column::wide("version", "what it runs"),
        Column::wide("cluster_id", "its cluster"),
    ],
};

/// How often a watch looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs the command.
pub async fn run(session: &Session, command: Command) -> Result<(), Failed> {
    let output = command.output();
    match command {
        Command::Health(arguments) => health(session, &arguments).await,
        Command::Nodes { .. } => {
            if helped(output, &NODE)? {
                return Ok(());
            }
            let cluster = session.client().await?.admin().cluster().await?;
            let rows = cluster.nodes.iter().map(|node| {
                json!({
                    "node_id": node.node, "endpoint": node.endpoint, "rack_id": node.rack_id,
                    "version": node.version, "online": node.online, "draining": node.draining,
                    "controller": cluster.controller == Some(node.node), "cluster_id": cluster.cluster_id,
                })
            });
            print(output, &NODE, rows.collect())
        }
        Command::Partitions { leaderless, under_replicated, node, .. } => {
            if helped(output, &PARTITION)? {
                return Ok(());
            }
            let filter = match node {
                Some(node) => PartitionFilter::OnNode(NodeId(node)),
                None if leaderless => PartitionFilter::Leaderless,
                None if under_replicated => PartitionFilter::UnderReplicated,
                None => PartitionFilter::All,
            };
            let partitions = session.client().await?.admin().partitions(filter).await?;
            print(output, &PARTITION, partitions.iter().map(partition_row).collect())
        }
        Command::TransferLeader { topic, partition, to, .. } => {
            if helped(output, &PARTITION)? {
                return Ok(());
            }
            let admin = session.client().await?.admin();
            let state = admin.transfer_leadership(&topic, PartitionId(partition), to.map(NodeId)).await?;
            print_one(output, &PARTITION, partition_row(&state))
        }
    }
}

async fn health(session: &Session, arguments: &HealthArguments) -> Result<(), Failed> {
    let output = arguments.output.output;
    if helped(output, &HEALTH)? {
        return Ok(());
    }
    let begun = session.clock.monotonic();
    let again = arguments.watch || arguments.exit_when_healthy;
    let timeout = arguments.timeout;
    let mut client = None;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(session.clock.monotonic().since(begun)));
        let looked = tokio::time::timeout(left.unwrap_or(Duration::MAX), look(session, &mut client)).await;
        let late = left.is_some_and(|left| left <= LOOK_EVERY);
        let health = match looked {
            Ok(Ok(health)) => health,
            // A cluster that does not answer yet is what somebody may be waiting for.
            Ok(Err(error)) if again && !late => {
                if session.shows_progress() {
                    eprintln!("waiting: {error}");
                }
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Ok(Err(error)) if again => return Err(Failed::Unhealthy(error.to_string())),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(Failed::Unhealthy(format!("no answer within {:?}", timeout.unwrap_or_default())));
            }
        };
        let healthy = health.status == HealthStatus::Healthy;
        let done = !again || late || (arguments.exit_when_healthy && healthy);
        if done || arguments.watch {
            show(output, &health)?;
        }
        if done {
            let fine =
                if arguments.exit_when_healthy { healthy } else { health.status != HealthStatus::Unhealthy };
            return if fine {
                Ok(())
            } else {
                Err(Failed::Unhealthy(format!("cluster is {}", health.status.name())))
            };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(session: &Session, client: &mut Option<Client>) -> Result<Health, Failed> {
    let known = match client.take() {
        Some(known) => known,
        None => session.client().await?,
    };
    Ok(client.insert(known).admin().health().await?)
}

fn show(output: Output, health: &Health) -> Result<(), Failed> {
    let checks: Vec<Value> = health
        .checks
        .iter()
        .map(|check| {
            let partitions = check.partitions.iter().map(|(t, p)| json!({ "topic": t, "partition": p }));
            json!({
                "name": check.name, "status": check.status.name(), "detail": check.detail,
                "partitions": partitions.collect::<Vec<_>>(),
            })
        })
        .collect();
    match output {
        Output::Json | Output::Jsonl | Output::Yaml => {
            print_one(output, &HEALTH, json!({ "status": health.status.name(), "checks": checks }))
        }
        _ => {
            if output == Output::Table || output == Output::Wide {
                println!("{}", health.status.name());
            }
            print(output, &HEALTH, checks)
        }
    }
}
