//! A load in the shape of node_exporter's: 507 series of each of 40 machines, every 15 s.
//!
//! Two thirds of the series stay as they are, most others are integers or decimals of few places, a few are random
//! floats: what recordings of such machines look like. The same seed gives the same load.

use crate::remote_write::{Label, Sample, Sender, TimeSeries};

pub const INSTANCES: usize = 40;
pub const SERIES_PER_INSTANCE: usize = 507;
pub const STEP_MS: i64 = 15_000;
const SAMPLES_PER_BODY: usize = 2_000;

/// How a series goes on from one scrape to the next.
#[derive(Clone, Copy)]
enum Kind {
    Constant,
    /// A counter: up to so much a scrape, in steps of a quantum.
    Counter {
        most: f64,
        quantum: f64,
    },
    /// A gauge that wanders within a tenth, in steps of a quantum.
    Gauge {
        quantum: f64,
    },
    /// A gauge of random bits.
    Random,
    /// A counter of a histogram's observations up to a bound: those up to the bound before, and up to so many more a scrape.
    Bucket {
        most: f64,
        is_first: bool,
    },
}

struct Series {
    labels: Vec<Label>,
    kind: Kind,
    value: f64,
}

/// The series, and the state of the random numbers that move them.
pub struct NodeLoad {
    series: Vec<Series>,
    random: u64,
}

impl NodeLoad {
    pub fn new() -> NodeLoad {
        let mut load = NodeLoad { series: Vec::new(), random: 0x9E37_79B9_7F4A_7C15 };
        for instance in 0..INSTANCES {
            load.add_machine(instance);
        }
        assert_eq!(load.series.len(), INSTANCES * SERIES_PER_INSTANCE);
        load
    }

    fn next(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn add(&mut self, instance: usize, name: &str, labels: &[(&str, &str)], kind: Kind) {
        let first = if matches!(kind, Kind::Bucket { .. }) { 0.0 } else { (self.next() * 1e6).floor() };
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let mut all = vec![label("__name__", name)];
        all.extend(labels.iter().map(|(name, value)| label(name, value)));
        all.push(label("instance", &format!("10.0.0.{instance}:9100")));
        all.push(label("job", "node"));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.series.push(Series { labels: all, kind, value: first });
    }

    fn add_machine(&mut self, machine: usize) {
        let start = self.series.len();
        let centi = Kind::Counter { most: 15.0, quantum: 0.01 };
        for cpu in ["0", "1"] {
            for mode in ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"] {
                let kind = if matches!(mode, "irq" | "nice" | "steal") { Kind::Constant } else { centi };
                self.add(machine, "node_cpu_seconds_total", &[("cpu", cpu), ("mode", mode)], kind);
            }
        }
        for name in ["node_load1", "node_load5", "node_load15"] {
            self.add(machine, name, &[], Kind::Gauge { quantum: 0.01 });
        }
        let packets = Kind::Counter { most: 5_000.0, quantum: 1.0 };
        for device in ["eth0", "lo", "docker0"] {
            for what in ["bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"] {
                for way in ["receive", "transmit"] {
                    let moves = device == "eth0" && matches!(what, "bytes" | "packets");
                    let kind = if moves { packets } else { Kind::Constant };
                    self.add(machine, &format!("node_network_{way}_{what}_total"), &[("device", device)], kind);
                }
            }
        }
        let bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
        let most = [900.0, 1_500.0, 1_100.0, 700.0, 400.0, 200.0, 100.0, 50.0, 25.0, 10.0, 5.0, 2.0];
        for (i, (le, most)) in bounds.into_iter().zip(most).enumerate() {
            let kind = Kind::Bucket { most, is_first: i == 0 };
            self.add(machine, "http_request_duration_seconds_bucket", &[("le", le)], kind);
        }
        let node = format!("node-{machine}");
        self.add(machine, "node_uname_info", &[("nodename", &node), ("sysname", "Linux")], Kind::Constant);
        for i in 0..60 {
            let kind = if i % 2 == 0 { Kind::Gauge { quantum: 4096.0 } } else { Kind::Constant };
            self.add(machine, &format!("node_memory_field{i}_bytes"), &[], kind);
        }
        for device in ["vda", "vdb"] {
            for i in 0..20 {
                let kind = if device == "vda" && i % 2 == 0 { packets } else { Kind::Constant };
                self.add(machine, &format!("node_disk_field{i}_total"), &[("device", device)], kind);
            }
        }
        for i in 0..12 {
            self.add(machine, &format!("process_random{i}"), &[], Kind::Random);
        }
        for i in 0.. {
            if self.series.len() == start + SERIES_PER_INSTANCE {
                break;
            }
            let kind = match i % 8 {
                0 => packets,
                1 => Kind::Gauge { quantum: 1.0 },
                _ => Kind::Constant,
            };
            self.add(machine, &format!("node_netstat_Field{i}"), &[], kind);
        }
    }

    /// The bodies of one scrape of all machines at `t_ms`.
    pub fn scrape(&mut self, t_ms: i64) -> Vec<Vec<u8>> {
        let mut below = 0.0;
        for i in 0..self.series.len() {
            let random = self.next();
            let series = &mut self.series[i];
            series.value = match series.kind {
                Kind::Bucket { most, is_first } => {
                    let observed = (random * most).floor();
                    below = if is_first { observed } else { below + observed };
                    series.value + below
                }
                Kind::Constant => series.value,
                Kind::Counter { most, quantum } => round(series.value + random * most, quantum),
                Kind::Gauge { quantum } => {
                    round((series.value + (random - 0.5) * 0.1 * series.value).max(1.0), quantum)
                }
                Kind::Random => random * 1e3,
            };
        }
        let of = |series: &Series| TimeSeries {
            labels: series.labels.clone(),
            samples: vec![Sample { value: series.value, timestamp: t_ms }],
        };
        self.series.chunks(SAMPLES_PER_BODY).map(|chunk| Sender::body(chunk.iter().map(of))).collect()
    }
}

fn round(value: f64, quantum: f64) -> f64 {
    // Division by the whole inverse keeps decimals as short as they are written.
    if quantum < 1.0 {
        (value / quantum).round() / (1.0 / quantum).round()
    } else {
        (value / quantum).round() * quantum
    }
}
