//! Lines as Kafka messages, one each; topic and key by template. A record is acknowledged when all its messages are.

use std::sync::Arc;

use bus::{BusError, KafkaLine, KafkaLines, KafkaOptions};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use service::config::{LogSink, SinkEncoding};

use super::{Sink, json, lines_of};
use crate::logs::enrich::expand;

pub struct Kafka {
    lines: KafkaLines,
    topic: String,
    key: String,
    encoding: SinkEncoding,
}

impl Kafka {
    pub fn new(sink: &LogSink) -> Result<Kafka, String> {
        let options = KafkaOptions {
            brokers: sink.brokers.clone().unwrap_or_default(),
            extra: sink.options.clone().into_iter().collect(),
            ..KafkaOptions::default()
        };
        Ok(Kafka {
            lines: KafkaLines::new(&options).map_err(|error| error.to_string())?,
            topic: sink.topic.clone().unwrap_or_default(),
            key: sink.key.clone().unwrap_or_else(|| "${filename}".to_owned()),
            encoding: sink.encoding,
        })
    }
}

impl Sink for Kafka {
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>> {
        async move {
            let batch = lines_of(&batch);
            let named: Vec<(String, String)> =
                batch.streams.iter().map(|labels| (expand(&self.topic, labels), expand(&self.key, labels))).collect();
            let message = |line: model::LineRef<'_>| {
                let (topic, key) = &named[line.stream as usize];
                let payload = json::encode(batch, &line, self.encoding);
                KafkaLine { topic, key, payload, t_ms: line.t_ns / model::NS_PER_MS }
            };
            self.lines.send(batch.lines().map(message)).await
        }
        .boxed()
    }
}
