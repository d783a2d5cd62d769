//! What this machine is: its system, its board, its clocks, its sensors, and how its CPUs are shared.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::{Roots, numbers, read, read_number};
use crate::metrics::Gathered;

const NS: f64 = 1e9;

/// `os-release`: `NAME="value"` lines.
pub fn os(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let text =
        read(&roots.rootfs.join("etc/os-release")).or_else(|_| read(&roots.rootfs.join("usr/lib/os-release")))?;
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    let known: HashMap<&str, &str> =
        pairs.map(|(name, value)| (name, value.trim_matches(|c| c == '"' || c == '\''))).collect();
    let names = [
        "build_id",
        "id",
        "id_like",
        "image_id",
        "image_version",
        "name",
        "pretty_name",
        "variant",
        "variant_id",
        "version",
        "version_codename",
        "version_id",
    ];
    let get = |name: &str| known.get(name.to_uppercase().as_str()).copied().unwrap_or("");
    let labels: Vec<(&str, &str)> = names.iter().map(|name| (*name, get(name))).collect();
    out.add("node_os_info", &labels, 1.0);
    let (major, rest) = get("version_id").split_once('.').unwrap_or((get("version_id"), ""));
    let version = format!("{major}.{}", rest.split('.').next().unwrap_or(""));
    if let Ok(version) = version.trim_end_matches('.').parse() {
        let labels = [("id", get("id")), ("id_like", get("id_like")), ("name", get("name"))];
        out.add("node_os_version", &labels, version);
    }
    Ok(())
}

pub fn dmi(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let dir = roots.sysfs.join("class/dmi/id");
    std::fs::read_dir(&dir)?;
    let names = [
        "bios_date",
        "bios_release",
        "bios_vendor",
        "bios_version",
        "board_asset_tag",
        "board_name",
        "board_serial",
        "board_vendor",
        "board_version",
        "chassis_asset_tag",
        "chassis_serial",
        "chassis_vendor",
        "chassis_version",
        "product_family",
        "product_name",
        "product_serial",
        "product_sku",
        "product_uuid",
        "product_version",
        "sys_vendor",
    ];
    let values = names.map(|name| read(&dir.join(name)).map(|text| text.trim().to_owned()).unwrap_or_default());
    let label = |name: &'static str| if name == "sys_vendor" { "system_vendor" } else { name };
    let labels: Vec<(&str, &str)> =
        names.iter().map(|name| label(name)).zip(values.iter().map(String::as_str)).collect();
    out.add("node_dmi_info", &labels, 1.0);
    Ok(())
}

pub fn selinux(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let dir = roots.sysfs.join("fs/selinux");
    out.add("node_selinux_enabled", &[], f64::from(u8::from(dir.join("enforce").exists())));
    if let Some(mode) = read_number(&dir.join("enforce")) {
        out.add("node_selinux_current_mode", &[], mode);
    }
    Ok(())
}

pub fn entropy(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for (file, name) in [("entropy_avail", "node_entropy_available_bits"), ("poolsize", "node_entropy_pool_size_bits")]
    {
        if let Ok(value) = roots.proc(&format!("sys/kernel/random/{file}"))?.trim().parse() {
            out.add(name, &[], value);
        }
    }
    Ok(())
}

/// Zone and clock sources.
pub fn time(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let now = chrono::Local::now();
    let zone = std::env::var("TZ").ok().filter(|zone| !zone.is_empty() && !zone.contains('/'));
    let offset = now.offset().local_minus_utc();
    let zone = zone.unwrap_or_else(|| if offset == 0 { "UTC".to_owned() } else { now.format("%Z").to_string() });
    out.add("node_time_zone_offset_seconds", &[("time_zone", &zone)], f64::from(offset));
    for dir in std::fs::read_dir(roots.sysfs.join("devices/system/clocksource"))?.flatten() {
        let name = dir.file_name().to_string_lossy().into_owned();
        let Some(device) = name.strip_prefix("clocksource") else { continue };
        for source in read(&dir.path().join("available_clocksource")).unwrap_or_default().split_ascii_whitespace() {
            let labels = [("clocksource", source), ("device", device)];
            out.add("node_time_clocksource_available_info", &labels, 1.0);
        }
        if let Ok(current) = read(&dir.path().join("current_clocksource")) {
            let labels = [("clocksource", current.trim()), ("device", device)];
            out.add("node_time_clocksource_current_info", &labels, 1.0);
        }
    }
    Ok(())
}

/// `cpuN` lines: nanoseconds of running and waiting, and how often, in columns 7 to 9.
pub fn schedstat(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in roots.proc("schedstat")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(cpu) = fields.next().and_then(|name| name.strip_prefix("cpu")) else { continue };
        if let [running, waiting, slices] = numbers(fields.skip(6)).as_slice() {
            let cpu = [("cpu", cpu)];
            out.add("node_schedstat_running_seconds_total", &cpu, running / NS);
            out.add("node_schedstat_waiting_seconds_total", &cpu, waiting / NS);
            out.add("node_schedstat_timeslices_total", &cpu, *slices);
        }
    }
    Ok(())
}

pub fn thermal(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let text = |path: &Path| read(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    for entry in std::fs::read_dir(roots.sysfs.join("class/thermal"))?.flatten() {
        let (dir, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = text(&dir.join("type"));
        if let Some(zone) = name.strip_prefix("thermal_zone") {
            if let Some(milli) = read_number(&dir.join("temp")) {
                out.add("node_thermal_zone_temp", &[("zone", zone), ("type", &kind)], milli / 1000.0);
            }
        } else if let Some(device) = name.strip_prefix("cooling_device") {
            let labels = [("name", device), ("type", kind.as_str())];
            for (file, name) in
                [("cur_state", "node_cooling_device_cur_state"), ("max_state", "node_cooling_device_max_state")]
            {
                if let Some(value) = read_number(&dir.join(file)) {
                    out.add(name, &labels, value);
                }
            }
        }
    }
    Ok(())
}
