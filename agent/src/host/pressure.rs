//! `/proc/pressure`: microseconds of waiting (some) and stalling (full).

use std::io;

use super::Roots;
use crate::metrics::Gathered;

pub fn pressure(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for resource in ["cpu", "memory", "io"] {
        let text = roots.proc(&format!("pressure/{resource}"))?;
        if let Some(seconds) = total_seconds(&text, "some") {
            out.add(&format!("node_pressure_{resource}_waiting_seconds_total"), &[], seconds);
        }
        // The whole machine never stalls on CPU: the kernel's line is always 0, node_exporter leaves it out.
        if let Some(seconds) = total_seconds(&text, "full").filter(|_| resource != "cpu") {
            out.add(&format!("node_pressure_{resource}_stalled_seconds_total"), &[], seconds);
        }
    }
    Ok(())
}

/// The total of the line `some …` or `full …` of a pressure file.
pub fn total_seconds(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(kind))?;
    let micros: f64 = line.rsplit_once("total=")?.1.trim().parse().ok()?;
    Some(micros / 1e6)
}
