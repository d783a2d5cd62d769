//! The bus on Apache Kafka.
//!
//! # Contracts
//! - **Acknowledgement.** [`Producer::append`] answers when all in-sync replicas have the record (`acks=all`), from an
//!   idempotent producer that retries for ever (`message.timeout.ms=0`): a record is not lost, not repeated by a retry and
//!   not overtaken within its partition. How durable that is, is the topic's `min.insync.replicas`.
//! - **Pressure.** Bytes under way are bounded; `append` waits for room, as long as the brokers are away.
//! - **Reading.** Consumers are assigned one partition each, join no group and commit nothing: positions belong to the
//!   stores. A position outside the log is [`BusError::OutOfRange`] (`auto.offset.reset=error`), never a silent jump.
//! - Nothing is released: retention is the topic's own.
//! - On the topic of alerts others may write too: what is no record there is handed on as plain text ([`plain`]).

mod lines;
mod plain;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, Offset as KafkaOffset, TopicPartitionList};
use tokio::sync::{OnceCell, Semaphore};

use crate::record::{Packing, decode, encode_bounded};
use crate::{Bus, BusError, Consumer, Delivery, MAX_RECORD_BYTES, Offset, Producer, Topic};
pub use lines::{KafkaLine, KafkaLines};

/// How long one question to the brokers may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often [`KafkaBus::connect`] says what it waits for.
const WAITING_INTERVAL: Duration = Duration::from_secs(30);
/// A trouble of one kind is said once in so long: while brokers are away, librdkafka has several a second.
const SAID_INTERVAL: Duration = Duration::from_secs(10);
/// How long the brokers, which have just answered, may take to hear a request for topics.
const CREATION_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Encoded bytes under way to the brokers.
const QUEUE_BYTES: usize = 64 << 20;
/// A record under way counts as at least this, which bounds their number.
const MIN_QUEUED_BYTES: usize = 1024;

#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Before the topic's name, dot included.
    pub topic_prefix: String,
    /// Of topics that do not exist yet.
    pub partitions: u32,
    pub replication_factor: u32,
    /// Further librdkafka properties (TLS, SASL), for all clients; those that the bus' contracts rest on are set last.
    pub extra: Vec<(String, String)>,
}

impl Default for KafkaOptions {
    fn default() -> KafkaOptions {
        KafkaOptions {
            brokers: "127.0.0.1:9092".to_owned(),
            topic_prefix: "binnacle.".to_owned(),
            partitions: 1,
            replication_factor: 1,
            extra: Vec::new(),
        }
    }
}

/// librdkafka's own messages go to tracing. It reconnects by itself, so no trouble of a connection is more than a warning.
#[derive(Clone, Copy)]
struct Telemetry;

impl ClientContext for Telemetry {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            // What it is of, a broker mostly, comes first.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning
                if is_news(&format!("{facility} {}", message.split(": ").next().unwrap_or(""))) =>
            {
                tracing::warn!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_news(&error.to_string()) {
            tracing::warn!(target: "librdkafka", %error, "{reason}");
        } else {
            tracing::debug!(target: "librdkafka", %error, "{reason}");
        }
    }
}

/// Whether a trouble of this kind was not said within [`SAID_INTERVAL`].
fn is_news(kind: &str) -> bool {
    /// When each kind was said, as far as it counts still.
    static SAID: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    let (mut said, now) = (SAID.lock(), Instant::now());
    said.retain(|_, at| now.duration_since(*at) < SAID_INTERVAL);
    let is_news = !said.contains_key(kind);
    if is_news {
        said.insert(kind.to_owned(), now);
    }
    is_news
}

impl ConsumerContext for Telemetry {}

type KafkaProducer = FutureProducer<Telemetry>;

pub struct KafkaBus {
    options: KafkaOptions,
    id: String,
    /// By `Topic as usize`.
    partitions: [u32; Topic::ALL.len()],
    /// Replaced when it failed for good.
    producer: Mutex<KafkaProducer>,
    queue_room: Semaphore,
    /// Asks for offsets only.
    lookup: Arc<BaseConsumer<Telemetry>>,
    /// Whether the topic of dead letters is there, by `Topic as usize`.
    has_dead: [OnceCell<()>; Topic::ALL.len()],
}

fn unavailable(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(error.to_string())
}

/// Runs a blocking question of librdkafka's beside the runtime.
async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    tokio::task::spawn_blocking(question).await.map_err(unavailable)?
}

