//! Collecting lines: what is read, for every place that it goes to.
//!
//! # Contracts
//! - Each sink has a tailer and a reader of the journal of its own, with checkpoints of its own: a sink that is away holds up
//!   nobody else, and none misses a line. Files are read once per sink.
//! - Without sinks, and for the sink of type `bus`, the checkpoint is that of the state directory itself; others have theirs
//!   in `sinks/NAME` below it.
//! - A reload ends the readers as a stop would, with what is on its way acknowledged and the checkpoints saved, and starts
//!   others from there. It is checked before anything is ended. Lines that come by themselves ([`crate::intake`]) are not
//!   touched by it.

use std::path::PathBuf;
use std::sync::Arc;

use bus::Producer;
use disk::Disk;
use parking_lot::Mutex;
use service::config::{KubernetesMetadata, LogSink, LogSource, SinkKind};
use service::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::intake::{Intake, IntakeError, IntakeOptions};
use crate::journal::{Journal, JournalOptions};
use crate::kubernetes::lines::{KubernetesLines, LinesError, LinesOptions};
use crate::logs::checkpoint::CheckpointError;
use crate::logs::discover::{Source, SourceError};
use crate::logs::pods::Pods;
use crate::logs::{FileStatus, LogCounters, Logs, LogsError, LogsOptions};
use crate::sinks::{self, SinkError};

