//! Starts the parts that a role needs, wires them together, and stops them in reverse order.
//!
//! Data flows one way: agent → bus → stores → rules → router. What flows back are acknowledgements and pressure.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::remote::RemoteWriter;
use agent::{Agent, AgentOptions, HttpOptions, HttpProducer};
use alertmanager::Alertmanager;
use anyhow::{Context, bail};
use bus::{Bus, EmbeddedBus, EmbeddedOptions, HeldBus, KafkaBus, KafkaOptions, Producer, Topic};
use disk::{Disk, RealDisk};
use indexer::{Indexer, IndexerOptions};
use model::DEFAULT_TENANT;
use parking_lot::RwLock;
use service::metrics::{Gauge, Metrics};
use service::work::Works;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tsdb::Tsdb;

use crate::admitted::Admitted;
use crate::cli::Role;
use crate::settings::{COLLECT_INTERVAL_MS, Settings};
use crate::shared::{LoadedConfig, RunningAgent, Shared};
use crate::{rules, web};

/// A part that does not end within this after its stop is left behind.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

pub struct Process {
    pub shared: Arc<Shared>,
    running: Vec<Running>,
    failures: mpsc::Receiver<String>,
    failing: mpsc::Sender<String>,
}

struct Running {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    pub async fn start(settings: Settings) -> anyhow::Result<Process> {
        for field in settings.config.unsupported() {
            tracing::warn!(field, "this part of the configuration is accepted but does nothing yet");
        }
        let (failing, failures) = mpsc::channel(1);
        let shared = Arc::new(open(settings).await?);
        let mut process = Process { shared: shared.clone(), running: Vec::new(), failures, failing };
        process.start_stores();
        process.start_remote();
        if let Some(manager) = shared.rules.clone() {
            manager.reload(rules::load(&shared.settings, &shared.settings.config)?).await;
            process.spawn("rules", move |stop| async move {
                manager.run(stop).await;
                Ok(())
            });
        }
        let address = process.start_web().await?;
        process.start_listeners().await?;
        if shared.settings.parts.agent {
            process.start_agent(&address)?;
        }
        // The one line that tools wait for; never coloured, whatever the log's format, and written at once: some read
        // while it is being written.
        let line = format!("Listening on http://{address} address={address}\n");
        std::io::stderr().write_all(line.as_bytes()).context("stderr")?;
        Ok(process)
    }

    fn start_stores(&mut self) {
        let shared = self.shared.clone();
        if let Some(tsdb) = shared.tsdb.clone() {
            let pushed = tsdb.clone();
            self.spawn("tsdb", move |stop| async move { tsdb.run(stop).await.map_err(|error| error.to_string()) });
            self.spawn("pushgateway", move |stop| async move {
                pushed.repeat_pushed(stop).await;
                Ok(())
            });
        }
        if let Some(indexer) = shared.indexer.clone() {
            self.spawn("indexer", move |stop| async move {
                indexer.run(stop).await;
                Ok(())
            });
        }
        if let Some(router) = shared.alertmanager.clone() {
            self.spawn("alertmanager", move |stop| async move {
                router.run(stop).await;
                Ok(())
            });
        }
    }

    /// Sends what comes in to others, from this process's bus.
    fn start_remote(&mut self) {
        if let Some(remote) = self.shared.remote.clone() {
            self.spawn("remote-write", move |stop| async move {
                remote.run(stop).await;
                Ok(())
            });
        }
    }

    /// Binds and serves; answers the address in use.
    async fn start_web(&mut self) -> anyhow::Result<String> {
        let listener = bind("web.listen-address", &self.shared.settings.cli.listen_address).await?;
        let address = listener.local_addr()?.to_string();
        let router = web::router(self.shared.clone());
        self.spawn("web", move |stop| async move {
            service::http::serve(listener, router, stop).await.map_err(|error| error.to_string())
        });
        Ok(address)
    }