impl KafkaOptions {
    fn topic_name(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.name())
    }

    fn client(&self, properties: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "binnacle");
        for (key, value) in &self.extra {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (key, value) in properties {
            config.set(*key, *value);
        }
        config
    }

    fn producer(&self) -> Result<KafkaProducer, BusError> {
        let max_bytes = (MAX_RECORD_BYTES + 64 * 1024).to_string();
        let queue_kbytes = (2 * QUEUE_BYTES / 1024).to_string();
        let config = self.client(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("compression.type", "zstd"),
            ("linger.ms", "5"),
            ("message.max.bytes", &max_bytes),
            ("queue.buffering.max.kbytes", &queue_kbytes),
            ("queue.buffering.max.messages", "100000"),
        ]);
        config.create_with_context(Telemetry).map_err(unavailable)
    }

    /// Properties of everything that reads. `group.id` is only a name that librdkafka asks for: nothing joins it.
    fn reader(&self) -> ClientConfig {
        self.client(&[
            ("group.id", "binnacle-unused"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_uncommitted"),
            ("fetch.wait.max.ms", "100"),
            ("queued.max.messages.kbytes", "16384"),
            ("enable.partition.eof", "false"),
        ])
    }
}

impl KafkaBus {
    /// Connects, creates the topics that do not exist, and waits until all have partitions: as long as brokers are away, of
    /// which it warns, as of topics that they do not create. An error is an option that librdkafka refuses.
    pub async fn connect(options: KafkaOptions) -> Result<KafkaBus, BusError> {
        let producer = options.producer()?;
        let lookup: Arc<BaseConsumer<Telemetry>> =
            Arc::new(options.reader().create_with_context(Telemetry).map_err(unavailable)?);
        let admin: AdminClient<Telemetry> = options.client(&[]).create_with_context(Telemetry).map_err(unavailable)?;
        let (mut waiting, mut pause) = (Instant::now(), RETRY_PAUSE);
        let (partitions, cluster) = loop {
            match ensure_topics(&options, &lookup, &producer, &admin).await {
                Ok(found) => break found,
                Err(reason) if waiting.elapsed() >= WAITING_INTERVAL => {
                    tracing::warn!(brokers = options.brokers, reason, "still waiting for Kafka");
                    waiting = Instant::now();
                }
                Err(reason) => tracing::debug!(reason, "waiting for Kafka"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_RETRY_PAUSE);
        };
        let id = format!("kafka:{cluster}/{}", options.topic_prefix);
        let queue_room = Semaphore::new(QUEUE_BYTES);
        let (producer, has_dead) = (Mutex::new(producer), Default::default());
        Ok(KafkaBus { options, id, partitions, producer, queue_room, lookup, has_dead })
    }

    fn partition(&self, topic: Topic, partition: u32) -> i32 {
        assert!(partition < self.partitions[topic as usize], "no such partition");
        partition as i32
    }

    async fn send(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> Result<Offset, BusError> {
        let record = encode_bounded(&batch, Packing::Small)?.frame;
        let permits = record.len().max(MIN_QUEUED_BYTES) as u32;
        let _room = self.queue_room.acquire_many(permits).await.map_err(|_| BusError::Closed)?;
        let producer = self.producer.lock().clone();
        let name = self.options.topic_name(topic);
        let message: FutureRecord<'_, (), [u8]> =
            FutureRecord::to(&name).partition(self.partition(topic, partition)).payload(&record);
        match producer.send(message, Timeout::Never).await {
            Ok(delivery) => Offset::try_from(delivery.offset).map_err(|_| unavailable("the broker told no offset")),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                Err(BusError::TooLarge { bytes: record.len() })
            }
            Err((error, _)) => {
                self.replace_if_dead(&producer)?;
                Err(unavailable(error))
            }
        }
    }

    async fn send_aside(&self, topic: Topic, letter: String) -> Result<(), BusError> {
        let name = format!("{}.dead", self.options.topic_name(topic));
        let created = self.has_dead[topic as usize].get_or_try_init(|| async {
            let options = KafkaOptions { partitions: 1, ..self.options.clone() };
            let admin: AdminClient<Telemetry> =
                options.client(&[]).create_with_context(Telemetry).map_err(unavailable)?;
            create_topics(&admin, &options, &[&name]).await;
            Ok::<_, BusError>(())
        });
        created.await?;
        let producer = self.producer.lock().clone();
        let message: FutureRecord<'_, (), str> = FutureRecord::to(&name).payload(&letter);
        match producer.send(message, Timeout::Never).await {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                self.replace_if_dead(&producer)?;
                Err(unavailable(error))
            }
        }
    }

