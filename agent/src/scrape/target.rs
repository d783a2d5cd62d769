//! Targets: from discovered labels through relabelling to a URL and the labels of its series.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::{Labels, LabelsBuilder, relabel};
use service::config::ScrapeConfig;
use xxhash_rust::xxh3::xxh3_128;

use super::job::Job;

/// Dropped targets that are kept to be shown, of a job that sets no `keep_dropped_targets`.
const MAX_DROPPED_SHOWN: usize = 10_000;

/// One thing to scrape.
#[derive(Debug, Clone)]
pub struct Target {
    pub job: Arc<Job>,
    pub url: String,
    /// What every series of it carries.
    pub labels: Labels,
    /// Before relabelling.
    pub discovered: Labels,
    pub interval: Duration,
    pub timeout: Duration,
}

impl Target {
    /// What makes it the same target after a change of the configuration: its job's name, its URL, its labels.
    pub fn key(&self) -> u128 {
        xxh3_128(format!("{:?} {:?} {}", self.job.config.job_name, self.url, self.labels).as_bytes())
    }

    /// Whether it is scraped as another one is.
    pub fn is_as(&self, other: &Target) -> bool {
        self.job.identity == other.job.identity && self.interval == other.interval && self.timeout == other.timeout
    }

    /// A place in the interval that is the target's own, so that not all are scraped at once; the same after a restart.
    pub fn offset_ms(&self) -> i64 {
        let interval_ms = (self.interval.as_millis() as i64).max(1);
        (self.key() as u64 % interval_ms as u64) as i64
    }
}

/// What a job comes to.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    pub kept: Vec<Target>,
    /// What relabelling dropped, by its labels before: as many as are shown.
    pub dropped: Vec<Labels>,
    pub dropped_count: usize,
}

/// The targets of `static_configs`, as discovery would tell them.
pub fn static_targets(config: &ScrapeConfig) -> impl Iterator<Item = Labels> {
    config.static_configs.iter().flat_map(|group| {
        group.targets.iter().map(|address| {
            let mut labels = LabelsBuilder::default();
            for (name, value) in &group.labels {
                labels.set(name.as_str(), value.as_str());
            }
            labels.set("__address__", address.as_str());
            labels.build()
        })
    })
}

/// All targets of a job, each once.
pub fn targets(job: &Arc<Job>, discovered: impl Iterator<Item = Labels>) -> Targets {
    let (mut targets, mut seen) = (Targets::default(), HashSet::new());
    let limit = match job.config.keep_dropped_targets {
        0 => MAX_DROPPED_SHOWN,
        limit => usize::try_from(limit).unwrap_or(MAX_DROPPED_SHOWN),
    };
    for labels in discovered {
        match target(job, &labels) {
            Ok(target) => {
                if seen.insert(target.key()) {
                    targets.kept.push(target);
                }
            }
            Err(labels) => {
                targets.dropped_count += 1;
                if targets.dropped.len() < limit {
                    targets.dropped.push(labels);
                }
            }
        }
    }
    targets
}

/// One target, or, where relabelling drops it, the labels before.
fn target(job: &Arc<Job>, found: &Labels) -> Result<Target, Labels> {
    let config = &job.config;
    let (interval, timeout) = (config.scrape_interval.unwrap_or_default(), config.scrape_timeout.unwrap_or_default());
    let mut labels = LabelsBuilder::default();
    labels.set("job", config.job_name.as_str()).set("__scheme__", config.scheme.as_str());
    labels.set("__metrics_path__", config.metrics_path.as_str());
    labels.set("__scrape_interval__", model::format_duration(interval.0));
    labels.set("__scrape_timeout__", model::format_duration(timeout.0));
    for (name, values) in &config.params {
        labels.set(format!("__param_{name}"), values.first().map_or("", String::as_str));
    }
    for label in found {
        labels.set(label.name.clone(), label.value.clone());
    }
    let discovered = labels.build();
    match relabelled(job, &discovered) {
        Some(target) => Ok(target),
        None => Err(discovered),
    }
}

