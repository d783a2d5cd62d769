//! This machine's metrics under node_exporter's names and units, one file per collector.
//!
//! Collectors read pseudo files below [`Roots`], so that a container sees its host through mounts, and tests see recorded
//! trees. What is absent on a kernel is absent here; a collector that fails says so in `node_scrape_collector_success`.

mod cpu;
mod disk;
mod filesystem;
mod hwmon;
mod kernel;
mod machine;
mod memory;
mod network;
mod pressure;
mod protocols;
mod raid;
mod textfile;
mod timex;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::metrics::Gathered;

/// Where the host's file systems are mounted.
#[derive(Debug, Clone)]
pub struct Roots {
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
    /// Where others leave metrics (`--collector.textfile.directory`).
    pub textfile_dir: Option<PathBuf>,
}

impl Roots {
    fn proc(&self, path: &str) -> io::Result<String> {
        read(&self.procfs.join(path))
    }
}

/// The most that is read of one pseudo file.
const MAX_BYTES: u64 = 16 << 20;

/// A small text file, lossily: some hold names that devices made up.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, MAX_BYTES), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file that holds one number.
fn read_number(path: &Path) -> Option<f64> {
    read(path).ok()?.trim().parse().ok()
}

type Collector = fn(&Roots, &mut Gathered) -> io::Result<()>;

/// Collectors of one name are one for `node_scrape_collector_success`: the first has it.
const COLLECTORS: [(&str, Collector); 33] = [
    ("arp", protocols::arp),
    ("bonding", raid::bonding),
    ("conntrack", network::conntrack),
    ("cpu", cpu::cpu),
    ("diskstats", disk::diskstats),
    ("dmi", machine::dmi),
    ("entropy", machine::entropy),
    ("filefd", kernel::filefd),
    ("filesystem", filesystem::filesystem),
    ("hwmon", hwmon::hwmon),
    ("loadavg", cpu::loadavg),
    ("mdadm", raid::mdadm),
    ("meminfo", memory::meminfo),
    ("netclass", network::netclass),
    ("netdev", network::netdev),
    ("netstat", network::netstat),
    ("nvme", raid::nvme),
    ("os", machine::os),
    ("pressure", pressure::pressure),
    ("schedstat", machine::schedstat),
    ("selinux", machine::selinux),
    ("sockstat", network::sockstat),
    ("softnet", protocols::softnet),
    ("stat", kernel::stat),
    ("textfile", textfile::textfile),
    ("thermal_zone", machine::thermal),
    ("time", machine::time),
    ("timex", timex::timex),
    ("udp_queues", protocols::udp_queues),
    ("uname", kernel::uname),
    ("vmstat", memory::vmstat),
    ("netstat", protocols::snmp6),
    ("sockstat", protocols::sockstat6),
];

/// Runs every collector. Blocking: some file systems answer slowly.
pub fn collect(roots: &Roots, out: &mut Gathered) {
    out.add("node_time_seconds", &[], model::now_ms() as f64 / 1000.0);
    let mut told = std::collections::HashSet::new();
    for (name, collector) in COLLECTORS {
        let start = Instant::now();
        let result = collector(roots, out);
        let success = match &result {
            Ok(()) => true,
            // Not built into this kernel.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::debug!(%error, name, "a host metrics collector failed");
                false
            }
        };
        if !told.insert(name) {
            continue;
        }
        let labels = [("collector", name)];
        out.add("node_scrape_collector_duration_seconds", &labels, start.elapsed().as_secs_f64());
        out.add("node_scrape_collector_success", &labels, f64::from(u8::from(success)));
    }
}

/// Fields of a line as numbers; what is none is 0.
fn numbers<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<f64> {
    fields.map(|field| field.parse().unwrap_or(0.0)).collect()
}

pub use filesystem::root_device;
pub use network::devices as network_devices;
pub use pressure::total_seconds as pressure_seconds;
