//! What a reader sees first: the root holds what was decided and nothing else.

use crate::repository::Repository;
use std::collections::BTreeSet;

const VISIBLE: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "proto",
    "crates",
    "tests",
    "benches",
    "deploy",
    "scripts",
    "docs",
];

/// Tool settings.
const HIDDEN: &[&str] = &[
    ".rustfmt.toml",
    ".clippy.toml",
    ".deny.toml",
    ".cargo",
    ".config",
    ".gitignore",
    ".gitattributes",
    ".ci",
];

/// Names each entry of the root that is in neither list.
pub fn check(repository: &Repository) -> Vec<String> {
    let entries: BTreeSet<&str> =
        repository.files().map(|(path, _)| path.split('/').next().unwrap_or(path)).collect();
    entries
        .into_iter()
        .filter(|entry| !VISIBLE.contains(entry) && !HIDDEN.contains(entry))
        .map(|entry| format!("{entry} stands in the root: that needs a decision record"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    #[test]
    fn a_new_entry_is_found() {
        let told = rejected(check, &[("Makefile", ""), ("src/main.rs", ""), ("Cargo.toml", "")]);
        assert!(told.contains("Makefile") && told.contains("src") && !told.contains("Cargo"), "{told}");
    }

    #[test]
    fn what_was_decided_passes() {
        accepted(check, &[("crates/types/src/lib.rs", ""), (".ci/run", ""), ("LICENSE", "")]);
    }
}
