//! Debian's promtool against the binary and on the files of this project, where `BINNACLE_TEST_PROMETHEUS` names the
//! Prometheus that it came with.

use std::path::PathBuf;

use crate::end_to_end::harness::{Binnacle, root, temp_dir, wait_for};
use crate::end_to_end::peer::{run, tool};

const CONFIG: &str = "
global: {scrape_interval: 1s}
scrape_configs: [{job_name: itself, static_configs: [{targets: ['ADDRESS']}]}]
rule_files: ['RULES']
";

fn files(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(dir)).expect("a directory");
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path: &PathBuf| path.is_file());
    let mut paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}

#[test]
fn debians_promtool_takes_our_rules_and_their_tests() {
    let Some(promtool) = tool("BINNACLE_TEST_PROMETHEUS", "promtool") else { return };
    for file in files("deploy/rules") {
        assert!(run(&promtool, &["check", "rules", &file]).contains("SUCCESS"), "{file}");
    }
    for file in files("deploy/rules/tests") {
        assert!(run(&promtool, &["test", "rules", &file]).contains("SUCCESS"), "{file}");
    }
}

#[test]
fn debians_promtool_asks_the_binary() {
    let Some(promtool) = tool("BINNACLE_TEST_PROMETHEUS", "promtool") else { return };
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &[]);
    let url = binnacle.url("/");
    let url = url.trim_end_matches('/');
    let config = dir.path().join("prometheus.yml");
    let rules = root().join("deploy/rules/node.yml").display().to_string();
    let text = CONFIG.replace("ADDRESS", url.trim_start_matches("http://")).replace("RULES", &rules);
    std::fs::write(&config, text).expect("written");
    assert!(run(&promtool, &["check", "config", &config.display().to_string()]).contains("SUCCESS"));

    wait_for("a collection", || (!binnacle.query("node_load1").is_empty()).then_some(()));
    let instant = run(&promtool, &["query", "instant", url, "node_load1 * 0 + 7"]);
    assert!(instant.contains("=> 7 @"), "{instant}");
    let range = run(&promtool, &["query", "range", "--step=15s", url, "count(node_load1)"]);
    assert!(range.contains("1 @"), "{range}");
    let series = run(&promtool, &["query", "series", "--match=node_load1", url]);
    assert!(series.contains("__name__=\"node_load1\""), "{series}");
    let modes = run(&promtool, &["query", "labels", url, "mode"]);
    assert!(modes.lines().any(|mode| mode == "idle"), "{modes}");
    binnacle.stop();
}
