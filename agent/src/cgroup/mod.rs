//! Container metrics under cAdvisor's names, from control groups version 2 and 1.
//!
//! Every group is reported, the root `/` included; names and formulas are cAdvisor's (`lib/metrics/prometheus.go`):
//! working set = usage − inactive_file, not below 0; the root's usage on version 2 = anon + file.

mod names;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use names::Names;

use crate::host::Roots;
use crate::metrics::Gathered;

/// Groups looked at in one collection, and how deep they may lie.
const MAX_GROUPS: usize = 2000;
const MAX_DEPTH: usize = 12;

/// What a version knows of one group; absent where the kernel does not say. CPU in seconds, memory in bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Stats {
    values: Vec<Stat>,
}

/// Name, labels, value.
type Stat = (&'static str, Vec<(&'static str, String)>, f64);

impl Stats {
    fn add(&mut self, name: &'static str, value: Option<f64>) {
        self.add_with(name, &[], value);
    }

    fn add_with(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            self.values.push((name, labels, value));
        }
    }
}

/// Collects every group below the mount, and the machine's size. Blocking.
pub fn collect(cgroupfs: &Path, roots: &Roots, out: &mut Gathered) {
    machine(&roots.procfs, out);
    let names = Names::read(&roots.rootfs);
    let is_v2 = cgroupfs.join("cgroup.controllers").exists();
    let base = if is_v2 { cgroupfs.to_owned() } else { cgroupfs.join("memory") };
    let mut groups = Vec::new();
    find(&base, Path::new("/"), 0, &mut groups);
    for group in groups {
        let stats = if is_v2 { v2::read(cgroupfs, &group) } else { v1::read(cgroupfs, &group) };
        let id = group.display().to_string();
        let named = names.of(&id);
        for (name, labels, value) in &stats.values {
            let mut all = vec![("id", id.as_str())];
            all.extend(named.iter().map(|(name, value)| (*name, value.as_str())));
            all.extend(labels.iter().map(|(name, value)| (*name, value.as_str())));
            out.add(name, &all, *value);
        }
        out.add("container_last_seen", &[("id", &id)], (model::now_ms() / 1000) as f64);
    }
}

fn machine(procfs: &Path, out: &mut Gathered) {
    let read = |name: &str| fs::read_to_string(procfs.join(name)).unwrap_or_default();
    let stat = read("stat");
    let cores = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    out.add("machine_cpu_cores", &[], cores as f64);
    let meminfo = read("meminfo");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    if let Some(kb) = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok()) {
        out.add("machine_memory_bytes", &[], kb * 1024.0);
    }
}

fn find(dir: &Path, group: &Path, depth: usize, groups: &mut Vec<PathBuf>) {
    if groups.len() >= MAX_GROUPS || depth > MAX_DEPTH || !dir.is_dir() {
        return;
    }
    groups.push(group.to_owned());
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut below: Vec<_> = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).collect();
    below.sort_by_key(fs::DirEntry::file_name);
    for entry in below {
        find(&entry.path(), &group.join(entry.file_name()), depth + 1, groups);
    }
}

/// One number; `max` and what is no number is absent.
fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `key value` lines.
fn table(path: &Path) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}
