//! `file_sd_configs`: groups of targets in YAML or JSON files, read again when they change and at every refresh.
//!
//! A file that cannot be read or makes no sense keeps what it said last; one that is gone has no targets.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::Labels;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use service::config::{FileSd, matching_files};
use tokio::sync::mpsc;

use super::{Found, MAX_ANSWER_BYTES, Provider, WrittenGroup, extension, refresh, targets_of};

const SETTLE: Duration = Duration::from_millis(50);

pub struct Files {
    config: FileSd,
    patterns: Vec<PathBuf>,
}

impl Files {
    pub fn new(config: FileSd, base: &Path) -> Files {
        let patterns = config.files.iter().map(|pattern| base.join(pattern)).collect();
        Files { config, patterns }
    }

    /// Watches the directories of all patterns; where that fails there is still the refresh.
    fn watch(&self, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let told = move |event: notify::Result<notify::Event>| {
            // Reading is an event too, ours among others'.
            let is_read = |kind: &EventKind| matches!(kind, EventKind::Access(kind) if *kind != AccessKind::Close(AccessMode::Write));
            if !event.is_ok_and(|event| is_read(&event.kind)) {
                // Full: somebody will look anyway.
                let _ = changed.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(told).inspect_err(said).ok()?;
        let dirs: HashSet<&Path> = self.patterns.iter().filter_map(|pattern| pattern.parent()).collect();
        for dir in dirs {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                said(&error);
            }
        }
        Some(watcher)
    }

    fn read_all(&self, found: &Found) {
        let mut sources = HashSet::new();
        for path in self.patterns.iter().flat_map(|pattern| matching_files(pattern)) {
            let source = path.display().to_string();
            match read(&path) {
                Ok(Some(targets)) => found.set(&source, targets),
                Ok(None) => continue,
                Err(error) => {
                    found.counters.file_errors.inc();
                    found.counters.failed("file");
                    tracing::warn!(error, path = source, "file_sd_configs: the file keeps what it said last");
                }
            }
            sources.insert(source);
        }
        found.retain(|source| sources.contains(source));
    }
}

fn said(error: &notify::Error) {
    tracing::warn!(%error, "file_sd_configs: changes are seen at refreshes only");
}

impl Provider for Files {
    fn run(self: Box<Self>, found: Arc<Found>) -> BoxFuture<'static, ()> {
        async move {
            let (sender, mut changed) = mpsc::channel(1);
            let watcher = self.watch(sender.clone());
            let mut beat = tokio::time::interval(refresh(self.config.refresh_interval));
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let files = Arc::new(*self);
            loop {
                tokio::select! {
                    _ = beat.tick() => {}
                    _ = changed.recv() => {
                        // Whoever writes a file is given a moment to finish it.
                        tokio::time::sleep(SETTLE).await;
                        let _ = changed.try_recv();
                    }
                }
                let (files, found) = (files.clone(), found.clone());
                let read = tokio::task::spawn_blocking(move || files.read_all(&found)).await;
                if let Err(error) = read {
                    tracing::error!(%error, "file_sd_configs");
                }
                // The watcher lives as long as it is of use.
                let _ = &watcher;
            }
        }
        .boxed()
    }
}

/// The targets of a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<Labels>>, String> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(MAX_ANSWER_BYTES as u64).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let groups = parse(&text, extension(path) == "json")?;
    let path = path.display().to_string();
    Ok(Some(groups.iter().flat_map(|group| targets_of(group, &[("__meta_filepath", &path)])).collect()))
}

/// The groups that a text holds.
pub fn parse(text: &str, is_json: bool) -> Result<Vec<WrittenGroup>, String> {
    if is_json {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: Result<&[&str], &str>) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        match (read(&path), expected) {
            (Ok(Some(targets)), Ok(expected)) => {
                let shown = targets.iter().map(|labels| {
                    assert_eq!(labels.get("__meta_filepath"), path.to_str());
                    labels.without(&["__meta_filepath"]).to_string()
                });
                assert_eq!(shown.collect::<Vec<_>>(), expected);
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn groups_in_both_languages() {
        let two = [r#"{__address__="a:1", env="p"}"#, r#"{__address__="b:2", env="p"}"#];
        check("x.yml", "- targets: ['a:1', 'b:2']\n  labels: {env: p}\n", Ok(&two));
        check("x.json", r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "p"}}]"#, Ok(&two));
        check("x.yaml", "", Ok(&[]));
        check("x.yml", "- target: [a]\n", Err("target"));
        check("x.json", "[", Err("EOF"));
        assert!(matches!(read(Path::new("/nowhere/x.yml")), Ok(None)));
    }
}
