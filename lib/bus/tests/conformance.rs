//! What every bus does, checked against the embedded log, librdkafka's mock cluster and, when `BINNACLE_TEST_KAFKA`
//! names a broker (`host:port`, see `tests/kafka.sh`), Apache Kafka.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use binnacle_bus::{
    Bus, BusError, EmbeddedBus, EmbeddedOptions, KafkaBus, KafkaLine, KafkaLines, KafkaOptions, MAX_RECORD_BYTES,
    Offset, Topic,
};
use disk::RealDisk;
use futures::FutureExt;
use model::{AlertEvents, Batch};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;

const DEADLINE: Duration = Duration::from_secs(60);

fn batch(text: impl Into<String>) -> Arc<Batch> {
    Arc::new(Batch::Alerts(AlertEvents { tenant: "t".into(), events: vec![text.into()] }))
}

fn text_of(batch: &Batch) -> &str {
    match batch {
        Batch::Alerts(alerts) => &alerts.events[0],
        other => panic!("never sent: {other:?}"),
    }
}

async fn append(bus: &dyn Bus, topic: Topic, text: &str) -> Offset {
    bus.append(topic, 0, batch(text)).await.expect("acknowledged")
}

/// The next `count` records from an offset on.
async fn read(bus: &dyn Bus, topic: Topic, from: Offset, count: usize) -> Vec<(Offset, String)> {
    let mut consumer = bus.subscribe(topic, 0, from).await.expect("subscribed");
    let mut records = Vec::new();
    while records.len() < count {
        let delivery = tokio::time::timeout(DEADLINE, consumer.next()).await.expect("in time").expect("a record");
        records.push((delivery.offset, text_of(&delivery.batch).to_owned()));
    }
    records
}

/// The suite. `open` gives the same log each time; the bus before is dropped by then.
async fn check<F: Future<Output = Arc<dyn Bus>>>(open: impl Fn() -> F) {
    let bus = open().await;
    appends_are_read_in_order(bus.as_ref()).await;
    positions_are_checked(bus.as_ref()).await;
    waiting_is_cancellable(bus.as_ref()).await;
    concurrent_appends_arrive_once(&bus).await;
    oversized_records_are_refused(bus.as_ref()).await;
    every_partition_works(bus.as_ref()).await;
    let (id, end) = (bus.id(), bus.end_offset(Topic::Logs, 0).await.expect("end"));
    let before = read(bus.as_ref(), Topic::Logs, 0, 100).await;
    drop(bus);
    let bus = open().await;
    assert_eq!(bus.id(), id);
    assert_eq!(bus.end_offset(Topic::Logs, 0).await.expect("end"), end);
    assert_eq!(read(bus.as_ref(), Topic::Logs, 0, 100).await, before, "all is there after opening again");
    assert!(append(bus.as_ref(), Topic::Logs, "later").await >= end);
}

async fn appends_are_read_in_order(bus: &dyn Bus) {
    let start = bus.end_offset(Topic::Logs, 0).await.expect("end");
    assert_eq!(start, 0, "a fresh log");
    let mut expected = Vec::new();
    for i in 0..100 {
        let text = format!("record {i}");
        expected.push((append(bus, Topic::Logs, &text).await, text));
    }
    assert!(expected.is_sorted_by(|a, b| a.0 < b.0), "offsets rise");
    assert_eq!(bus.end_offset(Topic::Logs, 0).await.expect("end"), expected[99].0 + 1);
    assert_eq!(read(bus, Topic::Logs, start, 100).await, expected);
    assert_eq!(read(bus, Topic::Logs, expected[40].0, 60).await, expected[40..]);
    assert_eq!(bus.end_offset(Topic::Alerts, 0).await.expect("end"), 0, "topics are apart");
}

async fn positions_are_checked(bus: &dyn Bus) {
    let end = bus.end_offset(Topic::Logs, 0).await.expect("end");
    let refused = bus.subscribe(Topic::Logs, 0, end + 5).await.err().expect("past the end");
    assert!(matches!(refused, BusError::OutOfRange { end: told, .. } if told == end), "{refused}");
    bus.subscribe(Topic::Logs, 0, end).await.expect("the end itself is a place to wait");
}

async fn waiting_is_cancellable(bus: &dyn Bus) {
    let end = bus.end_offset(Topic::Metrics, 0).await.expect("end");
    let mut consumer = bus.subscribe(Topic::Metrics, 0, end).await.expect("subscribed");
    assert!(consumer.next().now_or_never().is_none(), "nothing is there yet");
    for i in 0..20 {
        append(bus, Topic::Metrics, &i.to_string()).await;
        // Polls once and gives up, in between real waits.
        let early = if i % 2 == 0 { consumer.next().now_or_never() } else { None };
        let delivery = match early {
            Some(delivery) => delivery,
            None => tokio::time::timeout(DEADLINE, consumer.next()).await.expect("in time"),
        };
        assert_eq!(text_of(&delivery.expect("a record").batch), i.to_string());
    }
}

async fn concurrent_appends_arrive_once(bus: &Arc<dyn Bus>) {
    let start = bus.end_offset(Topic::Alerts, 0).await.expect("end");
    let producer = |name: usize| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let appends = (0..50).map(|i| bus.append(Topic::Alerts, 0, batch(format!("{name} {i:02}"))));
            futures::future::join_all(appends).await.into_iter().collect::<Result<Vec<_>, _>>()
        })
    };
    let producers: Vec<_> = (0..4).map(producer).collect();
    let records = read(bus.as_ref(), Topic::Alerts, start, 200).await;
    let mut acknowledged = Vec::new();
    for producer in producers {
        acknowledged.extend(producer.await.expect("no panic").expect("all acknowledged"));
    }
    acknowledged.sort_unstable();
    assert_eq!(records.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), acknowledged);
    let mut texts: Vec<_> = records.into_iter().map(|(_, text)| text).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 200, "each once");
}

