//! `flotilla group`.

mod lag;
mod seek;

use crate::args::{OutputArgument, duration};
use crate::confirm::confirm;
use crate::exit::Failed;
use crate::output::{Column, Output, Shape, helped, print, print_one};
use crate::session::Session;
use clap::Subcommand;
use flotilla_client::groups::admin::{Finding, Group, Member};
use flotilla_client::groups::{State, TopicPartition};
use flotilla_types::TimestampMs;
use serde_json::{Value, json};
use std::time::Duration;

/// `flotilla group`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All groups
    List {
        /// Only those in this state: empty, assigning, reconciling, stable
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Only those that read this topic
        #[arg(long, add = crate::completion::topics())]
        topic: Option<String>,
        /// Only those that are so far behind, in records: '>1000'
        #[arg(long, value_parser = lag::Records::parse, value_name = "'>N'")]
        lag: Option<lag::Records>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// One group
    Describe {
        /// Its name
        #[arg(add = crate::completion::groups())]
        group: String,
        /// Its members instead of its state
        #[arg(short = 'm', long)]
        members: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// How far groups are behind, in records and in time
    Lag(lag::Arguments),
    /// Move a group's committed offsets, also while members read
    Seek(seek::Arguments),
    /// Pause a group, or let it go on
    Update {
        /// Its name
        #[arg(add = crate::completion::groups())]
        group: String,
        /// Give its members nothing for so long: 10m
        #[arg(long, value_parser = duration, value_name = "TIME", required_unless_present = "resume")]
        pause: Option<Duration>,
        /// Let it go on
        #[arg(long, conflicts_with = "pause")]
        resume: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// Delete a group with its committed offsets
    Delete {
        /// Its name
        #[arg(add = crate::completion::groups())]
        group: String,
        /// Also if it has members; they lose their partitions
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// It is fine if there is no such group
        #[arg(long)]
        if_exists: bool,
    },
    /// Why a group does not advance
    Explain {
        /// Its name
        #[arg(add = crate::completion::groups())]
        group: String,
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
}

impl Command {
    /// How the answer is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::List { output, .. }
            | Self::Describe { output, .. }
            | Self::Update { output, .. }
            | Self::Explain { output, .. } => output.output,
            Self::Lag(arguments) => arguments.output.output,
            Self::Seek(arguments) => arguments.output.output,
            Self::Delete { .. } => Output::Table,
        }
    }
}

const GROUP: Shape = Shape {
    what: "a group",
    columns: &[
        Column::new("group_id", "its name"),
        Column::new("state", "EMPTY, ASSIGNING, RECONCILING or STABLE"),
        Column::new("member_count", "how many members it has"),
        Column::new("topics", "what they read"),
        Column::new("lag", "records to be read, where that was counted"),
        Column::new("group_epoch", "rises with every change"),
        Column::wide("assignment_epoch", "the group epoch of the present target"),
        Column::wide("assignor", "who decides who gets what"),
        Column::wide("topic_regex", "the pattern they subscribe by"),
        Column::new("coordinator_node_id", "who keeps it"),
        Column::wide("paused_until", "paused until then"),
    ],
};

const MEMBER: Shape = Shape {
    what: "a member",
    columns: &[
        Column::new("member_id", "its id"),
        Column::new("instance_id", "its static name"),
        Column::new("client_id", "as it calls itself"),
        Column::new("peer_address", "where it calls from"),
        Column::new("state", "STABLE, UNREVOKED_PARTITIONS or UNRELEASED_PARTITIONS"),
        Column::new("member_epoch", "the epoch it has reached"),
        Column::new("assigned", "what it owns"),
        Column::wide("target", "what it should own"),
        Column::wide("topics", "what it reads"),
        Column::wide("rack_id", "where it stands"),
        Column::wide("last_heartbeat", "when it was last heard of"),
    ],
};

const FINDING: Shape = Shape {
    what: "a reason why a group does not advance",
    columns: &[
        Column::new("topic", "the topic, absent = the whole group"),
        Column::new("partition", "the partition"),
        Column::new("cause", "NO_MEMBERS, UNREVOKED, NO_LEADER and so on"),
        Column::new("detail", "for people"),
        Column::new("since", "since when"),
    ],
};

/// Runs the command.
pub async fn run(session: &Session, command: Command) -> Result<(), Failed> {
    let output = command.output();
    match command {
        Command::List { state, topic, lag, .. } => {
            if helped(output, &GROUP)? {
                return Ok(());
            }
            let filter = filter(state.as_deref(), topic.as_deref(), lag);
            let groups = session.client().await?.admin().groups(&filter).await?;
            print(output, &GROUP, groups.iter().map(group_row).collect())
        }
        Command::Describe { group, members, .. } => {
            if helped(output, if members { &MEMBER } else { &GROUP })? {
                return Ok(());
            }
            let group = session.client().await?.admin().group(&group).await?;
            if members {
                return print(output, &MEMBER, group.members.iter().map(member_row).collect());
            }
            let mut row = group_row(&group);
            row["members"] = group.members.iter().map(member_row).collect();
            row["positions"] =
                group.positions.iter().map(|p| lag::position_row(&group.group_id, p)).collect();
            print_one(output, &GROUP, row)
        }
        Command::Lag(arguments) => lag::run(session, &arguments).await,
        Command::Seek(arguments) => seek::run(session, &arguments).await,
        Command::Update { group, pause, .. } => {
            if helped(output, &GROUP)? {
                return Ok(());
            }
            let until = pause.map(|pause| session.clock.wall() + pause.as_millis() as TimestampMs);
            let group = session.client().await?.admin().pause_group(&group, until).await?;
            print_one(output, &GROUP, group_row(&group))
        }
        Command::Delete { group, force, yes, if_exists } => {
            confirm(&format!("delete group {group} with its committed offsets"), yes)?;
            match session.client().await?.admin().delete_group(&group, force).await {
                Err(error) if if_exists && Failed::from(error.clone()).code() == 3 => Ok(()),
                ended => Ok(ended?),
            }
        }
        Command::Explain { group, .. } => {
            if helped(output, &FINDING)? {
                return Ok(());
            }
            let findings = session.client().await?.admin().explain_group(&group).await?;
            if findings.is_empty() && session.shows_progress() {
                eprintln!("group {group}: nothing holds it up");
            }
            print(output, &FINDING, findings.iter().map(finding_row).collect())
        }
    }
}

/// The contract's filter.
fn filter(state: Option<&str>, topic: Option<&str>, lag: Option<lag::Records>) -> String {
    let parts = [
        state.map(|state| format!("state={}", state.to_uppercase())),
        topic.map(|topic| format!("topic={topic}")),
        lag.map(|lag| format!("lag{lag}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A time as every answer prints it.
fn time(ms: Option<TimestampMs>) -> Value {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map_or(Value::Null, |t| json!(t.to_string()))
}

fn named(partitions: &[TopicPartition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}

fn group_row(group: &Group) -> Value {
    let counted = group.positions.iter().map(|p| p.lag).reduce(|a, b| a + b);
    json!({
        "group_id": group.group_id,
        "state": group.state.name(),
        "member_count": group.member_count,
        "topics": group.topics,
        "topic_regex": group.topic_regex,
        "lag": group.lag.or(counted),
        "group_epoch": group.group_epoch,
        "assignment_epoch": group.assignment_epoch,
        "assignor": group.assignor,
        "coordinator_node_id": group.coordinator,
        "paused_until": time(group.paused_until),
    })
}

fn member_row(member: &Member) -> Value {
    json!({
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "peer_address": member.peer_address,
        "rack_id": member.rack_id,
        "state": member.state.name(),
        "member_epoch": member.member_epoch,
        "assigned": named(&member.assigned),
        "target": named(&member.target),
        "topics": member.topics,
        "last_heartbeat": time(member.last_heartbeat),
    })
}

fn finding_row(finding: &Finding) -> Value {
    json!({
        "topic": finding.topic,
        "partition": finding.partition,
        "cause": finding.cause,
        "detail": finding.detail,
        "since": time(finding.since),
    })
}

/// A member's own state, for people.
pub(crate) const fn state_name(state: State) -> &'static str {
    match state {
        State::Unsubscribed => "not a member",
        State::Joining => "joining",
        State::Reconciling | State::Acknowledging => "reconciling",
        State::Stable => "stable",
        State::Fenced => "fenced",
        State::PreparingToLeave | State::Leaving => "leaving",
        State::Stale => "stale",
        State::Fatal => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_the_contracts() {
        assert_eq!(filter(None, None, None), "");
        let lag = lag::Records::parse(">1000").unwrap();
        assert_eq!(filter(Some("stable"), Some("orders"), Some(lag)), "state=STABLE topic=orders lag>1000");
    }
}