    /// An idempotent producer that lost its sequence is of no more use; the next append takes a fresh one.
    fn replace_if_dead(&self, failed: &KafkaProducer) -> Result<(), BusError> {
        let Some((code, reason)) = failed.client().fatal_error() else { return Ok(()) };
        tracing::warn!(%code, reason, "the Kafka producer failed for good and is replaced");
        let mut current = self.producer.lock();
        if current.client().fatal_error().is_some() {
            *current = self.options.producer()?;
        }
        Ok(())
    }

    /// The first offset and the one after the last.
    async fn watermarks(&self, topic: Topic, partition: u32) -> Result<(Offset, Offset), BusError> {
        let (lookup, name) = (self.lookup.clone(), self.options.topic_name(topic));
        let partition = self.partition(topic, partition);
        ask(move || watermarks(&lookup, &name, partition)).await
    }

    async fn open_consumer(&self, topic: Topic, partition: u32, from: Offset) -> Result<Box<dyn Consumer>, BusError> {
        let (start, end) = self.watermarks(topic, partition).await?;
        if !(start..=end).contains(&from) {
            return Err(BusError::OutOfRange { topic, wanted: from, start, end });
        }
        let stream: StreamConsumer<Telemetry> =
            self.options.reader().create_with_context(Telemetry).map_err(unavailable)?;
        let (name, partition) = (self.options.topic_name(topic), self.partition(topic, partition));
        let mut assignment = TopicPartitionList::new();
        let offset = i64::try_from(from).map_err(unavailable)?;
        assignment.add_partition_offset(&name, partition, KafkaOffset::Offset(offset)).map_err(unavailable)?;
        stream.assign(&assignment).map_err(unavailable)?;
        Ok(Box::new(KafkaConsumer { stream, lookup: self.lookup.clone(), topic, name, partition, next: from }))
    }
}

fn watermarks(lookup: &BaseConsumer<Telemetry>, name: &str, partition: i32) -> Result<(Offset, Offset), BusError> {
    let (start, end) = lookup.fetch_watermarks(name, partition, ANSWER_TIMEOUT).map_err(unavailable)?;
    let offset = |value: i64| Offset::try_from(value).map_err(unavailable);
    Ok((offset(start)?, offset(end)?))
}

/// The partitions of each topic, by `Topic as usize`, and the cluster's id. What does not exist yet is asked for, and the
/// reason told why it is not there.
async fn ensure_topics(
    options: &KafkaOptions,
    lookup: &Arc<BaseConsumer<Telemetry>>,
    producer: &KafkaProducer,
    admin: &AdminClient<Telemetry>,
) -> Result<([u32; Topic::ALL.len()], String), String> {
    let names = Topic::ALL.map(|topic| options.topic_name(topic));
    let (asked, asked_names) = (lookup.clone(), names.clone());
    let counts = ask(move || count_all(asked.client(), &asked_names)).await.map_err(|error| error.to_string())?;
    if counts.contains(&0) {
        let missing: Vec<&str> =
            (0..).zip(&names).filter(|(i, _)| counts[*i] == 0).map(|(_, name)| name.as_str()).collect();
        if !create_topics(admin, options, &missing).await {
            // A producer's question makes brokers create a topic where they do that by themselves.
            let (asked, asked_names) = (producer.clone(), names.clone());
            ask(move || count_all(asked.client(), &asked_names)).await.map_err(|error| error.to_string())?;
        }
        return Err(format!("there are no topics {}", missing.join(", ")));
    }
    let asked = producer.clone();
    let cluster = ask(move || Ok(asked.client().fetch_cluster_id(ANSWER_TIMEOUT))).await;
    let cluster = cluster.map_err(|error| error.to_string())?;
    Ok((counts, cluster.ok_or("the brokers do not say their cluster id")?))
}

fn count_all<C: ClientContext>(
    client: &Client<C>,
    names: &[String; Topic::ALL.len()],
) -> Result<[u32; Topic::ALL.len()], BusError> {
    let mut counts = [0; Topic::ALL.len()];
    for (count, name) in counts.iter_mut().zip(names) {
        *count = count_partitions(client, name)?;
    }
    Ok(counts)
}

