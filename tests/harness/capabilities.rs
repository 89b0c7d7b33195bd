//! What this machine lets a test do, found out by doing it.

use crate::disk::{Disk, Format};
use std::io::Write;

/// One fault and whether it can be made here.
#[derive(Debug)]
pub struct Capability {
    /// In words.
    pub fault: &'static str,
    /// Why not, if not.
    pub missing: Option<String>,
}

/// Tries each fault once, on things made for it.
pub fn probe() -> Vec<Capability> {
    let capability = |fault, result: Result<(), String>| Capability { fault, missing: result.err() };
    vec![
        capability("kill and pause", Ok(())),
        capability("power cut, ext4", power_cut(Format::Ext4)),
        capability("power cut, xfs", power_cut(Format::Xfs)),
    ]
}

/// A table for people.
pub fn table(capabilities: &[Capability]) -> String {
    capabilities.iter().fold(String::from("fault: available here?\n"), |table, capability| {
        let said = capability.missing.as_deref().map_or_else(|| "yes".to_owned(), |why| format!("NO: {why}"));
        table + &format!("  {:<18} {said}\n", capability.fault)
    })
}

/// A cut must take what was not synced and leave what was; anything else is no power cut.
fn power_cut(format: Format) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
    // The least that mkfs.xfs accepts.
    let mut disk = Disk::new(directory.path(), "probe", format, 300)?;
    let write = |name: &str, sync: bool| -> std::io::Result<()> {
        let mut file = std::fs::File::create(disk.path().join(name))?;
        file.write_all(&[7; 5000])?;
        if sync {
            file.sync_all()?;
            std::fs::File::open(disk.path())?.sync_all()?;
        }
        Ok(())
    };
    write("synced", true).and_then(|()| write("forgotten", false)).map_err(|e| e.to_string())?;
    disk.cut_power()?;
    disk.unmount()?;
    disk.mount()?;
    let length = |name: &str| std::fs::metadata(disk.path().join(name)).map_or(0, |m| m.len());
    match (length("synced"), length("forgotten")) {
        (5000, 0) => Ok(()),
        (kept, left) => Err(format!("of 5000 synced bytes {kept} were kept, of 5000 others {left}")),
    }
}