    /// Protocols with an address of their own.
    async fn start_listeners(&mut self) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        let cli = &shared.settings.cli;
        if let Some(wanted) = &cli.graphite_address {
            let tsdb = shared.tsdb.clone().context("--graphite.listen-address needs the store of metrics")?;
            let listener = bind("graphite.listen-address", wanted).await?;
            tracing::info!(at = %listener.local_addr()?, "listening for Graphite");
            self.spawn("graphite", move |stop| async move {
                tsdb.serve_graphite(listener, stop).await;
                Ok(())
            });
        }
        if let Some(wanted) = &cli.otlp_grpc_address {
            let metrics = shared.tsdb.clone().map(|tsdb| tsdb.otlp_grpc_router());
            let logs = shared.indexer.clone().map(|indexer| indexer.otlp_grpc_router());
            if metrics.is_none() && logs.is_none() {
                bail!("--otlp.grpc.listen-address needs a store of metrics or logs");
            }
            let listener = bind("otlp.grpc.listen-address", wanted).await?;
            tracing::info!(at = %listener.local_addr()?, "listening for OTLP over gRPC");
            let router = service::grpc::router(metrics.into_iter().chain(logs));
            self.spawn("otlp-grpc", move |stop| async move {
                service::http::serve(listener, router, stop).await.map_err(|error| error.to_string())
            });
        }
        Ok(())
    }

    fn start_agent(&mut self, address: &str) -> anyhow::Result<()> {
        let shared = &self.shared;
        let producer = producer(shared)?;
        let options = agent_options(&shared.settings, address)?;
        let agent = Agent::new(options, producer, Arc::new(RealDisk), &shared.metrics)?;
        *shared.agent.lock() =
            Some(RunningAgent { status: agent.status(), handle: agent.handle(), address: address.to_owned() });
        self.spawn("agent", move |stop| async move { agent.run(stop).await.map_err(|error| error.to_string()) });
        Ok(())
    }

    /// Runs a part in a task of its own. If it fails, panics, or ends before it is told to, the process ends: what is
    /// acknowledged must also be applied.
    fn spawn<F, R>(&mut self, name: &'static str, part: F)
    where
        F: FnOnce(CancellationToken) -> R,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (work, failing, stopped) = (tokio::spawn(part(stop.clone())), self.failing.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let failure = match work.await {
                Ok(Ok(())) if stopped.is_cancelled() => return,
                Ok(Ok(())) => "ended by itself".to_owned(),
                Ok(Err(error)) => error,
                Err(panic) => panic.to_string(),
            };
            tracing::error!(part = name, failure, "a part failed");
            // Only the first failure counts; the process is ending already when nobody takes it.
            let _ = failing.try_send(format!("{name}: {failure}"));
        });
        self.running.push(Running { name, stop, task });
    }

    /// Waits for a part to fail.
    pub async fn failed(&mut self) -> String {
        self.failures.recv().await.unwrap_or_else(|| "all parts have ended".to_owned())
    }

    /// Stops in reverse order, so that whatever is under way still finds what it needs.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        while let Some(part) = self.running.pop() {
            part.stop.cancel();
            if tokio::time::timeout(STOP_PATIENCE, part.task).await.is_err() {
                tracing::warn!(part = part.name, "did not stop in time");
            }
        }
    }
}

/// A listener on an address that a flag names; a port alone means all addresses of the machine.
async fn bind(flag: &str, wanted: &str) -> anyhow::Result<TcpListener> {
    let wanted = wanted.strip_prefix(':').map_or(wanted.to_owned(), |port| format!("0.0.0.0:{port}"));
    TcpListener::bind(&wanted).await.with_context(|| format!("--{flag} {wanted}"))
}

/// Opens the bus and the parts; nothing runs yet.
async fn open(settings: Settings) -> anyhow::Result<Shared> {
    let (metrics, works) = (Metrics::default(), Works::default());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let parts = settings.parts;
    let OpenBus { bus, embedded, held } = open_bus(&settings, disk.clone()).await?;
    let remote = remote_writer(&settings, bus.clone(), held, disk.clone(), &metrics);
    let (mut tsdb, mut indexer, mut alertmanager) = (None, None, None);
    if let Some(bus) = &bus {
        if parts.tsdb {
            tsdb = Some(Tsdb::open(tsdb_options(&settings, &works), bus.clone(), disk.clone(), &metrics).await?);
        }
        if parts.indexer {
            indexer = Some(Indexer::open(indexer_options(&settings, &works), bus.clone(), disk.clone(), &metrics)?);
        }
        if parts.alertmanager {
            let options = router_options(&settings);
            alertmanager = Some(Alertmanager::open(options, bus.clone(), disk, &metrics).await?);
        }
    }
    if let (Some(tsdb), Some(indexer)) = (&tsdb, &indexer) {
        tsdb.set_logs(logs_of(indexer));
    }
    let reload_ok: Gauge = Gauge::default();
    reload_ok.set(1);
    metrics.register(|registry| {
        let help = "Whether the last reload of the configuration was taken";
        registry.register("config_last_reload_successful", help, reload_ok.clone());
    });
    let rules = rules::manager(&settings, tsdb.clone(), indexer.clone(), alertmanager.clone(), &metrics)?;
    let (started, agent) = (Instant::now(), parking_lot::Mutex::default());
    let loaded = LoadedConfig::new((settings.config.clone(), settings.config_text.clone()));
    let (config, reloads) = (RwLock::new(Arc::new(loaded)), watch::Sender::new(true));
    Ok(Shared {
        settings,
        metrics,
        works,
        started,
        bus,
        embedded,
        tsdb,
        indexer,
        alertmanager,
        rules,
        remote,
        agent,
        reload_ok,
        reloads,
        config,
    })
}

