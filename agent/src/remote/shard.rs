//! A share of the series: collected to requests, and sent one at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bus::Offset;
use model::{Batch, Labels, MetricBatch, MetricMetadata, SeriesSamples};
use parking_lot::Mutex;
use service::config::RemoteMessage;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Remote;
use super::counters::RemoteCounters;
use super::encode::{Contents, Entry, v1, v2};
use super::send::{Outcome, send};

/// Descriptions of so many metrics are remembered, for requests of 2.0.
const MAX_METADATA: usize = 20_000;

/// Descriptions by name, shared by the shards.
pub type KnownMetadata = Arc<Mutex<HashMap<String, Arc<MetricMetadata>>>>;

/// A series of a record.
pub struct Item {
    pub batch: Arc<Batch>,
    pub at: u32,
    pub labels: Sent,
}

/// The labels that a series is sent under.
pub enum Sent {
    AsTheyAre,
    Renamed(Labels),
}

impl Item {
    fn series(&self) -> Option<(&Labels, &SeriesSamples)> {
        let Batch::Metrics(MetricBatch { series, .. }) = self.batch.as_ref() else { return None };
        let series = &series[self.at as usize];
        match &self.labels {
            Sent::AsTheyAre => Some((&series.labels, series)),
            Sent::Renamed(labels) => Some((labels, series)),
        }
    }
}

/// What a shard has to do of one record.
pub struct Work {
    pub items: Vec<Item>,
    /// Descriptions to send: in one shard only.
    pub metadata: Vec<MetricMetadata>,
    pub tenant: Arc<str>,
    pub partition: u32,
    /// The record's offset is done when all of this is.
    pub offset: Offset,
}

pub struct Shard {
    pub remote: Arc<Remote>,
    pub counters: RemoteCounters,
    pub known: KnownMetadata,
    pub work: mpsc::Receiver<Work>,
    /// The next offset that is not done, by partition.
    pub done: watch::Sender<BTreeMap<u32, Offset>>,
    pub waiting: Waiting,
}

/// What is collected and not sent.
#[derive(Default)]
pub struct Waiting {
    items: VecDeque<Item>,
    samples: usize,
    metadata: Vec<MetricMetadata>,
    tenant: Arc<str>,
    /// Offsets that are done when so many items have been sent.
    marks: VecDeque<(u64, u32, Offset)>,
    taken: u64,
    sent: u64,
}

fn samples_of(item: &Item) -> usize {
    item.series().map_or(0, |(_, series)| series.len().max(1))
}

impl Shard {
    /// Sends until nobody has work any more. Cancelling it loses nothing: what is not marked is read again.
    pub async fn run(mut self) {
        let delay = self.remote.config.queue_config.batch_send_deadline.as_std();
        let most = self.remote.config.queue_config.max_samples_per_send;
        let mut due = Instant::now();
        loop {
            let is_idle = self.waiting.items.is_empty() && self.waiting.metadata.is_empty();
            let work = tokio::select! {
                work = self.work.recv() => work,
                () = tokio::time::sleep_until(due), if !is_idle => {
                    self.send_next(most).await;
                    due = Instant::now() + delay;
                    continue;
                }
            };
            let Some(work) = work else {
                while !self.waiting.items.is_empty() || !self.waiting.metadata.is_empty() {
                    self.send_next(most).await;
                }
                return;
            };
            if is_idle {
                due = Instant::now() + delay;
            }
            if !is_idle && work.tenant != self.waiting.tenant {
                while !self.waiting.items.is_empty() || !self.waiting.metadata.is_empty() {
                    self.send_next(most).await;
                }
            }
            self.waiting.take(work);
            self.mark();
            while self.waiting.samples >= most {
                self.send_next(most).await;
                due = Instant::now() + delay;
            }
        }
    }

    /// Says which offsets are done: none while descriptions wait, which may be of any of them.
    fn mark(&mut self) {
        if !self.waiting.metadata.is_empty() {
            return;
        }
        let mut reached = Vec::new();
        while let Some((upto, partition, offset)) = self.waiting.marks.front().copied()
            && upto <= self.waiting.sent
        {
            self.waiting.marks.pop_front();
            reached.push((partition, offset + 1));
        }
        if !reached.is_empty() {
            self.done.send_modify(|done| done.extend(reached));
        }
    }

    /// Sends one request of what waits.
    async fn send_next(&mut self, most: usize) {
        let (mut count, mut samples) = (0, 0);
        for item in &self.waiting.items {
            let more = samples_of(item);
            if samples > 0 && samples + more > most {
                break;
            }
            (count, samples) = (count + 1, samples + more);
        }
        let items: Vec<Item> = self.waiting.items.drain(..count).collect();
        let metadata = std::mem::take(&mut self.waiting.metadata);
        let tally = self.request(&items, &metadata).await;
        self.waiting.samples -= samples;
        self.waiting.sent += count as u64;
        self.counters.pending.dec_by(samples as i64);
        self.mark();
        if let Some(t_ms) = tally {
            self.counters.sent_time.set(t_ms as f64 / 1000.0);
        }
    }

