//! `flotilla bench failover`: load on time, blows dealt by the caller's own command, and for each how long
//! nothing was acknowledged. Everything is read back, so that a fast failover that loses a record fails.

use super::measure::Measure;
use super::plan::FailoverArguments;
use crate::exit::Failed;
use std::time::Duration;
use tokio::process::Command;

/// A blow or its repair that takes longer is no use.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// Whether the load lasts long enough for every blow to be seen.
pub fn check(arguments: &FailoverArguments) -> Result<(), Failed> {
    let last = arguments.kill_at + arguments.kill_every * (arguments.kills - 1);
    if last >= arguments.load.duration {
        return Err(Failed::Usage(format!(
            "--duration is {:?}, and the last of {} blows falls at {last:?}: make it longer, by the time a failover may take",
            arguments.load.duration, arguments.kills
        )));
    }
    if arguments.load.rate <= 0.0 {
        return Err(Failed::Usage(
            "--rate is 0, expected a rate: gaps are counted between records that were due".to_owned(),
        ));
    }
    Ok(())
}

/// Deals the blows, then waits for ever.
pub async fn deal(arguments: &FailoverArguments, measure: &Measure, shown: bool) -> Result<(), Failed> {
    for number in 0..arguments.kills {
        let at = arguments.load.warm_up + arguments.kill_at + arguments.kill_every * number;
        tokio::time::sleep(at.saturating_sub(measure.elapsed())).await;
        measure.blow();
        if shown {
            eprintln!("{:3.0}s blow {}: {}", measure.elapsed().as_secs_f64(), number + 1, arguments.kill);
        }
        shell("--kill", &arguments.kill).await?;
        measure.dealt();
        if let Some(restore) = &arguments.restore {
            let repair = at + arguments.kill_every / 2;
            tokio::time::sleep(repair.saturating_sub(measure.elapsed())).await;
            shell("--restore", restore).await?;
        }
    }
    std::future::pending().await
}

async fn shell(flag: &str, command: &str) -> Result<(), Failed> {
    let mut shell = Command::new("sh");
    // What it prints must not get between the lines of the report.
    let ran = shell.args(["-c", command]).stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let ran = tokio::time::timeout(COMMAND_MAX, ran).await;
    let ran =
        ran.map_err(|_| Failed::Timeout(format!("{flag} {command:?} took longer than {COMMAND_MAX:?}")))??;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Failed::Other(format!("{flag} {command:?}: {}, {}", ran.status, said.trim().escape_default())))
}
