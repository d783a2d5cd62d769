//! Messages for others on Kafka: one per line, beside the bus' own records.

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::{KafkaOptions, KafkaProducer, RETRY_PAUSE, Telemetry, unavailable};
use crate::BusError;

/// A message to send.
#[derive(Debug)]
pub struct KafkaLine<'a> {
    pub topic: &'a str,
    /// No key where it is empty.
    pub key: &'a str,
    pub payload: String,
    pub t_ms: i64,
}

/// A producer of messages, idempotent and acknowledged by all in-sync replicas.
pub struct KafkaLines {
    options: KafkaOptions,
    /// Replaced when it failed for good.
    producer: Mutex<KafkaProducer>,
}

impl KafkaLines {
    /// Connects later: brokers that are away now are waited for when there is something to send.
    pub fn new(options: &KafkaOptions) -> Result<KafkaLines, BusError> {
        Ok(KafkaLines { options: options.clone(), producer: Mutex::new(options.producer()?) })
    }

    /// Sends in order; answers when all are durable. On an error some may be. A message too large for the brokers is left
    /// out and said.
    pub async fn send<'a>(&self, lines: impl Iterator<Item = KafkaLine<'a>>) -> Result<(), BusError> {
        let producer = self.producer.lock().clone();
        let sent = send(&producer, lines).await;
        if sent.is_err() && producer.client().fatal_error().is_some() {
            let mut current = self.producer.lock();
            if current.client().fatal_error().is_some() {
                *current = self.options.producer()?;
            }
        }
        sent
    }
}

async fn send<'a>(
    producer: &FutureProducer<Telemetry>,
    lines: impl Iterator<Item = KafkaLine<'a>>,
) -> Result<(), BusError> {
    let mut deliveries = Vec::new();
    for line in lines {
        loop {
            let record = FutureRecord::to(line.topic).payload(&line.payload).timestamp(line.t_ms.max(0));
            let record = if line.key.is_empty() { record } else { record.key(line.key) };
            match producer.send_result(record).map_err(|(error, _)| error) {
                Ok(delivery) => break deliveries.push(delivery),
                Err(error) => match error.rdkafka_error_code() {
                    // Room comes with deliveries.
                    Some(RDKafkaErrorCode::QueueFull) => tokio::time::sleep(RETRY_PAUSE).await,
                    Some(RDKafkaErrorCode::MessageSizeTooLarge) => break too_large(line.payload.len()),
                    _ => return Err(unavailable(error)),
                },
            }
        }
    }
    for delivery in deliveries {
        match delivery.await.map_err(|_| BusError::Closed)? {
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                too_large(0)
            }
            Err((error, _)) => return Err(unavailable(error)),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn too_large(bytes: usize) {
    tracing::error!(bytes, "a line is larger than the brokers take, and is left out");
}
