use std::path::Path;

use model::Labels;

use super::*;

/// The lines that a recorded tree gives, those of the metric only.
fn check(tree: &str, metric: &str, expected: &[&str]) {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut out = Gathered::new(1, Labels::default());
    let (procfs, sysfs) = (testdata.join("proc"), testdata.join("sys"));
    let roots = Roots { procfs, sysfs, rootfs: testdata.clone() };
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
}
