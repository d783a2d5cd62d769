//! What the API server tells that are lines: the cluster's events, and how containers of this node ended.
//!
//! # Contracts
//! - Like a reader of files, one runs for each sink, with a checkpoint of its own ([`CursorFile`]), which moves only after the
//!   sink has acknowledged. What is on its way at a stop, or at `kill -9`, is told again.
//! - A line's stream, time, text and structured metadata are those of the object alone, never of who reads it or when. So
//!   stores collapse what is told twice, be it after `kill -9` or by two agents that were given the same work.
//! - Nothing is held but one page of a list, or what one read of a watch brought: a sink that is away holds up the watch,
//!   and the API server keeps what happens (events for an hour by default).

use std::path::Path;
use std::sync::Arc;

use bus::Producer;
use disk::Disk;
use service::config::{KubernetesApi, KubernetesMetadata, KubernetesSource, LogSource};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::terminations::Terminations;
use super::{Api, Enough, Kind, Resource, follow};
use crate::cursor::CursorFile;
use crate::intake::{Gatherer, IntakeOptions, Received};
use crate::logs::LogCounters;
use crate::logs::checkpoint::CheckpointError;
use crate::logs::discover::{Source, SourceError};
use crate::logs::event::Outcome;

#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

#[derive(Clone)]
pub struct LinesOptions {
    pub config: KubernetesMetadata,
    pub node: String,
    pub tenant: String,
    pub counters: LogCounters,
}

/// Reads one kind of line for one sink, not running yet.
pub struct KubernetesLines {
    what: KubernetesSource,
    options: LinesOptions,
    shipping: Shipping,
    /// What the checkpoint says.
    cursor: Option<String>,
}

impl KubernetesLines {
    /// What the sources ask for; nothing without an API server.
    pub fn of_sources(
        sources: &[LogSource],
        options: &LinesOptions,
        state_dir: &Path,
        producer: &Arc<dyn Producer>,
        disk: &Arc<dyn Disk>,
    ) -> Result<Vec<KubernetesLines>, LinesError> {
        let asked = sources.iter().filter_map(|source| Some((source, source.kubernetes?)));
        let open = |(source, what): (&LogSource, KubernetesSource)| {
            let file_name = match what {
                KubernetesSource::Events => "agent-kubernetes-events.json",
                KubernetesSource::Terminations => "agent-kubernetes-terminations.json",
            };
            let checkpoint = CursorFile::new(disk.clone(), state_dir, file_name)?;
            let cursor = checkpoint.load()?;
            let gatherer = Gatherer::new(
                Source::new(source)?,
                IntakeOptions {
                    // Lines do not tell who read them.
                    node: String::new(),
                    tenant: options.tenant.clone(),
                    producers: vec![producer.clone()],
                    counters: options.counters.clone(),
                },
            );
            let shipping = Shipping { gatherer, checkpoint, stop: CancellationToken::new() };
            Ok(KubernetesLines { what, options: options.clone(), shipping, cursor })
        };
        asked.map(open).collect()
    }

    /// Reads until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let KubernetesLines { what, options: LinesOptions { config, node, .. }, mut shipping, cursor } = self;
        let Some(place) = &config.api else { return };
        shipping.stop = stop.clone();
        let reading = async {
            let api = open(place).await;
            match what {
                KubernetesSource::Events => {
                    let mut events = Events::new(shipping, cursor.clone());
                    follow(&api, &Resource::everywhere(Kind::Event), cursor, &mut events).await;
                }
                KubernetesSource::Terminations => {
                    let mut terminations = Terminations::new(shipping, &config, cursor.as_deref());
                    follow(&api, &Resource::pods_of(&node), None, &mut terminations).await;
                }
            }
        };
        stop.run_until_cancelled(reading).await;
    }
}

/// The API server that `logs.kubernetes.api` names, as soon as it can be asked.
pub async fn open(config: &KubernetesApi) -> Api {
    let KubernetesApi { api_server, kubeconfig_file, .. } = config;
    let open = || Api::open(api_server, kubeconfig_file.as_deref(), config.http(Path::new(""))?);
    super::open(open, |error| tracing::error!(error, "logs.kubernetes.api: trying again")).await
}

/// Ships lines, and keeps how far it came.
pub struct Shipping {
    gatherer: Gatherer,
    checkpoint: CursorFile,
    stop: CancellationToken,
}

impl Shipping {
    /// Answers when the lines are acknowledged, or dropped and counted.
    pub async fn ship(&mut self, mut lines: Vec<Received>) -> Result<(), Enough> {
        match self.gatherer.take(&mut lines, &self.stop).await {
            Outcome::Abandoned => Err(Enough),
            Outcome::Acknowledged | Outcome::Dropped => Ok(()),
        }
    }

    /// Everything up to here was acknowledged.
    pub fn save(&self, cursor: &str) {
        if let Err(error) = self.checkpoint.save(cursor) {
            tracing::warn!(%error, "how far the API server was read cannot be saved");
        }
    }
}
