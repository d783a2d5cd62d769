//! `/proc/stat` per CPU, in USER_HZ ticks (100 per second on every Linux that is met), and `/proc/loadavg`.

use std::io;

use super::{Roots, numbers};
use crate::metrics::Gathered;

const USER_HZ: f64 = 100.0;
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

pub fn cpu(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in roots.proc("stat")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(cpu) = fields.next().and_then(|name| name.strip_prefix("cpu")).filter(|cpu| !cpu.is_empty()) else {
            continue;
        };
        let ticks = numbers(fields);
        for (mode, ticks) in MODES.iter().zip(&ticks) {
            out.add("node_cpu_seconds_total", &[("cpu", cpu), ("mode", mode)], ticks / USER_HZ);
        }
        for (mode, ticks) in ["user", "nice"].iter().zip(ticks.iter().skip(MODES.len())) {
            out.add("node_cpu_guest_seconds_total", &[("cpu", cpu), ("mode", mode)], ticks / USER_HZ);
        }
    }
    Ok(())
}

pub fn loadavg(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let text = roots.proc("loadavg")?;
    for (name, load) in ["node_load1", "node_load5", "node_load15"].iter().zip(numbers(text.split_ascii_whitespace())) {
        out.add(name, &[], load);
    }
    Ok(())
}
