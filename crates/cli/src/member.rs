//! `flotilla consume -g`: as a member of a group. A line is written and flushed first, and committed
//! then, so what was seen may come again after a crash, and nothing is left out.
//!
//! SIGINT and SIGTERM leave the group in order: what was written is committed, others take over at once.

use crate::consume::{Arguments, Writer, write};
use crate::exit::Failed;
use crate::session::Session;
use flotilla_client::groups::{Event, OffsetReset};
use flotilla_client::{GroupConsumer, GroupOptions};
use futures::StreamExt;
use std::io::Write;
use std::time::Duration;

/// What holds for members only.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Groups")]
pub struct Membership {
    /// As a member of this group: its members share the partitions, and what was printed is committed
    #[arg(short = 'g', long, value_name = "GROUP", add = crate::completion::groups())]
    pub group: Option<String>,
    /// A static member: one that comes back soon under this name gets its partitions back
    #[arg(long, value_name = "NAME", requires = "group")]
    instance_id: Option<String>,
    /// Who gets what: uniform or range
    #[arg(long, value_name = "NAME", requires = "group")]
    assignor: Option<String>,
    /// The topic is a regular expression for whole names, also of topics to come
    #[arg(long, requires = "group")]
    regex: bool,
    /// Commit this often what was printed [default: 1s]
    #[arg(long, value_parser = crate::args::duration, value_name = "TIME", requires = "group")]
    commit_interval: Option<Duration>,
}

/// Where a partition begins that the group has no offset of.
fn reset(text: &str) -> Result<OffsetReset, Failed> {
    match text {
        "start" => Ok(OffsetReset::Earliest),
        "end" => Ok(OffsetReset::Latest),
        "fail" => Ok(OffsetReset::Fail),
        _ => Err(Failed::Usage(format!(
            "-o {text}: a group goes on where it was; without an offset it begins at start or end, or fails \
             (fail). `flotilla group seek` moves it"
        ))),
    }
}

/// How often what was printed is committed, unless told otherwise.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a poll waits, so that hints and timeouts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs `consume -g`.
pub async fn run(session: &Session, group: &str, arguments: &Arguments) -> Result<(), Failed> {
    let writer = arguments.reading.writer()?;
    if arguments.until_end || !arguments.reading.partitions.is_empty() {
        let message = "--until-end and --partition do not go with --group, which decides who reads what";
        return Err(Failed::Usage(message.to_owned()));
    }
    let membership = &arguments.membership;
    let options = GroupOptions {
        consumer: arguments.reading.options(),
        offset_reset: reset(&arguments.offset)?,
        instance_id: membership.instance_id.clone(),
        client_id: format!("flotilla-{}", std::process::id()),
        auto_commit: Some(membership.commit_interval.unwrap_or(COMMIT_INTERVAL)),
        ..GroupOptions::default()
    };
    let mut signals = Signals::new()?;
    let client = tokio::select! {
        client = session.client() => client?,
        () = signals.any() => return Err(Failed::Interrupted),
    };
    let mut builder = client.group(group).options(options);
    builder = match (membership.regex, arguments.topics.as_slice()) {
        (false, topics) => builder.topics(topics),
        (true, [pattern]) => builder.pattern(pattern),
        (true, _) => return Err(Failed::Usage("--regex takes one pattern".to_owned())),
    };
    if let Some(assignor) = &membership.assignor {
        builder = builder.assignor(assignor);
    }
    let mut consumer = builder.start()?;
    let telling = session.shows_progress().then(|| tell(group.to_owned(), consumer.events()));
    let telling = async move {
        match telling {
            Some(telling) => telling.await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = follow(session, &mut consumer, &writer, arguments) => ended,
        () = signals.any() => Err(Failed::Interrupted),
        () = telling => Ok(()),
    };
    let closed = match &ended {
        // Every line that a poll returned is on its way out before anything else is waited for, so only
        // a failure can have left some unwritten; those are given to somebody again.
        Ok(()) | Err(Failed::Interrupted) => consumer.close().await,
        Err(_) => consumer.abandon().await,
    };
    ended.and(closed.map_err(Failed::from))
}

async fn follow(
    session: &Session,
    consumer: &mut GroupConsumer,
    writer: &Writer,
    arguments: &Arguments,
) -> Result<(), Failed> {
    let mut left = arguments.num;
    let mut last_record = session.clock.monotonic();
    let mut last_hint = last_record;
    let mut out = Vec::with_capacity(1 << 16);
    while left != Some(0) {
        let most = left.map_or(MOST_AT_ONCE, |left| left.min(MOST_AT_ONCE as u64) as usize);
        let wait = arguments.idle_timeout.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        // Asking says that what was printed may be committed.
        let records = consumer.poll_up_to(most, wait).await?;
        let now = session.clock.monotonic();
        if records.is_empty() {
            if arguments.idle_timeout.is_some_and(|idle| now.since(last_record) >= idle) {
                return Ok(());
            }
            if session.shows_progress() && now.since(last_hint) >= crate::progress::EVERY {
                last_hint = now;
                hint(consumer);
            }
            continue;
        }
        last_record = now;
        records.iter().for_each(|record| write(writer, record, &mut out));
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()?;
        out.clear();
        if let Some(left) = &mut left {
            *left -= records.len() as u64;
        }
    }
    Ok(())
}

/// Records written between two asks.
const MOST_AT_ONCE: usize = 1_000;

fn hint(consumer: &GroupConsumer) {
    for (topic, partition, error) in consumer.trouble().into_iter().take(3) {
        eprintln!("waiting for {topic}/{partition}: {error}");
    }
    if consumer.assignment().is_empty() {
        let state = crate::groups::state_name(consumer.state());
        eprintln!("no partitions: this member of group {} is {state}", consumer.group_id());
    }
}

/// Says on stderr what rebalances do.
async fn tell(group: String, events: impl futures::Stream<Item = Event>) {
    let list = |partitions: &[flotilla_client::groups::TopicPartition]| {
        partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Assigned(partitions) => eprintln!("group {group}: reading {}", list(&partitions)),
            Event::Revoked(partitions) => eprintln!("group {group}: gave up {}", list(&partitions)),
            Event::Lost { partitions, why } => eprintln!("group {group}: lost {}: {why}", list(&partitions)),
        }
    }
    std::future::pending::<()>().await;
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failed> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_begins_at_the_start_or_the_end_or_not_at_all() {
        assert_eq!(reset("start").unwrap(), OffsetReset::Earliest);
        assert_eq!(reset("end").unwrap(), OffsetReset::Latest);
        assert_eq!(reset("fail").unwrap(), OffsetReset::Fail);
        for text in ["5", "+1", "@-1h", "start:end", "latest"] {
            assert_eq!(reset(text).unwrap_err().code(), 2, "{text}");
        }
    }
}
