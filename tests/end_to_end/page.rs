//! The page in a real browser.

use std::process::Command;

use crate::end_to_end::harness::{Binnacle, full, root, temp_dir};

#[test]
fn the_page_shows_charts_a_live_tail_with_search_and_alerts() {
    let has_chromium = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_chromium || !root().join("dashboards/ui/dist/index.html").exists() {
        assert!(!full(), "make test needs chromium and the built page");
        return;
    }
    let dir = temp_dir();
    let logs = dir.path().join("logs");
    std::fs::create_dir_all(&logs).expect("created");
    std::fs::write(logs.join("web.log"), "INFO the first line\nERROR the second line\n").expect("written");
    let glob = format!("--agent.logs.path={}/*.log", logs.display());
    let binnacle = Binnacle::start(dir.path(), &[&glob]);
    let output = Command::new("node")
        .arg(root().join("tests/end_to_end/page.mjs"))
        .env("BINNACLE_URL", binnacle.url("/"))
        .env("BINNACLE_LOG", logs.join("web.log"))
        .env("BINNACLE_SHOTS", std::env::var_os("BINNACLE_TEST_SHOTS").unwrap_or_default())
        .current_dir(root().join("dashboards/ui"))
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    binnacle.stop();
}
