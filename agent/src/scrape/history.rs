//! What scrapes of a target become, given those before: samples under the target's labels, markers for series that are
//! gone, and the series about the scrape itself.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use model::exposition::{Lines, TextFormat, read_point, split_series};
use model::{
    Exemplar, Histogram, HistogramSample, Labels, METRIC_NAME, MetricBatch, MetricMetadata, Sample, SeriesSamples,
    relabel, stale_marker,
};

use super::counters::Counters;
use super::fetch::Body;
use super::job::Job;
use super::series::{Place, Point, SeriesTable};
use super::target::Target;
use super::texts::Texts;
use super::{nhcb, protobuf};

/// Samples further ahead of the scrape are not taken, as in Prometheus.
const MAX_AHEAD_MS: i64 = 10 * 60 * 1000;
/// The coarsest resolution of native histograms.
const MIN_SCHEMA: i8 = -4;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// A sample, its series as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scraped {
    pub series: String,
    pub value: Value,
    pub t_ms: Option<i64>,
    /// Of time 0 where they have none.
    pub exemplars: Vec<Exemplar>,
}

/// What a scrape came to, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Why it failed, if it did.
    pub error: Option<String>,
    pub scraped: usize,
    pub kept: usize,
}

pub struct History {
    pub target: Arc<Target>,
    tenant: String,
    table: SeriesTable,
    texts: Texts,
    /// What was said of the metrics last, which is shipped when it changes.
    pub metadata: Arc<[MetricMetadata]>,
    counters: Counters,
}

/// The samples of one scrape, being collected.
struct Collecting {
    t_ms: i64,
    scraped: usize,
    kept: usize,
    series: Vec<SeriesSamples>,
}

impl History {
    pub fn new(target: Arc<Target>, tenant: String, texts: Texts, counters: Counters) -> History {
        let table = SeriesTable::new(target.labels.clone(), target.job.config.honor_labels);
        History { target, tenant, table, texts, metadata: Arc::default(), counters }
    }

    /// Goes on with a changed configuration: what texts mean may have changed, which series there are has not.
    pub fn retarget(&mut self, target: Arc<Target>) {
        self.table.retarget(target.labels.clone(), target.job.config.honor_labels);
        self.target = target;
    }

    /// The batch of a scrape at `t_ms`. A scrape that fails in any sample fails as a whole.
    pub fn scrape(&mut self, body: Result<Body, String>, t_ms: i64, took: Duration) -> (MetricBatch, Outcome) {
        let mut collecting = Collecting { t_ms, scraped: 0, kept: 0, series: Vec::new() };
        self.table.begin();
        let body_bytes = body.as_ref().map_or(0, |body| body.bytes.len());
        let read = body.and_then(|body| self.read(&body, &mut collecting));
        let (error, metadata) = match read {
            Ok(metadata) => (None, metadata),
            Err(error) => (Some(error), Vec::new()),
        };
        let Collecting { scraped, kept, mut series, .. } = collecting;
        let added = self.table.added;
        let ended = if error.is_some() {
            series.clear();
            self.table.fail()
        } else {
            let ended = self.table.ended();
            if scraped > 0 {
                self.table.forget_unseen();
            }
            ended
        };
        series.extend(ended.into_iter().map(|(labels, is_histogram)| marker(labels, is_histogram, t_ms)));
        let body_bytes = if error.as_deref() == Some(super::fetch::BODY_SIZE_LIMIT) { -1.0 } else { body_bytes as f64 };
        self.report(
            &mut series,
            t_ms,
            &[
                ("up", f64::from(u8::from(error.is_none()))),
                ("scrape_duration_seconds", took.as_secs_f64()),
                ("scrape_samples_scraped", scraped as f64),
                ("scrape_samples_post_metric_relabeling", kept as f64),
                ("scrape_series_added", added as f64),
            ],
        );
        let job = &self.target.job;
        if job.config.extra_scrape_metrics == Some(true) {
            let (timeout, limit) = (self.target.timeout.as_secs_f64(), job.config.sample_limit as f64);
            self.report(
                &mut series,
                t_ms,
                &[
                    ("scrape_timeout_seconds", timeout),
                    ("scrape_sample_limit", limit),
                    ("scrape_body_size_bytes", body_bytes),
                ],
            );
        }
        let mut batch = MetricBatch::new(self.tenant.clone(), series);
        if error.is_none() && *self.metadata != *metadata {
            self.metadata = self.texts.share_metadata(metadata.clone());
            batch.metadata = metadata;
        }
        (batch, Outcome { error, scraped, kept })
    }

