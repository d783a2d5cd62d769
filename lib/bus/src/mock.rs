//! A Kafka cluster inside a test's process: librdkafka's own double.
//!
//! For tests without a broker. It keeps the last 5 MiB of a partition and drops older records silently, so only small
//! tests may use it; Apache Kafka itself is the truth.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::BusError;

/// Runs until dropped.
pub struct MockKafka(MockCluster<'static, DefaultProducerContext>);

impl MockKafka {
    pub fn start() -> Result<MockKafka, BusError> {
        MockCluster::new(1).map(MockKafka).map_err(|error| BusError::Unavailable(error.to_string()))
    }

    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }
}
