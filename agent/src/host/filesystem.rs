//! Mounted file systems, by `statvfs` below the root prefix.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Roots, read};
use crate::metrics::Gathered;

/// node_exporter's defaults, less those that need a regular expression.
const SKIPPED_TYPES: [&str; 28] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "erofs",
    "efivarfs",
    "fuse.lxcfs",
    "ramfs",
];
const SKIPPED_MOUNTS: [&str; 6] =
    ["/dev", "/proc", "/sys", "/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"];
/// Mounts looked at.
const MAX_MOUNTS: usize = 1000;

/// Process 1 sees the host's mounts; where it may not be read, our own.
fn mounts(roots: &Roots) -> io::Result<String> {
    read(&roots.procfs.join("1/mounts")).or_else(|_| roots.proc("self/mounts"))
}

/// The device that is mounted at `/`.
pub fn root_device(roots: &Roots) -> Option<String> {
    let mounts = mounts(roots).ok()?;
    let mut pairs = mounts.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(_, rest)| rest.starts_with("/ ")).map(|(device, _)| device.to_owned())
}

pub fn filesystem(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let mounts = mounts(roots)?;
    let mut seen = HashSet::new();
    for line in mounts.lines().take(MAX_MOUNTS) {
        let mut fields = line.split(' ');
        let (Some(device), Some(mount), Some(kind)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let mount = unescape(mount);
        let in_skipped = |skipped: &&str| mount == **skipped || mount.starts_with(&format!("{skipped}/"));
        if SKIPPED_TYPES.contains(&kind) || SKIPPED_MOUNTS.iter().any(in_skipped) || !seen.insert(mount.clone()) {
            continue;
        }
        let labels = [("device", device), ("fstype", kind), ("mountpoint", mount.as_str())];
        let path: PathBuf = roots.rootfs.join(mount.trim_start_matches('/'));
        let Ok(stat) = statvfs(&path) else {
            out.add("node_filesystem_device_error", &labels, 1.0);
            continue;
        };
        let bytes = |blocks: u64| blocks as f64 * stat.f_frsize as f64;
        out.add("node_filesystem_device_error", &labels, 0.0);
        out.add("node_filesystem_size_bytes", &labels, bytes(stat.f_blocks));
        out.add("node_filesystem_free_bytes", &labels, bytes(stat.f_bfree));
        out.add("node_filesystem_avail_bytes", &labels, bytes(stat.f_bavail));
        out.add("node_filesystem_files", &labels, stat.f_files as f64);
        out.add("node_filesystem_files_free", &labels, stat.f_ffree as f64);
        let is_readonly = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
        out.add("node_filesystem_readonly", &labels, f64::from(u8::from(is_readonly)));
    }
    Ok(())
}

/// The kernel writes blanks in paths as `\040`, tabs as `\011`, newlines as `\012`, backslashes as `\134`.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