async fn oversized_records_are_refused(bus: &dyn Bus) {
    let refused = bus.append(Topic::Alerts, 0, batch("x".repeat(MAX_RECORD_BYTES))).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
    // The largest that fits; random-looking, so that compression does not hide its size.
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (state >> 24) as u8 % 95)
    });
    let large: String = noise.take(MAX_RECORD_BYTES - 100).collect();
    let offset = append(bus, Topic::Alerts, &large).await;
    assert_eq!(read(bus, Topic::Alerts, offset, 1).await, [(offset, large)]);
}

async fn every_partition_works(bus: &dyn Bus) {
    for topic in Topic::ALL {
        for partition in 0..bus.partitions(topic) {
            let offset = bus.append(topic, partition, batch(format!("to {partition}"))).await.expect("acknowledged");
            let mut consumer = bus.subscribe(topic, partition, offset).await.expect("subscribed");
            let delivery = consumer.next().await.expect("a record");
            assert_eq!((delivery.offset, text_of(&delivery.batch)), (offset, format!("to {partition}").as_str()));
        }
    }
}

async fn connect(brokers: &str, topic_prefix: &str, partitions: u32) -> Arc<dyn Bus> {
    let (brokers, topic_prefix) = (brokers.to_owned(), topic_prefix.to_owned());
    let options = KafkaOptions { brokers, topic_prefix, partitions, ..KafkaOptions::default() };
    Arc::new(KafkaBus::connect(options).await.expect("connected"))
}

/// Others write to the topic of alerts too, and what cannot be used is put where people find it.
async fn messages_of_others_are_read_and_put_aside(brokers: &str, prefix: &str) {
    let bus = connect(brokers, prefix, 1).await;
    let topic = format!("{prefix}alerts");
    let options = KafkaOptions { brokers: brokers.to_owned(), ..KafkaOptions::default() };
    let lines = KafkaLines::new(&options).expect("a producer");
    let line = KafkaLine { topic: &topic, key: "k", payload: "not ours".into(), t_ms: 5 };
    lines.send([line].into_iter()).await.expect("durable");
    // The mock cluster makes as many partitions as it likes.
    let mut home = None;
    for partition in 0..bus.partitions(Topic::Alerts) {
        if bus.end_offset(Topic::Alerts, partition).await.expect("end") > 0 {
            home = Some(partition);
        }
    }
    let home = home.expect("the message is somewhere");
    let mut consumer = bus.subscribe(Topic::Alerts, home, 0).await.expect("subscribed");
    let delivery = tokio::time::timeout(DEADLINE, consumer.next()).await.expect("in time").expect("a record");
    let event =
        format!("{{\"plain\":{{\"at_ms\":5,\"key\":\"k\",\"place\":\"{topic}/{home}/0\",\"value\":\"not ours\"}}}}");
    assert_eq!(text_of(&delivery.batch), event);
    append(bus.as_ref(), Topic::Alerts, "ours").await;
    bus.put_aside(Topic::Alerts, "a letter".into()).await.expect("durable");
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "reader").set("auto.offset.reset", "earliest");
    let reader: BaseConsumer = config.create().expect("a consumer");
    // One partition where we make the topic; the mock cluster makes it by itself, with four.
    let dead = format!("{topic}.dead");
    let metadata = reader.fetch_metadata(Some(&dead), DEADLINE).expect("the topic is there");
    let mut assignment = rdkafka::TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        assignment.add_partition_offset(&dead, partition.id(), rdkafka::Offset::Beginning).expect("a place");
    }
    reader.assign(&assignment).expect("assigned");
    let found = tokio::task::spawn_blocking(move || {
        let message = reader.poll(DEADLINE).expect("in time").expect("a message");
        message.payload().map(<[u8]>::to_vec)
    });
    assert_eq!(found.await.expect("no panic").as_deref(), Some(&b"a letter"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_log_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    // Small bounds, so that reading from disk, closing of segments and waiting for room all happen.
    let options =
        EmbeddedOptions { segment_bytes: 10_000, reserve_bytes: 0, tail_bytes: 2_000, ..EmbeddedOptions::default() };
    check(|| async {
        let bus = EmbeddedBus::open(Arc::new(RealDisk), dir.path(), options.clone()).expect("opens");
        Arc::new(bus) as Arc<dyn Bus>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_cluster_conforms() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    let brokers = cluster.bootstrap_servers();
    check(|| connect(&brokers, "binnacle.", 4)).await;
    messages_of_others_are_read_and_put_aside(&brokers, "others.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_kafka_conforms() {
    let Ok(brokers) = std::env::var("BINNACLE_TEST_KAFKA") else {
        eprintln!("BINNACLE_TEST_KAFKA is not set: Apache Kafka is not tested (tests/kafka.sh start DIR)");
        return;
    };
    let prefix = format!("test-{}.", uuid::Uuid::new_v4());
    check(|| connect(&brokers, &prefix, 3)).await;
    messages_of_others_are_read_and_put_aside(&brokers, &format!("others-{prefix}")).await;
}