/// Partitions of a topic, 0 where it does not exist.
fn count_partitions<C: ClientContext>(client: &Client<C>, name: &str) -> Result<u32, BusError> {
    let metadata = client.fetch_metadata(Some(name), ANSWER_TIMEOUT).map_err(unavailable)?;
    let found = metadata.topics().iter().find(|known| known.name() == name && known.error().is_none());
    u32::try_from(found.map_or(0, |known| known.partitions().len())).map_err(unavailable)
}

/// Asks for topics; false when these brokers (librdkafka's mock) take no such request.
async fn create_topics(admin: &AdminClient<Telemetry>, options: &KafkaOptions, names: &[&str]) -> bool {
    let new_topic = |name| {
        NewTopic::new(name, options.partitions as i32, TopicReplication::Fixed(options.replication_factor as i32))
    };
    let topics: Vec<_> = names.iter().copied().map(new_topic).collect();
    let admin_options = AdminOptions::new().request_timeout(Some(CREATION_TIMEOUT));
    match admin.create_topics(&topics, &admin_options).await {
        Ok(results) => {
            for (name, code) in results.into_iter().filter_map(Result::err) {
                if code != RDKafkaErrorCode::TopicAlreadyExists && is_news(&format!("{name} {code}")) {
                    tracing::warn!(topic = name, %code, "Kafka did not create a topic");
                }
            }
            true
        }
        Err(error) => {
            tracing::debug!(%error, "Kafka takes no request for topics");
            false
        }
    }
}

impl Producer for KafkaBus {
    fn partitions(&self, topic: Topic) -> u32 {
        self.partitions[topic as usize]
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.send(topic, partition, batch).boxed()
    }
}

impl Bus for KafkaBus {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn end_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        async move { Ok(self.watermarks(topic, partition).await?.1) }.boxed()
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        async move { Ok(self.watermarks(topic, partition).await?.0) }.boxed()
    }

    fn subscribe(
        &self,
        topic: Topic,
        partition: u32,
        from: Offset,
    ) -> BoxFuture<'_, Result<Box<dyn Consumer>, BusError>> {
        self.open_consumer(topic, partition, from).boxed()
    }

    fn release(&self, _topic: Topic, _partition: u32, _upto: Offset) {}

    fn put_aside(&self, topic: Topic, letter: String) -> BoxFuture<'_, Result<(), BusError>> {
        self.send_aside(topic, letter).boxed()
    }
}

struct KafkaConsumer {
    stream: StreamConsumer<Telemetry>,
    lookup: Arc<BaseConsumer<Telemetry>>,
    topic: Topic,
    name: String,
    partition: i32,
    /// The lowest offset that is news.
    next: Offset,
}

impl KafkaConsumer {
    async fn next_delivery(&mut self) -> Result<Delivery, BusError> {
        loop {
            let code = match self.stream.recv().await {
                Ok(message) => {
                    let offset = Offset::try_from(message.offset()).map_err(unavailable)?;
                    if offset < self.next {
                        continue;
                    }
                    let batch = match decode(message.payload().unwrap_or_default()) {
                        Ok(batch) => batch,
                        Err(_) if self.topic == Topic::Alerts => plain::event(&message),
                        Err(error) => {
                            let (name, partition) = (&self.name, self.partition);
                            return Err(BusError::Corrupt(format!(
                                "{name} partition {partition} offset {offset}: {error}"
                            )));
                        }
                    };
                    self.next = offset + 1;
                    return Ok(Delivery { offset, batch: Arc::new(batch) });
                }
                Err(error) => error.rdkafka_error_code().ok_or_else(|| unavailable(error))?,
            };
            match code {
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    return Err(self.out_of_range().await);
                }
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Fatal => return Err(unavailable(format!("{}: {code}", self.name))),
                // Of connections, mostly; librdkafka goes on by itself.
                code if is_news(&format!("{} {code}", self.name)) => {
                    tracing::warn!(topic = self.name, %code, "Kafka consumer")
                }
                code => tracing::debug!(topic = self.name, %code, "Kafka consumer"),
            }
        }
    }

    async fn out_of_range(&self) -> BusError {
        let (lookup, name, partition) = (self.lookup.clone(), self.name.clone(), self.partition);
        match ask(move || watermarks(&lookup, &name, partition)).await {
            Ok((start, end)) => BusError::OutOfRange { topic: self.topic, wanted: self.next, start, end },
            Err(error) => error,
        }
    }
}

impl Consumer for KafkaConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, BusError>> {
        self.next_delivery().boxed()
    }
}
