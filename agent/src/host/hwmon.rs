//! Hardware monitors: `/sys/class/hwmon`, as the kernel's `Documentation/hwmon/sysfs-interface.rst` describes it, under
//! node_exporter's names.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Roots, read};
use crate::metrics::Gathered;

const TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// What a sensor tells, by the part of the file's name behind the sensor's: `temp1_input` is `input` of `temp1`.
type Elements = BTreeMap<String, String>;

pub fn hwmon(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for entry in std::fs::read_dir(roots.sysfs.join("class/hwmon"))? {
        monitor(&entry?.path(), out);
    }
    Ok(())
}

fn monitor(dir: &Path, out: &mut Gathered) {
    let named = read(&dir.join("name")).map(|name| clean(&name)).unwrap_or_default();
    let Some(chip) = chip(dir, &named) else { return };
    let mut sensors = BTreeMap::new();
    for dir in [dir.to_owned(), dir.join("device")] {
        sensors_of(&dir, &mut sensors);
    }
    if !named.is_empty() {
        out.add("node_hwmon_chip_names", &[("chip", &chip), ("chip_name", &named)], 1.0);
    }
    for (sensor, elements) in &sensors {
        let labels = [("chip", chip.as_str()), ("sensor", sensor.as_str())];
        let own = || elements.get("").and_then(|value| value.parse::<f64>().ok());
        if let Some(label) = elements.get("label") {
            out.add("node_hwmon_sensor_label", &[labels[0], labels[1], ("label", label)], 1.0);
        }
        match parts(sensor).map_or("", |(kind, ..)| kind) {
            "beep_enable" => out.add("node_hwmon_beep_enabled", &labels, f64::from(u8::from(own() == Some(1.0)))),
            "vrm" => own().into_iter().for_each(|v| out.add("node_hwmon_voltage_regulator_version", &labels, v)),
            "update_interval" => {
                own().into_iter().for_each(|v| out.add("node_hwmon_update_interval_seconds", &labels, v * 0.001));
            }
            kind => elements.keys().for_each(|element| tell(kind, element, elements, labels, out)),
        }
    }
}

/// One element of a sensor, in the unit that its kind has.
fn tell(kind: &str, element: &str, elements: &Elements, labels: [(&str, &str); 2], out: &mut Gathered) {
    let Some(value) = elements[element].parse::<f64>().ok().filter(|_| element != "label") else { return };
    let name = match element {
        // The value itself; beside a file without a suffix it is told apart.
        "input" if !elements.contains_key("") => format!("node_hwmon_{kind}"),
        "" => format!("node_hwmon_{kind}"),
        element => format!("node_hwmon_{kind}_{}", clean(element)),
    };
    let (milli, micro) = (value * 0.001, value / 1e6);
    let (unit, value) = match (kind, element) {
        (_, "fault" | "alarm") => ("", value),
        (_, "beep") => ("_enabled", value),
        ("in" | "cpu", _) => ("_volts", milli),
        ("temp", "type") => ("", value),
        ("temp", _) => ("_celsius", milli),
        ("curr", _) => ("_amps", milli),
        ("energy", _) => ("_joule_total", micro),
        ("power", "accuracy") | ("humidity", _) => ("", micro),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => ("_seconds", milli),
        ("power", _) => ("_watt", micro),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", value),
        ("freq", "input") => {
            // Of clocks the label is the sensor.
            if let Some(label) = elements.get("label") {
                let label = clean(label);
                out.add(&format!("{name}_freq_mhz"), &[labels[0], ("sensor", label.as_str())], micro);
            }
            return;
        }
        _ => ("", value),
    };
    out.add(&(name + unit), &labels, value);
}

/// A name that stays the same however modules are loaded: the device's, else the chip's, else the directory's.
fn chip(dir: &Path, named: &str) -> Option<String> {
    let part = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| clean(&name.to_string_lossy()));
    let device = std::fs::canonicalize(dir.join("device")).ok();
    let name = part(device.as_deref()).filter(|name| !name.is_empty());
    let of_bus = part(device.as_deref().and_then(Path::parent)).filter(|bus| !bus.is_empty());
    let own = || part(std::fs::canonicalize(dir).ok().as_deref()).filter(|name| !name.is_empty());
    match (of_bus, name) {
        (Some(bus), Some(name)) => Some(format!("{bus}_{name}")),
        (None, Some(name)) => Some(name),
        _ if !named.is_empty() => Some(named.to_owned()),
        _ => own(),
    }
}

fn sensors_of(dir: &Path, sensors: &mut BTreeMap<String, Elements>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some((kind, number, element)) = file.to_str().and_then(parts) else { continue };
        if !TYPES.contains(&kind) {
            continue;
        }
        // Drivers that are broken, and files that are for writing, have nothing to tell.
        let Ok(value) = read(&entry.path()) else { continue };
        let value = value.trim_matches('\n').to_owned();
        let number = if number.is_empty() { "0" } else { number };
        sensors.entry(format!("{kind}{number}")).or_default().insert(element.to_owned(), value);
    }
}

/// Kind, number and element: `temp`, `1`, `crit_alarm` of `temp1_crit_alarm`. A kind has no digits; `update_interval` and
/// `beep_enable` have neither number nor element.
fn parts(file: &str) -> Option<(&str, &str, &str)> {
    let digits = file.find(|c: char| c.is_ascii_digit());
    let Some(start) = digits else { return Some((file, "", "")) };
    let (kind, rest) = file.split_at(start);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let element = if rest.is_empty() { "" } else { rest.strip_prefix('_').filter(|element| !element.is_empty())? };
    (!kind.is_empty()).then_some((kind, number, element))
}

fn clean(name: &str) -> String {
    let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ":_".contains(c);
    let cleaned: String =
        name.trim_end_matches('\n').to_lowercase().chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    cleaned.trim_matches('_').to_owned()
}
