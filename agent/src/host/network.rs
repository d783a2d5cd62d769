//! `/proc/net/{dev,netstat,snmp,sockstat}`, `/sys/class/net`, and connection tracking. Process 1's network is the host's.

use std::io;

use super::{Roots, numbers, read, read_number};
use crate::metrics::Gathered;

const RECEIVE: [&str; 8] = ["bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"];
const TRANSMIT: [&str; 8] = ["bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed"];

/// What node_exporter keeps of netstat and snmp by default.
const NETSTAT: [(&str, &[&str]); 7] = [
    ("Ip", &["Forwarding"]),
    ("Icmp", &["InMsgs", "InErrors", "OutMsgs"]),
    ("Tcp", &["ActiveOpens", "InErrs", "InSegs", "OutRsts", "OutSegs", "PassiveOpens", "RetransSegs", "CurrEstab"]),
    ("Udp", &["InDatagrams", "InErrors", "NoPorts", "OutDatagrams", "RcvbufErrors", "SndbufErrors"]),
    ("UdpLite", &["InErrors"]),
    ("IpExt", &["InOctets", "OutOctets"]),
    (
        "TcpExt",
        &[
            "ListenDrops",
            "ListenOverflows",
            "SyncookiesFailed",
            "SyncookiesRecv",
            "SyncookiesSent",
            "TCPOFOQueue",
            "TCPRcvQDrop",
            "TCPSynRetrans",
            "TCPTimeouts",
        ],
    ),
];

pub fn host_net(roots: &Roots, name: &str) -> io::Result<String> {
    read(&roots.procfs.join("1/net").join(name)).or_else(|_| roots.proc(&format!("net/{name}")))
}

pub fn netdev(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for (device, fields) in devices(&host_net(roots, "dev")?) {
        let columns =
            RECEIVE.iter().map(|name| ("receive", name)).chain(TRANSMIT.iter().map(|name| ("transmit", name)));
        for ((direction, name), value) in columns.zip(fields) {
            out.add(&format!("node_network_{direction}_{name}_total"), &[("device", &device)], value);
        }
        // Of what nobody took `/proc/net/dev` does not tell.
        let unhandled = roots.sysfs.join("class/net").join(&device).join("statistics/rx_nohandler");
        if let Some(value) = read_number(&unhandled) {
            out.add("node_network_receive_nohandler_total", &[("device", &device)], value);
        }
    }
    Ok(())
}

/// Interfaces with their sixteen counters, as `/proc/net/dev` lists them.
pub fn devices(text: &str) -> Vec<(String, Vec<f64>)> {
    let lines = text.lines().skip(2).filter_map(|line| line.rsplit_once(':'));
    lines.map(|(name, fields)| (name.trim().to_owned(), numbers(fields.split_ascii_whitespace()))).collect()
}

/// What says which interface it is and how it was made.
const IDENTIFIERS: [(&str, &str); 12] = [
    ("addr_assign_type", "node_network_address_assign_type"),
    ("carrier_down_count", "node_network_carrier_down_changes_total"),
    ("carrier_up_count", "node_network_carrier_up_changes_total"),
    ("dev_id", "node_network_device_id"),
    ("dormant", "node_network_dormant"),
    ("flags", "node_network_flags"),
    ("ifindex", "node_network_iface_id"),
    ("iflink", "node_network_iface_link"),
    ("link_mode", "node_network_iface_link_mode"),
    ("name_assign_type", "node_network_name_assign_type"),
    ("netdev_group", "node_network_net_dev_group"),
    ("type", "node_network_protocol_type"),
];

/// A file that holds one number, some of them as `0x1003`.
fn read_hex_or_number(path: &std::path::Path) -> Option<f64> {
    let text = read(path).ok()?;
    match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|value| value as f64),
        None => text.trim().parse().ok(),
    }
}

