//! Every script in `testdata` gets the answers that are written in it.
//!
//! With `MACHINE_TESTDATA=write` the answers are written instead: read the difference before keeping it.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod harness;

use std::path::PathBuf;

/// The scripts in a folder of `testdata`, with their answers.
fn run_all(folder: &str, least: usize, run: impl Fn(&str) -> String) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= least, "scripts are found");
    for path in scripts {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run(&expected);
        if std::env::var_os("MACHINE_TESTDATA").is_some_and(|how| how == "write") {
            std::fs::write(&path, actual).unwrap();
        } else {
            assert!(actual == expected, "{} answers differently:\n{actual}", path.display());
        }
    }
}

#[test]
fn scripts_get_the_answers_written_in_them() {
    run_all("", 5, harness::script::run);
}

#[test]
fn scripts_of_groups_get_the_answers_written_in_them() {
    run_all("groups", 10, harness::groups::run);
}
