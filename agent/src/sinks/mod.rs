//! Where lines go beside the bus: each sink is a [`Producer`] that takes the same records.
//!
//! # Contracts
//! - A sink's answer is its acknowledgement: only then does its checkpoint move ([`crate::collection`] gives each its own).
//!   What is not acknowledged comes again, so every sink here is at least once; Elasticsearch recognises repeats by ids made
//!   of a line's place.
//! - What passes (no connection, 429, 5xx) is [`BusError::Unavailable`]: it is tried again for ever with a growing pause while
//!   the files wait. What never will be taken is [`BusError::Corrupt`]: it is dropped, counted and said.
//! - Only lines go to sinks: other records are acknowledged and forgotten.

mod elasticsearch;
mod file;
mod http;
mod json;
mod kafka;
mod loki;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bus::{BusError, Offset, Producer, Topic};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Batch, LogBatch};
use service::config::{LogSink, SinkKind};

use crate::push::{HttpOptions, HttpProducer};

#[derive(Debug, thiserror::Error)]
#[error("logs.sinks: {name}: {reason}")]
pub struct SinkError {
    pub name: String,
    pub reason: String,
}

/// Takes lines; says when they are kept.
trait Sink: Send + Sync {
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>>;
}

/// The producer for a sink; `bus` is where lines go without any.
pub fn producer(sink: &LogSink, bus: Option<&Arc<dyn Producer>>) -> Result<Arc<dyn Producer>, SinkError> {
    let fault = |reason: String| SinkError { name: sink.name().to_owned(), reason };
    let url = sink.url.as_deref().unwrap_or("");
    let sends: Box<dyn Sink> = match sink.kind {
        SinkKind::Bus => {
            let missing = || fault("this process has neither a bus nor --agent.push-url".to_owned());
            return bus.cloned().ok_or_else(missing);
        }
        SinkKind::Binnacle => {
            let credentials = http::Credentials::of(sink);
            let bearer_token = credentials.token().map_err(|error| fault(error.to_string()))?;
            let timeout = http::timeout(sink);
            let options = HttpOptions { timeout, bearer_token };
            return Ok(Arc::new(HttpProducer::new(url, options).map_err(|error| fault(error.to_string()))?));
        }
        SinkKind::Loki => Box::new(loki::Loki::new(sink).map_err(fault)?),
        SinkKind::Elasticsearch => Box::new(elasticsearch::Elasticsearch::new(sink).map_err(fault)?),
        SinkKind::Kafka => Box::new(kafka::Kafka::new(sink).map_err(fault)?),
        SinkKind::File => Box::new(file::File::new(sink)),
        SinkKind::Stdout => Box::new(file::Stdout::new(sink)),
        SinkKind::Blackhole => Box::new(Blackhole),
    };
    Ok(Arc::new(OnlyLines(sends)))
}

/// A producer that takes everything and keeps nothing.
pub fn blackhole() -> Arc<dyn Producer> {
    Arc::new(OnlyLines(Box::new(Blackhole)))
}

/// A sink as a producer.
struct OnlyLines(Box<dyn Sink>);

impl Producer for OnlyLines {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, _: Topic, _: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        async move {
            match batch.as_ref() {
                Batch::Logs(lines) if !lines.is_empty() => self.0.send(batch).await?,
                _ => {}
            }
            Ok(0)
        }
        .boxed()
    }
}

/// Takes everything and keeps nothing: for measuring what comes before.
struct Blackhole;

impl Sink for Blackhole {
    fn send(&self, _: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>> {
        futures::future::ready(Ok(())).boxed()
    }
}

/// The lines of a batch that [`OnlyLines`] has let through.
fn lines_of(batch: &Batch) -> &LogBatch {
    match batch {
        Batch::Logs(lines) => lines,
        _ => panic!("only lines come to sinks"),
    }
}