    /// Adds series about the scrape.
    fn report(&self, series: &mut Vec<SeriesSamples>, t_ms: i64, values: &[(&str, f64)]) {
        let samples = values.iter().map(|(name, value)| {
            SeriesSamples::new(self.target.labels.with(METRIC_NAME, name), vec![Sample { t_ms, value: *value }])
        });
        series.extend(samples);
    }

    /// Markers for all series that there were, and for those about the scrapes.
    pub fn end(&mut self, t_ms: i64) -> MetricBatch {
        let ended = self.table.end_all().into_iter();
        let mut series: Vec<_> = ended.map(|(labels, is_histogram)| marker(labels, is_histogram, t_ms)).collect();
        let names = [
            "up",
            "scrape_duration_seconds",
            "scrape_samples_scraped",
            "scrape_samples_post_metric_relabeling",
            "scrape_series_added",
        ];
        self.report(&mut series, t_ms, &names.map(|name| (name, stale_marker())));
        MetricBatch::new(self.tenant.clone(), series)
    }

    fn read(&mut self, body: &Body, into: &mut Collecting) -> Result<Vec<MetricMetadata>, String> {
        let config = &self.target.job.config;
        let converts = config.convert_classic_histograms_to_nhcb == Some(true);
        let keeps_classic = config.always_scrape_classic_histograms == Some(true);
        let wants_native = config.scrape_native_histograms == Some(true);
        let metadata = match body.text_format() {
            Some(format) if !converts => self.read_text(body.text()?, format, into)?,
            format => {
                let (mut samples, metadata) = match format {
                    Some(format) => parse_text(body.text()?, format)?,
                    None => {
                        let wanted = protobuf::Wanted { native: wants_native, classic: keeps_classic || converts };
                        protobuf::parse(&body.bytes, wanted).map_err(|error| error.to_string())?
                    }
                };
                if converts {
                    samples = nhcb::convert(samples, &metadata, keeps_classic);
                }
                for sample in samples {
                    self.take(&sample.series, sample.value, sample.t_ms, sample.exemplars, into)?;
                }
                metadata
            }
        };
        let limit = self.target.job.config.sample_limit;
        if limit > 0 && into.kept as u64 > limit {
            self.counters.over_sample_limit.inc();
            return Err("sample limit exceeded".to_owned());
        }
        Ok(metadata)
    }

    /// The text formats, line by line: of a line that was there before only the value is parsed.
    fn read_text(
        &mut self,
        text: &str,
        format: TextFormat,
        into: &mut Collecting,
    ) -> Result<Vec<MetricMetadata>, String> {
        let mut lines = Lines::new(text, format);
        while let Some(line) = lines.next_sample() {
            let fault = |reason: &'static str| lines.error(reason).to_string();
            let (place, rest) = match self.table.expected(line) {
                Some((length, place)) => (Some(place), &line[length..]),
                None => {
                    let (series, rest) = split_series(line).map_err(fault)?;
                    (self.place(series)?, rest)
                }
            };
            let point = read_point(rest, format).map_err(fault)?;
            let Some(place) = place else { continue };
            self.put(place, Value::Float(point.value), point.t_ms, point.exemplar.into_iter().collect(), into)?;
        }
        lines.end().map_err(|error| error.to_string())?;
        Ok(lines.metadata)
    }

