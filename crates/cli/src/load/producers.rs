//! The writing half: each record when it is due, each answer as it comes.

use super::check::Checks;
use super::mark::{Lane, Mark};
use super::measure::Measure;
use super::plan::{Plan, WINDOW_MAX};
use crate::exit::Failed;
use flotilla_client::{Client, Delivery, Producer, Record};
use flotilla_types::PartitionId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Records that a run which cannot keep up sends before it looks at the time again.
const BURST: u64 = 1_000;

/// Sends all that is planned and waits until every record has ended. `time_acks` = a record's end is its
/// acknowledgement; else somebody else says when it ended.
pub async fn run(
    client: &Client,
    plan: &Plan,
    measure: &Measure,
    checks: &Checks,
    time_acks: bool,
) -> Result<(), Failed> {
    let each = (0..plan.producers).map(|number| one(client, plan, measure, checks, time_acks, number));
    futures::future::try_join_all(each).await?;
    Ok(())
}

struct Waiting {
    due: Duration,
    sequence: u64,
    delivery: Delivery,
    _place: OwnedSemaphorePermit,
}

/// One producer's records of one partition.
struct Sender<'a> {
    plan: &'a Plan,
    measure: &'a Measure,
    checks: &'a Checks,
    producer: &'a Producer,
    lane: Lane,
    sequence: u64,
    window: Arc<Semaphore>,
    outlet: mpsc::Sender<Waiting>,
}

impl Sender<'_> {
    /// Sends a record that was due then (now, if nothing says when), once the window has room.
    async fn send(&mut self, due: Option<Duration>) -> Result<(), Failed> {
        let place = Arc::clone(&self.window).acquire_owned().await;
        let place = place.expect("the window is never closed");
        let due = due.unwrap_or_else(|| self.measure.elapsed());
        let sequence = self.sequence;
        self.sequence += 1;
        let mark = Mark { lane: self.lane, sequence, due_us: due.as_micros() as u64 };
        self.checks.sending(self.lane, sequence);
        self.measure.sent(due);
        let record = Record::new(mark.value(self.plan.size));
        match self.producer.send_to(&self.plan.topic, PartitionId(self.lane.partition), record).await {
            Ok(delivery) => {
                let _ = self.outlet.send(Waiting { due, sequence, delivery, _place: place }).await;
            }
            Err(error) => {
                self.checks.failed(self.lane, sequence, error.is_outcome_unknown());
                self.measure.failed(error.is_outcome_unknown(), &error);
                if error.class() == flotilla_client::Class::Fatal {
                    return Err(Failed::from(error));
                }
            }
        }
        Ok(())
    }
}

async fn one(
    client: &Client,
    plan: &Plan,
    measure: &Measure,
    checks: &Checks,
    time_acks: bool,
    number: u32,
) -> Result<(), Failed> {
    let producer = client.producer(plan.options.clone());
    let (mut senders, mut answers) = (Vec::new(), Vec::new());
    for partition in 0..plan.partitions {
        let (outlet, inlet) = mpsc::channel(WINDOW_MAX as usize);
        let lane = Lane { run: plan.run, producer: number, partition };
        let window = Arc::new(Semaphore::new(plan.window as usize));
        senders.push(Sender {
            plan,
            measure,
            checks,
            producer: &producer,
            lane,
            sequence: 0,
            window,
            outlet,
        });
        answers.push(hear(inlet, lane, plan.size, measure, checks, time_acks));
    }
    let sending = async {
        let sent = if plan.is_paced() {
            paced(senders, plan, measure).await
        } else {
            let each = plan.records_each.div_ceil(u64::from(plan.partitions));
            let all = senders.into_iter().map(|sender| flat_out(sender, each, plan.duration));
            futures::future::try_join_all(all).await.map(drop)
        };
        producer.flush().await;
        sent
    };
    let (sent, _) = tokio::join!(sending, futures::future::join_all(answers));
    producer.close().await;
    sent
}

/// Each record when it is due, whatever became of those before; partitions in turn.
async fn paced(mut senders: Vec<Sender<'_>>, plan: &Plan, measure: &Measure) -> Result<(), Failed> {
    let begun = measure.elapsed();
    let mut sent = 0u64;
    loop {
        let elapsed = measure.elapsed().saturating_sub(begun);
        if sent >= plan.records_each || elapsed >= plan.duration {
            return Ok(());
        }
        // An open loop that cannot keep up still ends when its time is up.
        let burst = plan.due(elapsed).min(sent + BURST);
        while sent < burst {
            let turn = (sent + u64::from(senders[0].lane.producer)) % senders.len() as u64;
            senders[turn as usize].send(Some(begun + plan.due_at(sent))).await?;
            sent += 1;
        }
        let next = (begun + plan.due_at(sent)).saturating_sub(measure.elapsed());
        if next.is_zero() {
            tokio::task::yield_now().await;
        } else {
            pause(next.min(Duration::from_millis(50))).await;
        }
    }
}

/// One record after the other, as fast as the window lets them.
async fn flat_out(mut sender: Sender<'_>, records: u64, duration: Duration) -> Result<(), Failed> {
    let begun = sender.measure.elapsed();
    for _ in 0..records {
        if sender.measure.elapsed().saturating_sub(begun) >= duration {
            break;
        }
        sender.send(None).await?;
        // Nothing above waits while there is room, and answers have to be heard too.
        if sender.sequence.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Waits more exactly than the runtime's timers, which tick each millisecond: their rounding would be a part
/// of every latency.
async fn pause(time: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the load generator's pacing: a sleep, bounded, nothing else"
    )]
    let slept = tokio::task::spawn_blocking(move || std::thread::sleep(time));
    let _ = slept.await;
}

/// Hears how the records of a lane end, in the order they were sent.
async fn hear(
    mut inlet: mpsc::Receiver<Waiting>,
    lane: Lane,
    size: usize,
    measure: &Measure,
    checks: &Checks,
    time_acks: bool,
) {
    while let Some(Waiting { due, sequence, delivery, .. }) = inlet.recv().await {
        match delivery.await {
            Ok(stored) => {
                checks.acknowledged(lane, stored.offset);
                if time_acks {
                    measure.ended(due, size, lane.partition);
                }
            }
            Err(error) => {
                checks.failed(lane, sequence, error.is_outcome_unknown());
                measure.failed(error.is_outcome_unknown(), &error);
            }
        }
    }
}
