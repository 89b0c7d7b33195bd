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
            if !page.contains(&format!("{name}`")) && !page.contains(&format!("{name}_total`")) {
                found.push(format!("{path} declares {name}, which is not in {PAGE}"));
            }
        }
    }
    found
}

/// The first string of each `register(` call: how prometheus-client takes a name.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    ["register(", "register_with_unit("].into_iter().flat_map(move |call| {
        code.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
    })
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
}
