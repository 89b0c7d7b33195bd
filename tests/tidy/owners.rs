//! Heavy dependencies have one owner, so that replacing one touches one crate.

use crate::repository::{Repository, dependencies};

/// Which crates may name a dependency; a name also covers those that start with it and a dash.
const OWNERS: &[(&str, &[&str])] = &[
    ("rocksdb", &["store"]),
    ("librocksdb-sys", &["store"]),
    ("openraft", &["raft"]),
    ("tonic", &["proto", "server", "client"]),
    ("opentelemetry", &["server", "client"]),
    ("clap", &["server", "cli"]),
    ("axum", &["server"]),
    ("tokio", &["store", "raft", "broker", "server", "client", "cli"]),
    ("tracing", &["store", "raft", "broker", "server", "client", "cli"]),
];

/// Names each dependency outside its owners.
pub fn check(repository: &Repository) -> Vec<String> {
    let mut found = Vec::new();
    for (name, manifest) in repository.manifests() {
        for used in dependencies(&manifest) {
            let owned = OWNERS.iter().find(|(heavy, _)| {
                used.strip_prefix(heavy).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            });
            if let Some((_, owners)) = owned
                && !owners.contains(&name)
            {
                found.push(format!("crate {name} uses {used}, which belongs to {}", owners.join(", ")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    #[test]
    fn a_dependency_outside_its_owner_is_found() {
        let told = rejected(check, &[("crates/broker/Cargo.toml", "[dependencies]\nrocksdb = \"1\"\n")]);
        assert_eq!(told, "crate broker uses rocksdb, which belongs to store");
        let told = rejected(check, &[("crates/machine/Cargo.toml", "[dev-dependencies]\ntokio = \"1\"\n")]);
        assert!(told.contains("machine uses tokio"), "{told}");
        let told = rejected(check, &[("crates/cli/Cargo.toml", "[dependencies]\ntonic-types = \"1\"\n")]);
        assert!(told.contains("cli uses tonic-types"), "{told}");
    }

    #[test]
    fn owners_may() {
        accepted(check, &[("crates/store/Cargo.toml", "[dependencies]\nrocksdb = \"1\"\ntokio = \"1\"\n")]);
    }
}