#[derive(Default)]
struct OpenBus {
    bus: Option<Arc<dyn Bus>>,
    embedded: Option<Arc<EmbeddedBus>>,
    held: Option<Arc<HeldBus>>,
}

/// Kafka where it is configured; else an embedded bus of this process, unless it is an agent that pushes.
async fn open_bus(settings: &Settings, disk: Arc<dyn Disk>) -> anyhow::Result<OpenBus> {
    if let Some(kafka) = settings.kafka() {
        let options = KafkaOptions {
            brokers: kafka.brokers,
            topic_prefix: kafka.topic_prefix,
            partitions: kafka.partitions,
            replication_factor: kafka.replication_factor,
            extra: kafka.options.into_iter().collect(),
        };
        return Ok(OpenBus { bus: Some(Arc::new(KafkaBus::connect(options).await?)), ..OpenBus::default() });
    }
    if settings.cli.role == Some(Role::Agent) && !settings.is_remote_agent() {
        if !settings.has_bus() && settings.config.logs.sinks.is_empty() {
            bail!("an agent alone needs --agent.push-url, --bus.kafka.brokers, remote_write or logs.sinks");
        }
        return Ok(OpenBus::default());
    }
    let (given, defaults) = (&settings.config.bus.embedded, EmbeddedOptions::default());
    let options = EmbeddedOptions {
        segment_bytes: given.segment_bytes.unwrap_or(defaults.segment_bytes),
        max_topic_bytes: given.max_topic_bytes.unwrap_or(defaults.max_topic_bytes),
        reserve_bytes: given.reserve_bytes.unwrap_or(defaults.reserve_bytes),
        ..defaults
    };
    let max_held_bytes = options.max_topic_bytes / 2;
    let embedded = Arc::new(EmbeddedBus::open(disk, settings.data("bus"), options)?);
    let parts = settings.parts;
    let stored = [(Topic::Metrics, parts.tsdb), (Topic::Logs, parts.indexer), (Topic::Alerts, parts.alertmanager)];
    let stored: Vec<Topic> = stored.into_iter().filter(|(_, has_store)| *has_store).map(|(topic, _)| topic).collect();
    let held = Arc::new(HeldBus::new(embedded.clone(), &stored, max_held_bytes));
    Ok(OpenBus { bus: Some(held.clone()), embedded: Some(embedded), held: Some(held) })
}

/// Of the processes on one Kafka those with the store of metrics send: each record once.
fn remote_writer(
    settings: &Settings,
    bus: Option<Arc<dyn Bus>>,
    held: Option<Arc<HeldBus>>,
    disk: Arc<dyn Disk>,
    metrics: &Metrics,
) -> Option<RemoteWriter> {
    let configs = &settings.config.remote_write;
    let Some(bus) = bus.filter(|_| settings.parts.tsdb || settings.is_remote_agent()) else {
        if !configs.is_empty() {
            tracing::warn!("remote_write is done by the processes with the store of metrics, not by this one");
        }
        return None;
    };
    let remote = RemoteWriter::new(bus, held, disk, settings.data("remote"), metrics);
    remote.set(configs, &settings.external_labels(), &settings.config_dir());
    Some(remote)
}

fn producer(shared: &Shared) -> anyhow::Result<Arc<dyn Producer>> {
    if let Some(bus) = shared.bus.clone() {
        return Ok(Arc::new(Admitted::new(bus, shared.indexer.clone(), &shared.settings.config)));
    }
    match shared.settings.cli.push_url.as_deref() {
        Some(url) => Ok(Arc::new(HttpProducer::new(url, HttpOptions::default())?)),
        None => Ok(agent::blackhole()),
    }
}

