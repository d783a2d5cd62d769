//! What all ways in share: lines are checked before the bus, the good ones are made durable, the others are answered with
//! the reasons.

use std::collections::BTreeMap;

use ::service::body::decompress_as;
use axum::body::Bytes;
use axum::http::StatusCode;
use bus::{BusError, Topic};
#[cfg(any(test, feature = "fuzz"))]
use model::LogBatch;
use model::{Batch, Labels, LineRef, Origin};

use super::{Api, LokiError};
use crate::Indexer;
use crate::admission::{Admission, Admitted, Collected, Gate, Refusal, Refusals};
use crate::store::LogStore;

/// A line on its way in.
pub struct Entry {
    /// `None`: it said no time that can be read.
    pub t_ns: Option<i64>,
    pub line: String,
    pub metadata: Vec<(String, String)>,
}

/// The good lines of a request and what is wrong with the others.
pub struct Intake<'a> {
    admission: &'a Admission,
    tenant: String,
    gate: Gate,
    lines: Collected,
    /// Streams by their labels: their number, or why they cannot be one.
    streams: BTreeMap<Labels, Result<u32, Refusal>>,
    bytes: usize,
    refusals: Refusals,
    total: usize,
}

/// What became of a request: how many lines were refused, and why.
#[derive(Debug)]
pub struct Outcome {
    pub refused: usize,
    pub reasons: String,
    /// Nothing was taken, and all of it would be later.
    pub is_for_later: bool,
}

impl Outcome {
    /// What the lines that were not taken are answered with.
    pub fn refusal(&self) -> Option<LokiError> {
        (self.refused > 0).then(|| match self.is_for_later {
            true => LokiError::too_much(&self.reasons),
            false => LokiError::bad(&self.reasons),
        })
    }
}

impl<'a> Intake<'a> {
    pub fn new(api: &'a Indexer, tenant: &str) -> Intake<'a> {
        Intake::over(&api.store, &api.admission, tenant)
    }

    pub fn over(store: &LogStore, admission: &'a Admission, tenant: &str) -> Intake<'a> {
        let gate = Gate::new(store, admission, tenant);
        Intake {
            admission,
            tenant: tenant.to_owned(),
            lines: Collected::new(gate.rules.discovery.clone(), tenant, Origin::Pushed),
            gate,
            streams: BTreeMap::new(),
            bytes: 0,
            refusals: Refusals::default(),
            total: 0,
        }
    }

    /// The number of a stream; `Err` says why it cannot be one.
    fn place(&mut self, labels: &Labels) -> Result<u32, Refusal> {
        if let Some(place) = self.streams.get(labels) {
            return place.clone();
        }
        let checked = self.admission.check_stream(&self.gate.rules, &self.tenant, labels, self.gate.now_ns);
        let place = checked.map(|()| self.lines.stream(labels));
        self.streams.insert(labels.clone(), place.clone());
        place
    }

    pub fn stream(&mut self, labels: Result<Labels, String>, entries: Vec<Entry>) {
        let (count, bytes) = (entries.len().max(1), entries.iter().map(|entry| entry.line.len()).sum());
        let placed = labels.map_err(|reason| Refusal::new("invalid_labels", reason));
        match placed.and_then(|labels| self.place(&labels).map(|place| (labels, place))) {
            Err(refusal) => self.refuse(count, bytes, refusal),
            Ok((labels, place)) => {
                for entry in entries {
                    // What is refused is in the reasons.
                    let _ = self.checked(place, &labels, entry);
                }
            }
        }
    }

    /// One line; why it was refused is also the answer's.
    pub fn line(&mut self, labels: &Labels, entry: Entry) -> Result<(), Refusal> {
        match self.place(labels) {
            Ok(place) => self.checked(place, labels, entry),
            Err(refusal) => {
                self.refuse(1, entry.line.len(), refusal.clone());
                Err(refusal)
            }
        }
    }

    /// Lines that could not even be read.
    pub fn refuse(&mut self, lines: usize, bytes: usize, refusal: Refusal) {
        self.total += lines;
        self.refusals.refuse(lines, bytes, refusal);
    }

    fn checked(&mut self, stream: u32, labels: &Labels, entry: Entry) -> Result<(), Refusal> {
        self.total += 1;
        let bytes = entry.line.len();
        let taken = self.entry(stream, labels, entry);
        if let Err(refusal) = &taken {
            self.refusals.refuse(1, bytes, refusal.clone());
        }
        taken
    }

    fn entry(&mut self, stream: u32, labels: &Labels, entry: Entry) -> Result<(), Refusal> {
        let untimed = || format!("entry for stream '{labels}' is without a timestamp in nanoseconds");
        let t_ns = entry.t_ns.ok_or_else(|| Refusal::new("invalid_timestamp", untimed()))?;
        let pairs = entry.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let Admitted { text, is_cut } = self.gate.admit(labels, t_ns, &entry.line, pairs)?;
        self.bytes += text.len() + entry.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let set = match entry.metadata.is_empty() && !is_cut {
            true => 0,
            false => {
                let metadata = Labels::from_pairs(entry.metadata);
                self.lines.set(&if is_cut { self.admission.marked_cut(&metadata) } else { metadata })
            }
        };
        self.lines.push(stream, set, &LineRef { stream, t_ns, text, metadata: set, source: (0, 0) });
        Ok(())
    }

    /// The good lines.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn into_batch(self) -> LogBatch {
        self.lines.into_batch()
    }

    /// Makes the good lines durable. An error means that none is, and whether it is worth trying again.
    pub async fn append(mut self, api: &Api) -> Result<Outcome, LokiError> {
        let taken = self.lines.len();
        if let Err(refusal) = self.admission.take(&self.tenant, taken, self.bytes, self.gate.now_ns) {
            let answer = LokiError::too_much(&refusal.message);
            self.refusals.refuse(taken, self.bytes, refusal);
            self.admission.count(&self.refusals);
            return Err(answer);
        }
        self.admission.count(&self.refusals);
        if taken > 0 {
            match bus::append_all(api.bus.as_ref(), Topic::Logs, Batch::Logs(self.lines.into_batch())).await {
                Ok(_) => {}
                Err(error @ BusError::TooLarge { .. }) => return Err(LokiError::bad(error.to_string())),
                Err(error) => return Err(LokiError::unavailable(error.to_string())),
            }
        }
        let refused = self.refusals.lines();
        let mut reasons = self.refusals.messages().join("\n");
        if refused > 0 {
            reasons += &format!("\nuser '{}', total ignored: {refused} out of {}", self.tenant, self.total);
        }
        Ok(Outcome { refused, reasons, is_for_later: taken == 0 && self.refusals.all_pass() })
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
