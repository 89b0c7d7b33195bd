//! Every metric that a crate declares is in `docs/operating/metrics.md`.

use crate::repository::Repository;

const PAGE: &str = "docs/operating/metrics.md";

/// Names each metric of a `metrics.rs` that the page leaves out.
pub fn check(repository: &Repository) -> Vec<String> {
    let page = repository.text(PAGE).unwrap_or_default();
    let mut found = Vec::new();
    for (path, text) in repository.sources().filter(|(path, _)| path.ends_with("/metrics.rs")) {
        if !path.starts_with("crates/") {
            continue;
        }
        for name in declared(text) {
            if !SUFFIXES.iter().any(|suffix| page.contains(&format!("`{name}{suffix}`"))) {
                found.push(format!("{path} declares {name}, which is not in {PAGE}"));
            }
        }
    }
    found
}

/// What the page format adds to a name: for counters, for units, for both.
const SUFFIXES: &[&str] = &["", "_total", "_seconds", "_bytes", "_seconds_total", "_bytes_total"];

/// The first string of each call that registers, after its registry's prefix.
fn declared(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let first = |call: &'static str| {
        code.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
    };
    let prefix = first("sub_registry_with_prefix(").next();
    let full = |name: &str| match prefix {
        _ if name.starts_with("flotilla_") => name.to_owned(),
        Some(prefix) => format!("flotilla_{}_{name}", prefix.trim_start_matches("flotilla_")),
        None => format!("flotilla_{name}"),
    };
    first("register(").chain(first("register_with_unit(")).map(full).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    const DECLARES: (&str, &str) = (
        "crates/store/src/metrics.rs",
        "registry.register(\n    \"flotilla_store_syncs\",\n \"Syncs\", c.clone());",
    );

    #[test]
    fn a_metric_without_documentation_is_found() {
        let told = rejected(check, &[DECLARES, (PAGE, "| `flotilla_store_bytes` | ... |")]);
        assert!(told.contains("declares flotilla_store_syncs"), "{told}");
    }

    #[test]
    fn a_documented_metric_passes() {
        accepted(check, &[DECLARES, (PAGE, "| `flotilla_store_syncs` | syncs |")]);
        accepted(check, &[DECLARES, (PAGE, "| `flotilla_store_syncs_total` | syncs |")]);
    }

    #[test]
    fn a_registry_with_a_prefix_counts_by_its_whole_name() {
        let declares =
            "let r = registry.sub_registry_with_prefix(\"raft\");\nr.register_with_unit(\"wait\", \"\", s);";
        let file = ("crates/raft/src/metrics.rs", declares);
        assert!(rejected(check, &[file]).contains("flotilla_raft_wait"));
        accepted(check, &[file, (PAGE, "`flotilla_raft_wait_seconds`")]);
    }
}
