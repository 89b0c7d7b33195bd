//! The shipped configuration shows every setting of the server, and no other.

use crate::repository::{self, Repository};
use flotilla_tests::binaries;
use std::collections::BTreeSet;

const SHIPPED: &str = "deploy/config/node.toml";

/// Compares the shipped file with what the server itself says its settings are.
pub fn check(repository: &Repository) -> Vec<String> {
    let Some(shipped) = repository.text(SHIPPED) else { return vec![format!("{SHIPPED} is missing")] };
    let told = std::process::Command::new(&binaries::plain().server)
        .args(["--check-config", "--config", SHIPPED])
        .env_remove("FLOTILLA_BIN")
        .current_dir(repository::root())
        .output()
        .expect("the server was built just now");
    if !told.status.success() {
        return vec![format!("the server refuses {SHIPPED}: {}", String::from_utf8_lossy(&told.stderr))];
    }
    compare(shipped, &String::from_utf8_lossy(&told.stdout))
}

/// Names each key that only one of the two has.
pub fn compare(shipped: &str, effective: &str) -> Vec<String> {
    let (shipped, effective) = match (shipped.parse::<toml::Table>(), effective.parse::<toml::Table>()) {
        (Ok(shipped), Ok(effective)) => (keys("", &shipped), keys("", &effective)),
        (Err(why), _) => return vec![format!("{SHIPPED}: {why}")],
        (_, Err(why)) => return vec![format!("--check-config does not print TOML: {why}")],
    };
    let missing = effective.difference(&shipped).map(|key| format!("{SHIPPED} lacks the setting {key}"));
    let unknown =
        shipped.difference(&effective).map(|key| format!("{SHIPPED} has {key}, which is no setting"));
    missing.chain(unknown).collect()
}

fn keys(prefix: &str, table: &toml::Table) -> BTreeSet<String> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            toml::Value::Table(inner) => keys(&format!("{prefix}{key}."), inner),
            _ => BTreeSet::from([format!("{prefix}{key}")]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_shown_is_found() {
        let told = compare("node_id = 1\n", "node_id = 1\n[store]\ncache = \"64MiB\"\n");
        assert_eq!(told, [format!("{SHIPPED} lacks the setting store.cache")]);
    }

    #[test]
    fn a_setting_that_does_not_exist_is_found() {
        let told = compare("node_id = 1\ncolour = 3\n", "node_id = 2\n");
        assert_eq!(told, [format!("{SHIPPED} has colour, which is no setting")]);
        assert!(compare("node_id =", "node_id = 1")[0].contains(SHIPPED));
    }

    #[test]
    fn the_same_settings_pass_whatever_their_values() {
        assert!(compare("a = 1\n[b]\nc = 2\n", "a = 5\n[b]\nc = \"x\"\n").is_empty());
    }
}
