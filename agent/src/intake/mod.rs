//! Lines that come to the agent by themselves: syslog over TCP, UDP and TLS, and standard input.
//!
//! # Contracts
//! - Nobody who sends so can be told that a line is durable, so delivery is best effort: a line that was read is shipped until
//!   every sink has taken it, but what is under way when the process is killed is lost.
//! - Lines under way are bounded by [`QUEUE_LINES`] and [`BATCH_TEXT_BYTES`]. When sinks do not take them, TCP, TLS and
//!   standard input are not read, which holds the sender back; datagrams are dropped and counted (`reason="overflow"`).
//! - Sources of this kind live as long as the process: a reload does not touch them.

mod frames;
mod stdin;
mod syslog;

#[cfg(test)]
pub mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bus::Producer;
use model::{Batch, Labels, LabelsBuilder, LogBatch, Origin};
use service::config::LogSource;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use frames::{Frame, Frames};
use syslog::Server;
pub use syslog::received;

use crate::logs::discover::{Source, SourceError};
use crate::logs::event::Outcome;
use crate::logs::filter::Reason;
use crate::logs::parse::{Level, level};
use crate::logs::{LogCounters, Stage, enrich, ship};

/// The path that stands for standard input.
pub const STDIN: &str = "-";
const QUEUE_LINES: usize = 1024;
const BATCH_LINES: usize = 1024;
const BATCH_TEXT_BYTES: usize = 512 * 1024;
/// Streams whose labels are kept in mind.
const MAX_STREAMS: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("logs.sources: {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// A line as a protocol understood it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Received {
    /// Names its stream.
    pub labels: Labels,
    pub metadata: Labels,
    pub level: Option<Level>,
    pub t_ns: Option<i64>,
    pub text: String,
}

/// Where lines of a source go.
#[derive(Clone)]
pub struct IntakeOptions {
    pub node: String,
    pub tenant: String,
    pub producers: Vec<Arc<dyn Producer>>,
    pub counters: LogCounters,
}

/// One source of lines, listening already, not read yet.
pub struct Intake {
    source: Source,
    options: IntakeOptions,
    input: Input,
}

enum Input {
    Syslog(Server),
    Stdin,
}

impl Intake {
    /// The intakes among the sources. Addresses are bound here, so that a mistake is known at once.
    pub fn of_sources(sources: &[LogSource], options: &IntakeOptions) -> Result<Vec<Intake>, IntakeError> {
        let mut intakes = Vec::new();
        for config in sources {
            let input = match &config.syslog {
                Some(syslog) => Input::Syslog(Server::bind(syslog)?),
                None if config.paths.iter().any(|path| path == STDIN) => Input::Stdin,
                None => continue,
            };
            intakes.push(Intake { source: Source::new(config)?, options: options.clone(), input });
        }
        Ok(intakes)
    }

    /// The address listened on, as tests need it.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        match &self.input {
            Input::Syslog(server) => server.address(),
            Input::Stdin => None,
        }
    }

    /// Reads until `stop`, or until there is nothing more.
    pub async fn run(self, stop: CancellationToken) {
        let (sender, receiver) = mpsc::channel(QUEUE_LINES);
        let counters = self.options.counters.clone();
        let gatherer = Gatherer::new(self.source, self.options);
        let reading = async {
            match self.input {
                Input::Syslog(server) => server.run(sender, counters, stop.clone()).await,
                Input::Stdin => stdin::run(sender, stop.clone()).await,
            }
        };
        tokio::join!(reading, gatherer.run(receiver, stop.clone()));
    }
}

/// Makes batches of lines and ships them.
pub struct Gatherer {
    source: Source,
    options: IntakeOptions,
    /// Tenant and labels by the labels received; `None` where relabelling drops them.
    streams: HashMap<Labels, Option<(String, Labels)>>,
}

impl Gatherer {
    pub fn new(source: Source, options: IntakeOptions) -> Gatherer {
        Gatherer { source, options, streams: HashMap::new() }
    }

