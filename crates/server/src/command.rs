//! The command line, and what each form of it does.

use crate::config::{Config, LoadError, Overrides, load};
use crate::exit;
use crate::node::Node;
use crate::shutdown::Signals;
use clap::Parser;
use flotilla_broker::store::OpenMode;
use std::io::Write as _;
use std::path::PathBuf;

/// A node of a Flotilla cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "flotilla-server", version, about)]
pub struct Arguments {
    /// The configuration file; deploy/config/node.toml shows every setting
    #[arg(long, value_name = "FILE", env = "FLOTILLA_CONFIG")]
    pub config: Option<PathBuf>,

    /// Make a new store in an empty data directory. Without it an empty directory is refused: it may be
    /// a disk that was lost, or not mounted
    #[arg(long)]
    pub init: bool,

    /// Print the effective settings as TOML, secrets masked, and end
    #[arg(long)]
    pub check_config: bool,

    /// One node for trying things out: no configuration needed, replication factor 1, data in --data-dir or
    /// a new temporary directory
    #[arg(long, conflicts_with = "init")]
    pub dev: bool,

    /// Where everything is kept (data_dir)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Any setting, as in the file: --set limits.connections=100 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Does what the command line says; the process's exit code.
pub fn run(arguments: Arguments) -> u8 {
    let config = match settings(&arguments) {
        Ok(config) => config,
        Err(error) => return refused(&error.to_string(), exit::USAGE),
    };
    if arguments.check_config {
        print!("{}", config.to_toml());
        return exit::CLEAN;
    }
    if let Err(why) = crate::telemetry::start(&config.log) {
        return refused(&why, exit::USAGE);
    }
    exit::on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("server").enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config, &arguments));
            // Whatever still blocks has nothing left to say.
            runtime.shutdown_background();
            code
        }
        Err(error) => refused(&format!("cannot start: {error}"), exit::FAILED),
    }
}

fn settings(arguments: &Arguments) -> Result<Config, LoadError> {
    let overrides = Overrides { set: arguments.settings.clone(), data_dir: arguments.data_dir.clone() };
    // Variables that are not text cannot be ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut config = load(arguments.config.as_deref(), environment, &overrides)?;
    if arguments.dev {
        let given = arguments.data_dir.is_some() || arguments.config.is_some();
        let directory = if given { config.data_dir.clone() } else { temporary_directory() };
        config = config.dev(directory);
    }
    config.check()?;
    Ok(config)
}

/// A name that is free now. The store makes the directory.
fn temporary_directory() -> PathBuf {
    let id = uuid::Uuid::new_v4().simple().to_string();
    std::env::temp_dir().join(format!("flotilla-dev-{}", &id[..8]))
}

async fn serve(config: Config, arguments: &Arguments) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return refused(&format!("cannot take signals: {error}"), exit::FAILED),
    };
    let mode = if arguments.init || arguments.dev { OpenMode::Init } else { OpenMode::Existing };
    let data = config.data_dir.clone();
    let node = tokio::select! {
        started = Node::start(config, mode) => match started {
            Ok(node) => node,
            Err(error) => {
                tracing::error!("{error}");
                return refused(&error.to_string(), exit::FAILED);
            }
        },
        name = signals.next() => return refused(&format!("{name} during start"), exit::FAILED),
    };
    if arguments.dev {
        announce(&node, &data);
    }
    let name = signals.next().await;
    tracing::info!("{name}: stopping; once more ends the process at once");
    tokio::select! {
        () = node.stop() => {
            tracing::info!("stopped");
            exit::CLEAN
        }
        name = signals.next() => {
            tracing::warn!("{name} again: ending without handing anything over");
            exit::now(exit::FAILED)
        }
    }
}

fn announce(node: &Node, data: &std::path::Path) {
    let addresses = &node.addresses;
    let text = format!(
        "flotilla node 1, for development: one node, replication factor 1\n  \
         clients  {}\n  http     http://{}\n  data     {}\n",
        addresses.client,
        addresses.http,
        data.display()
    );
    // Nobody may read it; the node serves all the same.
    std::io::stdout().write_all(text.as_bytes()).ok();
    std::io::stdout().flush().ok();
}

fn refused(why: &str, code: u8) -> u8 {
    eprintln!("flotilla-server: {why}");
    code
}
