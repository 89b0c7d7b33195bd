//! Sends lines to a topic: `produce ENDPOINTS TOPIC [LINE...]`.

use flotilla_client::{Client, Options, ProducerOptions, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoints), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: produce ENDPOINTS TOPIC [LINE...]".into());
    };
    let client = Client::connect(endpoints.split(','), Options::default()).await?;
    let producer = client.producer(ProducerOptions::default());
    let mut deliveries = Vec::new();
    for line in arguments {
        deliveries.push(producer.send(&topic, Record::new(line)).await?);
    }
    for delivery in deliveries {
        let stored = delivery.await?;
        println!("partition {} offset {}", stored.partition, stored.offset);
    }
    producer.close().await;
    Ok(())
}
