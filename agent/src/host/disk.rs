//! `/proc/diskstats`: sectors of 512 bytes, times in milliseconds (kernel `Documentation/admin-guide/iostats.rst`); and what
//! udev knows of the disks.

use std::io;

use super::{Roots, numbers, read};
use crate::metrics::Gathered;

/// Name, unit in the kernel's terms; the order is the kernel's.
const FIELDS: [(&str, f64); 17] = [
    ("node_disk_reads_completed_total", 1.0),
    ("node_disk_reads_merged_total", 1.0),
    ("node_disk_read_bytes_total", 512.0),
    ("node_disk_read_time_seconds_total", 0.001),
    ("node_disk_writes_completed_total", 1.0),
    ("node_disk_writes_merged_total", 1.0),
    ("node_disk_written_bytes_total", 512.0),
    ("node_disk_write_time_seconds_total", 0.001),
    ("node_disk_io_now", 1.0),
    ("node_disk_io_time_seconds_total", 0.001),
    ("node_disk_io_time_weighted_seconds_total", 0.001),
    ("node_disk_discards_completed_total", 1.0),
    ("node_disk_discards_merged_total", 1.0),
    ("node_disk_discarded_sectors_total", 1.0),
    ("node_disk_discard_time_seconds_total", 0.001),
    ("node_disk_flush_requests_total", 1.0),
    ("node_disk_flush_requests_time_seconds_total", 0.001),
];

pub fn diskstats(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in roots.proc("diskstats")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(major), Some(minor)) = (fields.next(), fields.next()) else { continue };
        let Some(device) = fields.next().filter(|device| is_disk(device)) else { continue };
        info(roots, device, (major, minor), out);
        for ((name, unit), value) in FIELDS.iter().zip(numbers(fields)) {
            // Milliseconds are divided, not multiplied: 10 ms is 0.01 s exactly as node_exporter prints it.
            let value = if *unit == 0.001 { value / 1000.0 } else { value * unit };
            out.add(name, &[("device", device)], value);
        }
    }
    Ok(())
}

/// Of a disk that udev does not know only its numbers.
fn info(roots: &Roots, device: &str, (major, minor): (&str, &str), out: &mut Gathered) {
    let udev = read(&roots.rootfs.join(format!("run/udev/data/b{major}:{minor}"))).unwrap_or_default();
    let known =
        |name: &str| udev.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(name)?.strip_prefix('='));
    let labels = [
        ("device", Some(device)),
        ("major", Some(major)),
        ("minor", Some(minor)),
        ("path", known("ID_PATH")),
        ("wwn", known("ID_WWN")),
        ("model", known("ID_MODEL")),
        ("serial", known("ID_SERIAL_SHORT").or_else(|| known("ID_SERIAL"))),
        ("revision", known("ID_REVISION")),
    ];
    let labels: Vec<(&str, &str)> = labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    out.add("node_disk_info", &labels, 1.0);
}

/// node_exporter's default leaves out `(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+`: RAM disks, loops, partitions.
fn is_disk(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return true;
    }
    let is_lettered = ["hd", "sd", "vd", "xvd"].iter().any(|bus| {
        stem.strip_prefix(bus).is_some_and(|letter| letter.len() == 1 && letter.as_bytes()[0].is_ascii_lowercase())
    });
    let is_nvme_partition = stem.starts_with("nvme") && stem.ends_with('p');
    !(["ram", "zram", "loop", "fd"].contains(&stem) || is_lettered || is_nvme_partition)
}