    async fn run(mut self, mut receiver: mpsc::Receiver<Received>, stop: CancellationToken) {
        let mut received = Vec::with_capacity(BATCH_LINES);
        while receiver.recv_many(&mut received, BATCH_LINES).await > 0 {
            if self.take(&mut received, &stop).await == Outcome::Abandoned {
                return;
            }
        }
    }

    /// Ships lines, and empties the list of them. What is refused is counted; the worst outcome counts.
    pub async fn take(&mut self, received: &mut Vec<Received>, stop: &CancellationToken) -> Outcome {
        self.options.counters.lines(Stage::Read, received.len() as u64);
        let mut worst = Outcome::Acknowledged;
        for batch in self.batches(received.drain(..)) {
            let count = batch.len() as u64;
            let outcome = self.ship(batch, stop).await;
            match outcome {
                Outcome::Acknowledged => self.options.counters.lines(Stage::Acknowledged, count),
                Outcome::Dropped => self.drop_lines(Reason::Refused, count),
                Outcome::Abandoned => return Outcome::Abandoned,
            }
            worst = worst.max(outcome);
        }
        worst
    }

    async fn ship(&self, batch: LogBatch, stop: &CancellationToken) -> Outcome {
        let batch = Batch::Logs(batch);
        let all = self.options.producers.iter().map(|producer| ship::append(producer.as_ref(), batch.clone(), stop));
        futures::future::join_all(all).await.into_iter().max().unwrap_or(Outcome::Acknowledged)
    }

    fn drop_lines(&self, reason: Reason, count: u64) {
        self.options.counters.lines(Stage::Dropped, count);
        self.options.counters.dropped(reason, count);
    }

    fn batches(&mut self, received: impl Iterator<Item = Received>) -> Vec<LogBatch> {
        let mut batches: Vec<LogBatch> = Vec::new();
        let mut last_t_ns = 0;
        for one in received {
            let Some((tenant, labels)) = self.name(&one.labels) else {
                self.drop_lines(Reason::Filter, 1);
                continue;
            };
            let text = match self.source.rules.filter.apply(one.text.into()) {
                Ok(text) => text,
                Err(reason) => {
                    self.drop_lines(reason, 1);
                    continue;
                }
            };
            // Lines that came at one time keep their order.
            let t_ns = one.t_ns.unwrap_or_else(model::now_ns).max(if one.t_ns.is_some() { 0 } else { last_t_ns + 1 });
            last_t_ns = last_t_ns.max(if one.t_ns.is_some() { last_t_ns } else { t_ns });
            let level = one.level.or_else(|| level::detect(text.as_bytes()));
            let mut metadata = one.metadata.to_builder();
            metadata.set("level", level.map_or("", Level::name));
            let has_room = |batch: &LogBatch| batch.tenant == tenant && batch.text_bytes() < BATCH_TEXT_BYTES;
            let at = batches.iter().rposition(has_room).unwrap_or_else(|| {
                batches.push(LogBatch::new(tenant.as_str(), Origin::Pushed));
                batches.len() - 1
            });
            add(&mut batches[at], labels, t_ns, &text, metadata.build());
        }
        batches
    }

    fn name(&mut self, labels: &Labels) -> Option<(String, Labels)> {
        if self.streams.len() >= MAX_STREAMS {
            self.streams.clear();
        }
        let Gatherer { source, options, streams } = self;
        let named = streams.entry(labels.clone()).or_insert_with(|| {
            let mut base = LabelsBuilder::default();
            base.set("node", options.node.as_str());
            let naming = enrich::named(base, &options.tenant, source, labels)?;
            let stream = naming.streams.into_iter().next()?;
            Some((naming.tenant, stream))
        });
        named.clone()
    }
}

fn add(batch: &mut LogBatch, labels: Labels, t_ns: i64, text: &str, metadata: Labels) {
    fn index_of(sets: &mut Vec<Labels>, set: Labels) -> u32 {
        let at = sets.iter().rposition(|known| *known == set).unwrap_or_else(|| {
            sets.push(set);
            sets.len() - 1
        });
        at as u32
    }
    let stream = index_of(&mut batch.streams, labels);
    let metadata = index_of(&mut batch.metadata, metadata);
    batch.push(stream, t_ns, text, metadata, 0);
}
