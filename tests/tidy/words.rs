//! Nothing in the project names the machine it was written on: no home directories, no private hosts.

use crate::repository::Repository;

/// Made of halves, so that this file does not find itself.
const FORBIDDEN: &[(&str, &str)] = &[
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/Us", "ers/"),
    ("/tmp/flo", "tilla/"),
    ("arti", "factory"),
    ("regis", "try.npmjs"),
    (".inter", "nal/"),
    (".cor", "p/"),
    ("192.", "168."),
];

/// Names each line with such a word.
pub fn check(repository: &Repository) -> Vec<String> {
    let mut words: Vec<String> = FORBIDDEN.iter().map(|(a, b)| format!("{a}{b}")).collect();
    words.extend(registry_hosts());
    let mut found = Vec::new();
    for (path, text) in repository.files().filter(|(path, _)| *path != "Cargo.lock" && *path != "LICENSE") {
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                found.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    found
}

/// Hosts that cargo is told to use on this machine instead of the public registry.
fn registry_hosts() -> Vec<String> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .unwrap_or_default();
    let Ok(settings) = std::fs::read_to_string(format!("{home}/config.toml")) else { return Vec::new() };
    settings
        .split("://")
        .skip(1)
        .filter_map(|rest| rest.split(['/', '"', '\'', ':']).next())
        .filter(|host| host.contains('.') && !PUBLIC.contains(host))
        .map(str::to_owned)
        .collect()
}

const PUBLIC: &[&str] = &["github.com", "crates.io", "index.crates.io", "static.crates.io"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{accepted, rejected};

    #[test]
    fn a_path_of_the_machine_is_found_with_its_line() {
        let page = format!("fine\nsee {}me/me/notes\n", "/ho");
        let told = rejected(check, &[("docs/page.md", &page)]);
        assert!(told.starts_with("docs/page.md:2: "), "{told}");
    }

    #[test]
    fn ordinary_paths_pass() {
        accepted(check, &[("docs/page.md", "data is in /var/lib/flotilla and $HOME/.cache\n")]);
    }
}
