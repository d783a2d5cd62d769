//! `/proc/meminfo` (kB) and the few fields of `/proc/vmstat` that node_exporter keeps.

use std::io;

use super::Roots;
use crate::metrics::Gathered;

pub fn meminfo(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in roots.proc("meminfo")?.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let mut fields = rest.split_ascii_whitespace();
        let Some(value) = fields.next().and_then(|value| value.parse::<f64>().ok()) else { continue };
        let name = name.replace('(', "_").replace(')', "");
        match fields.next() {
            Some("kB") => out.add(&format!("node_memory_{name}_bytes"), &[], value * 1024.0),
            _ => out.add(&format!("node_memory_{name}"), &[], value),
        }
    }
    Ok(())
}

/// node_exporter's default: `^(oom_kill|pgpg|pswp|pg.*fault).*`.
pub fn vmstat(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in roots.proc("vmstat")?.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let is_fault = name.starts_with("pg") && name.contains("fault");
        let is_kept = ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| name.starts_with(prefix)) || is_fault;
        if let (true, Ok(value)) = (is_kept, value.trim().parse()) {
            out.add(&format!("node_vmstat_{name}"), &[], value);
        }
    }
    Ok(())
}
