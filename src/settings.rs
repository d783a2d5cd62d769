//! What is meant: flags and configuration file joined, defaults filled in, everything checked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use agent::LogSetup;
use anyhow::{Context, bail};
use indexer::{LogRetention, StreamRetention};
use model::{DurationMs, Labels, NS_PER_MS};
use query::logql::parse_matchers;
use service::config::{self, Config, LogSource, ScrapeConfig, StaticConfig};

use crate::cli::{Cli, Role};

const DAY_MS: i64 = 86_400_000;
/// How often an agent collects.
pub const COLLECT_INTERVAL_MS: u64 = 15_000;
/// The job that scrapes this process.
const OWN_JOB: &str = "binnacle";

/// Which parts run in this process.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    pub agent: bool,
    pub tsdb: bool,
    pub indexer: bool,
    pub alertmanager: bool,
}

#[derive(Debug)]
pub struct Settings {
    pub cli: Cli,
    pub parts: Parts,
    /// What was typed, the program's name first.
    pub args: Vec<String>,
    pub config: Config,
    pub config_text: String,
    pub node: String,
    pub alertmanager_config: Option<PathBuf>,
    pub tsdb_retention: tsdb::Retention,
    pub logs_retention: Arc<LogRetention>,
    pub query_max_total_bytes: usize,
}

impl Settings {
    pub fn new(cli: Cli, args: Vec<String>) -> anyhow::Result<Settings> {
        let parts = parts_of(&cli);
        let (mut config, config_text) = load_config(&cli)?;
        if let Some(path) = &cli.bus_config_file {
            config.bus = config::load_config(path)?.0.bus;
        }
        let node = match &cli.node {
            Some(name) => name.clone(),
            None => host_name(&cli.procfs)?,
        };
        let alertmanager_config = match cli.role {
            Some(Role::Alertmanager) => cli.config_file.clone().or(cli.alertmanager_config_file.clone()),
            _ => cli.alertmanager_config_file.clone(),
        };
        let retention = |flag: Option<model::DurationMs>, file: Option<model::DurationMs>, days: i64| {
            flag.or(file).map_or(days * DAY_MS, |length| length.0)
        };
        let tsdb_retention_ms = retention(cli.tsdb_retention, config.storage.tsdb.retention.time, 15);
        let logs_retention_ms = retention(cli.logs_retention, config.storage.logs.retention.time, 7);
        let retention_size = cli.tsdb_retention_size.or(config.storage.tsdb.retention.size);
        let logs_retention = logs_retention(&config.storage.logs.retention, logs_retention_ms)?;
        let periods = config.storage.tsdb.retention.tenants.iter();
        let tsdb_retention = tsdb::Retention {
            default_ms: tsdb_retention_ms,
            tenants: periods.map(|(tenant, period)| (tenant.clone(), period.0)).collect(),
            max_bytes: retention_size.map(|size| size.0).filter(|bytes| *bytes > 0),
        };
        let query_max_total_bytes = cli.query_max_total_bytes.unwrap_or_else(|| machine_memory_bytes(&cli.procfs) / 2);
        Ok(Settings {
            query_max_total_bytes,
            parts,
            args,
            config,
            config_text,
            node,
            alertmanager_config,
            tsdb_retention,
            logs_retention: Arc::new(logs_retention),
            cli,
        })
    }

    /// Brokers of the Kafka bus, if that is what carries records.
    pub fn kafka(&self) -> Option<config::Kafka> {
        let mut kafka = self.config.bus.kafka.clone();
        if let Some(brokers) = &self.cli.kafka_brokers {
            kafka.get_or_insert_default().brokers = brokers.clone();
        }
        kafka
    }

    /// Whether there is a bus, here or behind a URL: without, an agent's lines go to sinks alone.
    pub fn has_bus(&self) -> bool {
        self.cli.role != Some(Role::Agent) || self.cli.push_url.is_some() || self.kafka().is_some()
    }

    /// What the agent does with lines. It tails what the flag says, else the file, else the default set.
    pub fn log_setup(&self, config: &Config) -> LogSetup {
        let of_paths = |paths: &[String]| vec![LogSource { paths: paths.to_vec(), ..LogSource::default() }];
        let mut sources = match (self.cli.log_paths.as_slice(), config.logs.sources.as_slice()) {
            ([], []) if self.cli.stdin => Vec::new(),
            ([], []) => agent::default_sources(),
            ([], sources) => sources.to_vec(),
            (paths, _) => of_paths(paths),
        };
        if self.cli.stdin {
            sources.extend(of_paths(&["-".to_owned()]));
        }
        // Without an age of its own, what no store of this process would keep.
        let own_store = self.parts.indexer.then(|| self.logs_retention.longest_of_all_ns() / NS_PER_MS);
        let max_age_ms = config.logs.max_age.map(|age| age.0).or(own_store);
        LogSetup { sources, sinks: config.logs.sinks.clone(), max_age_ms, kubernetes: config.logs.kubernetes.clone() }
    }

    /// Whether this is an agent with a bus of its own, whose way out is `remote_write` alone.
    pub fn is_remote_agent(&self) -> bool {
        let has_other_way = self.cli.push_url.is_some() || self.kafka().is_some();
        self.cli.role == Some(Role::Agent) && !has_other_way && !self.config.remote_write.is_empty()
    }

