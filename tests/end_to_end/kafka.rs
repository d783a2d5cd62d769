//! The same promises with Kafka between an agent and the stores, each a process of its own.

use crate::end_to_end::harness::{Binnacle, Dice, temp_dir, wait_for};
use crate::end_to_end::lose_nothing::tailed_lines_survive;
use crate::end_to_end::remote_write::{Sender, series};

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
fn tailed_lines_cross_kafka_exactly_once_while_the_agent_is_killed() {
    let Some(brokers) = brokers() else { return };
    let dir = temp_dir();
    let config = config(dir.path(), &brokers);
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let indexer = Binnacle::start(&dir.path().join("indexer"), &["indexer", &config]);
    let mut dice = Dice::new("tailed lines over Kafka");
    let start_agent = || Binnacle::start(dir.path(), &["agent", &config, &glob]);
    tailed_lines_survive(dir.path(), &mut dice, start_agent, Some(&indexer));
    indexer.stop();
}

#[test]
fn a_killed_store_shows_every_acknowledged_sample_once() {
    let Some(brokers) = brokers() else { return };
    let dir = temp_dir();
    let config = config(dir.path(), &brokers);
    let start = || Binnacle::start(dir.path(), &["tsdb", &config]);
    let mut tsdb = start();
    let start_ms = model::now_ms() - 600_000;
    for batch in 0..20i64 {
        let samples = (0..100).map(|s| series("over_kafka", s, &[(start_ms + batch * 1000, batch as f64)]));
        Sender::start(tsdb.url("/api/v1/write"), Sender::body(samples)).must_be_acknowledged();
        if batch % 5 == 4 {
            if batch % 10 == 4 {
                tsdb.flush();
            }
            tsdb.kill();
            tsdb = start();
        }
    }
    tsdb.wait_ready();
    wait_for("every sample", || (tsdb.value("sum(count_over_time(over_kafka[1h]))") == Some(2000.0)).then_some(()));
    assert_eq!(tsdb.value("sum(sum_over_time(over_kafka[1h]))"), Some(100.0 * 190.0));
    tsdb.stop();
}
