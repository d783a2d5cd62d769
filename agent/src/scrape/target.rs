//! Targets: from `static_configs` through relabelling to a URL and the labels of its series.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use model::{Labels, LabelsBuilder, relabel};
use service::config::{Global, ScrapeConfig};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// One thing to scrape.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    /// What every series of it carries.
    pub labels: Labels,
    /// Before relabelling.
    pub discovered: Labels,
    pub interval: Duration,
    pub timeout: Duration,
    pub config: ScrapeConfig,
}

impl Target {
    /// All that it is told, so that a target that changed in anything is another one.
    pub fn identity(&self) -> u128 {
        xxh3_128(format!("{self:?}").as_bytes())
    }

    /// A place in the interval that is the target's own, so that not all are scraped at once.
    pub fn offset(&self) -> Duration {
        let mut hasher = Xxh3::new();
        (&self.url, self.labels.hash("")).hash(&mut hasher);
        let interval_ns = self.interval.as_nanos().max(1) as u64;
        Duration::from_nanos(hasher.finish() % interval_ns)
    }
}

/// What a configuration asks for.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    pub kept: Vec<Target>,
    /// What relabelling dropped: the job, and the labels before it.
    pub dropped: Vec<(String, Labels)>,
}

/// All targets of the configuration.
pub fn targets(global: &Global, configs: &[ScrapeConfig]) -> Targets {
    let groups = configs.iter().flat_map(|config| config.static_configs.iter().map(move |group| (config, group)));
    let addresses =
        groups.flat_map(|(config, group)| group.targets.iter().map(move |address| (config, group, address)));
    let mut targets = Targets::default();
    for (config, group, address) in addresses {
        match target(global, config, &group.labels, address) {
            Ok(target) => targets.kept.push(target),
            Err(discovered) => targets.dropped.push((config.job_name.clone(), discovered)),
        }
    }
    targets
}

/// One target, or, where relabelling drops it, the labels before.
fn target(
    global: &Global,
    config: &ScrapeConfig,
    added: &std::collections::BTreeMap<String, String>,
    address: &str,
) -> Result<Target, Labels> {
    let interval = config.scrape_interval.unwrap_or(global.scrape_interval);
    let timeout = config.scrape_timeout.unwrap_or(global.scrape_timeout).min(interval);
    let mut labels = LabelsBuilder::default();
    labels.set("job", config.job_name.as_str()).set("__scheme__", config.scheme.as_str());
    labels.set("__metrics_path__", config.metrics_path.as_str());
    labels.set("__scrape_interval__", model::format_duration(interval.0));
    labels.set("__scrape_timeout__", model::format_duration(timeout.0));
    for (name, values) in &config.params {
        labels.set(format!("__param_{name}"), values.first().map_or("", String::as_str));
    }
    for (name, value) in added {
        labels.set(name.as_str(), value.as_str());
    }
    labels.set("__address__", address);
    let discovered = labels.build();
    let relabelled = relabel(&discovered, &config.relabel_configs);
    let Some((labels, address)) = relabelled.and_then(|labels| {
        let address = labels.get("__address__")?.to_owned();
        Some((labels, address))
    }) else {
        return Err(discovered);
    };
    let url = url(&labels, config);
    let mut public = LabelsBuilder::default();
    for label in labels.iter().filter(|label| !label.name.starts_with("__")) {
        public.set(label.name.clone(), label.value.clone());
    }
    if public.get("instance").is_none() {
        public.set("instance", address);
    }
    let (interval, timeout) = (interval.as_std(), timeout.as_std());
    let mut config = config.clone();
    config.sample_limit = config.sample_limit.or(global.sample_limit);
    Ok(Target { url, labels: public.build(), discovered, interval, timeout, config })
}

fn url(labels: &Labels, config: &ScrapeConfig) -> String {
    let get = |name: &str| labels.get(name).unwrap_or("");
    let path = get("__metrics_path__");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = format!("{}://{}{slash}{path}", get("__scheme__"), get("__address__"));
    let mut query = Vec::new();
    for label in labels.iter() {
        if let Some(name) = label.name.strip_prefix("__param_") {
            query.push((name.to_owned(), label.value.to_string()));
            let others = config.params.get(name).into_iter().flatten().skip(1);
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
fn escape(text: &str) -> String {
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
        let got = targets(&config.global, &config.scrape_configs);
        assert!(got.dropped.iter().all(|(job, labels)| job == "j" && labels.get("__address__") == Some("drop:2")));
        let got: Vec<_> = got.kept.iter().map(|target| (target.url.clone(), target.labels.to_string())).collect();
        let expected: Vec<_> = expected.iter().map(|(url, labels)| ((*url).to_owned(), (*labels).to_owned())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn targets_are_relabelled() {
        check(
            "scrape_configs:\n- job_name: j\n  params: {module: ['a b']}\n  static_configs:\n  - targets: ['h:1', 'drop:2']\n    labels: {env: p}\n  \
             relabel_configs:\n  - {source_labels: [__address__], regex: 'drop.*', action: drop}\n  \
             - {source_labels: [__param_module], target_label: m}\n",
            &[("http://h:1/metrics?module=a%20b", r#"{env="p", instance="h:1", job="j", m="a b"}"#)],
        );
    }
}
