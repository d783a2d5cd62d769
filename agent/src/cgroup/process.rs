//! What the processes of a group tell: how many there are, since when, and the traffic of their network namespace.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Stats;
use crate::host::{Roots, network_devices};

/// Processes of a group that are asked when they started.
const MAX_ASKED: usize = 32;
/// `/proc` counts start times in this unit.
const TICKS_PER_SECOND: f64 = 100.0;
/// cAdvisor leaves out the host's ends of container networks.
const SKIPPED_INTERFACES: [&str; 4] = ["veth", "docker", "cali", "nerdctl"];
/// Names with the column of `/proc/net/dev`.
const TRAFFIC: [(&str, usize); 8] = [
    ("container_network_receive_bytes_total", 0),
    ("container_network_receive_packets_total", 1),
    ("container_network_receive_errors_total", 2),
    ("container_network_receive_packets_dropped_total", 3),
    ("container_network_transmit_bytes_total", 8),
    ("container_network_transmit_packets_total", 9),
    ("container_network_transmit_errors_total", 10),
    ("container_network_transmit_packets_dropped_total", 11),
];

/// The processes directly in a group; none where the kernel does not say.
pub fn pids(group: &Path) -> Option<Vec<u32>> {
    let text = fs::read_to_string(group.join("cgroup.procs")).ok()?;
    // 0 is a process outside the reader's view.
    Some(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect())
}

/// When the machine started, in seconds since the epoch.
pub fn boot_seconds(procfs: &Path) -> Option<f64> {
    let stat = fs::read_to_string(procfs.join("stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// When the oldest process of a group started.
pub fn start_seconds(procfs: &Path, pids: &[u32], boot_seconds: f64) -> Option<f64> {
    let started = |pid: &u32| {
        let stat = fs::read_to_string(procfs.join(pid.to_string()).join("stat")).ok()?;
        // The name before the last parenthesis may hold anything; field 22 of proc(5) is the 20th behind it.
        let ticks: f64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(boot_seconds + ticks / TICKS_PER_SECOND)
    };
    pids.iter().take(MAX_ASKED).filter_map(started).reduce(f64::min)
}

/// Network namespaces that were reported, the host's first.
pub struct Network {
    host: Option<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Network {
    /// Process 1 is in the host's namespace; where it may not be asked, we take ours for it.
    pub fn new(procfs: &Path) -> Network {
        let host = namespace(procfs, "1").or_else(|| namespace(procfs, "self"));
        Network { host, seen: HashSet::new() }
    }

    /// The traffic of a group's namespace, once for each that is not the host's.
    pub fn container(&mut self, procfs: &Path, pids: &[u32]) -> Option<Stats> {
        let host = self.host.as_ref()?;
        let pid = pids.first()?.to_string();
        let namespace = namespace(procfs, &pid).filter(|namespace| namespace != host)?;
        if !self.seen.insert(namespace) {
            return None;
        }
        Some(traffic(&fs::read_to_string(procfs.join(pid).join("net/dev")).ok()?))
    }

    pub fn of_host(roots: &Roots) -> Stats {
        let read = |path: &str| fs::read_to_string(roots.procfs.join(path));
        traffic(&read("1/net/dev").or_else(|_| read("net/dev")).unwrap_or_default())
    }
}

fn namespace(procfs: &Path, pid: &str) -> Option<PathBuf> {
    fs::read_link(procfs.join(pid).join("ns/net")).ok()
}

fn traffic(dev: &str) -> Stats {
    let mut stats = Stats::default();
    for (interface, counters) in network_devices(dev) {
        if interface == "lo" || SKIPPED_INTERFACES.iter().any(|prefix| interface.starts_with(prefix)) {
            continue;
        }
        for (name, column) in TRAFFIC {
            stats.add_with(name, &[("interface", &interface)], counters.get(column).copied());
        }
    }
    stats
}
