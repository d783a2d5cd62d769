//! Scraping: every static target on its own beat, its samples and the health series beside them onto the bus.
//!
//! # Contracts
//! - A scrape is one batch with one timestamp (unless the target gives timestamps and they are honoured): samples, `up`,
//!   and the `scrape_*` series of Prometheus.
//! - A series that was in the last scrape and is not in this one, all series when a scrape fails, and all series at the
//!   end get a staleness marker; series with timestamps of their own do not, as in Prometheus.
//! - Targets may be replaced while running ([`ScrapeControl::set`]).
//! - A body is read up to [`MAX_BODY_BYTES`]; more than `sample_limit` samples fail the scrape as a whole.

mod auth;
mod target;
pub use model::exposition as text;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::Producer;
use model::{Exemplar, Labels, METRIC_NAME, MetricBatch, MetricMetadata, Sample, SeriesSamples, relabel, stale_marker};
use parking_lot::Mutex;
use serde::Serialize;
use service::config::{Global, ScrapeConfig};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use target::Target;
use target::Targets;
use text::{Exposition, TextFormat, TextSample};

const MAX_BODY_BYTES: usize = 64 << 20;
/// How long the last samples of a target may take, when stopping too.
const LAST_SHIPMENT: Duration = Duration::from_secs(2);
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// A target's state, as `/api/v1/targets` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    pub discovered_labels: Labels,
    pub labels: Labels,
    pub scrape_pool: String,
    pub scrape_url: String,
    /// `unknown`, `up` or `down`.
    pub health: &'static str,
    pub last_error: String,
    pub last_scrape_ms: i64,
    pub last_scrape_duration_seconds: f64,
    pub scrape_interval_ms: i64,
    pub scrape_timeout_ms: i64,
    /// What the last scrape said of its metrics.
    #[serde(skip)]
    pub metadata: Arc<[MetricMetadata]>,
}

/// The states of the targets that are scraped now.
pub type TargetList = Arc<Mutex<Vec<Arc<Mutex<TargetStatus>>>>>;

/// Tells a scraper what to scrape, before and while it runs.
#[derive(Clone)]
pub struct ScrapeControl(Arc<watch::Sender<Targets>>);

impl ScrapeControl {
    /// Replaces the targets. One that stays as it was goes on undisturbed; one that is gone or changed is ended with
    /// staleness markers.
    pub fn set(&self, global: &Global, configs: &[ScrapeConfig]) {
        self.0.send_replace(target::targets(global, configs));
    }

    /// What relabelling dropped: the job, and the labels before it.
    pub fn dropped(&self) -> Vec<(String, Labels)> {
        self.0.borrow().dropped.clone()
    }
}

pub struct Scraper {
    pub control: ScrapeControl,
    tenant: String,
    producer: Arc<dyn Producer>,
    pub status: TargetList,
}

/// A target that is being scraped, by [`Target::identity`].
struct Running {
    stop: CancellationToken,
    status: Arc<Mutex<TargetStatus>>,
}

impl Scraper {
    pub fn new(global: &Global, configs: &[ScrapeConfig], tenant: String, producer: Arc<dyn Producer>) -> Scraper {
        let control = ScrapeControl(Arc::new(watch::Sender::new(target::targets(global, configs))));
        Scraper { control, tenant, producer, status: TargetList::default() }
    }

