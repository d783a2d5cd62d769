//! Service discovery: where a job's targets come from, beside `static_configs`.
//!
//! # Contracts
//! - A provider runs while its configuration is among the jobs' ([`Discovery::sync`]); a reload that does not change it
//!   leaves it, its connections and what it found alone.
//! - What a provider found stays while it fails: a server that is away takes no targets away. Failures are counted under
//!   Prometheus' names.
//! - Answers and files are read up to [`MAX_ANSWER_BYTES`].

mod dns;
pub mod file;
mod http;
pub mod kubernetes;
pub mod resolver;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::{DurationMs, Labels, LabelsBuilder};
use parking_lot::Mutex;
use serde::Deserialize;
use service::config::ScrapeConfig;
use service::metrics::{Counter, CounterBy, Metrics};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

/// As much of an answer or a file is read.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Nothing is refreshed more often.
const MIN_REFRESH: Duration = Duration::from_millis(100);

/// Discovery about itself, under the names that rules for Prometheus know.
#[derive(Clone, Default)]
pub struct SdCounters {
    pub failures: CounterBy,
    pub updates: Counter,
    pub file_errors: Counter,
    pub http_failures: Counter,
    pub dns_lookups: Counter,
    pub dns_failures: Counter,
    pub kubernetes_events: CounterBy,
    pub kubernetes_failures: Counter,
}

impl SdCounters {
    fn register(&self, metrics: &Metrics) {
        metrics.register_known(|registry| {
            registry.register("sd_refresh_failures", "Failed refreshes, by mechanism", self.failures.clone());
            registry.register("sd_kubernetes_events", "Changes of objects, by role", self.kubernetes_events.clone());
            let counters = [
                ("sd_updates", "Changes of what was found", &self.updates),
                ("sd_file_read_errors", "Files that could not be read", &self.file_errors),
                ("sd_http_failures", "Requests of http_sd_configs that failed", &self.http_failures),
                ("sd_dns_lookups", "Lookups of dns_sd_configs", &self.dns_lookups),
                ("sd_dns_lookup_failures", "Lookups that failed", &self.dns_failures),
                ("sd_kubernetes_failures", "Lists and watches that failed", &self.kubernetes_failures),
            ];
            for (name, help, counter) in counters {
                registry.register(name, help, counter.clone());
            }
        });
    }

    fn failed(&self, mechanism: &'static str) {
        self.failures.get_or_create(&vec![("mechanism", mechanism.to_owned())]).inc();
    }
}

/// What a provider has found, by the source that told it (a file, an object, an entry of an answer).
pub struct Found {
    groups: Mutex<BTreeMap<String, Arc<[Labels]>>>,
    changed: Arc<watch::Sender<u64>>,
    pub counters: SdCounters,
}

impl Found {
    fn new(changed: Arc<watch::Sender<u64>>, counters: SdCounters) -> Found {
        Found { groups: Mutex::default(), changed, counters }
    }

    /// Replaces what one source tells; a source without targets is forgotten.
    pub fn set(&self, source: &str, targets: Vec<Labels>) {
        let is_changed = {
            let mut groups = self.groups.lock();
            match groups.get(source) {
                Some(known) if **known == *targets => false,
                None if targets.is_empty() => false,
                _ if targets.is_empty() => groups.remove(source).is_some(),
                _ => {
                    groups.insert(source.to_owned(), targets.into());
                    true
                }
            }
        };
        if is_changed {
            self.tell();
        }
    }

    /// Forgets sources that are not told any more.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let is_changed = {
            let mut groups = self.groups.lock();
            let before = groups.len();
            groups.retain(|source, _| is_there(source));
            groups.len() != before
        };
        if is_changed {
            self.tell();
        }
    }

    fn tell(&self) {
        self.counters.updates.inc();
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn targets(&self) -> Vec<Labels> {
        self.groups.lock().values().flat_map(|group| group.iter().cloned()).collect()
    }
}

/// A way to find targets: runs until it is dropped.
trait Provider: Send {
    fn run(self: Box<Self>, found: Arc<Found>) -> BoxFuture<'static, ()>;
}

struct Running {
    stop: CancellationToken,
    found: Arc<Found>,
}

