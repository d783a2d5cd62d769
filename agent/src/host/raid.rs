//! Software RAID (`/proc/mdstat`), bonded interfaces, and NVMe devices.

use std::io;

use super::{Roots, read};
use crate::metrics::Gathered;

const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

/// One array of `/proc/mdstat`.
#[derive(Debug, Default)]
struct Array {
    name: String,
    state: &'static str,
    active: f64,
    failed: f64,
    spare: f64,
    required: f64,
    blocks: f64,
    synced: f64,
}

pub fn mdadm(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for array in arrays(&roots.proc("mdstat")?) {
        let device = ("device", array.name.as_str());
        for state in STATES {
            let is_now = f64::from(u8::from(state == array.state));
            out.add("node_md_state", &[device, ("state", state)], is_now);
        }
        for (state, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
            out.add("node_md_disks", &[device, ("state", state)], count);
        }
        out.add("node_md_disks_required", &[device], array.required);
        out.add("node_md_blocks", &[device], array.blocks);
        out.add("node_md_blocks_synced", &[device], array.synced);
    }
    Ok(())
}

/// An array has a line of its members, one of its size, and sometimes one of its repair.
fn arrays(text: &str) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    for line in text.lines() {
        match line.split_once(" : ") {
            Some((name, rest)) if name.starts_with("md") => arrays.push(members(name, rest)),
            _ => {
                if let Some(array) = arrays.last_mut() {
                    detail(array, line.trim());
                }
            }
        }
    }
    arrays
}

fn members(name: &str, rest: &str) -> Array {
    let state = if rest.starts_with("active") { "active" } else { "inactive" };
    let members: Vec<&str> = rest.split_ascii_whitespace().filter(|word| word.contains('[')).collect();
    let marked = |mark: &str| members.iter().filter(|member| member.ends_with(mark)).count() as f64;
    let (failed, spare) = (marked("(F)"), marked("(S)"));
    let active = members.len() as f64 - failed - spare;
    Array { name: name.to_owned(), state, active, failed, spare, required: active, ..Array::default() }
}

fn detail(array: &mut Array, line: &str) {
    if let Some((blocks, rest)) = line.split_once(" blocks") {
        array.blocks = blocks.parse().unwrap_or(0.0);
        array.synced = array.blocks;
        let pair = rest.split(['[', ']']).find_map(|part| part.split_once('/'));
        if let Some((Ok(required), Ok(active))) = pair.map(|(a, b)| (a.parse(), b.parse())) {
            (array.required, array.active) = (required, active);
        }
        return;
    }
    let works = [("recovery", "recovering"), ("reshape", "recovering"), ("resync", "resync"), ("check", "check")];
    if let Some((_, state)) = works.iter().find(|(word, _)| line.contains(&format!("{word} ="))) {
        array.state = state;
        let synced = line.split(['(', ')']).nth(1).and_then(|pair| pair.split_once('/'));
        array.synced = synced.and_then(|(done, _)| done.parse().ok()).unwrap_or(array.synced);
    }
}

pub fn bonding(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let dir = roots.sysfs.join("class/net");
    for master in read(&dir.join("bonding_masters"))?.split_ascii_whitespace() {
        let slaves = read(&dir.join(master).join("bonding/slaves")).unwrap_or_default();
        let status = |slave: &str| {
            let path = |name: &str| dir.join(master).join(format!("{name}_{slave}/bonding_slave/mii_status"));
            read(&path("lower")).or_else(|_| read(&path("slave"))).unwrap_or_default()
        };
        let all: Vec<&str> = slaves.split_ascii_whitespace().collect();
        let active = all.iter().filter(|slave| status(slave).trim() == "up").count();
        out.add("node_bonding_slaves", &[("master", master)], all.len() as f64);
        out.add("node_bonding_active", &[("master", master)], active as f64);
    }
    Ok(())
}

pub fn nvme(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for entry in std::fs::read_dir(roots.sysfs.join("class/nvme"))?.flatten() {
        let text = |file: &str| read(&entry.path().join(file)).map(|text| text.trim().to_owned()).unwrap_or_default();
        let device = entry.file_name().to_string_lossy().into_owned();
        let (firmware, model, serial, state) = (text("firmware_rev"), text("model"), text("serial"), text("state"));
        let labels = [
            ("device", device.as_str()),
            ("firmware_revision", &firmware),
            ("model", &model),
            ("serial", &serial),
            ("state", &state),
        ];
        out.add("node_nvme_info", &labels, 1.0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read() {
        let text = "Personalities : [raid1] [raid6]\nmd0 : active raid1 sdc1[2](S) sdb1[1](F) sda1[0]\n      1024 blocks super 1.2 [2/1] [U_]\n      \
                    [==>....]  recovery = 12.5% (128/1024) finish=1.0min speed=10K/sec\n\nmd1 : inactive sdd[0](S)\n      512 blocks\n\
                    unused devices: <none>\n";
        let shown: Vec<_> = arrays(text)
            .into_iter()
            .map(|a| (a.name, a.state, [a.active, a.failed, a.spare, a.required, a.blocks, a.synced]))
            .collect();
        assert_eq!(
            shown,
            [
                ("md0".to_owned(), "recovering", [1.0, 1.0, 1.0, 2.0, 1024.0, 128.0]),
                ("md1".to_owned(), "inactive", [0.0, 0.0, 1.0, 0.0, 512.0, 512.0]),
            ]
        );
    }
}
