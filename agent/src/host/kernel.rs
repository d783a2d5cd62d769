//! The kernel itself: `/proc/stat`'s totals, `uname`, open files.

use std::io;

use super::{Roots, numbers};
use crate::metrics::Gathered;

const TOTALS: [(&str, &str); 5] = [
    ("btime", "node_boot_time_seconds"),
    ("ctxt", "node_context_switches_total"),
    ("processes", "node_forks_total"),
    ("procs_running", "node_procs_running"),
    ("procs_blocked", "node_procs_blocked"),
];

pub fn stat(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in roots.proc("stat")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(key), Some(value)) = (fields.next(), fields.next().and_then(|value| value.parse().ok())) else {
            continue;
        };
        if key == "intr" {
            out.add("node_intr_total", &[], value);
        }
        if let Some((_, name)) = TOTALS.iter().find(|(known, _)| *known == key) {
            out.add(name, &[], value);
        }
    }
    Ok(())
}

pub fn filefd(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let values = numbers(roots.proc("sys/fs/file-nr")?.split_ascii_whitespace());
    if let [allocated, _, maximum] = values[..] {
        out.add("node_filefd_allocated", &[], allocated);
        out.add("node_filefd_maximum", &[], maximum);
    }
    Ok(())
}

pub fn uname(_: &Roots, out: &mut Gathered) -> io::Result<()> {
    let uname = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    let labels = [
        ("sysname", text(uname.sysname())),
        ("release", text(uname.release())),
        ("version", text(uname.version())),
        ("machine", text(uname.machine())),
        ("nodename", text(uname.nodename())),
        ("domainname", text(uname.domainname())),
    ];
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    out.add("node_uname_info", &labels, 1.0);
    Ok(())
}