pub struct Discovery {
    running: HashMap<u128, Running>,
    /// Which providers a job has, in its order.
    of_job: HashMap<String, Vec<u128>>,
    changed: Arc<watch::Sender<u64>>,
    counters: SdCounters,
    tasks: JoinSet<()>,
}

impl Discovery {
    pub fn new(metrics: &Metrics) -> Discovery {
        let counters = SdCounters::default();
        counters.register(metrics);
        Discovery {
            running: HashMap::new(),
            of_job: HashMap::new(),
            changed: Arc::new(watch::Sender::new(0)),
            counters,
            tasks: JoinSet::new(),
        }
    }

    /// Told whenever something else is found.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Starts the providers of these jobs that do not run yet, and stops all others.
    pub fn sync<'a>(&mut self, jobs: impl Iterator<Item = &'a ScrapeConfig>, stop: &CancellationToken) {
        let mut wanted = HashMap::new();
        self.of_job.clear();
        for job in jobs {
            for (identity, provider) in providers(job) {
                self.of_job.entry(job.job_name.clone()).or_default().push(identity);
                if wanted.contains_key(&identity) {
                    continue;
                }
                let running = self.running.remove(&identity).unwrap_or_else(|| {
                    let found = Arc::new(Found::new(self.changed.clone(), self.counters.clone()));
                    let running = Running { stop: stop.child_token(), found: found.clone() };
                    let work = provider.run(found);
                    let stopped = running.stop.clone();
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = work => {}
                            () = stopped.cancelled() => {}
                        }
                    });
                    running
                });
                wanted.insert(identity, running);
            }
        }
        self.running.values().for_each(|gone| gone.stop.cancel());
        self.running = wanted;
        // Whoever has ended is reaped; a panic is said.
        while let Some(ended) = self.tasks.join_next().now_or_never().flatten() {
            if let Err(error) = ended {
                tracing::error!(%error, "service discovery failed");
            }
        }
    }

    /// What was found for a job so far.
    pub fn targets(&self, job: &str) -> Vec<Labels> {
        let found = self.of_job.get(job).into_iter().flatten().filter_map(|identity| self.running.get(identity));
        found.flat_map(|running| running.found.targets()).collect()
    }

    /// Waits until all providers have ended, which they are told to by the token given to [`Discovery::sync`].
    pub async fn stop(&mut self) {
        self.running.values().for_each(|running| running.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The providers of a job, and what identifies each: all of its configuration.
fn providers(job: &ScrapeConfig) -> Vec<(u128, Box<dyn Provider>)> {
    let base = job.base.as_path();
    let sd = job.discovery();
    let identity =
        |kind: &str, config: &dyn std::fmt::Debug| xxh3_128(format!("{kind} {base:?} {config:?}").as_bytes());
    let mut providers: Vec<(u128, Box<dyn Provider>)> = Vec::new();
    for config in sd.file {
        providers.push((identity("file", &config), Box::new(file::Files::new(config, base))));
    }
    for config in sd.http {
        let name = identity("http", &config);
        match http::Server::new(config, base) {
            Ok(server) => providers.push((name, Box::new(server))),
            Err(error) => tracing::error!(error, job = job.job_name, "http_sd_configs"),
        }
    }
    for config in sd.dns {
        providers.push((identity("dns", &config), Box::new(dns::Names::new(config))));
    }
    for config in sd.kubernetes {
        let name = identity("kubernetes", &config);
        providers.push((name, Box::new(kubernetes::Cluster::new(config, base))));
    }
    providers
}

/// How often a provider looks again.
fn refresh(interval: DurationMs) -> Duration {
    interval.as_std().max(MIN_REFRESH)
}

/// A group of targets as files and servers write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenGroup {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The targets of groups; `meta` is said of each.
fn targets_of(group: &WrittenGroup, meta: &[(&str, &str)]) -> Vec<Labels> {
    let target = |address: &String| {
        let mut labels = LabelsBuilder::default();
        for (name, value) in &group.labels {
            labels.set(name.as_str(), value.as_str());
        }
        for (name, value) in meta {
            labels.set(*name, *value);
        }
        labels.set("__address__", address.as_str());
        labels.build()
    };
    group.targets.iter().map(target).collect()
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or("")
}
