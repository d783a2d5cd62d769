//! What the protocols share that bring samples in: bodies, samples gathered by series, and what is kept between requests.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use bus::BusError;
use disk::Disk;
use model::{Exemplar, Labels, Sample, SeriesSamples};
use parking_lot::RwLock;
use service::config::Otlp;
use service::http::{ApiError, Params};
use service::metrics::{Gauge, Metrics};

use super::otlp::Deltas;
use super::pushgateway::Groups;
use crate::service::Appended;
use crate::{Options, Tsdb};

/// Kept between requests.
pub(crate) struct Intake {
    pub otlp: RwLock<Arc<Otlp>>,
    /// Held while a request with deltas is made durable, so that totals advance exactly with what is acknowledged.
    pub deltas: tokio::sync::Mutex<Deltas>,
    pub delta_series: Gauge,
    /// What was pushed to stay.
    pub groups: Arc<Groups>,
}

impl Intake {
    /// Reads what is kept in the directory.
    pub fn open(options: &Options, disk: Arc<dyn Disk>, metrics: &Metrics) -> Intake {
        let delta_series = Gauge::default();
        metrics.register(|registry| {
            let help = "Series of OpenTelemetry with delta temporality whose totals are kept";
            registry.register("tsdb_otlp_delta_series", help, delta_series.clone());
        });
        let deltas = tokio::sync::Mutex::default();
        let groups = Arc::new(Groups::open(disk, &options.dir));
        let otlp = RwLock::new(Arc::new(options.otlp.clone()));
        Intake { otlp, deltas, delta_series, groups }
    }
}

impl Tsdb {
    /// Translates OpenTelemetry's metrics by these settings from now on.
    pub fn set_otlp(&self, otlp: Otlp) {
        *self.intake.otlp.write() = Arc::new(otlp);
    }
}

/// Why a batch was not taken: a record that is too large never will be, all else is worth sending again.
pub(crate) fn not_taken(error: &BusError) -> ApiError {
    match error {
        BusError::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", format!("{error}; send smaller bodies"))
        }
        _ => ApiError::unavailable(error.to_string()),
    }
}

/// 204, or 400 with a line per reason where something was refused beside what was taken.
pub(crate) fn taken(appended: Result<Appended, BusError>) -> Result<StatusCode, ApiError> {
    match appended {
        Ok(Appended { refused: None, .. }) => Ok(StatusCode::NO_CONTENT),
        Ok(Appended { refused: Some(reasons), .. }) => Err(ApiError::bad_data(reasons)),
        Err(error) => Err(not_taken(&error)),
    }
}

/// Name and value of a label that many series share.
pub(crate) type Pair = (Arc<str>, Arc<str>);

/// Labels that every series gets, whatever it says itself: `extra_label=name=value`, any number of times.
pub(crate) fn extra_labels(params: &Params) -> Result<Vec<Pair>, ApiError> {
    let pair = |text: &str| {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let pair = pair.map(|(name, value)| (Arc::from(name), Arc::from(value)));
        pair.ok_or_else(|| ApiError::bad_data(format!("invalid parameter \"extra_label\": {text:?} is not name=value")))
    };
    params.get_all("extra_label").map(pair).collect()
}

/// Samples by series, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    places: HashMap<Labels, usize>,
    series: Vec<SeriesSamples>,
}

impl Gathered {
    pub fn series(&mut self, labels: Labels) -> &mut SeriesSamples {
        let place = *self.places.entry(labels).or_insert_with_key(|labels| {
            self.series.push(SeriesSamples { labels: labels.clone(), ..SeriesSamples::default() });
            self.series.len() - 1
        });
        &mut self.series[place]
    }

    /// Adds a float; its start is 0 where it is not known.
    pub fn float(&mut self, labels: Labels, sample: Sample, start_ms: i64, exemplars: Vec<Exemplar>) {
        let series = self.series(labels);
        series.samples.push(sample);
        series.starts_ms.push(start_ms);
        series.exemplars.extend(exemplars);
    }

    pub fn into_series(mut self) -> Vec<SeriesSamples> {
        for one in &mut self.series {
            if one.starts_ms.len() != one.samples.len() || one.starts_ms.iter().all(|start_ms| *start_ms == 0) {
                one.starts_ms.clear();
            }
        }
        self.series
    }
}

/// What was read, as lines that tests compare: samples and exemplars by series, then what was refused.
#[cfg(test)]
pub(crate) fn shown(batch: &model::MetricBatch, refusals: &crate::ingest::Refusals) -> Vec<String> {
    let mut lines = Vec::new();
    for one in &batch.series {
        lines.extend(one.samples.iter().map(|sample| format!("{} @{} {}", one.labels, sample.t_ms, sample.value)));
        lines.extend(one.exemplars.iter().map(|exemplar| format!("exemplar @{} {}", exemplar.t_ms, exemplar.labels)));
    }
    lines.extend(refusals.lines());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Option<&[(&str, &str)]>) {
        let read = extra_labels(&Params::parse(query)).ok();
        let read: Option<Vec<_>> =
            read.as_ref().map(|pairs| pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect());
        assert_eq!(read.as_deref(), expected);
    }

    #[test]
    fn extra_labels_are_pairs() {
        check("", Some(&[]));
        check("extra_label=a=b=c&extra_label=d%3De", Some(&[("a", "b=c"), ("d", "e")]));
        check("extra_label=a", None);
        check("extra_label==b", None);
    }

    #[test]
    fn starts_are_kept_where_one_is_known() {
        let (known, unknown) = (Labels::from_pairs([("a", "1")]), Labels::from_pairs([("a", "2")]));
        let mut gathered = Gathered::default();
        for (labels, start_ms) in [(&known, 0), (&unknown, 0), (&known, 5)] {
            gathered.float(labels.clone(), Sample { t_ms: 9, value: 1.0 }, start_ms, Vec::new());
        }
        let series = gathered.into_series();
        assert_eq!(series.iter().map(|one| one.starts_ms.as_slice()).collect::<Vec<_>>(), [&[0, 5][..], &[]]);
    }
}
