//! Prints what a topic holds and then what comes: `consume ENDPOINTS TOPIC [COUNT]`.

use flotilla_client::{Client, ConsumerOptions, Options, Position};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoints), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: consume ENDPOINTS TOPIC [COUNT]".into());
    };
    let count: usize = arguments.next().map_or(Ok(usize::MAX), |count| count.parse())?;
    let client = Client::connect(endpoints.split(','), Options::default()).await?;
    let mut consumer = client.consumer(ConsumerOptions::default());
    consumer.assign_topic(&topic, Position::Start).await?;
    for _ in 0..count {
        let record = consumer.next().await?;
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        println!("{}/{} {value}", record.partition, record.offset);
    }
    Ok(())
}