    /// Sends these; answers the time of the newest sample that was taken.
    async fn request(&self, items: &[Item], metadata: &[MetricMetadata]) -> Option<i64> {
        let config = &self.remote.config;
        let contents = Contents { exemplars: config.send_exemplars, histograms: config.send_native_histograms };
        let age_ms = config.queue_config.sample_age_limit.0;
        let oldest_ms = if age_ms > 0 { model::now_ms() - age_ms } else { i64::MIN };
        let mut tally = Tally { newest_ms: i64::MIN, ..Tally::default() };
        let entries: Vec<Entry> =
            items.iter().filter_map(|item| self.entry(item, contents, oldest_ms, &mut tally)).collect();
        self.counters.dropped.inc_by(tally.dropped);
        if entries.is_empty() && metadata.is_empty() {
            return None;
        }
        let message = match config.protobuf_message {
            RemoteMessage::V1 => v1(entries.into_iter(), metadata, contents),
            RemoteMessage::V2 => {
                let families = self.families(items);
                v2(entries.into_iter(), |name| families.get(name).map(AsRef::as_ref), contents)
            }
        };
        let body = snap::raw::Encoder::new().compress_vec(&message).expect("a request is far below snappy's limit");
        let (samples, histograms) = (tally.samples, tally.histograms);
        match send(&self.remote, &self.waiting.tenant, body, samples + histograms, &self.counters).await {
            Outcome::Taken => {
                self.counters.samples.inc_by(samples);
                self.counters.histograms.inc_by(histograms);
                self.counters.exemplars.inc_by(tally.exemplars);
                self.counters.metadata.inc_by(metadata.len() as u64);
                (tally.newest_ms > i64::MIN).then_some(tally.newest_ms)
            }
            Outcome::Refused => {
                self.counters.failed.inc_by(samples + histograms);
                None
            }
        }
    }

    fn entry<'a>(&self, item: &'a Item, contents: Contents, oldest_ms: i64, tally: &mut Tally) -> Option<Entry<'a>> {
        let (labels, samples) = item.series()?;
        let floats = samples.samples.iter().map(|sample| sample.t_ms);
        let histograms = samples.histograms.iter().map(|sample| sample.t_ms);
        let is_sent = |t_ms: &i64| *t_ms >= oldest_ms;
        let sent_floats = floats.clone().filter(is_sent).count() as u64;
        let sent_histograms = if contents.histograms { histograms.clone().filter(is_sent).count() as u64 } else { 0 };
        tally.samples += sent_floats;
        tally.histograms += sent_histograms;
        tally.exemplars += if contents.exemplars { samples.exemplars.len() as u64 } else { 0 };
        tally.dropped += samples.len() as u64 - sent_floats - sent_histograms;
        tally.newest_ms = floats.chain(histograms).max().unwrap_or(i64::MIN).max(tally.newest_ms);
        (sent_floats + sent_histograms > 0).then_some(Entry { labels, samples, oldest_ms })
    }

    /// What is known of the metrics of some series.
    fn families<'a>(&self, items: &'a [Item]) -> HashMap<&'a str, Arc<MetricMetadata>> {
        let known = self.known.lock();
        let mut families = HashMap::new();
        for name in items.iter().filter_map(|item| item.series()?.0.metric_name()) {
            let stems = ["", "_bucket", "_count", "_sum"].iter().filter_map(|suffix| name.strip_suffix(suffix));
            let found = stems.into_iter().find_map(|stem| known.get(stem));
            families.extend(found.map(|one| (name, one.clone())));
        }
        families
    }
}

#[derive(Default)]
struct Tally {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    dropped: u64,
    newest_ms: i64,
}

impl Waiting {
    fn take(&mut self, work: Work) {
        self.taken += work.items.len() as u64;
        self.samples += work.items.iter().map(samples_of).sum::<usize>();
        self.items.extend(work.items);
        self.metadata.extend(work.metadata);
        self.tenant = work.tenant;
        self.marks.push_back((self.taken, work.partition, work.offset));
    }
}

/// Remembers descriptions, as many as there is room for.
pub fn remember(known: &KnownMetadata, metadata: &[MetricMetadata]) {
    let mut known = known.lock();
    for one in metadata {
        if known.len() < MAX_METADATA || known.contains_key(&one.name) {
            known.insert(one.name.clone(), Arc::new(one.clone()));
        }
    }
}