/// In one process every read is a strong one: it costs nothing there.
fn is_one_process(settings: &Settings) -> bool {
    settings.kafka().is_none()
}

fn tsdb_options(settings: &Settings, works: &Works) -> tsdb::Options {
    tsdb::Options {
        dir: settings.data("tsdb"),
        retention: settings.tsdb_retention.clone(),
        limits: settings.config.limits.clone(),
        otlp: settings.config.otlp.clone(),
        external_labels: settings.external_labels(),
        strong_reads: is_one_process(settings),
        query_timeout: settings.cli.query_timeout.as_std(),
        query_max_samples: settings.cli.query_max_samples,
        query_max_total_bytes: settings.query_max_total_bytes,
        query_max_concurrency: settings.cli.query_max_concurrency,
        lookback_ms: settings.cli.lookback.0,
        evaluation_interval_ms: settings.config.global.evaluation_interval.0,
        accept_loss: settings.cli.accept_loss,
        works: works.clone(),
    }
}

/// One language over both stores: where expressions find lines.
fn logs_of(indexer: &Arc<Indexer>) -> tsdb::Logs {
    let caught_up = indexer.clone();
    let caught_up = move || {
        let indexer = caught_up.clone();
        Box::pin(async move { indexer.wait_applied().await }) as _
    };
    tsdb::Logs { lines: indexer.lines(), caught_up: Box::new(caught_up) }
}

fn router_options(settings: &Settings) -> alertmanager::Options {
    let flags = &settings.cli.router;
    let limit = |wanted: i64| usize::try_from(wanted).unwrap_or(0);
    let is_alone = settings.cli.role == Some(Role::Alertmanager);
    let name = Some(flags.cluster_name.clone()).filter(|name| !name.is_empty());
    alertmanager::Options {
        config_path: settings.alertmanager_config.clone(),
        accept_loss: settings.cli.accept_loss,
        is_shared: settings.kafka().is_some(),
        has_index: settings.parts.indexer || settings.kafka().is_some(),
        retention_ms: flags.retention.0,
        silence_limits: alertmanager::SilenceLimits {
            count: limit(flags.max_silences),
            size_bytes: limit(flags.max_silence_bytes),
        },
        alerts_per_name: limit(flags.alerts_per_name),
        start_delay: flags.start_delay.as_std(),
        mode: alertmanager::MatcherMode::of_features(&flags.features),
        cluster_address: Some(flags.cluster_address.clone()).filter(|address| is_alone && !address.is_empty()),
        cluster_name: name.unwrap_or_else(|| settings.node.clone()),
        ..alertmanager::Options::new(settings.data("alertmanager"), settings.external_url())
    }
}

fn indexer_options(settings: &Settings, works: &Works) -> IndexerOptions {
    let mut options = IndexerOptions::new(settings.data("logs"));
    options.store.retention = settings.logs_retention.clone();
    options.strong_reads_always = is_one_process(settings);
    options.query_timeout = settings.cli.query_timeout.as_std();
    options.accept_loss = settings.cli.accept_loss;
    options.works = works.clone();
    options.limits = settings.config.log_limits();
    options
}

fn agent_options(settings: &Settings, address: &str) -> anyhow::Result<AgentOptions> {
    let cli = &settings.cli;
    let own = std::path::absolute(&cli.storage_path)?;
    Ok(AgentOptions {
        state_dir: settings.data("agent"),
        node: settings.node.clone(),
        tenant: DEFAULT_TENANT.to_owned(),
        logs: settings.log_setup(&settings.config),
        has_bus: settings.has_bus(),
        own_dirs: vec![real_path(&own)],
        procfs: cli.procfs.clone(),
        sysfs: cli.sysfs.clone(),
        rootfs: cli.rootfs.clone(),
        cgroupfs: cli.cgroupfs.clone(),
        textfile_dir: cli.textfile_dir.clone(),
        collect_interval_ms: COLLECT_INTERVAL_MS,
        scrape: (settings.config.global.clone(), settings.scrape_jobs(&settings.config, address)),
        metrics_enabled: settings.takes_samples(),
        // Where samples alone go on, lines would go nowhere.
        logs_enabled: !settings.is_remote_agent() || !settings.config.logs.sinks.is_empty(),
    })
}

fn real_path(path: &Path) -> std::path::PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
