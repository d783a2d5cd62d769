//! What the kernel counts per protocol and CPU: IPv6, softnet, ARP, connection tracking, UDP queues.

use std::collections::BTreeMap;
use std::io;

use super::Roots;
use super::network::{host_net, page_bytes};
use crate::metrics::Gathered;

/// What node_exporter keeps of snmp6 by default.
const SNMP6: [(&str, &[&str]); 4] = [
    ("Ip6", &["InOctets", "OutOctets"]),
    ("Icmp6", &["InErrors", "InMsgs", "OutMsgs"]),
    ("Udp6", &["InDatagrams", "InErrors", "NoPorts", "OutDatagrams", "RcvbufErrors", "SndbufErrors"]),
    ("UdpLite6", &["InErrors"]),
];

/// `Ip6InOctets 5` lines.
pub fn snmp6(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in host_net(roots, "snmp6")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(name), Some(Ok(value))) = (fields.next(), fields.next().map(str::parse::<f64>)) else { continue };
        let Some((protocol, kept)) = SNMP6.iter().find(|(protocol, _)| name.starts_with(protocol)) else { continue };
        let name = &name[protocol.len()..];
        if kept.contains(&name) {
            out.add(&format!("node_netstat_{protocol}_{name}"), &[], value);
        }
    }
    Ok(())
}

/// `TCP6: inuse 6` lines.
pub fn sockstat6(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for line in host_net(roots, "sockstat6")?.lines() {
        let Some((protocol, rest)) = line.split_once(':') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in fields.chunks_exact(2) {
            let Ok(value) = pair[1].parse::<f64>() else { continue };
            out.add(&format!("node_sockstat_{protocol}_{}", pair[0]), &[], value);
            if pair[0] == "mem" {
                out.add(&format!("node_sockstat_{protocol}_mem_bytes"), &[], value * page_bytes());
            }
        }
    }
    Ok(())
}

/// A line per CPU, columns in hexadecimal; the newer kernels' thirteenth is the CPU.
pub fn softnet(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for (at, line) in roots.proc("net/softnet_stat")?.lines().enumerate() {
        let columns: Vec<u64> =
            line.split_ascii_whitespace().map(|field| u64::from_str_radix(field, 16).unwrap_or(0)).collect();
        let cpu = columns.get(12).map_or(at as u64, |cpu| *cpu).to_string();
        let names = ["node_softnet_processed_total", "node_softnet_dropped_total", "node_softnet_times_squeezed_total"];
        for (name, value) in names.iter().zip(&columns) {
            out.add(name, &[("cpu", &cpu)], *value as f64);
        }
    }
    Ok(())
}

pub fn arp(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let mut entries = BTreeMap::<String, f64>::new();
    let text = host_net(roots, "arp")?;
    for device in text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(5)) {
        *entries.entry(device.to_owned()).or_default() += 1.0;
    }
    for (device, count) in entries {
        out.add("node_arp_entries", &[("device", &device)], count);
    }
    Ok(())
}

/// The sum over CPUs of what connection tracking counts, in hexadecimal under a line of names.
pub fn conntrack_stat(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    const KEPT: [&str; 8] =
        ["found", "invalid", "ignore", "insert", "insert_failed", "drop", "early_drop", "search_restart"];
    let text = host_net(roots, "stat/nf_conntrack")?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
    let mut sums = vec![0u64; names.len()];
    for line in lines {
        for (sum, field) in sums.iter_mut().zip(line.split_ascii_whitespace()) {
            *sum = sum.saturating_add(u64::from_str_radix(field, 16).unwrap_or(0));
        }
    }
    for (name, sum) in names.iter().zip(sums).filter(|(name, _)| KEPT.contains(name)) {
        out.add(&format!("node_nf_conntrack_stat_{name}"), &[], sum as f64);
    }
    Ok(())
}

/// Bytes that wait in the queues of all UDP sockets.
pub fn udp_queues(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    for (ip, file) in [("v4", "udp"), ("v6", "udp6")] {
        let Ok(text) = host_net(roots, file) else { continue };
        let (mut sent, mut received) = (0u64, 0u64);
        let queues = text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(4)?.split_once(':'));
        for (tx, rx) in queues {
            sent = sent.saturating_add(u64::from_str_radix(tx, 16).unwrap_or(0));
            received = received.saturating_add(u64::from_str_radix(rx, 16).unwrap_or(0));
        }
        out.add("node_udp_queues", &[("ip", ip), ("queue", "tx")], sent as f64);
        out.add("node_udp_queues", &[("ip", ip), ("queue", "rx")], received as f64);
    }
    Ok(())
}
