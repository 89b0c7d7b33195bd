//! The `flotilla` command.

fn main() -> std::process::ExitCode {
    flotilla_cli::main()
}
