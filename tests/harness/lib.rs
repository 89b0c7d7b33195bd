//! Real clusters for tests, what is done to them, and how what happened is judged.

pub mod binaries;
