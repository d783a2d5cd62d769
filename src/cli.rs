//! What was typed: the flags of `binnacle` and of its roles.
//!
//! Names that Prometheus or Alertmanager have mean here what they mean there.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use model::{ByteSize, DurationMs};

#[derive(Debug, Parser)]
#[command(name = "binnacle", version, about = "Metrics, logs and alerts of this machine or cluster, in one process")]
pub struct Cli {
    /// Which part to run; all of them in one process when left out.
    #[arg(value_enum)]
    pub role: Option<Role>,

    /// Configuration file: Prometheus' schema with our own keys (under `alertmanager`: Alertmanager's schema).
    #[arg(long = "config.file")]
    pub config_file: Option<PathBuf>,
    /// Alertmanager configuration file.
    #[arg(long = "alertmanager.config.file")]
    pub alertmanager_config_file: Option<PathBuf>,
    /// Where data is kept.
    #[arg(long = "storage.path", alias = "storage.tsdb.path", default_value = "./data")]
    pub storage_path: PathBuf,
    /// Address of the page and of all APIs; port 0 takes any free one (under `alertmanager`: `:9093`).
    #[arg(long = "web.listen-address", default_value = "127.0.0.1:9090")]
    pub listen_address: String,
    /// Prefix of all paths.
    #[arg(long = "web.route-prefix", default_value = "/")]
    pub route_prefix: String,
    /// The address under which people reach this process, for links in notifications.
    #[arg(long = "web.external-url")]
    pub external_url: Option<String>,
    /// Go on where the bus no longer holds what comes after a store's offset, for example after Kafka's retention.
    #[arg(long = "accept-loss")]
    pub accept_loss: bool,
    /// How long samples are kept.
    #[arg(long = "storage.tsdb.retention.time", value_parser = duration)]
    pub tsdb_retention: Option<DurationMs>,
    /// How many bytes of samples are kept, as 512MB or 10GB; the oldest days go first.
    #[arg(long = "storage.tsdb.retention.size", value_parser = size)]
    pub tsdb_retention_size: Option<ByteSize>,
    /// How long log lines are kept.
    #[arg(long = "storage.logs.retention.time", value_parser = duration)]
    pub logs_retention: Option<DurationMs>,
    /// A query that runs longer is ended.
    #[arg(long = "query.timeout", value_parser = duration, default_value = "2m")]
    pub query_timeout: DurationMs,
    /// A query that would load more samples is ended.
    #[arg(long = "query.max-samples", default_value_t = 50_000_000)]
    pub query_max_samples: usize,
    /// What all queries together may hold in memory, in bytes; half of the machine's memory when left out.
    #[arg(long = "query.max-total-memory-bytes")]
    pub query_max_total_bytes: Option<usize>,
    /// Queries that are evaluated at the same time; others wait.
    #[arg(long = "query.max-concurrency", default_value_t = 20)]
    pub query_max_concurrency: usize,
    /// How far back a sample still counts as current.
    #[arg(long = "query.lookback-delta", value_parser = duration, default_value = "5m")]
    pub lookback: DurationMs,

    /// Address for Graphite's plaintext lines over TCP; none when left out.
    #[arg(long = "graphite.listen-address")]
    pub graphite_address: Option<String>,
    /// Address for OpenTelemetry's metrics and logs over gRPC (without TLS); none when left out.
    #[arg(long = "otlp.grpc.listen-address")]
    pub otlp_grpc_address: Option<String>,

    /// Kafka brokers, `host:port,…`; without it the bus is embedded.
    #[arg(long = "bus.kafka.brokers")]
    pub kafka_brokers: Option<String>,
    /// A configuration of ours whose `bus` is used, where --config.file is Alertmanager's.
    #[arg(long = "bus.config.file", value_name = "FILE")]
    pub bus_config_file: Option<PathBuf>,
    /// Where an agent without Kafka ships to.
    #[arg(long = "agent.push-url")]
    pub push_url: Option<String>,
    /// Files to tail instead of the default set; may be repeated.
    #[arg(long = "agent.logs.path", value_name = "GLOB")]
    pub log_paths: Vec<String>,
    /// Show which files would be read, how their lines are parsed and labelled, and end.
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// Read lines from standard input, beside or instead of files.
    #[arg(long = "agent.stdin")]
    pub stdin: bool,
    /// This node's name; the host's name when left out.
    #[arg(long = "agent.node")]
    pub node: Option<String>,
    /// Run without the agent in this process.
    #[arg(long = "agent.disabled")]
    pub agent_disabled: bool,
    /// Where the node's /proc is mounted.
    #[arg(long = "path.procfs", default_value = "/proc")]
    pub procfs: PathBuf,
    /// Where the node's /sys is mounted.
    #[arg(long = "path.sysfs", default_value = "/sys")]
    pub sysfs: PathBuf,
    /// Where the node's root is mounted.
    #[arg(long = "path.rootfs", default_value = "/")]
    pub rootfs: PathBuf,
    /// Where the node's cgroups are mounted.
    #[arg(long = "path.cgroupfs", default_value = "/sys/fs/cgroup")]
    pub cgroupfs: PathBuf,
    /// Where others leave metrics as `*.prom` files.
    #[arg(long = "collector.textfile.directory", value_name = "DIR")]
    pub textfile_dir: Option<PathBuf>,

