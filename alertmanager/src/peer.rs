//! This router among those that share its topic: its name, its beats, its lease ([`crate::members`]).

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use disk::Disk;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::Alertmanager;
use crate::dedup::Line;
use crate::members::{BEAT_INTERVAL, LEASE};
use crate::state::Event;

/// How long the word that this router stops may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Peer {
    pub name: String,
    /// Until when it may tell.
    lease: Mutex<Instant>,
    /// Whether its first beat has been read back.
    joined: watch::Sender<bool>,
    last_beat: Mutex<u64>,
}

impl Peer {
    /// With the name that is kept in a directory, or a new one.
    pub fn open(disk: &dyn Disk, dir: &Path) -> io::Result<Peer> {
        let path = dir.join("router");
        let known =
            if disk.exists(&path) { String::from_utf8(disk.read(&path)?).unwrap_or_default() } else { String::new() };
        let name = match Uuid::parse_str(known.trim()) {
            Ok(name) => name.to_string(),
            Err(_) => {
                let name = Uuid::new_v4().to_string();
                disk::write_atomically(disk, &path, name.as_bytes())?;
                name
            }
        };
        let (lease, last_beat) = (Mutex::new(Instant::now()), Mutex::new(0));
        Ok(Peer { name, lease, joined: watch::Sender::new(false), last_beat })
    }

    pub fn holds_lease(&self) -> bool {
        Instant::now() < *self.lease.lock()
    }

    pub async fn joined(&self) {
        // The sender lives as long as this.
        let _ = self.joined.subscribe().wait_for(|joined| *joined).await;
    }
}

impl Alertmanager {
    /// Beats for as long as it is polled, and says who does not.
    pub(crate) async fn beat(&self) {
        let Some(peer) = &self.peer else { return std::future::pending().await };
        self.caught_up().await;
        let mut ticks = tokio::time::interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (begun, beat) = (Instant::now(), model::now_ns() as u64);
            if let Err(error) = self.record(vec![Event::Alive { router: peer.name.clone(), beat }]).await {
                tracing::warn!(%error, "the other routers do not hear of this one");
                continue;
            }
            *peer.lease.lock() = begun + LEASE;
            *peer.last_beat.lock() = beat;
            peer.joined.send_replace(true);
            let silent = self.core.lock().state.members.silent(&peer.name);
            for (router, beat) in silent {
                tracing::warn!(router, "another router is gone; its groups are taken over");
                if let Err(error) = self.record(vec![Event::Gone { router, beat }]).await {
                    tracing::warn!(%error, "the others do not hear that a router is gone");
                }
            }
        }
    }

    /// Gives this router's groups to the others at once.
    pub(crate) async fn leave(&self) {
        let Some(peer) = &self.peer else { return };
        let beat = *peer.last_beat.lock();
        let gone = Event::Gone { router: peer.name.clone(), beat };
        match tokio::time::timeout(LEAVE_TIMEOUT, self.append(vec![gone])).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::info!(%error, "the other routers will find out by themselves that this one stopped")
            }
            Err(_) => tracing::info!("the other routers will find out by themselves that this one stopped"),
        }
    }

    /// Whether this router may begin to tell a line of its group.
    pub(crate) fn may_begin(&self, line: &Line) -> bool {
        let Some(peer) = &self.peer else { return true };
        let core = self.core.lock();
        let members = &core.state.members;
        let under_way = core.state.log.get(line).and_then(|told| told.pending.as_ref());
        let is_elsewhere =
            under_way.is_some_and(|attempt| attempt.router != peer.name && members.contains(&attempt.router));
        members.owner(&line.group_key) == Some(&*peer.name) && !is_elsewhere && peer.holds_lease()
    }

    /// Whether the attempt of this key counts, and is this router's to make.
    pub(crate) fn is_ours(&self, line: &Line, key: &str) -> bool {
        let Some(peer) = &self.peer else { return true };
        let core = self.core.lock();
        let attempt = core.state.log.get(line).and_then(|told| told.pending.as_ref());
        attempt.is_some_and(|attempt| attempt.key == key && attempt.router == peer.name) && peer.holds_lease()
    }

    pub(crate) fn peer_name(&self) -> String {
        self.peer.as_ref().map_or_else(String::new, |peer| peer.name.clone())
    }
}
