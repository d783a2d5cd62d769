//! Being told of changes by the kernel. A hint only: the tailer also looks by itself, so a missed event costs a second.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

use super::event::Event;

/// Paths remembered between two wakes; more than this is "everything".
const MAX_PENDING: usize = 10_000;
/// Directories watched; the rest is polled.
const MAX_WATCHES: usize = 8192;

/// What changed since it was last asked.
#[derive(Debug, Default)]
pub struct Pending {
    pub paths: HashSet<PathBuf>,
    /// Names came or went.
    pub names: bool,
}

/// Watches directories; polling does the work where it cannot.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    pending: Arc<Mutex<Pending>>,
    has_warned: bool,
}

impl Watch {
    pub fn new(events: Sender<Event>) -> Watch {
        let pending: Arc<Mutex<Pending>> = Arc::default();
        let noted = pending.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let mut pending = noted.lock();
            let was_empty = pending.paths.is_empty() && !pending.names;
            note(&mut pending, event);
            let is_empty = pending.paths.is_empty() && !pending.names;
            drop(pending);
            if was_empty && !is_empty {
                // Nobody listens only when the agent has stopped.
                let _ = events.send(Event::Changed);
            }
        });
        let watcher = watcher.map_err(|error| tracing::info!(%error, "no file events: log files are polled")).ok();
        Watch { watcher, watched: BTreeSet::new(), pending, has_warned: false }
    }

    pub fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }

    /// Watches exactly these directories, as far as the kernel allows.
    pub fn set(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let gone: Vec<PathBuf> = self.watched.difference(directories).cloned().collect();
        for dir in gone {
            // The directory may be gone, and its watch with it.
            let _ = watcher.unwatch(&dir);
            self.watched.remove(&dir);
        }
        let room = MAX_WATCHES.saturating_sub(self.watched.len());
        let new: Vec<PathBuf> = directories.difference(&self.watched).take(room).cloned().collect();
        for dir in new {
            match watcher.watch(Path::new(&dir), RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(dir)),
                Err(error) if !self.has_warned => {
                    self.has_warned = true;
                    tracing::info!(%error, dir = %dir.display(), "a directory cannot be watched: its files are polled");
                }
                Err(_) => {}
            }
        }
    }
}

fn note(pending: &mut Pending, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        pending.names = true;
        return;
    };
    match event.kind {
        EventKind::Access(_) => return,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => pending.names = true,
        _ => {}
    }
    pending.names |= event.need_rescan();
    for path in event.paths {
        if pending.paths.len() >= MAX_PENDING {
            pending.names = true;
            return;
        }
        pending.paths.insert(path);
    }
}
