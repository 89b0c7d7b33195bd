//! Modules are called after what they hold.

use crate::repository::Repository;

const FORBIDDEN: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// Names each module whose name says nothing, or ends in a version.
pub fn check(repository: &Repository) -> Vec<String> {
    let mut found = Vec::new();
    for (path, _) in repository.sources() {
        for name in path.trim_end_matches(".rs").split('/') {
            if FORBIDDEN.contains(&name) {
                found.push(format!("{path}: `{name}` says nothing about what is in it"));
            } else if ends_in_version(name) && !path.starts_with("proto/") {
                found.push(format!("{path}: `{name}` ends in a version; find the better name"));
            }
        }
    }
    found
}

/// `batch2`, `batch_v2`, `batch_new`; not `xxh3`-like words with a digit before other letters.
fn ends_in_version(name: &str) -> bool {
    let trimmed = name.trim_end_matches(|c: char| c.is_ascii_digit());
    trimmed.len() < name.len() || name.ends_with("_new") || name.ends_with("_old")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    #[test]
    fn names_that_say_nothing_are_found() {
        let told = rejected(
            check,
            &[
                ("crates/store/src/utils.rs", ""),
                ("crates/store/src/misc/rows.rs", ""),
                ("crates/store/src/rows2.rs", ""),
                ("crates/store/src/rows_v2.rs", ""),
            ],
        );
        assert_eq!(told.lines().count(), 4, "{told}");
    }

    #[test]
    fn telling_names_pass() {
        accepted(check, &[("crates/store/src/log_writer.rs", ""), ("scripts/common", "")]);
    }
}
