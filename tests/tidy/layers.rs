//! The picture of crates: who may use whom.

use crate::repository::{Repository, dependencies};

/// What each crate may use. A new edge is a decision, so it is made here.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &["types"]),
    ("store", &["types"]),
    ("machine", &["types"]),
    ("raft", &["machine", "store", "types"]),
    ("broker", &["raft", "machine", "store", "types"]),
    ("server", &["broker", "raft", "proto", "types"]),
    ("client", &["proto", "types"]),
    ("cli", &["client", "types"]),
];

/// Every crate is in the table and has no edge that is not; every crate of the table is there.
pub fn check(repository: &Repository) -> Vec<String> {
    let manifests = repository.manifests();
    let mut found: Vec<String> = LAYERS
        .iter()
        .filter(|(name, _)| !manifests.iter().any(|(there, _)| there == name))
        .map(|(name, _)| format!("crate {name} is in the picture and not in crates/"))
        .collect();
    for (name, manifest) in &manifests {
        let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| known == name) else {
            found.push(format!("crate {name} is not in the picture: a tenth crate needs a decision record"));
            continue;
        };
        found.extend(
            dependencies(manifest)
                .iter()
                .filter_map(|used| used.strip_prefix("flotilla-"))
                .filter(|used| !allowed.contains(used))
                .map(|used| format!("crate {name} uses {used}, which the picture does not allow")),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::rejected;

    #[test]
    fn an_edge_outside_the_picture_is_found() {
        let machine = "[dependencies]\nflotilla-types.workspace = true\nflotilla-store.workspace = true\n";
        let told = rejected(check, &[("crates/machine/Cargo.toml", machine)]);
        assert!(told.contains("crate machine uses store"), "{told}");
        assert!(!told.contains("machine uses types"), "{told}");
    }

    #[test]
    fn edges_for_tests_and_under_another_name_count_too() {
        let hidden = "[dev-dependencies]\nother = { package = \"flotilla-server\", version = \"1\" }\n\
                      [target.'cfg(unix)'.dependencies]\nflotilla-raft.workspace = true\n";
        let told = rejected(check, &[("crates/client/Cargo.toml", hidden)]);
        assert!(told.contains("client uses server") && told.contains("client uses raft"), "{told}");
    }

    #[test]
    fn a_tenth_crate_and_a_missing_one_are_found() {
        let told = rejected(check, &[("crates/utils/Cargo.toml", "")]);
        assert!(told.contains("crate utils is not in the picture"), "{told}");
        assert!(told.contains("crate types is in the picture and not"), "{told}");
    }
}
