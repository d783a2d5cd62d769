//! The same promises with Kafka between an agent and the stores, each a process of its own.

use crate::end_to_end::harness::{Binnacle, Dice, temp_dir};
use crate::end_to_end::lose_nothing::{Processes, acknowledged_samples_survive, tailed_lines_survive};

/// The broker that `tests/kafka.sh` started; without it these tests have nothing to say, and `make test` insists on it.
fn brokers() -> Option<String> {
    let brokers = std::env::var("BINNACLE_TEST_KAFKA").ok();
    assert!(brokers.is_some() || !crate::end_to_end::harness::full(), "make test needs the broker of tests/kafka.sh");
    brokers
}

/// A configuration whose topics are this test's own.
fn config(dir: &std::path::Path, brokers: &str) -> String {
    let prefix = format!("test-{}-{}.", std::process::id(), model::now_ns());
    let path = dir.join("kafka.yml");
    let text = format!("bus: {{kafka: {{brokers: '{brokers}', topic_prefix: '{prefix}', partitions: 3}}}}\n");
    std::fs::write(&path, text).expect("written");
    format!("--config.file={}", path.display())
}

#[test]
fn tailed_lines_cross_kafka_exactly_once_while_agent_and_store_are_killed() {
    let Some(brokers) = brokers() else { return };
    let dir = temp_dir();
    let config = config(dir.path(), &brokers);
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let start_indexer = || Binnacle::start(&dir.path().join("indexer"), &["indexer", &config]);
    let start_agent = || Binnacle::start(dir.path(), &["agent", &config, &glob]);
    let processes = Processes::start(&start_agent, Some(&start_indexer));
    tailed_lines_survive(dir.path(), &mut Dice::new("tailed lines over Kafka"), processes);
}

#[test]
fn acknowledged_samples_survive_kill_9_of_a_store_on_kafka() {
    let Some(brokers) = brokers() else { return };
    let dir = temp_dir();
    let config = config(dir.path(), &brokers);
    let start = || Binnacle::start(dir.path(), &["tsdb", &config]);
    acknowledged_samples_survive(&mut Dice::new("samples over Kafka"), &start);
}
