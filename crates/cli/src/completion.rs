//! `flotilla completion`: the script that makes a shell ask this command what comes next. Names of topics
//! and groups come from the cluster that the environment or the current profile names.

use crate::args::{Cli, Global};
use crate::exit::Failed;
use crate::session::Session;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use flotilla_client::Admin;
use std::time::Duration;

/// `flotilla completion`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell. For bash: source <(flotilla completion bash)
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

const VARIABLE: &str = "COMPLETE";
/// Nobody waits longer for a suggestion.
const PATIENCE: Duration = Duration::from_millis(800);

/// Answers and ends the process if the shell is asking.
pub fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Prints the script.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let name = match arguments.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).ok_or_else(|| Failed::Other(format!("no completion for {name}")))?;
    Ok(shell.write_registration(VARIABLE, "flotilla", "flotilla", "flotilla", &mut std::io::stdout())?)
}

/// The topics there are.
pub fn topics() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        names(async |admin: Admin| Ok(admin.topics().await?.into_iter().map(|topic| topic.topic).collect()))
    })
}

/// The groups there are.
pub fn groups() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        names(async |admin: Admin| {
            Ok(admin.groups("").await?.into_iter().map(|group| group.group_id).collect())
        })
    })
}

fn names(ask: impl AsyncFnOnce(Admin) -> flotilla_client::Result<Vec<String>>) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let asked = async {
        let global = Global {
            endpoints: std::env::var("FLOTILLA_ENDPOINTS").ok().filter(|list| !list.is_empty()),
            profile: std::env::var("FLOTILLA_PROFILE").ok().filter(|name| !name.is_empty()),
            set: Vec::new(),
            no_progress: true,
        };
        let client = Session::new(global).client().await.ok()?;
        ask(client.admin()).await.ok()
    };
    let names = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok().flatten() });
    names.unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}
