//! The groups that were pushed: kept until they are replaced or deleted, in memory and in one file.
//!
//! # Contracts
//! - A push changes the groups in memory, then the file, then the series; it is answered after all three. Sent again after
//!   a failure it does the same again.
//! - The file is replaced as a whole and atomically. Pushes that wait for the disk at the same time share one writing.
//! - No more than [`MAX_GROUPS`] groups and [`MAX_SAMPLES`] samples: a push that would pass them is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use disk::{Disk, write_atomically};
use model::{Labels, MetricKind, MetricMetadata};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const MAX_GROUPS: usize = 100_000;
const MAX_SAMPLES: usize = 1_000_000;
const FILE: &str = "pushgateway.json";
const VERSION: u32 = 1;

/// Who pushed: a tenant, and the grouping labels with the job among them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey {
    pub tenant: String,
    pub labels: Labels,
}

/// What is known of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// By name of the family.
    pub families: BTreeMap<String, Family>,
    /// When the last good push and the last bad one came; 0: never.
    pub pushed_ms: i64,
    pub failed_ms: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Family {
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
    pub pushed_ms: i64,
    /// Label sets with the names of samples and the grouping labels; values by their bits, which JSON has no texts for.
    pub samples: Vec<(Labels, u64)>,
}

impl Family {
    pub fn described(&self, name: &str) -> MetricMetadata {
        let Family { kind, help, unit, .. } = self.clone();
        MetricMetadata { name: name.to_owned(), kind, help, unit }
    }
}

impl Group {
    /// The label sets and values of all families.
    pub fn samples(&self) -> impl Iterator<Item = (&Labels, f64)> {
        let all = self.families.values().flat_map(|family| &family.samples);
        all.map(|(labels, bits)| (labels, f64::from_bits(*bits)))
    }

    fn len(&self) -> usize {
        self.families.values().map(|family| family.samples.len()).sum()
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    groups: Vec<(GroupKey, Group)>,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<GroupKey, Group>,
    samples: usize,
    /// Counts changes.
    generation: u64,
}

pub struct Groups {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: Mutex<State>,
    /// The generation that is in the file.
    saved: tokio::sync::Mutex<u64>,
}

/// Before and after a change, for whoever writes the series.
pub struct Change {
    pub before: Option<Group>,
    pub after: Option<Group>,
}

impl Groups {
    /// Reads what is there. A file that cannot be read is set aside, and said.
    pub fn open(disk: Arc<dyn Disk>, dir: &std::path::Path) -> Groups {
        let path = dir.join(FILE);
        let mut state = State::default();
        if disk.exists(&path) {
            match read(disk.as_ref(), &path) {
                Ok(saved) => state.groups = saved.groups.into_iter().collect(),
                Err(reason) => {
                    let aside = dir.join(format!("{FILE}.bad"));
                    let moved = disk.rename(&path, &aside).is_ok();
                    tracing::error!(path = %path.display(), reason, moved, "pushed groups cannot be read");
                }
            }
        }
        state.samples = state.groups.values().map(Group::len).sum();
        Groups { disk, path, state: Mutex::new(state), saved: tokio::sync::Mutex::new(0) }
    }

    pub fn all(&self) -> Vec<(GroupKey, Group)> {
        self.state.lock().groups.iter().map(|(key, group)| (key.clone(), group.clone())).collect()
    }

    /// Changes one group, in memory. `None` from `change` deletes it.
    pub fn change(
        &self,
        key: &GroupKey,
        change: impl FnOnce(Option<Group>) -> Option<Group>,
    ) -> Result<Change, &'static str> {
        let mut state = self.state.lock();
        let before = state.groups.get(key).cloned();
        let after = change(before.clone());
        let others = state.samples - before.as_ref().map_or(0, Group::len);
        let samples = others + after.as_ref().map_or(0, Group::len);
        if before.is_none() && after.is_some() && state.groups.len() >= MAX_GROUPS {
            return Err("too many pushed groups");
        }
        if samples > MAX_SAMPLES && samples > state.samples {
            return Err("too many pushed samples");
        }
        match after.clone() {
            Some(group) => drop(state.groups.insert(key.clone(), group)),
            None => drop(state.groups.remove(key)),
        }
        state.samples = samples;
        state.generation += 1;
        Ok(Change { before, after })
    }

