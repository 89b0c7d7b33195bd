//! Real nodes and the worst that happens to machines: power cuts, on file systems that forget what was
//! not synced.

mod capabilities;
mod power_cut;
