//! How the process ends: exit codes, and the hook that makes a failed assertion end it at once.

/// Clean end.
pub const CLEAN: u8 = 0;
/// The node could not start, or was told twice to stop.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// A failed assertion, or a storage error after which nothing may be written.
pub const FATAL: u8 = 70;

/// From here on a panic anywhere is written to the log and ends the process with [`FATAL`].
///
/// A node that has failed an assertion does not know what is true any more; it must not go on serving with
/// one task less. Whoever supervises it may start it again, which checks everything that is on disk.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("no message");
        let trace = std::backtrace::Backtrace::force_capture();
        // Both: nobody may listen to the log yet, and its lines are escaped.
        tracing::error!(place, "panicked: {what}");
        eprintln!("panicked at {place}: {what}\n{trace}");
        now(FATAL);
    }));
}

/// A storage error after which nothing may be written or acknowledged: says why and ends the process.
pub fn fatal(why: &str) -> ! {
    tracing::error!("fatal: {why}");
    eprintln!("fatal: {why}");
    now(FATAL)
}

/// Ends the process without running anything that belongs to it: destructors of a database that has just
/// failed must not write.
#[expect(unsafe_code, reason = "the C library's exit without its hooks has no safe name")]
pub fn now(code: u8) -> ! {
    // SAFETY: ends the process; no memory is touched.
    unsafe { libc::_exit(i32::from(code)) }
}
