//! The `flotilla` command: topics, records, groups, the cluster, load.
//!
//! `flotilla NOUN VERB [NAME...] [flags]`. Data goes to stdout, everything else (progress, hints, errors)
//! to stderr. One printer writes every answer, as table, JSON, YAML or CSV with the contract's field
//! names; [`exit`] lists the exit codes.
//!
//! Start with [`args`], the whole command line in one tree, then [`output`]. `load/` is the load
//! generator and its checks.
//!
//! This crate does not know the wire: it says everything through the client library.
//!
//! # Invariants
//!
//! - A list without items prints as `[]` in JSON, never as `null` (`output::tests`).
//! - What deletes asks first on a terminal, and refuses elsewhere without `--yes` (`confirm`).
//! - A record is committed for a group after its line is written and flushed (`member`).
//! - A load test fails when an acknowledged record is lost, repeated or out of order (`load::check::tests`).

pub mod args;
pub mod cluster;
pub mod completion;
pub mod confirm;
pub mod consume;
pub mod encoding;
pub mod exit;
pub mod format;
pub mod groups;
pub mod input;
pub mod load;
pub mod member;
pub mod offset;
pub mod output;
pub mod produce;
pub mod profile;
pub mod progress;
pub mod session;
pub mod topics;

use clap::Parser;
use exit::Failed;
use std::process::ExitCode;

/// Runs the command line and says how the process should end.
pub fn main() -> ExitCode {
    completion::answer_shell();
    let cli = args::Cli::parse();
    let output = cli.command.output();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failed::from(error).report(output),
    };
    let ended = runtime.block_on(run(cli));
    // Nothing that was promised waits any more; a blocked read of stdin must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(output),
    }
}

async fn run(cli: args::Cli) -> Result<(), Failed> {
    use args::Command;
    let session = session::Session::new(cli.global);
    match cli.command {
        Command::Topic(command) => topics::run(&session, command).await,
        Command::Produce(arguments) => produce::run(&session, arguments).await,
        Command::Consume(arguments) => consume::run(&session, arguments).await,
        Command::Tail(arguments) => consume::tail(&session, arguments).await,
        Command::Group(command) => groups::run(&session, command).await,
        Command::Cluster(command) => cluster::run(&session, command).await,
        Command::Bench(command) => load::run(&session, command).await,
        Command::Profile(command) => profile::run(&session, command),
        Command::Completion(arguments) => completion::run(&arguments),
    }
}
