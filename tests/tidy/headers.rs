//! Every file opens by saying what it is for.

use crate::repository::Repository;

/// Names each Rust file that does not open with `//!` and a sentence.
pub fn check(repository: &Repository) -> Vec<String> {
    repository
        .sources()
        .filter(|(_, text)| {
            text.lines()
                .next()
                .and_then(|line| line.strip_prefix("//! "))
                .is_none_or(|says| says.trim().len() < 8)
        })
        .map(|(path, _)| format!("{path} does not open with `//!` and what it is for"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    #[test]
    fn a_file_without_a_header_is_found() {
        let told = rejected(
            check,
            &[("a.rs", "use std::fmt;\n"), ("b.rs", ""), ("c.rs", "//! Soon.\n"), ("d.rs", "// Not doc.\n")],
        );
        assert_eq!(told.lines().count(), 4, "{told}");
    }

    #[test]
    fn a_header_is_enough() {
        accepted(check, &[("a.rs", "//! Numbers with a meaning.\n"), ("page.md", "# Page\n")]);
    }
}
