//! The same promises with Kafka between an agent and the stores, each a process of its own.

use bus::MockKafka;

use crate::end_to_end::harness::{Binnacle, Dice, full, temp_dir};
use crate::end_to_end::lose_nothing::{Processes, acknowledged_samples_survive, tailed_lines_survive};

/// Apache Kafka where `tests/kafka.sh` started it, else librdkafka's double in this process.
pub enum Broker {
    Apache(String),
    Mock(MockKafka),
}

impl Broker {
    pub fn find() -> Broker {
        match std::env::var("BINNACLE_TEST_KAFKA") {
            Ok(brokers) => Broker::Apache(brokers),
            // The double forgets what is older than 5 MiB: the full scale needs the real one.
            Err(_) if full() => panic!("make test needs the broker of tests/kafka.sh"),
            Err(_) => Broker::Mock(MockKafka::start().expect("a mock cluster")),
        }
    }

    pub fn address(&self) -> String {
        match self {
            Broker::Apache(brokers) => brokers.clone(),
            Broker::Mock(mock) => mock.brokers(),
        }
    }
}

/// Before the topics of one test.
pub fn own_prefix() -> String {
    format!("test-{}-{}.", std::process::id(), model::now_ns())
}

/// A configuration whose topics are this test's own.
fn config(dir: &std::path::Path, brokers: &str) -> String {
    let prefix = own_prefix();
    let path = dir.join("kafka.yml");
    let text = format!("bus: {{kafka: {{brokers: '{brokers}', topic_prefix: '{prefix}', partitions: 3}}}}\n");
    std::fs::write(&path, text).expect("written");
    format!("--config.file={}", path.display())
}

#[test]
fn tailed_lines_cross_kafka_exactly_once_while_agent_and_store_are_killed() {
    let broker = Broker::find();
    let dir = temp_dir();
    let config = config(dir.path(), &broker.address());
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let start_indexer = || Binnacle::start(&dir.path().join("indexer"), &["indexer", &config]);
    let start_agent = || Binnacle::start(dir.path(), &["agent", &config, &glob]);
    let processes = Processes::start(&start_agent, Some(&start_indexer));
    tailed_lines_survive(dir.path(), &mut Dice::new("tailed lines over Kafka"), processes);
}

#[test]
fn acknowledged_samples_survive_kill_9_of_a_store_on_kafka() {
    let broker = Broker::find();
    let dir = temp_dir();
    let config = config(dir.path(), &broker.address());
    let start = || Binnacle::start(dir.path(), &["tsdb", &config]);
    acknowledged_samples_survive(&mut Dice::new("samples over Kafka"), &start);
}
