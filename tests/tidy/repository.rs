//! A repository as the rules see it: paths and texts. Real, or made up to show that a rule can fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Files by their path from the root. Those that are not text are empty.
pub struct Repository {
    files: BTreeMap<String, String>,
}

impl Repository {
    /// This one: what git tracks and what is new and not ignored.
    pub fn here() -> Self {
        let root = root();
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .expect("git lists the files");
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let files: BTreeMap<_, _> = String::from_utf8_lossy(&listed.stdout)
            .split_terminator('\0')
            .filter_map(|path| {
                let bytes = std::fs::read(root.join(path)).ok()?;
                Some((path.to_owned(), String::from_utf8(bytes).unwrap_or_default()))
            })
            .collect();
        assert!(files.contains_key("Cargo.toml"), "the root is {}", root.display());
        Self { files }
    }

    /// A small one for showing that a rule rejects it.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Every file, in path order.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust file that people write.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| {
            Path::new(path).extension().is_some_and(|e| e == "rs") && !path.contains("/src/generated/")
        })
    }

    /// Whether a file or a directory with files is there.
    pub fn has(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&directory))
    }

    /// Manifests of the packages below `crates/`, by the crate's short name.
    pub fn manifests(&self) -> Vec<(&str, toml::Table)> {
        self.files()
            .filter_map(|(path, text)| {
                let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
                (!name.contains('/')).then(|| (name, text.parse().expect("a manifest is TOML")))
            })
            .collect()
    }
}

/// Where the files are.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a directory of the root")
}

/// Names of everything a manifest depends on: plainly, for builds, for tests and on some targets only.
pub fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                names.extend(table.iter().map(|(name, how)| {
                    how.get("package").and_then(|p| p.as_str()).unwrap_or(name).to_owned()
                }));
            }
            "target" => {
                names.extend(table.values().filter_map(|t| t.as_table()).flat_map(dependencies));
            }
            _ => {}
        }
    }
    names
}

/// What `rule` says about `files`, which it must reject.
#[cfg(test)]
pub fn rejected(rule: fn(&Repository) -> Vec<String>, files: &[(&str, &str)]) -> String {
    let found = rule(&Repository::of(files));
    assert!(!found.is_empty(), "the rule accepted what it must reject");
    found.join("\n")
}

/// Asserts that `rule` has nothing to say about `files`.
#[cfg(test)]
pub fn accepted(rule: fn(&Repository) -> Vec<String>, files: &[(&str, &str)]) {
    assert_eq!(rule(&Repository::of(files)), Vec::<String>::new());
}