#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    #[error(transparent)]
    Logs(#[from] LogsError),
    #[error(transparent)]
    Journal(#[from] CheckpointError),
    #[error(transparent)]
    Kubernetes(#[from] LinesError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

/// What a reload may change.
#[derive(Debug, Clone, Default)]
pub struct LogSetup {
    pub sources: Vec<LogSource>,
    /// The bus alone where there are none.
    pub sinks: Vec<LogSink>,
    pub max_age_ms: Option<i64>,
    /// Who is asked about pods.
    pub kubernetes: Option<KubernetesMetadata>,
}

/// What stays as it is.
#[derive(Clone)]
pub struct Fixed {
    pub state_dir: PathBuf,
    pub node: String,
    pub tenant: String,
    pub own_dirs: Vec<PathBuf>,
    pub bus: Option<Arc<dyn Producer>>,
    pub disk: Arc<dyn Disk>,
}

/// State directory and producer of a sink.
type Opened = (PathBuf, Arc<dyn Producer>);
type StatusLists = Arc<Mutex<Vec<Arc<Mutex<Vec<FileStatus>>>>>>;

/// Tells what files are read, and takes another setup; outlives the collection.
#[derive(Clone)]
pub struct LogControl {
    files: StatusLists,
    setup: Arc<watch::Sender<LogSetup>>,
    bus: Option<Arc<dyn Producer>>,
}

impl LogControl {
    pub fn files(&self) -> Vec<FileStatus> {
        self.files.lock().iter().flat_map(|files| files.lock().clone()).collect()
    }

    /// What is wrong with a setup.
    pub fn check(&self, setup: &LogSetup) -> Result<(), CollectionError> {
        setup.sources.iter().try_for_each(|source| Source::new(source).map(drop))?;
        Ok(setup.sinks.iter().try_for_each(|sink| sinks::producer(sink, self.bus.as_ref()).map(drop))?)
    }

    /// Takes another setup, which was checked.
    pub fn set(&self, setup: LogSetup) {
        self.setup.send_replace(setup);
    }
}

pub struct Collection {
    fixed: Fixed,
    counters: LogCounters,
    readers: Vec<Readers>,
    intakes: Vec<Intake>,
    pub control: LogControl,
}

/// What reads for one sink.
struct Readers {
    logs: Logs,
    journal: Option<Journal>,
    pods: Option<(Pods, KubernetesMetadata, String)>,
    kubernetes: Vec<KubernetesLines>,
}

impl Collection {
    /// Opens checkpoints and addresses; reads nothing yet.
    pub fn new(fixed: Fixed, setup: LogSetup, metrics: &Metrics) -> Result<Collection, CollectionError> {
        let counters = LogCounters::registered(metrics);
        let producers = fixed.sinks(&setup)?.into_iter().map(|(_, producer)| producer).collect();
        let (node, tenant) = (fixed.node.clone(), fixed.tenant.clone());
        let options = IntakeOptions { node, tenant, producers, counters: counters.clone() };
        let intakes = Intake::of_sources(&setup.sources, &options)?;
        let files = StatusLists::default();
        let readers = fixed.open(&setup, &counters, &files)?;
        let control = LogControl { files, setup: Arc::new(watch::Sender::new(setup)), bus: fixed.bus.clone() };
        Ok(Collection { fixed, counters, readers, intakes, control })
    }

    /// Runs until `stop`. Ending before is an error.
    pub async fn run(self, stop: CancellationToken) -> Result<(), CollectionError> {
        let Collection { fixed, counters, mut readers, intakes, control } = self;
        let intakes: Vec<_> = intakes.into_iter().map(|intake| tokio::spawn(intake.run(stop.clone()))).collect();
        let mut changes = control.setup.subscribe();
        loop {
            let round = stop.child_token();
            let mut running = std::pin::pin!(run_all(readers, round.clone()));
            let ended = tokio::select! {
                ended = &mut running => Some(ended),
                changed = changes.changed() => { drop(changed); None }
            };
            if let Some(ended) = ended {
                ended?;
                break;
            }
            round.cancel();
            running.await?;
            let setup = changes.borrow_and_update().clone();
            readers = fixed.open(&setup, &counters, &control.files)?;
            tracing::info!(sources = setup.sources.len(), "log collection goes on as configured anew");
        }
        for intake in intakes {
            // A panic has been said already.
            let _ = intake.await;
        }
        Ok(())
    }
}

/// All readers, until they are stopped; one that ends by itself ends all.
async fn run_all(readers: Vec<Readers>, round: CancellationToken) -> Result<(), CollectionError> {
    let run = |readers: Readers| {
        let round = round.clone();
        async move {
            let journal = async {
                if let Some(journal) = readers.journal {
                    journal.run(round.clone()).await;
                }
            };
            let pods = async {
                if let Some((pods, config, node)) = readers.pods {
                    pods.run(config, node, round.clone()).await;
                }
            };
            let kubernetes = readers.kubernetes.into_iter().map(|lines| lines.run(round.clone()));
            let kubernetes = futures::future::join_all(kubernetes);
            let logs = async {
                let ended = readers.logs.run(round.clone()).await;
                if ended.is_err() {
                    round.cancel();
                }
                ended
            };
            tokio::join!(logs, journal, pods, kubernetes).0
        }
    };
    let ended = futures::future::join_all(readers.into_iter().map(run)).await;
    ended.into_iter().collect::<Result<(), LogsError>>()?;
    Ok(())
}

impl Fixed {
    /// State directories and producers of the sinks.
    fn sinks(&self, setup: &LogSetup) -> Result<Vec<Opened>, SinkError> {
        let bus = [LogSink::default()];
        let sinks = if setup.sinks.is_empty() { &bus[..] } else { &setup.sinks };
        let of = |sink: &LogSink| {
            let state_dir = match sink.kind {
                SinkKind::Bus => self.state_dir.clone(),
                _ => self.state_dir.join("sinks").join(sink.name()),
            };
            Ok((state_dir, sinks::producer(sink, self.bus.as_ref())?))
        };
        sinks.iter().map(of).collect()
    }

    fn open(
        &self,
        setup: &LogSetup,
        counters: &LogCounters,
        files: &StatusLists,
    ) -> Result<Vec<Readers>, CollectionError> {
        let mut readers = Vec::new();
        let has_files = setup.sources.iter().any(|source| !source.paths.is_empty());
        let asked = setup.kubernetes.clone().filter(|_| has_files);
        let pods = asked.map(|config| (Pods::default(), config, self.node.clone()));
        let lines = LinesOptions {
            config: setup.kubernetes.clone().unwrap_or_default(),
            node: self.node.clone(),
            tenant: self.tenant.clone(),
            counters: counters.clone(),
        };
        for (state_dir, producer) in self.sinks(setup)? {
            let kubernetes = KubernetesLines::of_sources(&setup.sources, &lines, &state_dir, &producer, &self.disk)?;
            let journal = JournalOptions::of_sources(&setup.sources, &state_dir, &self.node, &self.tenant);
            let options = LogsOptions {
                state_dir,
                node: self.node.clone(),
                tenant: self.tenant.clone(),
                sources: setup.sources.clone(),
                own_dirs: self.own_dirs.clone(),
                max_age_ms: setup.max_age_ms,
                pods: pods.as_ref().map(|(pods, ..)| pods.clone()),
            };
            let logs = Logs::new(options, producer.clone(), self.disk.clone(), counters.clone())?;
            let journal = journal
                .map(|options| Journal::new(options, producer, self.disk.clone(), counters.clone()))
                .transpose()?;
            // One asks for all.
            let pods = if readers.is_empty() { pods.clone() } else { None };
            readers.push(Readers { logs, journal, pods, kubernetes });
        }
        *files.lock() = readers.iter().map(|readers| readers.logs.status.clone()).collect();
        Ok(readers)
    }
}
