//! `flotilla bench`: load on time, whatever the answers do, and a check of every record.
//!
//! Load is open loop: each record has a time when it is due, whether or not earlier ones were answered, and
//! latency counts from that time. A cluster that stalls for a second therefore shows a second, not one
//! slow request. Timers tick each millisecond, so latencies hold up to one of waiting for the tick.

pub mod check;
pub mod consumers;
pub mod mark;
pub mod measure;
pub mod plan;
pub mod producers;
pub mod report;

use crate::exit::Failed;
use crate::output::{Output, helped, print_one};
use crate::session::Session;
use check::Checks;
use clap::Subcommand;
use measure::Measure;
use plan::{ConsumeArguments, ProduceArguments};
use report::{REPORT, Report};
use std::sync::Arc;
use std::time::Duration;

/// `flotilla bench`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send at a rate; latency from due to acknowledged
    Produce(ProduceArguments),
    /// Read what is there, as fast as it comes; checks what `bench produce` wrote
    Consume(ConsumeArguments),
    /// Send at a rate and read it back; latency from due to read
    E2e(ProduceArguments),
}

impl Command {
    /// How the answer is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::Produce(arguments) | Self::E2e(arguments) => arguments.output.output,
            Self::Consume(arguments) => arguments.output.output,
        }
    }
}

/// How long a reader waits for the last records after the last acknowledgement.
const LAST_RECORDS_WAIT: Duration = Duration::from_secs(10);

/// Runs the command.
pub async fn run(session: &Session, command: Command) -> Result<(), Failed> {
    let output = command.output();
    if helped(output, &REPORT)? {
        return Ok(());
    }
    let report = match command {
        Command::Produce(arguments) => produce(session, &arguments, false).await?,
        Command::E2e(arguments) => produce(session, &arguments, true).await?,
        Command::Consume(arguments) => consume(session, &arguments).await?,
    };
    print_one(output, &REPORT, report.to_json())?;
    report.verdict()
}

async fn produce(session: &Session, arguments: &ProduceArguments, read_back: bool) -> Result<Report, Failed> {
    let client = session.client().await?;
    let plan = plan::Plan::new(arguments, &client).await?;
    let measure = Arc::new(Measure::new(Arc::clone(&session.clock), session.shows_progress()));
    let checks = Checks::default();
    let mode = if read_back { "e2e" } else { "produce" };
    let sending = producers::run(&client, &plan, &measure, &checks, !read_back);
    if !read_back {
        tokio::select! {
            sent = sending => sent?,
            () = measure.lines(arguments.rate) => {}
        }
        return Ok(Report::new(mode, &plan, &measure, &checks, false));
    }
    let mut consumer = consumers::at_the_end(&client, &arguments.topic).await?;
    let reading = consumers::run(&mut consumer, plan.run, &measure, &checks);
    let both = async {
        tokio::pin!(reading);
        tokio::select! {
            sent = sending => sent?,
            ended = &mut reading => return ended,
        }
        // All is sent; what was acknowledged must still come.
        let complete = async {
            while !checks.all_seen() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(LAST_RECORDS_WAIT, complete) => Ok(()),
            ended = &mut reading => ended,
        }
    };
    tokio::select! {
        ended = both => ended?,
        () = measure.lines(arguments.rate) => {}
    }
    Ok(Report::new(mode, &plan, &measure, &checks, true))
}

async fn consume(session: &Session, arguments: &ConsumeArguments) -> Result<Report, Failed> {
    let client = session.client().await?;
    let measure = Arc::new(Measure::new(Arc::clone(&session.clock), session.shows_progress()));
    let checks = Checks::default();
    let now = session.clock.wall();
    let reading = consumers::run_bounded(&client, arguments, now, &measure, &checks);
    tokio::select! {
        ended = reading => ended?,
        () = measure.lines(0.0) => {}
    }
    Ok(Report::read_only(&arguments.topic, &measure, &checks))
}