    fn take(
        &mut self,
        series: &str,
        value: Value,
        t_ms: Option<i64>,
        exemplars: Vec<Exemplar>,
        into: &mut Collecting,
    ) -> Result<(), String> {
        match self.place(series)? {
            Some(place) => self.put(place, value, t_ms, exemplars, into),
            None => Ok(()),
        }
    }

    /// Where the samples of a text go; made where it is new.
    fn place(&mut self, series: &str) -> Result<Option<Place>, String> {
        if let Some(place) = self.table.find(series) {
            return Ok(Some(place));
        }
        let written = self.texts.series(series).map_err(str::to_owned)?;
        let job = &self.target.job;
        let labels = with_target(&written.labels, &self.target.labels, job.config.honor_labels);
        let labels = relabel(&labels, &job.config.metric_relabel_configs);
        if let Some(labels) = &labels {
            check_labels(job, labels).inspect_err(|_| {
                self.counters.over_label_limits.inc();
            })?;
        }
        let has_steps = !job.config.metric_relabel_configs.is_empty();
        let labels = labels.map(|labels| if has_steps { self.texts.share_labels(&labels) } else { labels });
        Ok(Some(self.table.add(written, labels)))
    }

    fn put(
        &mut self,
        place: Place,
        value: Value,
        own_t_ms: Option<i64>,
        mut exemplars: Vec<Exemplar>,
        into: &mut Collecting,
    ) -> Result<(), String> {
        into.scraped += 1;
        let Some(place) = place else { return Ok(()) };
        let config = &self.target.job.config;
        let own_t_ms = own_t_ms.filter(|_| config.honor_timestamps);
        let t_ms = own_t_ms.unwrap_or(into.t_ms);
        let is_live = own_t_ms.is_none() || config.track_timestamps_staleness;
        let is_histogram = matches!(value, Value::Histogram(_));
        if !self.table.sample(place, Point { t_ms, is_live, is_histogram }) {
            // Of repeated samples Prometheus takes the first.
            self.counters.duplicates.inc();
            return Ok(());
        }
        if t_ms > into.t_ms.saturating_add(MAX_AHEAD_MS) {
            self.counters.out_of_bounds.inc();
            return Ok(());
        }
        into.kept += 1;
        let labels = self.table.labels(place);
        for exemplar in exemplars.iter_mut().filter(|exemplar| exemplar.t_ms == 0) {
            exemplar.t_ms = t_ms;
        }
        let mut samples = SeriesSamples { labels, exemplars, ..SeriesSamples::default() };
        match value {
            Value::Float(value) => samples.samples.push(Sample { t_ms, value }),
            Value::Histogram(histogram) => {
                let histogram = limited(histogram, config.native_histogram_bucket_limit, self.target.job.max_schema)
                    .inspect_err(|_| {
                        self.counters.over_bucket_limit.inc();
                    })?;
                samples.histograms.push(HistogramSample { t_ms, start_ms: 0, histogram });
            }
        }
        into.series.push(samples);
        Ok(())
    }
}

fn marker(labels: Labels, is_histogram: bool, t_ms: i64) -> SeriesSamples {
    if is_histogram {
        let histogram = Arc::new(Histogram::stale());
        let histograms = vec![HistogramSample { t_ms, start_ms: 0, histogram }];
        return SeriesSamples { labels, histograms, ..SeriesSamples::default() };
    }
    SeriesSamples::new(labels, vec![Sample { t_ms, value: stale_marker() }])
}

fn parse_text(text: &str, format: TextFormat) -> Result<(Vec<Scraped>, Vec<MetricMetadata>), String> {
    let (mut lines, mut samples) = (Lines::new(text, format), Vec::new());
    while let Some(line) = lines.next_sample() {
        let fault = |reason: &'static str| lines.error(reason).to_string();
        let (series, rest) = split_series(line).map_err(fault)?;
        let point = read_point(rest, format).map_err(fault)?;
        let exemplars = point.exemplar.into_iter().collect();
        samples.push(Scraped { series: series.into(), value: Value::Float(point.value), t_ms: point.t_ms, exemplars });
    }
    lines.end().map_err(|error| error.to_string())?;
    Ok((samples, lines.metadata))
}

