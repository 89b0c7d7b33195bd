//! The programs that tests start: built from this tree at first use, so never stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One build of both programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `flotilla-server`.
    pub server: PathBuf,
    /// `flotilla`.
    pub cli: PathBuf,
}

/// As users run them.
pub fn plain() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(|| build("plain", &[]))
}

/// With the store's faults compiled in: without an `fsync` where `FLOTILLA_FAULT` says so. Never shipped.
pub fn faulty() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(|| {
        // The plain one is linked last, so that what stands in the target directory is what users run.
        let faulty = build("fault", &["--features", "flotilla-server/fault"]);
        build("plain", &[]);
        faulty
    })
}

/// Builds and keeps a copy of its own, because the next variant takes the same name. With
/// `FLOTILLA_BIN` nothing is built: the programs are taken from that directory's `plain` and `fault`.
fn build(variant: &str, features: &[&str]) -> Binaries {
    if let Some(given) = std::env::var_os("FLOTILLA_BIN") {
        return within(&Path::new(&given).join(variant));
    }
    let release = release();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a directory of the root");
    let done = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--quiet", "-p", "flotilla-server", "-p", "flotilla-cli"])
        .args(features)
        .arg("--target-dir")
        .arg(release.parent().expect("release is within the target directory"))
        .current_dir(root)
        .status()
        .expect("cargo started these tests, so it can be started");
    assert!(done.success(), "the programs under test do not build");
    let copies = release.join("nodes").join(variant);
    std::fs::create_dir_all(&copies).expect("the target directory can be written");
    let copied = within(&copies);
    for copy in [&copied.server, &copied.cli] {
        let name = copy.file_name().expect("a program has a name");
        // Another test process may be doing the same: each puts a whole file in place.
        let fresh = copies.join(format!("{}.{}", name.display(), std::process::id()));
        std::fs::copy(release.join(name), &fresh).expect("the programs were built just now");
        std::fs::rename(&fresh, copy).expect("within one directory");
    }
    copied
}

fn within(directory: &Path) -> Binaries {
    Binaries { server: directory.join("flotilla-server"), cli: directory.join("flotilla") }
}

/// The directory of this test program's profile: `target/release`.
fn release() -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    let deps = here.parent().expect("a program is in a directory");
    deps.parent().expect("test programs are in release/deps").to_owned()
}