    /// Whether there is a way for samples: without, none are collected.
    pub fn takes_samples(&self) -> bool {
        self.has_bus() || self.is_remote_agent()
    }

    /// What is scraped: what the configuration says, and this process itself where nothing is said and on every node, whose
    /// agents nobody else knows of. A job of that name or address replaces ours.
    pub fn scrape_jobs(&self, config: &Config, address: &str) -> Vec<ScrapeConfig> {
        if !self.takes_samples() {
            return Vec::new();
        }
        let mut jobs = config.scrape_configs.clone();
        let scrapes_itself = self.cli.config_file.is_none() || self.cli.role == Some(Role::Agent);
        let own = reachable(address);
        let is_ours = |job: &ScrapeConfig| {
            job.job_name == OWN_JOB || job.static_configs.iter().any(|found| found.targets.contains(&own))
        };
        if scrapes_itself && !jobs.iter().any(is_ours) {
            jobs.push(self.own_job(address));
        }
        jobs
    }

    fn own_job(&self, address: &str) -> ScrapeConfig {
        let labels = match self.cli.role {
            Some(Role::Agent) => BTreeMap::from([("instance".to_owned(), self.node.clone())]),
            _ => BTreeMap::new(),
        };
        ScrapeConfig {
            job_name: OWN_JOB.to_owned(),
            scrape_interval: Some(DurationMs(COLLECT_INTERVAL_MS as i64)),
            static_configs: vec![StaticConfig { targets: vec![reachable(address)], labels }],
            ..ScrapeConfig::default()
        }
    }

    /// What paths in the configuration are relative to.
    pub fn config_dir(&self) -> PathBuf {
        let dir = self.cli.config_file.as_deref().and_then(|path| path.parent());
        dir.map(|dir| dir.to_owned()).unwrap_or_default()
    }

    /// Where people reach this process: the flag, else the address it listens on.
    pub fn external_url(&self) -> String {
        self.cli.external_url.clone().unwrap_or_else(|| format!("http://{}", self.cli.listen_address))
    }

    /// Labels that alerts get where they lack them.
    pub fn external_labels(&self) -> Labels {
        let labels = &self.config.global.external_labels;
        Labels::from_pairs(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    pub fn data(&self, part: &str) -> PathBuf {
        self.cli.storage_path.join(part)
    }
}

/// Where a listener is reached from here.
fn reachable(address: &str) -> String {
    let Ok(mut address) = address.parse::<SocketAddr>() else { return address.to_owned() };
    if address.ip().is_unspecified() {
        let is_ipv4 = address.is_ipv4();
        address.set_ip(if is_ipv4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address.to_string()
}

/// How long lines are kept; selectors are checked here.
fn logs_retention(config: &config::LogRetention, default_ms: i64) -> anyhow::Result<LogRetention> {
    let ns = |ms: i64| ms.saturating_mul(NS_PER_MS);
    let stream = |(i, stream): (usize, &config::StreamRetention)| {
        let matchers = parse_matchers(&stream.selector);
        let matchers = matchers.with_context(|| format!("storage.logs.retention.streams[{i}].selector"))?;
        Ok(StreamRetention { tenant: stream.tenant.clone(), matchers, period_ns: ns(stream.period.0) })
    };
    Ok(LogRetention {
        default_ns: ns(default_ms),
        tenants: config.tenants.iter().map(|(tenant, period)| (tenant.clone(), ns(period.0))).collect(),
        streams: config.streams.iter().enumerate().map(stream).collect::<anyhow::Result<_>>()?,
        max_bytes: config.size.map(|size| size.0).filter(|bytes| *bytes > 0),
    })
}

fn parts_of(cli: &Cli) -> Parts {
    let all = cli.role.is_none();
    let is = |role| cli.role == Some(role);
    Parts {
        agent: (all && !cli.agent_disabled) || is(Role::Agent),
        tsdb: all || is(Role::Tsdb),
        indexer: all || is(Role::Indexer),
        alertmanager: all || is(Role::Alertmanager),
    }
}

/// The file as it is now, and its text; also what a reload reads.
pub fn load_config(cli: &Cli) -> anyhow::Result<(Config, String)> {
    let Some(path) = cli.config_file.as_ref().filter(|_| cli.role != Some(Role::Alertmanager)) else {
        return Ok((Config::default(), String::new()));
    };
    Ok(config::load_config(path)?)
}

fn host_name(procfs: &std::path::Path) -> anyhow::Result<String> {
    let path = procfs.join("sys/kernel/hostname");
    let name = std::fs::read_to_string(&path).with_context(|| format!("the node's name: {}", path.display()))?;
    let name = name.trim();
    if name.is_empty() {
        bail!("{} is empty: set --agent.node", path.display());
    }
    Ok(name.to_owned())
}

/// Of `/proc/meminfo`; 4 GiB where that cannot be read.
fn machine_memory_bytes(procfs: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(procfs.join("meminfo")).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().trim_end_matches(" kB").parse().ok());
    kib.map_or(4 << 30, |kib: usize| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_by_loopback() {
        let check = |listener: &str, expected: &str| assert_eq!(reachable(listener), expected);
        check("0.0.0.0:9091", "127.0.0.1:9091");
        check("[::]:9091", "[::1]:9091");
        check("10.0.0.7:9091", "10.0.0.7:9091");
    }
}