    /// Scrapes until `stop`, and ends every series.
    pub async fn run(self, stop: CancellationToken) {
        let client = match service::http::client().build() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "no HTTP client: nothing is scraped");
                return;
            }
        };
        let mut wanted = self.control.0.subscribe();
        let (mut running, mut loops) = (HashMap::new(), JoinSet::new());
        while !stop.is_cancelled() {
            let targets = wanted.borrow_and_update().kept.clone();
            self.apply(targets, &client, &stop, &mut running, &mut loops);
            loop {
                tokio::select! {
                    changed = wanted.changed() => {
                        assert!(changed.is_ok(), "we hold a sender ourselves");
                        break;
                    }
                    () = stop.cancelled() => break,
                    Some(ended) = loops.join_next() => failed(ended),
                }
            }
        }
        while let Some(ended) = loops.join_next().await {
            failed(ended);
        }
    }

    /// Starts what is new, stops what is not wanted any more.
    fn apply(
        &self,
        targets: Vec<Target>,
        client: &reqwest::Client,
        stop: &CancellationToken,
        running: &mut HashMap<u128, Running>,
        loops: &mut JoinSet<()>,
    ) {
        let (mut kept, mut statuses) = (HashMap::new(), Vec::new());
        for target in targets {
            let identity = target.identity();
            if kept.contains_key(&identity) {
                continue;
            }
            let one = running.remove(&identity).unwrap_or_else(|| {
                let status = Arc::new(Mutex::new(TargetStatus::new(&target)));
                let one = Running { stop: stop.child_token(), status };
                let history =
                    History { target, tenant: self.tenant.clone(), seen: HashMap::new(), metadata: Arc::default() };
                let beat = Loop { client: client.clone(), producer: self.producer.clone(), history };
                loops.spawn(beat.run(one.status.clone(), one.stop.clone()));
                one
            });
            statuses.push(one.status.clone());
            kept.insert(identity, one);
        }
        running.values().for_each(|gone| gone.stop.cancel());
        *running = kept;
        *self.status.lock() = statuses;
    }
}

fn failed(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "scraping a target failed");
    }
}

impl TargetStatus {
    fn new(target: &Target) -> TargetStatus {
        TargetStatus {
            discovered_labels: target.discovered.clone(),
            labels: target.labels.clone(),
            scrape_pool: target.config.job_name.clone(),
            scrape_url: target.url.clone(),
            health: "unknown",
            last_error: String::new(),
            last_scrape_ms: 0,
            last_scrape_duration_seconds: 0.0,
            scrape_interval_ms: target.interval.as_millis() as i64,
            scrape_timeout_ms: target.timeout.as_millis() as i64,
            metadata: Arc::default(),
        }
    }
}

/// One target's scraping.
struct Loop {
    client: reqwest::Client,
    producer: Arc<dyn Producer>,
    history: History,
}

/// What scrapes of a target become, given those before.
struct History {
    target: Target,
    tenant: String,
    /// Series of the last scrape; whether a marker would end them.
    seen: HashMap<Labels, bool>,
    /// What was said of the metrics last, which is shipped when it changes.
    metadata: Arc<[MetricMetadata]>,
}

/// The samples of a scrape that are kept.
#[derive(Default)]
struct Accepted {
    /// How many there were before filtering.
    scraped: usize,
    samples: Vec<TextSample>,
    metadata: Vec<MetricMetadata>,
}

