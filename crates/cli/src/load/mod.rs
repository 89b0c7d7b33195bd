//! `flotilla bench`: load on time, whatever the answers do, and a check of every record.
//!
//! Load is open loop: each record has a time when it is due, whether or not earlier ones were answered, and
//! latency counts from that time. A cluster that stalls for a second therefore shows a second, not one
//! slow request. Pacing is exact to a tenth of a millisecond or so on a machine with a core to spare.

pub mod check;
pub mod consumers;
pub mod failover;
pub mod gaps;
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
use plan::{ConsumeArguments, FailoverArguments, Plan, ProduceArguments};
use report::{REPORT, Report};
use std::sync::Arc;
use std::time::Duration;

/// `flotilla bench`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send at a rate; latency from due to acknowledged
    #[command(after_help = PRODUCE_EXAMPLES)]
    Produce(ProduceArguments),
    /// Read what is there, as fast as it comes; checks what `bench produce` wrote
    #[command(after_help = CONSUME_EXAMPLES)]
    Consume(ConsumeArguments),
    /// Send at a rate and read it back; latency from due to read
    #[command(after_help = E2E_EXAMPLES)]
    E2e(ProduceArguments),
    /// Send at a rate, deal blows (kill a node), and see how long nothing is acknowledged; reads all of it back
    #[command(after_help = FAILOVER_EXAMPLES)]
    Failover(FailoverArguments),
}

const PRODUCE_EXAMPLES: &str =
    "A write is acknowledged once a majority of the replicas has synced it: there is no weaker setting.

Examples:
  flotilla bench produce load --partitions 12 --rate 1000 --duration 30s --warm-up 5s
  flotilla bench produce load --rate 0 --window 1000 -o json     as fast as they are taken
  flotilla bench produce load --rate 0 --window 1                one after the other";

const CONSUME_EXAMPLES: &str = "Examples:
  flotilla bench consume load                    all there is, checked
  flotilla bench consume load --from @-1h -n 100000 -o json";

const E2E_EXAMPLES: &str = "Examples:
  flotilla bench e2e load --partitions 1 --rate 1000 --duration 30s --warm-up 5s -o json";

const FAILOVER_EXAMPLES: &str = "Examples:
  flotilla bench failover load --rate 200 --duration 20s --kill 'kill -KILL $(cat node-2.pid)'
  flotilla bench failover load --rate 1000 --duration 10m --kills 50 --kill-at 5s --kill-every 11s \\
    --kill ./kill-leader --restore ./start-again --max-gap 300ms -o json";

impl Command {
    /// How the answer is printed.
    pub fn output(&self) -> Output {
        match self {
            Self::Produce(arguments) | Self::E2e(arguments) => arguments.output.output,
            Self::Consume(arguments) => arguments.output.output,
            Self::Failover(arguments) => arguments.load.output.output,
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
    let mut max_gap = None;
    let report = match command {
        Command::Produce(arguments) => produce(session, &arguments).await?,
        Command::E2e(arguments) => both(session, &arguments, None).await?,
        Command::Consume(arguments) => consume(session, &arguments).await?,
        Command::Failover(arguments) => {
            failover::check(&arguments)?;
            max_gap = arguments.max_gap;
            both(session, &arguments.load, Some(&arguments)).await?
        }
    };
    print_one(output, &REPORT, report.to_json())?;
    report.verdict()?;
    report.gap_within(max_gap)
}

fn measure(session: &Session, warm_up: Duration) -> Measure {
    Measure::new(Arc::clone(&session.clock), warm_up, session.shows_progress())
}

async fn produce(session: &Session, arguments: &ProduceArguments) -> Result<Report, Failed> {
    let client = session.client().await?;
    let plan = Plan::new(arguments, &client).await?;
    let checks = Checks::default();
    let measure = measure(session, arguments.warm_up);
    tokio::select! {
        sent = producers::run(&client, &plan, &measure, &checks, true) => sent?,
        () = measure.lines(arguments.rate) => {}
    }
    Ok(Report::new("produce", &plan, &measure, &checks, false))
}

/// Sends and reads back at once, under blows or without.
async fn both(
    session: &Session,
    arguments: &ProduceArguments,
    blows: Option<&FailoverArguments>,
) -> Result<Report, Failed> {
    let client = session.client().await?;
    let plan = Plan::new(arguments, &client).await?;
    let mut consumer = consumers::at_the_end(&client, &arguments.topic).await?;
    let checks = Checks::default();
    let measure = measure(session, arguments.warm_up);
    let time_acks = blows.is_some();
    let reading = consumers::run(&mut consumer, plan.run, &measure, &checks, !time_acks);
    let sending = producers::run(&client, &plan, &measure, &checks, time_acks);
    let dealing = async {
        match blows {
            Some(blows) => failover::deal(blows, &measure, session.shows_progress()).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        tokio::pin!(reading, dealing);
        tokio::select! {
            sent = sending => sent?,
            ended = &mut reading => return ended,
            ended = &mut dealing => return ended,
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
        ended = work => ended?,
        () = measure.lines(arguments.rate) => {}
    }
    let mode = if blows.is_some() { "failover" } else { "e2e" };
    Ok(Report::new(mode, &plan, &measure, &checks, true))
}

async fn consume(session: &Session, arguments: &ConsumeArguments) -> Result<Report, Failed> {
    let client = session.client().await?;
    let measure = measure(session, Duration::ZERO);
    let checks = Checks::default();
    let now = session.clock.wall();
    let reading = consumers::run_bounded(&client, arguments, now, &measure, &checks);
    tokio::select! {
        ended = reading => ended?,
        () = measure.lines(0.0) => {}
    }
    Ok(Report::read_only(&arguments.topic, &measure, &checks, arguments.records))
}