/// `None` where relabelling drops it, or leaves no address or no sensible times.
fn relabelled(job: &Arc<Job>, discovered: &Labels) -> Option<Target> {
    let labels = relabel(discovered, &job.config.relabel_configs)?;
    let address = labels.get("__address__")?.to_owned();
    if address.contains('/') {
        return None;
    }
    let duration = |name: &str| model::parse_duration(labels.get(name)?).ok().filter(|ms| *ms > 0);
    let (interval_ms, timeout_ms) = (duration("__scrape_interval__")?, duration("__scrape_timeout__")?);
    if timeout_ms > interval_ms {
        return None;
    }
    let url = url(&labels, &job.config.params);
    let mut public = LabelsBuilder::default();
    for label in labels.iter().filter(|label| !label.name.starts_with("__")) {
        public.set(label.name.clone(), label.value.clone());
    }
    if public.get("instance").is_none() {
        public.set("instance", address);
    }
    Some(Target {
        job: job.clone(),
        url,
        labels: public.build(),
        discovered: discovered.clone(),
        interval: Duration::from_millis(interval_ms as u64),
        timeout: Duration::from_millis(timeout_ms as u64),
    })
}

fn url(labels: &Labels, params: &BTreeMap<String, Vec<String>>) -> String {
    let get = |name: &str| labels.get(name).unwrap_or("");
    let path = get("__metrics_path__");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = format!("{}://{}{slash}{path}", get("__scheme__"), get("__address__"));
    let mut query = Vec::new();
    for label in labels.iter() {
        if let Some(name) = label.name.strip_prefix("__param_") {
            query.push((name.to_owned(), label.value.to_string()));
            let others = params.get(name).into_iter().flatten().skip(1);
            query.extend(others.map(|value| (name.to_owned(), value.clone())));
        }
    }
    for (i, (name, value)) in query.iter().enumerate() {
        url += if i == 0 && !path.contains('?') { "?" } else { "&" };
        url += &format!("{}={}", escape(name), escape(value));
    }
    url
}

/// Percent-encoding of all but unreserved characters (RFC 3986).
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte as char),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &[(&str, &str)]) {
        let config: service::config::Config = serde_saphyr::from_str(yaml).expect("good YAML");
        let job = Arc::new(Job::new(&config.global, &config.scrape_configs[0]).expect("a job"));
        let got = targets(&job, static_targets(&job.config));
        assert!(got.dropped.iter().all(|labels| labels.get("__address__") == Some("drop:2")));
        let got: Vec<_> = got.kept.iter().map(|target| (target.url.clone(), target.labels.to_string())).collect();
        let expected: Vec<_> = expected.iter().map(|(url, labels)| ((*url).to_owned(), (*labels).to_owned())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn targets_are_relabelled() {
        check(
            "scrape_configs:\n- job_name: j\n  params: {module: ['a b']}\n  static_configs:\n  - targets: ['h:1', 'drop:2', 'h:1']\n    labels: {env: p}\n  \
             relabel_configs:\n  - {source_labels: [__address__], regex: 'drop.*', action: drop}\n  \
             - {source_labels: [__param_module], target_label: m}\n",
            &[("http://h:1/metrics?module=a%20b", r#"{env="p", instance="h:1", job="j", m="a b"}"#)],
        );
    }

    #[test]
    fn labels_say_how_to_scrape() {
        let yaml = "scrape_configs:\n- job_name: j\n  static_configs:\n  - targets: ['h:1']\n    labels: {__scheme__: https, \
                    __metrics_path__: /x, __scrape_interval__: 7s, __scrape_timeout__: 2s, job: other}\n  \
                    - targets: ['drop:2']\n    labels: {__scrape_timeout__: 2h}\n";
        check(yaml, &[("https://h:1/x", r#"{instance="h:1", job="other"}"#)]);
        let config: service::config::Config = serde_saphyr::from_str(yaml).expect("good YAML");
        let job = Arc::new(Job::new(&config.global, &config.scrape_configs[0]).expect("a job"));
        let target = &targets(&job, static_targets(&job.config)).kept[0];
        assert_eq!((target.interval.as_secs(), target.timeout.as_secs()), (7, 2));
    }
}
