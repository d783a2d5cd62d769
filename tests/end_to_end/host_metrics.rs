//! This machine's metrics beside node_exporter's, at one instant.

use std::collections::BTreeMap;
use std::process::Command;

use model::Labels;

use crate::end_to_end::harness::{Binnacle, full, temp_dir, wait_for};
use crate::end_to_end::peer::Peer;

/// Newer than Debian's node_exporter 1.5 are: RAM disks left out, `adminstate` in the info of a network.
const OLDER_THERE: [&str; 2] = ["zram", "node_network_info"];
/// Gauges that every process changes, also the two that are compared.
const RESTLESS: [&str; 18] = [
    "node_arp_entries",
    "node_cpu_scaling_",
    "node_load",
    "node_memory_",
    "node_nf_conntrack_",
    "node_thermal_",
    "node_timex_estimated_error",
    "node_timex_maxerror",
    "node_timex_offset",
    "node_sockstat_",
    "node_netstat_Tcp_CurrEstab",
    "node_procs_",
    "node_filefd_",
    "node_entropy_",
    "node_time",
    "node_disk_io_now",
    "node_udp_queues",
    "node_textfile_scrape_error",
];

type Values = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn exporter(peer: &Peer) -> Values {
    let text = reqwest::blocking::get(format!("{}/metrics", peer.url)).and_then(|answer| answer.text());
    let text = text.expect("node_exporter answers");
    let parsed = model::exposition::parse(&text, model::exposition::TextFormat::Prometheus).expect("an exposition");
    let own = ["node_exporter_", "node_scrape_"];
    let of = |sample: model::exposition::TextSample| {
        let name = sample.labels.metric_name()?.to_owned();
        let is_nodes = name.starts_with("node_") && !own.iter().any(|prefix| name.starts_with(prefix));
        let labels = sample.labels.iter().filter(|label| &*label.name != model::METRIC_NAME && !label.value.is_empty());
        let labels = labels.map(|label| (label.name.to_string(), label.value.to_string())).collect();
        is_nodes.then_some(((name, labels), sample.value))
    };
    parsed.samples.into_iter().filter_map(of).collect()
}

fn ours(binnacle: &Binnacle) -> Values {
    let found = binnacle.query(r#"{__name__=~"node_.+"}"#).into_iter();
    let of = |(labels, value): (Labels, f64)| {
        let name = labels.metric_name().expect("a name").to_owned();
        let kept = labels.iter().filter(|label| !["__name__", "instance", "job", "node"].contains(&&*label.name));
        ((name, kept.map(|label| (label.name.to_string(), label.value.to_string())).collect()), value)
    };
    found.map(of).collect()
}

#[test]
fn this_machine_measures_what_node_exporter_does() {
    let Some(binary) = std::env::var_os("BINNACLE_TEST_NODE_EXPORTER") else {
        assert!(!full(), "make test needs node_exporter");
        return;
    };
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &[]);
    let peer = Peer::start_where("/metrics", |address| {
        let mut command = Command::new(&binary);
        command.arg(format!("--web.listen-address={address}"));
        command
    });
    // Ours were collected between two looks at the peer's.
    let before = exporter(&peer);
    let asked = binnacle.query("time()")[0].1;
    let ours = wait_for("a collection", || {
        let ours = ours(&binnacle);
        ours.get(&("node_time_seconds".to_owned(), BTreeMap::new())).is_some_and(|at| *at > asked).then_some(ours)
    });
    let after = exporter(&peer);
    let mut wrong = Vec::new();
    for ((name, labels), value) in &before {
        let shown = format!("{name}{labels:?}");
        if OLDER_THERE.iter().any(|part| shown.contains(part)) {
            continue;
        }
        let key = (name.clone(), labels.clone());
        let (Some(there), Some(here)) = (after.get(&key), ours.get(&key)) else {
            // What came or went meanwhile is nobody's.
            wrong.extend((after.contains_key(&key) && !ours.contains_key(&key)).then(|| format!("{shown} is missing")));
            continue;
        };
        let noise = 0.05 * value.abs().max(there.abs()) + 1e-9;
        let is_between = (value.min(*there) - noise..=value.max(*there) + noise).contains(here);
        if !is_between && !RESTLESS.iter().any(|prefix| name.starts_with(prefix)) {
            wrong.push(format!("{shown} is {here}, not within {value} and {there}"));
        }
    }
    assert!(before.len() > 200, "{}", before.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    binnacle.stop();
}
