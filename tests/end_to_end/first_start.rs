//! `binnacle` without configuration is useful at once, on this very machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};

#[test]
fn this_machines_metrics_answer_by_themselves() {
    let dir = temp_dir();
    let start = Instant::now();
    let binnacle = Binnacle::start(dir.path(), &[]);
    let modes = wait_for("CPU rates by mode", || {
        let modes = binnacle.query("sum by (mode) (rate(node_cpu_seconds_total[1m]))");
        (!modes.is_empty()).then_some(modes)
    });
    assert!(modes.iter().any(|(labels, value)| labels.get("mode") == Some("idle") && *value >= 0.0), "{modes:?}");
    let memory = wait_for("container memory", || {
        let found = binnacle.query("container_memory_working_set_bytes");
        (!found.is_empty()).then_some(found)
    });
    assert!(memory.iter().any(|(_, bytes)| *bytes > 0.0), "{memory:?}");
    eprintln!("metrics answered {:?} after the start", start.elapsed());
    binnacle.stop();
}

/// The logs of this machine may be few: the test adds its own under /var/log, where it is allowed to.
#[test]
fn lines_under_var_log_are_found_and_our_own_are_not() {
    let marker = format!("binnacle-test-{}", std::process::id());
    let path = std::path::PathBuf::from(format!("/var/log/{marker}.log"));
    let own_output = format!("/var/log/{marker}-own.log");
    let Ok(mut log) = OpenOptions::new().create(true).append(true).open(&path) else {
        panic!("this test writes to {}: run it as a user who may", path.display());
    };
    writeln!(log, "first {marker}").expect("written");
    let dir = temp_dir();
    let mut command = Command::new("sh");
    // Stdout goes to a file under /var/log: what the process itself writes must never come back as input.
    command.args(["-c", &format!("exec \"$0\" \"$@\" >{own_output}"), env!("CARGO_BIN_EXE_binnacle")]);
    let binnacle = Binnacle::spawn(dir.path(), command);
    let selector = format!("{{filename={:?}}}", path.display().to_string());
    wait_for("the first line", || (binnacle.count_lines(&selector) == 1).then_some(()));
    writeln!(log, "second {marker}").expect("written");
    let appended = Instant::now();
    wait_for("the second line", || (binnacle.count_lines(&selector) == 2).then_some(()));
    eprintln!("appended line searchable after {:?}", appended.elapsed());
    assert_eq!(binnacle.count_lines(&format!("{{filename={own_output:?}}}")), 0);
    assert!(binnacle.count_lines("{filename=~\".+\"}") >= 2);
    binnacle.stop();
    std::fs::remove_file(&path).expect("removed");
    std::fs::remove_file(&own_output).expect("removed");
}
