//! Reads the messages of remote write. Label sets are recognized by their bytes ([`KnownSeries`]); only those that are new
//! are unpacked and checked. What is rare (histograms, exemplars, descriptions) is left to prost.
//!
//! [`KnownSeries`]: crate::known::KnownSeries

use model::{Exemplar, Floats, Labels, MetricBatch, MetricKind, MetricMetadata, Sample, SeriesSamples};
use prost::{DecodeError, Message};
use service::config::Limits;

use super::proto::{Histogram, family_of, kind_of, read_histograms, v1, v2};
use crate::ingest::{Refusals, label_fault};
use crate::known::Visit;
use crate::pairs::{PairsVisit, sender_of};

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("protobuf: {0}")]
    Malformed(&'static str),
    #[error("protobuf: {0}")]
    Part(#[from] DecodeError),
}

const CUT_SHORT: MessageError = MessageError::Malformed("the message is cut short");
const WRONG_TYPE: MessageError = MessageError::Malformed("a field is not of its type");

type Result<T> = std::result::Result<T, MessageError>;

/// Sets written as pairs of strings, and as pairs of symbols.
const STRINGS: u64 = 0;
const SYMBOLS: u64 = 1;

/// Field 1 of eight bytes, and field 2 as a number.
const VALUE_KEY: u8 = 1 << 3 | 1;
const TIME_KEY: u8 = 2 << 3;

/// A series takes about so many bytes in a message.
const SERIES_BYTES: usize = 150;

enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8]> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(WRONG_TYPE) }
    }

    fn float(self) -> Result<f64> {
        if let Value::Fixed64(bytes) = self { Ok(f64::from_le_bytes(bytes)) } else { Err(WRONG_TYPE) }
    }

    fn integer(self) -> Result<u64> {
        if let Value::Varint(integer) = self { Ok(integer) } else { Err(WRONG_TYPE) }
    }

    fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| MessageError::Malformed("a string is no UTF-8"))
    }
}

/// The fields of a message, in the order they were written.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline(always)]
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(*self.take(8)?.first_chunk().ok_or(CUT_SHORT)?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT_SHORT)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(MessageError::Malformed("the type of a field is not known")),
        };
        Ok(Some((key >> 3, value)))
    }

    #[inline(always)]
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => model::varint::take(&mut self.rest).ok_or(MessageError::Malformed("a number is malformed")),
        }
    }
}

/// A request being read.
pub struct Reading<'a, 'k> {
    pub pairs: PairsVisit<'a>,
    pub known: &'a mut Visit<'k>,
    pub limits: &'a Limits,
    pub refusals: &'a mut Refusals,
    /// The newest sample met, for [`Visit::end`].
    pub newest_ms: i64,
}

/// Reads a message of 1.0: the batch, of no tenant yet, whose label sets are good.
pub fn read_v1(message: &[u8], reading: &mut Reading<'_, '_>) -> Result<MetricBatch> {
    let mut batch = MetricBatch::default();
    batch.series.reserve(message.len() / SERIES_BYTES + 1);
    let mut fields = Fields { rest: message };
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => batch.series.extend(reading.series_v1(value.bytes()?)?),
            3 => batch.metadata.push(v1::Metadata::decode(value.bytes()?)?.read()),
            _ => {}
        }
    }
    Ok(batch)
}

/// Reads a message of 2.0: the batch, of no tenant yet, whose label sets are good. Of descriptions only those that are
/// new.
pub fn read_v2(message: &[u8], reading: &mut Reading<'_, '_>) -> Result<MetricBatch> {
    let (mut symbols, mut series) = (Symbols::default(), Vec::with_capacity(message.len() / 32 + 1));
    let mut fields = Fields { rest: message };
    while let Some((field, value)) = fields.next()? {
        match field {
            4 => symbols.add(value.bytes()?, reading.known),
            5 => series.push(value.bytes()?),
            _ => {}
        }
    }
    let mut batch = MetricBatch::default();
    batch.series.reserve(series.len());
    let mut references = References::default();
    for message in series {
        reading.series_v2(message, &symbols, &mut references, &mut batch)?;
    }
    Ok(batch)
}

