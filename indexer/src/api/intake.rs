//! What all ways in share: lines are checked before the bus, the good ones are made durable, the others are answered with
//! the reasons.

use std::collections::BTreeMap;

use ::service::body::decompress_as;
use axum::body::Bytes;
use axum::http::StatusCode;
use bus::{BusError, Topic};
use model::{Batch, Labels, LogBatch, MAX_LINE_BYTES, NS_PER_MS, Origin, format_rfc3339_ms};

use super::{Api, LokiError};
use crate::admission::{Refusals, Times, check_labels, check_metadata};
use crate::store::LogStore;

/// A line on its way in.
pub struct Entry {
    /// `None`: it said no time that can be read.
    pub t_ns: Option<i64>,
    pub line: String,
    pub metadata: Vec<(String, String)>,
}

/// The good lines of a request and what is wrong with the others.
pub struct Intake {
    tenant: String,
    batch: LogBatch,
    streams: BTreeMap<Labels, u32>,
    metadata: BTreeMap<Labels, u32>,
    times: Times,
    oldest_ns: i64,
    refusals: Refusals,
    total: usize,
}

/// What became of a request: how many lines were refused, and why.
#[derive(Debug)]
pub struct Outcome {
    pub refused: usize,
    pub reasons: String,
}

impl Intake {
    pub fn new(api: &Api, tenant: &str) -> Intake {
        Intake::over(&api.store, tenant)
    }

    pub fn over(store: &LogStore, tenant: &str) -> Intake {
        let batch = LogBatch::new(tenant, Origin::Pushed);
        let metadata = BTreeMap::from([(Labels::default(), 0)]);
        let oldest_ns = store.now_ns().saturating_sub(store.options().retention.longest_ns(tenant));
        Intake {
            tenant: tenant.to_owned(),
            batch,
            streams: BTreeMap::new(),
            metadata,
            times: Times::now(store, tenant),
            oldest_ns,
            refusals: Refusals::default(),
            total: 0,
        }
    }

    /// The number of a stream; `Err` says why it cannot be one.
    fn place(&mut self, labels: &Labels) -> Result<u32, String> {
        if let Some(place) = self.streams.get(labels) {
            return Ok(*place);
        }
        check_labels(labels)?;
        let place = self.batch.streams.len() as u32;
        self.batch.streams.push(labels.clone());
        self.streams.insert(labels.clone(), place);
        Ok(place)
    }

    pub fn stream(&mut self, labels: Result<Labels, String>, entries: Vec<Entry>) {
        let (labels, count) =
            (labels.and_then(|labels| self.place(&labels).map(|place| (labels, place))), entries.len());
        match labels {
            Err(reason) => self.refuse(count.max(1), reason),
            Ok((labels, place)) => {
                for entry in entries {
                    // What is refused is in the reasons.
                    let _ = self.checked(place, &labels, entry);
                }
            }
        }
    }

    /// One line; why it was refused is also the answer's.
    pub fn line(&mut self, labels: &Labels, entry: Entry) -> Result<(), String> {
        match self.place(labels) {
            Ok(place) => self.checked(place, labels, entry),
            Err(reason) => {
                self.refuse(1, reason.clone());
                Err(reason)
            }
        }
    }

    /// Lines that could not even be read.
    pub fn refuse(&mut self, lines: usize, reason: String) {
        self.total += lines;
        self.refusals.refuse(lines, reason);
    }

    fn checked(&mut self, stream: u32, labels: &Labels, entry: Entry) -> Result<(), String> {
        self.total += 1;
        let taken = self.entry(stream, labels, entry);
        if let Err(reason) = &taken {
            self.refusals.refuse(1, reason.clone());
        }
        taken
    }

    fn entry(&mut self, stream: u32, labels: &Labels, entry: Entry) -> Result<(), String> {
        let t_ns =
            entry.t_ns.ok_or_else(|| format!("entry for stream '{labels}' is without a timestamp in nanoseconds"))?;
        self.times.check(t_ns).map_err(|_| self.untimely(labels, t_ns))?;
        let pairs = entry.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        check_metadata(pairs).map_err(|reason| format!("stream '{labels}' has {reason}"))?;
        let mut metadata = Labels::from_pairs(entry.metadata);
        let mut line = entry.line.as_str();
        if line.len() > MAX_LINE_BYTES {
            line = &line[..line.floor_char_boundary(MAX_LINE_BYTES)];
            metadata = metadata.with("truncated", "true");
        }
        let sets = &mut self.batch.metadata;
        let set = *self.metadata.entry(metadata).or_insert_with_key(|metadata| {
            sets.push(metadata.clone());
            sets.len() as u32 - 1
        });
        self.batch.push(stream, t_ns, line, set, 0);
        Ok(())
    }

    /// In Loki's words.
    fn untimely(&self, labels: &Labels, t_ns: i64) -> String {
        let shown = |ns: i64| format_rfc3339_ms(ns.div_euclid(NS_PER_MS));
        match t_ns < self.oldest_ns {
            true => format!(
                "entry for stream '{labels}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
                shown(t_ns),
                shown(self.oldest_ns)
            ),
            false => format!("entry for stream '{labels}' has timestamp too new: {}", shown(t_ns)),
        }
    }

    /// The good lines.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn into_batch(self) -> LogBatch {
        self.batch
    }

    /// Makes the good lines durable. An error means that none is, and whether it is worth trying again.
    pub async fn append(self, api: &Api) -> Result<Outcome, LokiError> {
        if !self.batch.is_empty() {
            match bus::append_all(api.bus.as_ref(), Topic::Logs, Batch::Logs(self.batch)).await {
                Ok(_) => {}
                Err(error @ BusError::TooLarge { .. }) => return Err(LokiError::bad(error.to_string())),
                Err(error) => return Err(LokiError::unavailable(error.to_string())),
            }
        }
        let refused = self.refusals.lines();
        let mut reasons = self.refusals.reasons().join("\n");
        if refused > 0 {
            reasons += &format!("\nuser '{}', total ignored: {refused} out of {}", self.tenant, self.total);
        }
        Ok(Outcome { refused, reasons })
    }
}

/// A body as it was before a `Content-Encoding`.
pub fn decode(encoding: &str, body: &[u8]) -> Result<Bytes, LokiError> {
    decompress_as(encoding, Bytes::copy_from_slice(body)).map_err(|error| match error.status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            let message = format!("Content-Encoding {encoding:?} not supported");
            LokiError { status: error.status, message }
        }
        StatusCode::BAD_REQUEST if encoding != "snappy" => {
            LokiError::bad(format!("the body cannot be decompressed: {}", error.message))
        }
        _ => error.into(),
    })
}
