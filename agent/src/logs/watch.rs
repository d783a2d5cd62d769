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
/// Directories watched, as far as the kernel has room (`fs.inotify.max_user_watches`); the rest is polled. A watch takes about
/// 1 KiB of the kernel's memory.
const MAX_WATCHES: usize = 65_536;

/// What changed since it was last asked.
#[derive(Debug, Default)]
pub struct Pending {
    pub paths: HashSet<PathBuf>,
    /// Names came or went.
    pub names: bool,
    /// Events were lost: anything may have changed.
    pub anything: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.names && !self.anything
    }
}

/// Watches directories; polling does the work where it cannot.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Of these, those on network file systems.
    shared: BTreeSet<PathBuf>,
    pending: Arc<Mutex<Pending>>,
    has_warned: bool,
}

impl Watch {
    pub fn new(events: Sender<Event>) -> Watch {
        let pending: Arc<Mutex<Pending>> = Arc::default();
        let noted = pending.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let mut pending = noted.lock();
            let was_empty = pending.is_empty();
            note(&mut pending, event);
            let is_empty = pending.is_empty();
            drop(pending);
            if was_empty && !is_empty {
                // Nobody listens only when the agent has stopped.
                let _ = events.send(Event::Changed);
            }
        });
        let watcher = watcher.map_err(|error| tracing::info!(%error, "no file events: log files are polled")).ok();
        Watch { watcher, watched: BTreeSet::new(), shared: BTreeSet::new(), pending, has_warned: false }
    }

    pub fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }

    /// Whether the kernel tells of changes in this directory: not where it has no room for another watch, and not of what
    /// others change on a file system that they share with us.
    pub fn covers(&self, dir: &Path) -> bool {
        self.watched.contains(dir) && !self.shared.contains(dir)
    }

    /// Watches exactly these directories, as far as the kernel allows.
    pub fn set(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let gone: Vec<PathBuf> = self.watched.difference(directories).cloned().collect();
        for dir in gone {
            // The directory may be gone, and its watch with it.
            let _ = watcher.unwatch(&dir);
            self.watched.remove(&dir);
            self.shared.remove(&dir);
        }
        let room = MAX_WATCHES.saturating_sub(self.watched.len());
        let new: Vec<PathBuf> = directories.difference(&self.watched).take(room).cloned().collect();
        for dir in new {
            match watcher.watch(Path::new(&dir), RecursiveMode::NonRecursive) {
                Ok(()) => {
                    if is_shared(&dir) {
                        self.shared.insert(dir.clone());
                    }
                    self.watched.insert(dir);
                }
                Err(error) if !self.has_warned => {
                    self.has_warned = true;
                    tracing::info!(%error, dir = %dir.display(), "a directory cannot be watched: its files are polled");
                }
                Err(_) => {}
            }
        }
    }
}

/// Whether a directory lies on a file system that other machines, or programs of ours, may change unseen: NFS, SMB, Ceph,
/// 9P, FUSE and the like, by the magic numbers of statfs(2).
fn is_shared(dir: &Path) -> bool {
    const SHARED: [u32; 8] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997, 0x6573_5546, 0x0187];
    rustix::fs::statfs(dir).is_ok_and(|stat| SHARED.contains(&(stat.f_type as u32)))
}

fn note(pending: &mut Pending, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        pending.anything = true;
        return;
    };
    match event.kind {
        EventKind::Access(_) => return,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => pending.names = true,
        _ => {}
    }
    pending.anything |= event.need_rescan();
    for path in event.paths {
        if pending.paths.len() >= MAX_PENDING {
            pending.anything = true;
            return;
        }
        pending.paths.insert(path);
    }
}