impl Reading<'_, '_> {
    fn series_v1(&mut self, message: &[u8]) -> Result<Option<SeriesSamples>> {
        let mut fields = Fields { rest: message };
        let mut read = SeriesSamples::default();
        let (mut histograms, mut exemplars) = (Vec::new(), Vec::new());
        // Where the labels lie in the message, which is in one piece but for odd senders.
        let (mut labels, mut pieces) = (0..0, Vec::new());
        let mut before = 0;
        while let Some((field, value)) = fields.next()? {
            let after = message.len() - fields.rest.len();
            match field {
                1 if labels.is_empty() => labels = before..after,
                1 if labels.end == before => labels.end = after,
                1 => pieces.push(before..after),
                2 => read.samples.push(self.sample(value.bytes()?)?.0),
                3 => exemplars.push(v1::ExemplarPair::decode(value.bytes()?)?.read()),
                4 => histograms.push(Histogram::decode(value.bytes()?)?),
                _ => {}
            }
            before = after;
        }
        let scattered: Vec<u8>;
        let mut bytes = &message[labels];
        if !pieces.is_empty() {
            scattered = bytes.iter().chain(pieces.into_iter().flat_map(|piece| &message[piece])).copied().collect();
            bytes = &scattered;
        }
        let count = read.samples.len() + histograms.len();
        let fingerprint = self.known.fingerprint(bytes, STRINGS);
        let Some(labels) = self.labels(fingerprint, count, || pairs_of(bytes).map(Some))? else { return Ok(None) };
        read.labels = labels;
        read.histograms = read_histograms(histograms, &read.labels, self.refusals);
        read.exemplars = exemplars;
        Ok(Some(read))
    }

    fn series_v2(
        &mut self,
        message: &[u8],
        symbols: &Symbols<'_>,
        references: &mut References,
        batch: &mut MetricBatch,
    ) -> Result<()> {
        let mut fields = Fields { rest: message };
        let (mut samples, mut starts_ms, mut metadata) = (Floats::new(), Vec::new(), None);
        let (mut histograms, mut exemplars): (Vec<Histogram>, Vec<v2::ExemplarPair>) = Default::default();
        references.numbers.clear();
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => references.add(value)?,
                2 => {
                    let (sample, start_ms) = self.sample(value.bytes()?)?;
                    if start_ms != 0 {
                        starts_ms.resize(samples.len(), 0);
                    }
                    if start_ms != 0 || !starts_ms.is_empty() {
                        starts_ms.push(start_ms);
                    }
                    samples.push(sample);
                }
                3 => histograms.push(Histogram::decode(value.bytes()?)?),
                4 => exemplars.push(v2::ExemplarPair::decode(value.bytes()?)?),
                5 => metadata = Some(v2::Metadata::decode(value.bytes()?)?),
                _ => {}
            }
        }
        let count = samples.len() + histograms.len();
        let fingerprint = references.fingerprint(symbols);
        let numbers = &references.numbers;
        let Some(labels) = self.labels(fingerprint, count, || symbols.pairs(numbers))? else { return Ok(()) };
        if count == 0 {
            self.refusals.add("a series without samples", 1, || {
                format!("TimeSeries must contain at least one sample or histogram for series {labels}")
            });
            return Ok(());
        }
        if let Some(metadata) = metadata {
            batch.metadata.extend(self.description(metadata, &labels, symbols)?);
        }
        let histograms = read_histograms(histograms, &labels, self.refusals);
        // An exemplar that is none harms nothing else.
        let mut good = Vec::new();
        for one in exemplars {
            if let Some(pairs) = symbols.pairs(&one.labels)? {
                good.push(Exemplar { labels: Labels::from_pairs(pairs), value: one.value, t_ms: one.t_ms });
            }
        }
        batch.series.push(SeriesSamples { labels, samples, starts_ms, histograms, exemplars: good });
        Ok(())
    }

    fn sample(&mut self, message: &[u8]) -> Result<(Sample, i64)> {
        let read = sample(message)?;
        self.newest_ms = self.newest_ms.max(read.0.t_ms);
        Ok(read)
    }

    /// The label set with a fingerprint: known, or good; and of a sender that is taken. `pairs` are its names and values, `None` where they are lacking.
    fn labels<'p>(
        &mut self,
        fingerprint: u128,
        count: usize,
        pairs: impl FnOnce() -> Result<Option<Vec<(&'p str, &'p str)>>>,
    ) -> Result<Option<Labels>> {
        if let Some((labels, sender)) = self.known.get(fingerprint) {
            let is_taken = sender.is_none_or(|sender| self.pairs.takes(&sender, count));
            return Ok(is_taken.then_some(labels));
        }
        let samples = count;
        let count = count.max(1) as u64;
        let Some(mut pairs) = pairs()? else {
            self.refusals.add("labels that are not among the symbols", count, || "a reference is out of range".into());
            return Ok(None);
        };
        let labels = Labels::from_pairs(pairs.iter().copied());
        pairs.sort_unstable();
        if let Some(two) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            self.refusals.add("a label name repeats", count, || format!("{} in {labels}", two[0].0));
            return Ok(None);
        }
        if let Some(reason) = label_fault(&labels, self.limits) {
            self.refusals.add(reason, count, || labels.to_string());
            return Ok(None);
        }
        let Some((series, sender)) = sender_of(&labels) else {
            return Ok(Some(self.known.keep(fingerprint, &labels, None)));
        };
        let is_taken = self.pairs.takes(&sender, samples);
        let series = self.known.keep(fingerprint, &series, Some(sender));
        Ok(is_taken.then_some(series))
    }

    fn description(
        &mut self,
        metadata: v2::Metadata,
        labels: &Labels,
        symbols: &Symbols<'_>,
    ) -> Result<Option<MetricMetadata>> {
        let name = labels.metric_name().unwrap_or("");
        let [help, unit] = [metadata.help, metadata.unit].map(|symbol| symbols.texts.get(symbol as usize).copied());
        // Before it is known: what is no text is refused again and again.
        let [help, unit] = [help, unit].map(|text| Value::Bytes(text.unwrap_or(b"")).text());
        let (help, unit) = (help?, unit?);
        let kind = kind_of(metadata.kind);
        let name = family_of(kind, name);
        let says_nothing = name.is_empty() || (kind == MetricKind::Unknown && help.is_empty() && unit.is_empty());
        if says_nothing || self.known.is_described(self.pairs.tenant, kind, name, help, unit) {
            return Ok(None);
        }
        Ok(Some(MetricMetadata { name: name.to_owned(), kind, help: help.to_owned(), unit: unit.to_owned() }))
    }
}

