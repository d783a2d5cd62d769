//! A Kafka cluster inside a test's process: librdkafka's own double.
//!
//! For tests without a broker. It keeps the last 5 MiB of a partition and drops older records silently, so only small
//! tests may use it; Apache Kafka itself is the truth.

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::BusError;

/// Runs until dropped.
pub struct MockKafka(MockCluster<'static, DefaultProducerContext>);

fn unavailable(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(error.to_string())
}

impl MockKafka {
    pub fn start() -> Result<MockKafka, BusError> {
        MockCluster::new(1).map(MockKafka).map_err(unavailable)
    }

    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// The first `count` messages of a topic: keys and payloads, in the order of their times.
    pub async fn read(&self, topic: &str, count: usize) -> Result<Vec<(String, String)>, BusError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("group.id", "test").set("auto.offset.reset", "earliest");
        let consumer: StreamConsumer = config.create().map_err(unavailable)?;
        consumer.subscribe(&[topic]).map_err(unavailable)?;
        let mut messages = Vec::new();
        while messages.len() < count {
            let message = consumer.recv().await.map_err(unavailable)?;
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            messages.push((text(message.key()), text(message.payload())));
        }
        Ok(messages)
    }
}