    /// Returns once everything that was changed before the call is in the file.
    pub async fn save(self: &Arc<Self>) -> Result<(), String> {
        let wanted = self.state.lock().generation;
        let mut saved = self.saved.lock().await;
        if *saved >= wanted {
            return Ok(());
        }
        let groups = self.clone();
        let written = tokio::task::spawn_blocking(move || groups.write());
        *saved = written.await.map_err(|error| error.to_string())??;
        Ok(())
    }

    fn write(&self) -> Result<u64, String> {
        let generation = self.state.lock().generation;
        // A change after this is saved by whoever made it.
        let saved = Saved { version: VERSION, groups: self.all() };
        let bytes = serde_json::to_vec(&saved).map_err(|error| error.to_string())?;
        write_atomically(self.disk.as_ref(), &self.path, &bytes).map_err(|error| error.to_string())?;
        Ok(generation)
    }
}

fn read(disk: &dyn Disk, path: &std::path::Path) -> Result<Saved, String> {
    let bytes = disk.read(path).map_err(|error| error.to_string())?;
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if saved.version != VERSION {
        return Err(format!("version {} is not known", saved.version));
    }
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use disk::FakeDisk;

    use super::*;

    fn key(job: &str) -> GroupKey {
        GroupKey { tenant: "t".into(), labels: Labels::from_pairs([("job", job)]) }
    }

    fn group(values: &[f64]) -> Group {
        let labels = |i: usize| Labels::from_pairs([("__name__", "x".to_owned()), ("i", i.to_string())]);
        let samples = values.iter().enumerate().map(|(i, value)| (labels(i), value.to_bits())).collect();
        let family = Family { kind: MetricKind::Counter, help: "h".into(), samples, ..Family::default() };
        Group { families: BTreeMap::from([("x".to_owned(), family)]), pushed_ms: 7, failed_ms: 0 }
    }

    fn check(disk: &FakeDisk, expected: &[(GroupKey, Group)]) {
        let groups = Groups::open(Arc::new(disk.clone()), Path::new("d"));
        assert_eq!(groups.all(), expected);
    }

    #[tokio::test]
    async fn groups_are_there_after_a_restart() {
        let disk = FakeDisk::new();
        disk.create_dir_all(Path::new("d")).expect("made");
        let groups = Arc::new(Groups::open(Arc::new(disk.clone()), Path::new("d")));
        let odd = group(&[f64::INFINITY, -0.0, 1e-300]);
        groups.change(&key("a"), |_| Some(odd.clone())).expect("room");
        groups.change(&key("b"), |_| Some(group(&[1.0]))).expect("room");
        check(&disk, &[]);
        groups.save().await.expect("saved");
        check(&disk, &[(key("a"), odd.clone()), (key("b"), group(&[1.0]))]);
        let change = groups.change(&key("b"), |_| None).expect("less");
        assert_eq!((change.before, change.after), (Some(group(&[1.0])), None));
        groups.save().await.expect("saved");
        check(&disk, &[(key("a"), odd)]);
        disk.create(Path::new("d/pushgateway.json")).and_then(|mut file| file.append(b"{")).expect("written");
        check(&disk, &[]);
        assert!(disk.exists(Path::new("d/pushgateway.json.bad")));
    }

    #[test]
    fn there_is_a_bound() {
        let groups = Groups::open(Arc::new(FakeDisk::new()), Path::new("d"));
        groups.state.lock().samples = MAX_SAMPLES;
        assert!(groups.change(&key("a"), |_| Some(group(&[1.0]))).is_err());
        assert!(groups.change(&key("a"), |_| Some(Group::default())).is_ok(), "it adds none");
    }
}
