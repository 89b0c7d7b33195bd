//! Reads topics as a member of a group, and shares their partitions with others that do: `group ENDPOINTS
//! GROUP TOPIC [COUNT]`.

use flotilla_client::{Client, Options};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoints), Some(group), Some(topic)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: group ENDPOINTS GROUP TOPIC [COUNT]".into());
    };
    let mut left: usize = arguments.next().map_or(Ok(usize::MAX), |count| count.parse())?;
    let client = Client::connect(endpoints.split(','), Options::default()).await?;
    let mut consumer = client.group(group).topics([topic]).start()?;
    while left > 0 {
        // Asking for more says that the records before are processed, so that they may be committed.
        for record in consumer.poll_up_to(left.min(500), Duration::from_secs(1)).await? {
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
            println!("{}/{} {value}", record.partition, record.offset);
            left -= 1;
        }
    }
    consumer.close().await?;
    Ok(())
}
