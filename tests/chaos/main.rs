//! Real nodes and the worst that happens to machines: power cuts, on file systems that forget what was
//! not synced, and disks whose sync fails.

mod capabilities;
mod failed_sync;
mod power_cut;
