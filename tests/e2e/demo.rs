//! The demonstration that the first page promises, run as a user runs it.

use std::path::Path;
use std::process::Command;

#[test]
fn the_demonstration_gives_every_line_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a directory of the root");
    let here = std::env::current_exe().expect("a running program has a path");
    let target = here.ancestors().nth(3).expect("test programs are in target/release/deps");
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("lines");
    // No last line end, an empty line, tabs and bytes that are no text.
    let mut lines: Vec<u8> =
        (0..3000).flat_map(|n| format!("line {n}\tof the file\n").into_bytes()).collect();
    lines.extend_from_slice(b"\n\xff\xfe not UTF-8\n  spaces before\nlast");
    std::fs::write(&file, &lines).expect("temporary directory can be written");
    let programs = flotilla_tests::binaries::plain().server.parent().expect("programs are in a directory");
    let done = Command::new(root.join("scripts/demo"))
        .arg(&file)
        .env("FLOTILLA_BIN", programs)
        .env("CARGO_TARGET_DIR", target)
        .env("TMPDIR", directory.path())
        .output()
        .expect("the script is there");
    let told = String::from_utf8_lossy(&done.stdout);
    let progress = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}\n{progress}");
    assert!(told.contains("byte for byte"), "{told}");
    println!("{told}");
}