impl Loop {
    async fn run(mut self, status: Arc<Mutex<TargetStatus>>, stop: CancellationToken) {
        let mut beat = tokio::time::interval_at(
            tokio::time::Instant::now() + self.history.target.offset(),
            self.history.target.interval,
        );
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = stop.cancelled() => break,
            }
            let (t_ms, start) = (model::now_ms(), Instant::now());
            let result = tokio::select! {
                fetched = tokio::time::timeout(self.history.target.timeout, self.fetch()) => {
                    fetched.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
                }
                () = stop.cancelled() => break,
            };
            let took = start.elapsed();
            let result = result.and_then(|exposition| self.history.accept(exposition));
            let error = result.as_ref().err().cloned();
            let batch = self.history.batch(result, t_ms, took);
            {
                let mut status = status.lock();
                status.health = if error.is_none() { "up" } else { "down" };
                status.last_error = error.unwrap_or_default();
                status.last_scrape_ms = t_ms;
                status.last_scrape_duration_seconds = took.as_secs_f64();
                status.metadata = self.history.metadata.clone();
            }
            let shipped = crate::metrics::ship(self.producer.as_ref(), batch, "a scrape", self.history.target.interval);
            tokio::select! {
                biased;
                _ = shipped => {}
                () = stop.cancelled() => break,
            }
        }
        let ends = self.history.ends(model::now_ms(), &HashMap::new());
        let batch = MetricBatch::new(self.history.tenant.clone(), ends);
        crate::metrics::ship(self.producer.as_ref(), batch, "the end of a target", LAST_SHIPMENT).await;
    }

    async fn fetch(&self) -> Result<Exposition, String> {
        let request = self.client.get(&self.history.target.url).header("accept", ACCEPT);
        let timeout_seconds = self.history.target.timeout.as_secs_f64().to_string();
        let request = request.header("x-prometheus-scrape-timeout-seconds", timeout_seconds);
        let request = auth::authorize(request, &self.history.target.config).map_err(|error| error.to_string())?;
        let mut response = request.send().await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("server returned HTTP status {}", response.status()));
        }
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        let format = TextFormat::of_content_type(content_type);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            if chunk.len() > MAX_BODY_BYTES - body.len() {
                return Err(format!("body is over {MAX_BODY_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(body).map_err(|_| "body is not UTF-8".to_owned())?;
        text::parse(&text, format).map_err(|error| error.to_string())
    }
}

impl History {
    /// Names and filters samples.
    fn accept(&self, exposition: Exposition) -> Result<Accepted, String> {
        let Exposition { samples, metadata } = exposition;
        let scraped = samples.len();
        let config = &self.target.config;
        let mut kept = Vec::with_capacity(scraped);
        for mut sample in samples {
            let labels = with_target(&sample.labels, &self.target.labels, config.honor_labels);
            let Some(labels) = relabel(&labels, &config.metric_relabel_configs) else { continue };
            sample.labels = labels;
            sample.t_ms = sample.t_ms.filter(|_| config.honor_timestamps);
            kept.push(sample);
        }
        match config.sample_limit {
            Some(limit) if limit > 0 && kept.len() as u64 > limit => {
                Err(format!("sample limit exceeded: {} samples, limit {limit}", kept.len()))
            }
            _ => Ok(Accepted { scraped, samples: kept, metadata }),
        }
    }

    fn batch(&mut self, result: Result<Accepted, String>, t_ms: i64, took: Duration) -> MetricBatch {
        let is_up = result.is_ok();
        let Accepted { scraped, samples, metadata } = result.unwrap_or_default();
        let now: HashMap<Labels, bool> = samples.iter().map(|s| (s.labels.clone(), s.t_ms.is_none())).collect();
        let added = now.keys().filter(|labels| !self.seen.contains_key(*labels)).count();
        let mut series = self.ends(t_ms, &now);
        let kept = samples.len();
        let mut once = HashSet::new();
        for sample in samples {
            // Of repeated series Prometheus takes the first.
            if once.insert((sample.labels.clone(), sample.t_ms)) {
                let point = Sample { t_ms: sample.t_ms.unwrap_or(t_ms), value: sample.value };
                let exemplar = sample.exemplar.map(|exemplar| Exemplar {
                    t_ms: if exemplar.t_ms == 0 { point.t_ms } else { exemplar.t_ms },
                    ..exemplar
                });
                let exemplars = exemplar.into_iter().collect();
                series.push(SeriesSamples { exemplars, ..SeriesSamples::new(sample.labels, vec![point]) });
            }
        }
        self.seen = now;
        let about = [
            ("up", f64::from(u8::from(is_up))),
            ("scrape_duration_seconds", took.as_secs_f64()),
            ("scrape_samples_scraped", scraped as f64),
            ("scrape_samples_post_metric_relabeling", kept as f64),
            ("scrape_series_added", added as f64),
        ];
        for (name, value) in about {
            let labels = self.target.labels.with(METRIC_NAME, name);
            series.push(SeriesSamples::new(labels, vec![Sample { t_ms, value }]));
        }
        let mut batch = MetricBatch::new(self.tenant.clone(), series);
        if is_up && *self.metadata != *metadata {
            self.metadata = metadata.clone().into();
            batch.metadata = metadata;
        }
        batch
    }

    /// Markers for the series that were there and are not in `now`.
    fn ends(&self, t_ms: i64, now: &HashMap<Labels, bool>) -> Vec<SeriesSamples> {
        let gone = self.seen.iter().filter(|(labels, has_marker)| **has_marker && !now.contains_key(*labels));
        let marker = Sample { t_ms, value: stale_marker() };
        gone.map(|(labels, _)| SeriesSamples::new(labels.clone(), vec![marker])).collect()
    }
}

/// Adds the target's labels: where a scraped label has the same name it is kept, or renamed to `exported_…`.
fn with_target(scraped: &Labels, target: &Labels, honor_labels: bool) -> Labels {
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

#[cfg(test)]
mod tests;
