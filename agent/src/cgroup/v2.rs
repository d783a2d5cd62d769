//! Version 2: one tree, `cpu.stat` in microseconds (kernel `Documentation/admin-guide/cgroup-v2.rst`).

use std::fs;
use std::path::Path;

use super::{Stats, number, table};

pub fn read(cgroupfs: &Path, group: &Path) -> Stats {
    let dir = cgroupfs.join(group.strip_prefix("/").unwrap_or(group));
    let mut stats = Stats::default();
    cpu(&dir, &mut stats);
    memory(&dir, &mut stats);
    io(&dir, &mut stats);
    stats.add("container_threads", number(&dir.join("pids.current")));
    stats.add("container_threads_max", number(&dir.join("pids.max")));
    for (resource, waiting, stalled) in [
        ("cpu", "container_pressure_cpu_waiting_seconds_total", "container_pressure_cpu_stalled_seconds_total"),
        (
            "memory",
            "container_pressure_memory_waiting_seconds_total",
            "container_pressure_memory_stalled_seconds_total",
        ),
        ("io", "container_pressure_io_waiting_seconds_total", "container_pressure_io_stalled_seconds_total"),
    ] {
        let text = fs::read_to_string(dir.join(format!("{resource}.pressure"))).unwrap_or_default();
        stats.add(waiting, crate::host::pressure_seconds(&text, "some"));
        stats.add(stalled, crate::host::pressure_seconds(&text, "full"));
    }
    stats
}

fn cpu(dir: &Path, stats: &mut Stats) {
    let stat = table(&dir.join("cpu.stat"));
    let seconds = |key: &str| stat.get(key).map(|micros| micros / 1e6);
    stats.add_with("container_cpu_usage_seconds_total", &[("cpu", "total")], seconds("usage_usec"));
    stats.add("container_cpu_user_seconds_total", seconds("user_usec"));
    stats.add("container_cpu_system_seconds_total", seconds("system_usec"));
    let max = fs::read_to_string(dir.join("cpu.max")).unwrap_or_default();
    let mut fields = max.split_ascii_whitespace();
    let quota = fields.next().and_then(|quota| quota.parse::<f64>().ok());
    stats.add("container_spec_cpu_quota", quota);
    stats.add("container_spec_cpu_period", fields.next().and_then(|period| period.parse().ok()));
    let weight = number(&dir.join("cpu.weight"));
    stats.add("container_spec_cpu_shares", weight.map(|w| (2.0 + (w - 1.0) * 262_142.0 / 9999.0).floor()));
    if quota.is_some() {
        stats.add("container_cpu_cfs_periods_total", stat.get("nr_periods").copied());
        stats.add("container_cpu_cfs_throttled_periods_total", stat.get("nr_throttled").copied());
        stats.add("container_cpu_cfs_throttled_seconds_total", seconds("throttled_usec"));
    }
}

fn memory(dir: &Path, stats: &mut Stats) {
    let stat = table(&dir.join("memory.stat"));
    let get = |key: &str| stat.get(key).copied();
    let root = || Some(get("anon")? + get("file")?);
    let usage = number(&dir.join("memory.current")).or_else(root);
    stats.add("container_memory_usage_bytes", usage);
    let inactive = get("inactive_file").unwrap_or(0.0);
    stats.add("container_memory_working_set_bytes", usage.map(|usage| (usage - inactive).max(0.0)));
    stats.add("container_memory_rss", get("anon"));
    stats.add("container_memory_cache", get("file"));
    stats.add("container_memory_mapped_file", get("file_mapped"));
    stats.add("container_memory_swap", number(&dir.join("memory.swap.current")));
    stats.add("container_memory_max_usage_bytes", number(&dir.join("memory.peak")));
    stats.add("container_memory_failcnt", usage.map(|_| 0.0));
    let spec = |file: &str| number(&dir.join(file)).unwrap_or(0.0);
    stats.add("container_spec_memory_reservation_limit_bytes", usage.map(|_| spec("memory.min")));
    stats.add("container_spec_memory_swap_limit_bytes", usage.map(|_| spec("memory.swap.max")));
    stats.add("container_spec_memory_limit_bytes", usage.map(|_| spec("memory.max")));
    for (kind, key) in [("pgfault", "pgfault"), ("pgmajfault", "pgmajfault")] {
        let labels = [("failure_type", kind), ("scope", "hierarchy")];
        stats.add_with("container_memory_failures_total", &labels, get(key));
    }
    stats.add("container_oom_events_total", table(&dir.join("memory.events")).get("oom_kill").copied());
}

fn io(dir: &Path, stats: &mut Stats) {
    for line in fs::read_to_string(dir.join("io.stat")).unwrap_or_default().lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(device) = fields.next() else { continue };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let name = match key {
                "rbytes" => "container_fs_reads_bytes_total",
                "wbytes" => "container_fs_writes_bytes_total",
                "rios" => "container_fs_reads_total",
                "wios" => "container_fs_writes_total",
                _ => continue,
            };
            stats.add_with(name, &[("device", device)], value.parse().ok());
        }
    }
}
