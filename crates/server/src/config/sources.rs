//! Where settings come from, and in which order they win.

use super::{Config, InvalidConfig};
use config::{Environment, File, FileFormat};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Settings of the command line, which win over all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `key=value`, key dotted as in the file.
    pub set: Vec<(String, String)>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read or is not TOML; a key is unknown or has a value of the wrong kind.
    #[error("configuration: {0}")]
    Read(#[from] config::ConfigError),
    /// A `FLOTILLA_…` variable names no setting.
    #[error("environment: {name} is no setting (see deploy/config/node.toml, with __ between table and key)")]
    UnknownVariable {
        /// As found.
        name: String,
    },
    /// A setting that cannot work.
    #[error("configuration: {0}")]
    Invalid(#[from] InvalidConfig),
}

const PREFIX: &str = "FLOTILLA_";

/// Variables with our prefix that are not the node's settings: the server's own options, the command
/// line tool's, and the fault injection of test builds.
const NOT_SETTINGS: [&str; 6] = ["CONFIG", "PROFILE", "ENDPOINTS", "CLI_", "FAULT", "TEST_"];

/// Reads defaults, then `file`, then `environment`, then `overrides`. Does not check what values mean:
/// [`Config::check`] does.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, LoadError> {
    let mut builder = config::Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml).required(true));
    }
    let ours = variables(environment)?;
    builder = builder.add_source(
        Environment::with_prefix("FLOTILLA")
            .prefix_separator("_")
            .separator("__")
            .source(Some(ours.into_iter().collect())),
    );
    for (key, value) in &overrides.set {
        builder = builder.set_override(key, value.as_str())?;
    }
    if let Some(directory) = &overrides.data_dir {
        builder = builder.set_override("data_dir", directory.to_string_lossy().into_owned())?;
    }
    Ok(builder.build()?.try_deserialize()?)
}

/// Our variables; a name that is no setting is refused, as an unknown key in the file is.
fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, LoadError> {
    let known = keys();
    let mut ours = Vec::new();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if NOT_SETTINGS.iter().any(|other| rest.starts_with(other)) {
            continue;
        }
        if !known.contains(&rest.to_lowercase().replace("__", ".")) {
            return Err(LoadError::UnknownVariable { name });
        }
        ours.push((name, value));
    }
    Ok(ours)
}

/// Every key there is, dotted: `limits.connections`.
pub fn keys() -> BTreeSet<String> {
    let table = toml::Table::try_from(Config::default()).expect("settings are plain values");
    let mut found = BTreeSet::new();
    collect("", &table, &mut found);
    found
}

fn collect(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => collect(&format!("{prefix}{key}."), inner, found),
            _ => {
                found.insert(format!("{prefix}{key}"));
            }
        }
    }
}
