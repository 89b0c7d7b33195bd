//! The sending half: each record when it is due, each answer as it comes.

use super::check::Checks;
use super::mark::{Lane, Mark};
use super::measure::Measure;
use super::plan::Plan;
use crate::exit::Failed;
use flotilla_client::{Client, Delivery, Record};
use flotilla_types::PartitionId;
use std::time::Duration;
use tokio::sync::mpsc;

/// Deliveries of one producer and partition that wait to be looked at.
const WAITING_MAX: usize = 1 << 16;

struct Waiting {
    due: Duration,
    sequence: u64,
    delivery: Delivery,
}

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

async fn one(
    client: &Client,
    plan: &Plan,
    measure: &Measure,
    checks: &Checks,
    time_acks: bool,
    number: u32,
) -> Result<(), Failed> {
    let lane = |partition| Lane { run: plan.run, producer: number, partition };
    let (inlets, outlets): (Vec<_>, Vec<_>) =
        (0..plan.partitions).map(|_| mpsc::channel::<Waiting>(WAITING_MAX)).unzip();
    let answers = outlets.into_iter().zip(0..).map(|(mut outlet, partition)| async move {
        while let Some(Waiting { due, sequence, delivery }) = outlet.recv().await {
            match delivery.await {
                Ok(_) => {
                    checks.acknowledged(lane(partition));
                    if time_acks {
                        measure.ended(due, plan.size);
                    }
                }
                Err(error) => {
                    checks.failed(lane(partition), sequence, error.is_outcome_unknown());
                    measure.failed(error.is_outcome_unknown(), &error);
                }
            }
        }
    });
    let sending = async move {
        let producer = client.producer(plan.options.clone());
        let begun = measure.elapsed();
        let mut sequences = vec![0u64; plan.partitions as usize];
        let mut sent = 0u64;
        loop {
            let elapsed = measure.elapsed().saturating_sub(begun);
            if sent >= plan.records_each || elapsed >= plan.duration {
                break;
            }
            // An open loop that cannot keep up still ends when its time is up.
            let burst = plan.due(elapsed).min(sent + 1_000);
            while sent < burst {
                let partition = ((sent + u64::from(number)) % u64::from(plan.partitions)) as u32;
                let due = if plan.rate_each > 0.0 { begun + plan.due_at(sent) } else { measure.elapsed() };
                let sequence = sequences[partition as usize];
                let mark = Mark { lane: lane(partition), sequence, due_us: due.as_micros() as u64 };
                sent += 1;
                sequences[partition as usize] += 1;
                checks.sending(mark.lane, sequence);
                measure.sent();
                let record = Record::new(mark.value(plan.size));
                match producer.send_to(&plan.topic, PartitionId(partition), record).await {
                    Ok(delivery) => {
                        let _ = inlets[partition as usize].send(Waiting { due, sequence, delivery }).await;
                    }
                    Err(error) => {
                        checks.failed(mark.lane, sequence, error.is_outcome_unknown());
                        measure.failed(error.is_outcome_unknown(), &error);
                        if error.class() == flotilla_client::Class::Fatal {
                            return Err(Failed::from(error));
                        }
                    }
                }
            }
            if plan.rate_each > 0.0 && sent >= plan.due(measure.elapsed().saturating_sub(begun)) {
                let next = (begun + plan.due_at(sent)).saturating_sub(measure.elapsed());
                tokio::time::sleep(next.min(Duration::from_millis(50)).max(Duration::from_micros(100))).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        producer.close().await;
        Ok(())
    };
    let (sent, _) = tokio::join!(sending, futures::future::join_all(answers));
    sent
}
