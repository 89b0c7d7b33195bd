//! Makes a topic if it is not there and says how the cluster is: `admin ENDPOINTS TOPIC`.

use flotilla_client::types::Reason;
use flotilla_client::{Client, NewTopic, Options};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoints), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: admin ENDPOINTS TOPIC".into());
    };
    let admin = Client::connect(endpoints.split(','), Options::default()).await?.admin();
    match admin.create_topic(&NewTopic::new(&topic, 3, 0), false).await {
        Ok(made) => println!("made {} with {} partitions", made.topic, made.partition_count),
        Err(error) if error.reason() == Some(Reason::AlreadyExists) => println!("{topic} is there already"),
        Err(error) => return Err(error.into()),
    }
    println!("health: {}", admin.health().await?.status.name());
    for node in admin.cluster().await?.nodes {
        println!("node {} at {}: {}", node.node, node.endpoint, if node.online { "online" } else { "away" });
    }
    Ok(())
}
