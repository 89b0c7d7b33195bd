//! The whole command line, in one tree.

use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use std::time::Duration;

/// Topics, records and the state of a Flotilla cluster.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, about, max_term_width = 100, infer_subcommands = false)]
#[command(
    after_help = "Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 permission, 5 conflict or fenced, \
    6 timeout, 7 unavailable, 8 throttled, 10 unhealthy, 130 interrupted."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Nodes to begin with, host:port,host:port (else the profile's, else 127.0.0.1:7401)
    #[arg(long, global = true, env = "FLOTILLA_ENDPOINTS", value_name = "LIST", help_heading = "Cluster")]
    pub endpoints: Option<String>,
    /// The profile to use (else the current one)
    #[arg(long, global = true, env = "FLOTILLA_PROFILE", value_name = "NAME", help_heading = "Cluster")]
    pub profile: Option<String>,
    /// A setting for this call: endpoints, connect_timeout, call_timeout
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE", help_heading = "Cluster")]
    pub set: Vec<String>,
    /// No progress lines on stderr
    #[arg(long, global = true, help_heading = "Cluster")]
    pub no_progress: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List, make, change, delete topics
    #[command(subcommand)]
    Topic(crate::topics::Command),
    /// Send records from stdin or a file
    Produce(crate::produce::Arguments),
    /// Print records
    Consume(crate::consume::Arguments),
    /// Print the last records and what comes
    Tail(crate::consume::TailArguments),
    /// Consumer groups: members, lag, offsets
    #[command(subcommand)]
    Group(crate::groups::Command),
    /// Health, nodes, partitions, leaders
    #[command(subcommand)]
    Cluster(crate::cluster::Command),
    /// Measure under load, and check that nothing is lost, repeated or out of order
    #[command(subcommand)]
    Bench(crate::load::Command),
    /// Clusters this command knows by name
    #[command(subcommand)]
    Profile(crate::profile::Command),
    /// Print the shell's completion script
    Completion(crate::completion::Arguments),
}

impl Command {
    /// How the answer, or the error, is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::Topic(command) => command.output(),
            Self::Produce(arguments) => arguments.output.output,
            Self::Consume(arguments) => arguments.reading.output,
            Self::Tail(arguments) => arguments.reading.output,
            Self::Group(command) => command.output(),
            Self::Cluster(command) => command.output(),
            Self::Bench(command) => command.output(),
            Self::Profile(command) => command.output(),
            Self::Completion(_) => Output::Table,
        }
    }
}

/// `-o`, for every command that does not mean an offset by it.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgument {
    /// How to print; help prints the shape
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Reads `500ms`, `30s`, `10m`, `12h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    flotilla_types::duration::parse(text)
}

/// Reads `64MiB`, `1GiB`, `500`.
pub fn size(text: &str) -> Result<flotilla_types::bytesize::ByteSize, String> {
    text.parse()
}

/// Reads `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_holds_for_members_is_refused_without_a_group() {
        for flag in ["--commit-interval 1s", "--instance-id a", "--assignor range", "--regex"] {
            let line = format!("flotilla consume orders {flag}");
            let refused = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(refused.contains("--group"), "{line}: {refused}");
        }
    }

    #[test]
    fn flags_mean_what_the_pages_say() {
        for line in [
            "flotilla topic create orders --partitions 6 --replication-factor 3 --retention 7d -o json",
            "flotilla produce orders -k k -H a=b -p 2 --compression zstd --no-progress",
            "flotilla consume orders -o -10 -n 5 -f %v",
            "flotilla consume orders payments -o @-1h --until-end",
            "flotilla tail orders --endpoints h:1",
            "flotilla consume orders -g billing --instance-id a --assignor range -o end -n 5",
            "flotilla consume ^orders-.* -g billing --regex -o fail --commit-interval 1s",
            "flotilla group list --state stable --topic orders --lag >1000 -o json",
            "flotilla group describe billing -m",
            "flotilla group lag --by topic --lag >0 --time-lag >30s",
            "flotilla group lag billing shipping -o csv",
            "flotilla group seek billing --to -10 --topic orders -p 0,1 --dry-run",
            "flotilla group seek billing --to group:shipping --yes",
            "flotilla group update billing --pause 10m",
            "flotilla group delete billing --force --yes --if-exists",
            "flotilla group explain billing -o yaml",
            "flotilla cluster health --watch --exit-when-healthy --timeout 60s",
            "flotilla cluster partitions --under-replicated -o wide",
            "flotilla bench e2e load --rate 1000 --duration 5s --warm-up 1s -o json",
            "flotilla bench produce load --rate 0 --window 1 --partitions 12 --replication-factor 3 --in-flight 1",
            "flotilla bench failover load --kill true --kills 2 --kill-every 1s --restore true --max-gap 300ms",
            "flotilla profile use local -X endpoints=a:1",
            "flotilla completion zsh",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
        }
    }
}
