//! Version 1: a tree per controller; CPU time in nanoseconds and, by mode, in ticks of 1/100 s.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Stats, number, table};

/// A limit at least this large is none (the kernel says "no limit" with a huge page-aligned number).
const NO_LIMIT_BYTES: f64 = (1u64 << 62) as f64;

pub fn read(cgroupfs: &Path, group: &Path) -> Stats {
    let below = group.strip_prefix("/").unwrap_or(group);
    // `cpu` and `cpuacct` are often one mount with two names.
    let dir = |controller: &str| -> PathBuf { cgroupfs.join(controller).join(below) };
    let mut stats = Stats::default();
    let cpuacct = dir("cpuacct");
    let usage = number(&cpuacct.join("cpuacct.usage")).map(|ns| ns / 1e9);
    stats.add_with("container_cpu_usage_seconds_total", &[("cpu", "total")], usage);
    let modes = table(&cpuacct.join("cpuacct.stat"));
    stats.add("container_cpu_user_seconds_total", modes.get("user").map(|ticks| ticks / 100.0));
    stats.add("container_cpu_system_seconds_total", modes.get("system").map(|ticks| ticks / 100.0));
    cpu(&dir("cpu"), &mut stats);
    memory(&dir("memory"), &mut stats);
    io(&dir("blkio"), &mut stats);
    stats.add("container_threads", number(&dir("pids").join("pids.current")));
    stats.add("container_threads_max", number(&dir("pids").join("pids.max")));
    stats
}

fn cpu(dir: &Path, stats: &mut Stats) {
    let quota = number(&dir.join("cpu.cfs_quota_us")).filter(|quota| *quota > 0.0);
    stats.add("container_spec_cpu_quota", quota);
    stats.add("container_spec_cpu_period", number(&dir.join("cpu.cfs_period_us")));
    stats.add("container_spec_cpu_shares", number(&dir.join("cpu.shares")));
    if quota.is_some() {
        let stat = table(&dir.join("cpu.stat"));
        stats.add("container_cpu_cfs_periods_total", stat.get("nr_periods").copied());
        stats.add("container_cpu_cfs_throttled_periods_total", stat.get("nr_throttled").copied());
        let throttled = stat.get("throttled_time").map(|ns| ns / 1e9);
        stats.add("container_cpu_cfs_throttled_seconds_total", throttled);
    }
}

fn memory(dir: &Path, stats: &mut Stats) {
    let stat = table(&dir.join("memory.stat"));
    let get = |key: &str| stat.get(key).copied();
    let usage = number(&dir.join("memory.usage_in_bytes"));
    let inactive = get("total_inactive_file").unwrap_or(0.0);
    stats.add("container_memory_usage_bytes", usage);
    stats.add("container_memory_working_set_bytes", usage.map(|usage| (usage - inactive).max(0.0)));
    stats.add("container_memory_rss", get("total_rss"));
    stats.add("container_memory_cache", get("total_cache"));
    stats.add("container_memory_mapped_file", get("total_mapped_file"));
    stats.add("container_memory_swap", get("total_swap"));
    stats.add("container_memory_max_usage_bytes", number(&dir.join("memory.max_usage_in_bytes")));
    stats.add("container_memory_failcnt", number(&dir.join("memory.failcnt")));
    for (name, file) in [
        ("container_spec_memory_limit_bytes", "memory.limit_in_bytes"),
        ("container_spec_memory_reservation_limit_bytes", "memory.soft_limit_in_bytes"),
        ("container_spec_memory_swap_limit_bytes", "memory.memsw.limit_in_bytes"),
    ] {
        let limit = number(&dir.join(file));
        stats.add(name, limit.map(|bytes| if bytes >= NO_LIMIT_BYTES { 0.0 } else { bytes }));
    }
    for (kind, key) in [("pgfault", "total_pgfault"), ("pgmajfault", "total_pgmajfault")] {
        let labels = [("failure_type", kind), ("scope", "hierarchy")];
        stats.add_with("container_memory_failures_total", &labels, get(key));
    }
}

/// `8:0 Read 123` lines; the totals at the end are none of a device.
fn io(dir: &Path, stats: &mut Stats) {
    let names = [
        ("io_service_bytes", "container_fs_reads_bytes_total", "container_fs_writes_bytes_total"),
        ("io_serviced", "container_fs_reads_total", "container_fs_writes_total"),
    ];
    for (file, reads, writes) in names {
        let read = |suffix: &str| fs::read_to_string(dir.join(format!("blkio.throttle.{file}{suffix}")));
        let text = read("_recursive").or_else(|_| read("")).unwrap_or_default();
        for line in text.lines() {
            let [device, operation, value] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else { continue };
            let name = match operation {
                "Read" => reads,
                "Write" => writes,
                _ => continue,
            };
            stats.add_with(name, &[("device", device)], value.parse().ok());
        }
    }
}
