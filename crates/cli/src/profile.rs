//! Clusters by name, in `~/.config/flotilla/config.toml`:
//!
//! ```toml
//! current = "local"
//!
//! [profiles.local]
//! endpoints = ["127.0.0.1:7401", "127.0.0.1:7402"]
//! ```

use crate::args::OutputArgument;
use crate::exit::Failed;
use crate::output::{Column, Output, Shape, print};
use crate::session::Session;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `flotilla profile`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All profiles
    List {
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
    /// Make a profile the current one
    Use {
        /// Its name
        name: String,
    },
    /// Make or change a profile, with the endpoints of --endpoints
    Create {
        /// Its name
        name: String,
        /// Make it the current one
        #[arg(long)]
        r#use: bool,
    },
    /// The profile in use
    Current {
        #[command(flatten)]
        #[expect(missing_docs, reason = "said there")]
        output: OutputArgument,
    },
}

impl Command {
    /// How the answer is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::List { output } | Self::Current { output } => output.output,
            Self::Use { .. } | Self::Create { .. } => Output::Table,
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Used where nobody names another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Nodes to begin with, `host:port`.
    pub endpoints: Vec<String>,
}

impl Profiles {
    fn path() -> Result<PathBuf, Failed> {
        let directory = std::env::var_os("XDG_CONFIG_HOME").filter(|d| !d.is_empty()).map(PathBuf::from);
        let directory = directory.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
        let directory =
            directory.ok_or_else(|| Failed::Other("HOME is not set, so there are no profiles".to_owned()))?;
        Ok(directory.join("flotilla").join("config.toml"))
    }

    /// Reads the file; no file is no profiles.
    pub fn read() -> Result<Self, Failed> {
        match Self::path() {
            Ok(path) => Self::read_from(&path),
            Err(_) => Ok(Self::default()),
        }
    }

    fn read_from(path: &Path) -> Result<Self, Failed> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| Failed::Usage(format!("{}: {error}", path.display())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failed::Other(format!("{}: {error}", path.display()))),
        }
    }

    fn write(&self) -> Result<(), Failed> {
        let path = Self::path()?;
        let text = toml::to_string_pretty(self).map_err(|error| Failed::Other(error.to_string()))?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // Whole or not at all: another run may be reading.
        let beside = path.with_extension("toml.new");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(&beside, &path)?)
    }

    /// The profile of that name, or else the current one, if there is any.
    pub fn chosen(&self, name: Option<&str>) -> Result<Option<Profile>, Failed> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        match self.profiles.get(name) {
            Some(profile) => Ok(Some(profile.clone())),
            None => Err(Failed::NotFound(format!("profile {name:?} does not exist"))),
        }
    }
}

const SHAPE: Shape = Shape {
    what: "a profile",
    columns: &[
        Column::new("name", "its name"),
        Column::new("current", "whether it is the one in use"),
        Column::new("endpoints", "nodes to begin with"),
    ],
};

/// Runs the command.
pub fn run(session: &Session, command: Command) -> Result<(), Failed> {
    let mut all = Profiles::read()?;
    let row = |all: &Profiles, name: &String, profile: &Profile| json!({ "name": name, "current": all.current.as_ref() == Some(name), "endpoints": profile.endpoints });
    match command {
        Command::List { output } => print(
            output.output,
            &SHAPE,
            all.profiles.iter().map(|(name, profile)| row(&all, name, profile)).collect(),
        ),
        Command::Current { output } => {
            let name = session.profile_name().map(str::to_owned).or(all.current.clone());
            let name = name.ok_or_else(|| Failed::NotFound("no profile is in use".to_owned()))?;
            let profile = all.chosen(Some(&name))?.unwrap_or_default();
            crate::output::print_one(output.output, &SHAPE, row(&all, &name, &profile))
        }
        Command::Use { name } => {
            all.chosen(Some(&name))?;
            all.current = Some(name);
            all.write()
        }
        Command::Create { name, r#use } => {
            let (endpoints, _) = session.settings()?;
            all.profiles.insert(name.clone(), Profile { endpoints });
            if r#use || all.current.is_none() {
                all.current = Some(name);
            }
            all.write()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_as_it_was_written() {
        let text = "current = \"local\"\n\n[profiles.local]\nendpoints = [\"a:1\", \"b:2\"]\n";
        let profiles: Profiles = toml::from_str(text).unwrap();
        assert_eq!(profiles.chosen(None).unwrap().unwrap().endpoints, ["a:1", "b:2"]);
        assert_eq!(toml::from_str::<Profiles>(&toml::to_string(&profiles).unwrap()).unwrap(), profiles);
        assert_eq!(profiles.chosen(Some("other")).unwrap_err().code(), 3);
        assert!(toml::from_str::<Profiles>("curent = \"x\"").is_err(), "a slip is not ignored");
        assert_eq!(Profiles::default().chosen(None).unwrap(), None);
    }
}