    #[command(flatten)]
    pub router: RouterFlags,

    /// What Prometheus' flags ask for and what is so here anyway, or does nothing.
    #[command(flatten)]
    pub prometheus: PrometheusFlags,

    /// debug, info, warn or error.
    #[arg(long = "log.level", default_value = "info")]
    pub log_level: String,
    #[arg(long = "log.format", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Flags of Prometheus that a unit file or a chart may carry: accepted, and without effect.
#[derive(Debug, Default, clap::Args)]
pub struct PrometheusFlags {
    #[arg(long = "web.enable-lifecycle", hide = true)]
    lifecycle: bool,
    #[arg(long = "web.enable-admin-api", hide = true)]
    admin: bool,
    #[arg(long = "web.enable-remote-write-receiver", hide = true)]
    remote_write: bool,
    #[arg(long = "web.enable-otlp-receiver", hide = true)]
    otlp: bool,
    #[arg(long = "storage.tsdb.no-lockfile", hide = true)]
    no_lockfile: bool,
    #[arg(long = "storage.tsdb.wal-compression", hide = true)]
    wal_compression: bool,
    #[arg(long = "web.console.templates", hide = true)]
    console_templates: Option<String>,
    #[arg(long = "web.console.libraries", hide = true)]
    console_libraries: Option<String>,
    #[arg(long = "web.page-title", hide = true)]
    page_title: Option<String>,
    #[arg(long = "web.read-timeout", hide = true)]
    read_timeout: Option<String>,
    #[arg(long = "web.max-connections", hide = true)]
    max_connections: Option<String>,
    #[arg(long = "web.cors.origin", hide = true)]
    cors_origin: Option<String>,
    #[arg(long = "storage.remote.flush-deadline", hide = true)]
    flush_deadline: Option<String>,
    #[arg(long = "alertmanager.notification-queue-capacity", hide = true)]
    queue_capacity: Option<String>,
    #[arg(long = "rules.alert.for-outage-tolerance", hide = true)]
    outage_tolerance: Option<String>,
    #[arg(long = "rules.alert.for-grace-period", hide = true)]
    grace_period: Option<String>,
    #[arg(long = "rules.alert.resend-delay", hide = true)]
    resend_delay: Option<String>,
}

/// Alertmanager's flags.
#[derive(Debug, Default, clap::Args)]
pub struct RouterFlags {
    /// How long expired silences, the notification log and history are kept.
    #[arg(long = "data.retention", value_parser = duration, default_value = "120h")]
    pub retention: DurationMs,
    /// Silences kept, expired ones included; 0 sets no limit.
    #[arg(long = "silences.max-silences", default_value_t = 0, allow_negative_numbers = true)]
    pub max_silences: i64,
    /// Bytes of a silence; 0 sets no limit.
    #[arg(long = "silences.max-silence-size-bytes", default_value_t = 0, allow_negative_numbers = true)]
    pub max_silence_bytes: i64,
    /// Alerts of one name that may fire at once; 0 sets no limit.
    #[arg(long = "alerts.per-alertname-limit", default_value_t = 0, allow_negative_numbers = true)]
    pub alerts_per_name: i64,
    /// No notification is sent before this has passed since the start.
    #[arg(long = "dispatch.start-delay", value_parser = duration, default_value = "0s")]
    pub start_delay: DurationMs,
    /// Experimental features by Prometheus' and Alertmanager's names, separated by commas; `classic-mode` and
    /// `utf8-strict-mode` choose how matchers are read.
    #[arg(long = "enable-feature", value_delimiter = ',')]
    pub features: Vec<String>,
    /// There is no gossip; empty says that clients must not expect any peer.
    #[arg(long = "cluster.listen-address", default_value = "0.0.0.0:9094", hide = true)]
    pub cluster_address: String,
    #[arg(long = "cluster.peer-name", default_value = "", hide = true)]
    pub cluster_name: String,
    #[command(flatten)]
    idle: IdleRouterFlags,
}

/// Flags of Alertmanager that a unit file or a chart may carry: accepted, and without effect.
#[derive(Debug, Default, clap::Args)]
struct IdleRouterFlags {
    #[arg(long = "data.maintenance-interval", hide = true)]
    maintenance_interval: Option<String>,
    #[arg(long = "alerts.gc-interval", hide = true)]
    gc_interval: Option<String>,
    #[arg(long = "dispatch.maintenance-interval", hide = true)]
    dispatch_maintenance: Option<String>,
    #[arg(long = "log.silences", hide = true)]
    log_silences: bool,
    #[arg(long = "web.get-concurrency", hide = true, allow_negative_numbers = true)]
    get_concurrency: Option<String>,
    #[arg(long = "web.timeout", hide = true)]
    web_timeout: Option<String>,
    #[arg(long = "auto-gomemlimit.ratio", hide = true)]
    memory_ratio: Option<String>,
    #[arg(long = "cluster.advertise-address", hide = true)]
    advertise_address: Option<String>,
    #[arg(long = "cluster.peer", hide = true)]
    peers: Vec<String>,
    #[arg(long = "cluster.peer-timeout", hide = true)]
    peer_timeout: Option<String>,
    #[arg(long = "cluster.peers-resolve-timeout", hide = true)]
    resolve_timeout: Option<String>,
    #[arg(long = "cluster.gossip-interval", hide = true)]
    gossip_interval: Option<String>,
    #[arg(long = "cluster.pushpull-interval", hide = true)]
    pushpull_interval: Option<String>,
    #[arg(long = "cluster.tcp-timeout", hide = true)]
    tcp_timeout: Option<String>,
    #[arg(long = "cluster.probe-timeout", hide = true)]
    probe_timeout: Option<String>,
    #[arg(long = "cluster.probe-interval", hide = true)]
    probe_interval: Option<String>,
    #[arg(long = "cluster.settle-timeout", hide = true)]
    settle_timeout: Option<String>,
    #[arg(long = "cluster.reconnect-interval", hide = true)]
    reconnect_interval: Option<String>,
    #[arg(long = "cluster.reconnect-timeout", hide = true)]
    reconnect_timeout: Option<String>,
    #[arg(long = "cluster.allow-insecure-public-advertise-address-discovery", hide = true)]
    insecure_advertise: bool,
    #[arg(long = "cluster.label", hide = true)]
    label: Option<String>,
}

/// What a link's name means: `alertmanager` is that role, with Alertmanager's defaults where ours differ.
pub fn under_its_name(mut args: Vec<String>) -> Vec<String> {
    let name = args.first().and_then(|name| name.rsplit('/').next()).unwrap_or("");
    if name == "alertmanager" {
        args.insert(1, name.to_owned());
    }
    let is_router = args.get(1).is_some_and(|word| word == "alertmanager");
    let has = |flag: &str| args.iter().any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")));
    if is_router && !has("--web.listen-address") {
        args.push("--web.listen-address=:9093".to_owned());
    }
    args
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Tails logs and collects metrics on a node.
    Agent,
    /// Stores metrics, answers PromQL, evaluates rules.
    Tsdb,
    /// Stores logs, answers LogQL, evaluates log rules.
    Indexer,
    /// Groups, silences and delivers alerts.
    Alertmanager,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[value(alias = "logfmt")]
    Text,
    Json,
}

fn size(text: &str) -> Result<ByteSize, String> {
    model::parse_bytes(text).map(ByteSize).ok_or_else(|| format!("{text:?} is no size, as 512MB"))
}

fn duration(text: &str) -> Result<DurationMs, String> {
    model::parse_duration(text).map(DurationMs).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_role_takes_the_same_flags() {
        let cli = Cli::parse_from(["binnacle", "tsdb", "--storage.tsdb.retention.time=3d", "--agent.logs.path=/a"]);
        assert_eq!(cli.role, Some(Role::Tsdb));
        assert_eq!(cli.tsdb_retention, Some(DurationMs(3 * 86_400_000)));
        assert_eq!(cli.log_paths, ["/a"]);
        assert!(Cli::try_parse_from(["binnacle", "--query.timeout=5 apples"]).is_err());
    }

    #[test]
    fn flags_of_others_do_not_stop_the_start() {
        let flags = ["binnacle", "tsdb", "--web.enable-lifecycle", "--enable-feature=a,b", "--storage.tsdb.path=/d"];
        assert_eq!(Cli::parse_from(flags).storage_path, PathBuf::from("/d"));
        let flags = [
            "/bin/alertmanager",
            "--cluster.peer=a",
            "--cluster.peer=b",
            "--cluster.listen-address=",
            "--data.retention=1h",
        ];
        let args = under_its_name(flags.map(str::to_owned).to_vec());
        let cli = Cli::parse_from(args);
        assert_eq!((cli.role, cli.listen_address.as_str()), (Some(Role::Alertmanager), ":9093"));
        assert_eq!((cli.router.retention, cli.router.cluster_address.as_str()), (DurationMs(3_600_000), ""));
        // What protects a server must not be passed over.
        assert!(Cli::try_parse_from(["binnacle", "alertmanager", "--cluster.tls-config=x"]).is_err());
        assert!(Cli::try_parse_from(["binnacle", "--web.config.file=x"]).is_err());
    }
}
