//! The repository examined: what the architecture pages promise about it is held here.
//!
//! Each rule is a function from a [`Repository`] to what it found wrong, and lives in a file of its own
//! together with a small repository that it must reject.

mod architecture;
mod configuration;
mod headers;
mod layers;
mod metrics;
mod names;
mod owners;
mod repository;
mod root;
mod words;

use repository::Repository;

/// Fails with every finding on a line of its own.
fn holds(rule: fn(&Repository) -> Vec<String>) {
    let found = rule(&Repository::here());
    assert!(found.is_empty(), "{} findings:\n  {}", found.len(), found.join("\n  "));
}

#[test]
fn crates_use_only_what_the_picture_allows() {
    holds(layers::check);
}

#[test]
fn heavy_dependencies_have_one_owner() {
    holds(owners::check);
}

#[test]
fn every_file_says_what_it_is_for() {
    holds(headers::check);
}

#[test]
fn modules_have_telling_names() {
    holds(names::check);
}

#[test]
fn the_root_shows_only_what_was_decided() {
    holds(root::check);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    holds(words::check);
}

#[test]
fn the_architecture_page_names_what_exists() {
    holds(architecture::check);
}

#[test]
fn every_setting_is_in_the_shipped_configuration() {
    holds(configuration::check);
}

#[test]
fn every_metric_is_documented() {
    holds(metrics::check);
}
