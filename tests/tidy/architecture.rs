//! `docs/architecture.md` names only what exists, and leaves out no crate.

use crate::repository::Repository;

const PAGE: &str = "docs/architecture.md";

/// Paths are recognised by their first part.
const ROOTS: &[&str] = &["crates/", "proto/", "tests/", "benches/", "deploy/", "scripts/", "docs/"];

/// Names each path of the page that is gone and each crate that it leaves out.
pub fn check(repository: &Repository) -> Vec<String> {
    let Some(page) = repository.text(PAGE) else { return vec![format!("{PAGE} is missing")] };
    let mut found: Vec<String> = paths(page)
        .filter(|path| !repository.has(path) && !repository.has(&format!("{path}.rs")))
        .map(|path| format!("{PAGE} names {path}, which does not exist"))
        .collect();
    for (name, _) in repository.manifests() {
        if !page.contains(&format!("`{name}`")) && !page.contains(&format!("`crates/{name}`")) {
            found.push(format!("{PAGE} does not name the crate `{name}`"));
        }
    }
    found
}

/// What stands in backquotes or as a link's target and begins like a path of this repository.
fn paths(page: &str) -> impl Iterator<Item = &str> {
    page.split(['`', '(', ')', ' ', '\n', ',', ';', '"', '|'])
        .map(|word| word.trim_end_matches(['.', ':']))
        .map(|word| word.strip_prefix("../").unwrap_or(word))
        .map(|word| word.split('#').next().unwrap_or(word))
        .map(|word| word.trim_end_matches('/'))
        .filter(|word| {
            ROOTS.iter().any(|root| word.starts_with(root)) && !word.contains(['*', '<', '{', '…'])
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    #[test]
    fn a_path_that_is_gone_is_found() {
        let page = "The log writer is `crates/store/src/log_writer.rs`, see [chaos](../tests/chaos).\n";
        let told = rejected(check, &[(PAGE, page), ("tests/chaos/main.rs", "")]);
        assert_eq!(told, format!("{PAGE} names crates/store/src/log_writer.rs, which does not exist"));
    }

    #[test]
    fn a_crate_that_is_left_out_is_found() {
        let told = rejected(
            check,
            &[(PAGE, "`types` only"), ("crates/types/Cargo.toml", ""), ("crates/raft/Cargo.toml", "")],
        );
        assert_eq!(told, format!("{PAGE} does not name the crate `raft`"));
        assert_eq!(rejected(check, &[]), format!("{PAGE} is missing"));
    }

    #[test]
    fn a_page_that_is_right_passes() {
        accepted(
            check,
            &[
                (PAGE, "`types` is `crates/types`, ids `crates/types/src/id`"),
                ("crates/types/Cargo.toml", ""),
                ("crates/types/src/id.rs", ""),
            ],
        );
    }
}
