//! Container metrics under cAdvisor's names, from control groups version 2 and 1.
//!
//! Every group is reported, the root `/` included; names and formulas are cAdvisor's (`lib/metrics/prometheus.go`):
//! working set = usage − inactive_file, not below 0; the root's usage on version 2 = anon + file.
//!
//! A network namespace is reported once: the host's at the root, a pod's at the pod's group, which outlives its containers,
//! any other at the first group that has a process in it.

mod names;
mod process;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use names::Names;
use process::Network;
use rustix::fs::statvfs;

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
    let is_v2 = cgroupfs.join("cgroup.controllers").exists();
    let base = if is_v2 { cgroupfs.to_owned() } else { cgroupfs.join("memory") };
    let mut groups = Vec::new();
    find(&base, Path::new("/"), 0, &mut groups);
    let mut emitter = Emitter { names: Names::read(&roots.rootfs), devices: HashMap::new(), roots, out };
    let mut network = Network::new(&roots.procfs);
    let boot_seconds = process::boot_seconds(&roots.procfs).unwrap_or(0.0);
    for group in groups {
        let mut stats = if is_v2 { v2::read(cgroupfs, &group) } else { v1::read(cgroupfs, &group) };
        let id = group.display().to_string();
        let dir = base.join(group.strip_prefix("/").unwrap_or(&group));
        let pids = process::pids(&dir);
        stats.add("container_processes", pids.as_ref().map(|pids| pids.len() as f64));
        stats.add("container_last_seen", Some((model::now_ms() / 1000) as f64));
        let pids = pids.unwrap_or_default();
        if id == "/" {
            stats.add("container_start_time_seconds", Some(boot_seconds));
            root_file_system(roots, &mut stats);
            emitter.emit(&id, &Network::of_host(roots));
        } else {
            let start = process::start_seconds(&roots.procfs, &pids, boot_seconds);
            stats.add("container_start_time_seconds", start.or_else(|| modified_seconds(&dir)));
            if let Some(traffic) = network.container(&roots.procfs, &pids) {
                emitter.emit(names::pod_group(&id).unwrap_or(&id), &traffic);
            }
        }
        emitter.emit(&id, &stats);
    }
}

/// Gives statistics their names and labels.
struct Emitter<'a> {
    names: Names,
    /// Device files by `major:minor`.
    devices: HashMap<String, String>,
    roots: &'a Roots,
    out: &'a mut Gathered,
}

impl Emitter<'_> {
    fn emit(&mut self, id: &str, stats: &Stats) {
        let named = self.names.of(id);
        for (name, labels, value) in &stats.values {
            let mut all = vec![("id", id)];
            all.extend(named.iter().map(|(name, value)| (*name, value.as_str())));
            for (_, numbers) in labels.iter().filter(|(label, _)| *label == "device") {
                let known = self.devices.entry(numbers.clone());
                known.or_insert_with(|| device(&self.roots.sysfs, numbers));
            }
            for (label, text) in labels {
                let device = if *label == "device" { self.devices.get(text) } else { None };
                all.push((label, device.unwrap_or(text)));
            }
            self.out.add(name, &all, *value);
        }
    }
}

/// The device file of `major:minor`, as cAdvisor names devices; the numbers where the system does not know it.
fn device(sysfs: &Path, numbers: &str) -> String {
    let link = fs::read_link(sysfs.join("dev/block").join(numbers)).ok();
    let name = link.as_ref().and_then(|link| link.file_name()?.to_str());
    name.map_or_else(|| numbers.to_owned(), |name| format!("/dev/{name}"))
}

fn root_file_system(roots: &Roots, stats: &mut Stats) {
    let Ok(stat) = statvfs(&roots.rootfs) else { return };
    let device = crate::host::root_device(roots).unwrap_or_default();
    let bytes = |blocks: u64| Some(blocks as f64 * stat.f_frsize as f64);
    let labels = [("device", device.as_str())];
    stats.add_with("container_fs_limit_bytes", &labels, bytes(stat.f_blocks));
    stats.add_with("container_fs_usage_bytes", &labels, bytes(stat.f_blocks.saturating_sub(stat.f_bfree)));
    stats.add_with("container_fs_inodes_total", &labels, Some(stat.f_files as f64));
    stats.add_with("container_fs_inodes_free", &labels, Some(stat.f_ffree as f64));
}

/// A group without processes is about as old as its directory.
fn modified_seconds(dir: &Path) -> Option<f64> {
    let modified = fs::metadata(dir).ok()?.modified().ok()?;
    Some(modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64())
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
