//! `remote_write`: what comes in goes on to other receivers.
//!
//! # Contracts
//! - **At least once.** A reader of the bus per receiver, with a checkpoint of its own (`remote/NAME.json`) that moves after
//!   the receiver took the samples; after `kill -9` it goes on there, and what was under way is sent again. A receiver that
//!   is new begins with what comes from now on.
//! - **Order.** Series are divided among shards by their labels; a shard sends one request at a time, so the samples of a
//!   series arrive in the order of the bus.
//! - **Away.** 5xx, a connection that fails, and with `retry_on_http_429` 429 are tried again for ever, after a wait that
//!   doubles up to `max_backoff`, or that the receiver asks for. Other answers drop the request, which is counted. The bus
//!   keeps what was not sent up to its bound ([`bus::HeldBus`]); beyond, the oldest is skipped, which is said and counted.
//! - A tenant other than the default is named in `X-Scope-OrgID`.

mod counters;
mod encode;
mod progress;
mod reader;
mod send;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::{Bus, HeldBus, Topic};
use disk::Disk;
use model::Labels;
use service::client::HttpClient;
use service::config::RemoteWrite;
use service::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use counters::Counters;
use progress::ProgressFile;

/// Names the bus that a request comes from. Who takes it into that very bus would send it again, for ever.
pub const ORIGIN_HEADER: &str = "x-binnacle-origin";

/// One receiver.
pub struct Remote {
    pub name: String,
    pub config: RemoteWrite,
    pub http: HttpClient,
    /// What every series gets that does not have it.
    pub external: Labels,
    /// The bus that is sent from, which requests name: a receiver on the same bus refuses them ([`ORIGIN_HEADER`]).
    pub origin: String,
    identity: u128,
}

impl Remote {
    fn new(config: &RemoteWrite, external: &Labels, base: &Path, origin: String) -> Result<Remote, String> {
        let http = HttpClient::new(config.http(base)?);
        let name = match config.name.as_str() {
            "" => format!("{:06x}", xxh3_64(config.url.as_bytes()) & 0xff_ffff),
            name => name.to_owned(),
        };
        let identity = xxh3_128(format!("{config:?} {external}").as_bytes());
        Ok(Remote { name, config: config.clone(), http, external: external.clone(), origin, identity })
    }

    /// The file's name: nothing of it leaves the directory.
    fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let name: String = self.name.chars().map(plain).collect();
        format!("{name}-{:08x}.json", xxh3_64(self.name.as_bytes()) as u32)
    }
}

/// What the readers share.
pub struct Surroundings {
    pub bus: Arc<dyn Bus>,
    /// The bus where it is ours to hold.
    pub held: Option<Arc<HeldBus>>,
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    counters: Counters,
}

/// Sends to all receivers that are configured.
#[derive(Clone)]
pub struct RemoteWriter {
    around: Arc<Surroundings>,
    wanted: Arc<watch::Sender<Vec<Arc<Remote>>>>,
}

impl RemoteWriter {
    /// Reads the checkpoints and holds what they need; sends nothing yet. To be made before the stores run.
    pub fn new(
        bus: Arc<dyn Bus>,
        held: Option<Arc<HeldBus>>,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        metrics: &Metrics,
    ) -> RemoteWriter {
        let counters = Counters::default();
        counters.register(metrics);
        let around = Arc::new(Surroundings { bus, held, disk, dir, counters });
        RemoteWriter { around, wanted: Arc::new(watch::Sender::new(Vec::new())) }
    }

    /// Replaces the receivers. One whose configuration changed goes on at its checkpoint.
    pub fn set(&self, configs: &[RemoteWrite], external: &Labels, base: &Path) {
        let mut remotes = Vec::new();
        for config in configs {
            match Remote::new(config, external, base, self.around.bus.id()) {
                Ok(remote) => {
                    self.hold(&remote);
                    remotes.push(Arc::new(remote));
                }
                Err(error) => tracing::error!(error, url = config.url, "remote_write"),
            }
        }
        self.wanted.send_replace(remotes);
    }

    fn hold(&self, remote: &Remote) {
        let file = ProgressFile::new(&self.around, remote);
        if let (Some(held), Ok(Some(progress))) = (&self.around.held, file.load()) {
            let from = progress.next.get(&0).copied().unwrap_or(0);
            held.hold(Topic::Metrics, &remote.name, from);
        }
    }

    /// Sends until `stop`; what was not taken by then is sent by the next process.
    pub async fn run(self, stop: CancellationToken) {
        let mut wanted = self.wanted.subscribe();
        let (mut running, mut tasks) = (HashMap::<u128, (CancellationToken, Arc<Remote>)>::new(), JoinSet::new());
        while !stop.is_cancelled() {
            let remotes = wanted.borrow_and_update().clone();
            let is_wanted = |identity: &u128| remotes.iter().any(|remote| remote.identity == *identity);
            running.retain(|identity, (token, _)| {
                if !is_wanted(identity) {
                    token.cancel();
                }
                is_wanted(identity)
            });
            // One under a changed configuration begins when the one before has saved how far it came.
            while tasks.len() > running.len() {
                let _ = tasks.join_next().await;
            }
            self.forget_all_but(&remotes);
            for remote in
                remotes.iter().filter(|remote| !running.contains_key(&remote.identity)).cloned().collect::<Vec<_>>()
            {
                let token = stop.child_token();
                tasks.spawn(reader::run(remote.clone(), self.around.clone(), token.clone()));
                running.insert(remote.identity, (token, remote));
            }
            tokio::select! {
                changed = wanted.changed() => assert!(changed.is_ok(), "we hold a sender ourselves"),
                () = stop.cancelled() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Receivers that are not configured any more hold nothing.
    fn forget_all_but(&self, remotes: &[Arc<Remote>]) {
        if let Some(held) = &self.around.held {
            held.retain(Topic::Metrics, |reader| remotes.iter().any(|remote| remote.name == reader));
        }
    }
}
