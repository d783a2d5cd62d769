use std::path::Path;

use model::Labels;

use super::*;

/// The lines that a recorded tree gives, those of the metric only.
fn check(tree: &str, metric: &str, expected: &[&str]) {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut out = Gathered::new(1, Labels::default());
    let (procfs, sysfs) = (testdata.join("proc"), testdata.join("sys"));
    let roots = Roots { procfs, sysfs, rootfs: testdata.clone(), textfile_dir: None };
    collect(&testdata.join(tree), &roots, &mut out);
    let is_metric = |line: &String| line.split('{').next() == Some(metric);
    assert_eq!(out.lines().into_iter().filter(is_metric).collect::<Vec<_>>(), expected);
}

#[test]
fn version_2() {
    let group = "kubepods.slice";
    check(
        "cgroup2",
        "container_memory_working_set_bytes",
        &[
            r#"container_memory_working_set_bytes{id="/"} 120"#,
            &format!(r#"container_memory_working_set_bytes{{id="/{group}"}} 700"#),
        ],
    );
    check(
        "cgroup2",
        "container_cpu_usage_seconds_total",
        &[&format!(r#"container_cpu_usage_seconds_total{{cpu="total", id="/{group}"}} 2.5"#)],
    );
    check("cgroup2", "container_spec_cpu_shares", &[&format!(r#"container_spec_cpu_shares{{id="/{group}"}} 2597"#)]);
    check(
        "cgroup2",
        "container_cpu_cfs_throttled_seconds_total",
        &[&format!(r#"container_cpu_cfs_throttled_seconds_total{{id="/{group}"}} 1.5"#)],
    );
    check(
        "cgroup2",
        "container_fs_writes_bytes_total",
        &[&format!(r#"container_fs_writes_bytes_total{{device="254:0", id="/{group}"}} 20"#)],
    );
    check("cgroup2", "machine_cpu_cores", &["machine_cpu_cores{} 2"]);
}

#[test]
fn version_1() {
    check(
        "cgroup1",
        "container_memory_working_set_bytes",
        &[
            r#"container_memory_working_set_bytes{id="/"} 5000"#,
            r#"container_memory_working_set_bytes{id="/docker"} 1500"#,
        ],
    );
    check("cgroup1", "container_spec_memory_limit_bytes", &[r#"container_spec_memory_limit_bytes{id="/docker"} 0"#]);
    check(
        "cgroup1",
        "container_cpu_usage_seconds_total",
        &[r#"container_cpu_usage_seconds_total{cpu="total", id="/docker"} 3"#],
    );
    check(
        "cgroup1",
        "container_fs_writes_bytes_total",
        &[r#"container_fs_writes_bytes_total{device="8:0", id="/docker"} 40"#],
    );
    check("cgroup1", "container_fs_reads_total", &[r#"container_fs_reads_total{device="8:0", id="/docker"} 3"#]);
    check(
        "cgroup1",
        "container_network_transmit_packets_dropped_total",
        &[r#"container_network_transmit_packets_dropped_total{id="/", interface="eth0"} 5"#],
    );
}

/// A machine with a pod of two containers, a service in the host's network, and a container outside Kubernetes.
struct Machine(tempfile::TempDir);

const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

impl Machine {
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().expect("a directory"));
        machine.write("cgroup/cgroup.controllers", "");
        machine.write("proc/stat", "btime 1000\n");
        machine.write("proc/1/mounts", "/dev/sda1 / ext4 rw 0 0\n");
        machine.write(&format!("root/var/log/pods/shop_cart_{UID}/x"), "");
        let link = |path: &str, to: &str| {
            let path = machine.0.path().join(path);
            fs::create_dir_all(path.parent().expect("it is below")).expect("created");
            std::os::unix::fs::symlink(to, path).expect("linked");
        };
        link("sys/dev/block/8:0", "../../devices/pci0/block/sda");
        let pod = format!("kubepods/pod{UID}");
        for (pid, namespace, group) in [
            (1, 1, "init.scope"),
            (10, 2, &format!("{pod}/{}", "a".repeat(64))),
            (11, 2, &format!("{pod}/{}", "b".repeat(64))),
            (12, 1, "system.slice/x.service"),
            (13, 3, "docker/c"),
        ] {
            link(&format!("proc/{pid}/ns/net"), &format!("net:[{namespace}]"));
            let columns = (0..16).map(|column| (namespace * 100 + column).to_string()).collect::<Vec<_>>().join(" ");
            let dev = format!("a\nb\n lo: {columns}\n veth1: {columns}\n eth0: {columns}\n");
            machine.write(&format!("proc/{pid}/net/dev"), &dev);
            let before = "0 ".repeat(18);
            machine.write(&format!("proc/{pid}/stat"), &format!("{pid} (a) b) S {before}{pid}00 0 0"));
            machine.write(&format!("cgroup/{group}/cgroup.procs"), &format!("0\n{pid}\n"));
        }
        machine.write("cgroup/docker/c/io.stat", "8:0 rbytes=10\n");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("it is below")).expect("created");
        fs::write(path, text).expect("written");
    }

    fn check(&self, metric: &str, expected: &[String]) {
        let path = |name: &str| self.0.path().join(name);
        let roots = Roots { procfs: path("proc"), sysfs: path("sys"), rootfs: path("root"), textfile_dir: None };
        let mut out = Gathered::new(1, Labels::default());
        collect(&path("cgroup"), &roots, &mut out);
        let lines = out.lines().into_iter().filter(|line| line.split('{').next() == Some(metric));
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn processes_tell_network_and_age() {
    let machine = Machine::new();
    let received = |labels: &str, value: u32| format!("container_network_receive_bytes_total{{{labels}}} {value}");
    machine.check(
        "container_network_receive_bytes_total",
        &[
            received(r#"id="/", interface="eth0""#, 100),
            received(r#"id="/docker/c", interface="eth0""#, 300),
            received(&format!(r#"id="/kubepods/pod{UID}", interface="eth0", namespace="shop", pod="cart""#), 200),
        ],
    );
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let of_pod = |id: &str| format!(r#"id="/kubepods/pod{UID}/{id}", name="{id}", namespace="shop", pod="cart""#);
    machine.check(
        "container_processes",
        &[
            r#"container_processes{id="/docker/c"} 1"#.to_owned(),
            r#"container_processes{id="/init.scope"} 1"#.to_owned(),
            format!("container_processes{{{}}} 1", of_pod(&a)),
            format!("container_processes{{{}}} 1", of_pod(&b)),
            r#"container_processes{id="/system.slice/x.service"} 1"#.to_owned(),
        ],
    );
    let path = machine.0.path().join("proc");
    assert_eq!(process::start_seconds(&path, &[13, 12, 99], 1000.0), Some(1012.0));
    machine.check(
        "container_fs_reads_bytes_total",
        &[r#"container_fs_reads_bytes_total{device="/dev/sda", id="/docker/c"} 10"#.to_owned()],
    );
}

#[test]
fn the_root_has_the_machines_age_and_disk() {
    let machine = Machine::new();
    let stat = statvfs(machine.0.path()).expect("a file system");
    let limit_bytes = stat.f_blocks as f64 * stat.f_frsize as f64;
    machine.check(
        "container_fs_limit_bytes",
        &[format!(r#"container_fs_limit_bytes{{device="/dev/sda1", id="/"}} {limit_bytes}"#)],
    );
}