/// Merges buckets until there are no more than `limit` (0: any number) and none is finer than `max_schema`.
fn limited(histogram: Arc<Histogram>, limit: u64, max_schema: Option<i8>) -> Result<Arc<Histogram>, String> {
    let mut histogram = histogram;
    let is_custom = histogram.uses_custom_buckets();
    if let Some(max) = max_schema
        && !is_custom
        && histogram.schema > max
    {
        histogram = Arc::new(histogram.copy_to_schema(max));
    }
    while limit > 0 && (histogram.positive.counts.len() + histogram.negative.counts.len()) as u64 > limit {
        if is_custom || histogram.schema <= MIN_SCHEMA {
            return Err("histogram bucket limit exceeded".to_owned());
        }
        histogram = Arc::new(histogram.copy_to_schema(histogram.schema - 1));
    }
    Ok(histogram)
}

/// What a job refuses in a label set, in Prometheus' words.
fn check_labels(job: &Job, labels: &Labels) -> Result<(), String> {
    let Some(name) = labels.metric_name() else { return Err("missing metric name (__name__ label)".to_owned()) };
    let is_legacy = || labels.iter().all(|label| model::is_label_name(&label.name)) && model::is_metric_name(name);
    if job.wants_legacy_names && !is_legacy() {
        return Err(format!("invalid metric name or label names: {labels}"));
    }
    let config = &job.config;
    let (count, limit) = (labels.len() as u64, config.label_limit);
    let short = |text: &str| text.chars().take(50).collect::<String>();
    if limit > 0 && count > limit {
        return Err(format!(
            "label_limit exceeded (metric: {}, number of labels: {count}, limit: {limit})",
            short(name)
        ));
    }
    let (name_limit, value_limit) = (config.label_name_length_limit, config.label_value_length_limit);
    if name_limit == 0 && value_limit == 0 {
        return Ok(());
    }
    for label in labels {
        let (name_bytes, value_bytes) = (label.name.len() as u64, label.value.len() as u64);
        if name_limit > 0 && name_bytes > name_limit {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {}, label name: {}, length: {name_bytes}, limit: {name_limit})",
                short(name),
                short(&label.name)
            ));
        }
        if value_limit > 0 && value_bytes > value_limit {
            return Err(format!(
                "label_value_length_limit exceeded (metric: {}, label name: {}, value: {:?}, length: {value_bytes}, limit: {value_limit})",
                short(name),
                short(&label.name),
                short(&label.value)
            ));
        }
    }
    Ok(())
}

/// Adds the target's labels: where a scraped label has the same name it is kept, or renamed to `exported_…`.
pub fn with_target(scraped: &Labels, target: &Labels, honor_labels: bool) -> Labels {
    let (mut left, mut right) = (scraped.as_slice(), target.as_slice());
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(scraped_label), Some(label)) = (left.first(), right.first()) {
        match scraped_label.name.cmp(&label.name) {
            Ordering::Less => {
                merged.push(scraped_label.clone());
                left = &left[1..];
            }
            Ordering::Greater => {
                merged.push(label.clone());
                right = &right[1..];
            }
            Ordering::Equal => return renamed(scraped, target, honor_labels),
        }
    }
    merged.extend(left.iter().chain(right).cloned());
    Labels::from_sorted(merged)
}

/// The same where names meet.
fn renamed(scraped: &Labels, target: &Labels, honor_labels: bool) -> Labels {
    let mut labels = scraped.to_builder();
    for label in target {
        match scraped.get(&label.name) {
            Some(_) if honor_labels => continue,
            Some(value) => {
                let mut name = format!("exported_{}", label.name);
                while scraped.get(&name).is_some() || target.get(&name).is_some() {
                    name.insert_str(0, "exported_");
                }
                labels.set(name, value);
            }
            None => {}
        }
        labels.set(label.name.clone(), label.value.clone());
    }
    labels.build()
}