/// A sample of either version, and its start time, 0 where none is known.
fn sample(message: &[u8]) -> Result<(Sample, i64)> {
    // As every sender writes it: the value, then the time.
    if let [VALUE_KEY, a, b, c, d, e, f, g, h, TIME_KEY, time @ ..] = message {
        let mut time = Fields { rest: time };
        let t_ms = time.varint()? as i64;
        if time.rest.is_empty() {
            return Ok((Sample { t_ms, value: f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) }, 0));
        }
    }
    let mut fields = Fields { rest: message };
    let (mut value, mut t_ms, mut start_ms) = (0.0, 0, 0);
    while let Some((field, read)) = fields.next()? {
        match field {
            1 => value = read.float()?,
            2 => t_ms = read.integer()? as i64,
            3 => start_ms = read.integer()? as i64,
            _ => {}
        }
    }
    Ok((Sample { t_ms, value }, start_ms))
}

/// Names and values of label messages, one after the other as fields of their series.
fn pairs_of(bytes: &[u8]) -> Result<Vec<(&str, &str)>> {
    let mut fields = Fields { rest: bytes };
    let mut pairs = Vec::new();
    while let Some((_, value)) = fields.next()? {
        let mut label = Fields { rest: value.bytes()? };
        let mut pair = ("", "");
        while let Some((field, value)) = label.next()? {
            match field {
                1 => pair.0 = value.text()?,
                2 => pair.1 = value.text()?,
                _ => {}
            }
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// The strings of a message of 2.0, and their fingerprints.
#[derive(Default)]
struct Symbols<'a> {
    texts: Vec<&'a [u8]>,
    fingerprints: Vec<u128>,
}

impl<'a> Symbols<'a> {
    fn add(&mut self, text: &'a [u8], known: &Visit<'_>) {
        self.texts.push(text);
        self.fingerprints.push(known.fingerprint(text, SYMBOLS));
    }

    /// `None` where a reference is out of range, or lacks its other half.
    fn pairs(&self, references: &[u32]) -> Result<Option<Vec<(&'a str, &'a str)>>> {
        if !references.len().is_multiple_of(2) {
            return Ok(None);
        }
        let mut pairs = Vec::with_capacity(references.len() / 2);
        for pair in references.chunks_exact(2) {
            let text = |reference: u32| self.texts.get(reference as usize).copied();
            let (Some(name), Some(value)) = (text(pair[0]), text(pair[1])) else { return Ok(None) };
            pairs.push((Value::Bytes(name).text()?, Value::Bytes(value).text()?));
        }
        Ok(Some(pairs))
    }
}

/// The references of a series to symbols.
#[derive(Default)]
struct References {
    numbers: Vec<u32>,
}

impl References {
    /// Packed into one field, or each a field of its own.
    fn add(&mut self, value: Value<'_>) -> Result<()> {
        match value {
            Value::Varint(number) => self.numbers.push(number as u32),
            Value::Bytes(bytes) => {
                let mut packed = Fields { rest: bytes };
                self.numbers.reserve(bytes.len());
                while !packed.rest.is_empty() {
                    self.numbers.push(packed.varint()? as u32);
                }
            }
            Value::Fixed64(_) | Value::Fixed32 => return Err(WRONG_TYPE),
        }
        Ok(())
    }

    /// A polynomial over the symbols' own fingerprints, which nobody outside can know.
    fn fingerprint(&self, symbols: &Symbols<'_>) -> u128 {
        const BASE: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;
        self.numbers.iter().fold(self.numbers.len() as u128, |sum, number| {
            // One out of range makes the set no good, and such a set is never known.
            let fingerprint = symbols.fingerprints.get(*number as usize).copied().unwrap_or(0);
            sum.wrapping_mul(BASE).wrapping_add(fingerprint)
        })
    }
}
