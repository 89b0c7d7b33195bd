//! The binary: everything is in the library, so that tests can link it.

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    flotilla_server::command::run(flotilla_server::command::Arguments::parse()).into()
}