pub fn netclass(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for entry in std::fs::read_dir(roots.sysfs.join("class/net"))?.flatten() {
        let (dir, device) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // A list of bonds is among the interfaces.
        if !dir.is_dir() {
            continue;
        }
        let device = [("device", device.as_str())];
        if let Ok(state) = read(&dir.join("operstate")) {
            out.add("node_network_up", &device, f64::from(u8::from(state.trim() == "up")));
        }
        let texts = ["address", "broadcast", "duplex", "ifalias", "operstate"]
            .map(|file| (file, read(&dir.join(file)).map(|text| text.trim().to_owned()).unwrap_or_default()));
        let mut labels: Vec<(&str, &str)> = texts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        labels.extend(device);
        out.add("node_network_info", &labels, 1.0);
        for (file, name) in IDENTIFIERS {
            if let Some(value) = read_hex_or_number(&dir.join(file)) {
                out.add(name, &device, value);
            }
        }
        let numbers = [
            ("mtu", "node_network_mtu_bytes", 1.0),
            ("carrier", "node_network_carrier", 1.0),
            ("carrier_changes", "node_network_carrier_changes_total", 1.0),
            ("tx_queue_len", "node_network_transmit_queue_length", 1.0),
        ];
        for (file, name, unit) in numbers {
            if let Some(value) = read_number(&dir.join(file)).filter(|value| *value >= 0.0) {
                out.add(name, &device, value * unit);
            }
        }
        // Mbit/s; negative where it is not known, as node_exporter shows it too.
        if let Some(speed) = read_number(&dir.join("speed")) {
            out.add("node_network_speed_bytes", &device, speed * 1_000_000.0 / 8.0);
        }
    }
    Ok(())
}

pub fn netstat(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let text = host_net(roots, "netstat")? + &host_net(roots, "snmp").unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    // Pairs of lines: names, then values, both beginning with the protocol.
    for pair in lines.chunks_exact(2) {
        let (Some((protocol, names)), Some((_, values))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
            continue;
        };
        let Some((_, kept)) = NETSTAT.iter().find(|(name, _)| *name == protocol) else { continue };
        let values = numbers(values.split_ascii_whitespace());
        for (name, value) in names.split_ascii_whitespace().zip(values).filter(|(name, _)| kept.contains(name)) {
            out.add(&format!("node_netstat_{protocol}_{name}"), &[], value);
        }
    }
    Ok(())
}

pub fn sockstat(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in host_net(roots, "sockstat")?.lines() {
        let Some((protocol, rest)) = line.split_once(':') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in fields.chunks_exact(2) {
            let Ok(value) = pair[1].parse::<f64>() else { continue };
            out.add(&format!("node_sockstat_{protocol}_{}", pair[0]), &[], value);
            // The kernel counts this in pages.
            if pair[0] == "mem" {
                out.add(&format!("node_sockstat_{protocol}_mem_bytes"), &[], value * page_bytes());
            }
        }
    }
    Ok(())
}

/// The size of a page, from the auxiliary vector: pairs of words, 6 (`AT_PAGESZ`) before it (getauxval(3)).
pub fn page_bytes() -> f64 {
    const WORD: usize = size_of::<usize>();
    const AT_PAGESZ: usize = 6;
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes);
    let pairs = vector.chunks_exact(2 * WORD).map(|pair| (word(&pair[..WORD]), word(&pair[WORD..])));
    pairs.into_iter().find(|(key, _)| *key == AT_PAGESZ).map_or(4096.0, |(_, bytes)| bytes as f64)
}

pub fn conntrack(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let dir = roots.procfs.join("sys/net/netfilter");
    let files =
        [("nf_conntrack_count", "node_nf_conntrack_entries"), ("nf_conntrack_max", "node_nf_conntrack_entries_limit")];
    for (file, name) in files {
        let value = read(&dir.join(file))?;
        out.add(name, &[], value.trim().parse().unwrap_or(0.0));
    }
    // Older kernels and namespaces may lack it.
    let _ = super::protocols::conntrack_stat(roots, out);
    Ok(())
}
