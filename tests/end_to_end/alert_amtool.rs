//! Debian's amtool against the router, where `BINNACLE_TEST_ALERTMANAGER` names the Alertmanager that it came with.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::end_to_end::harness::{Binnacle, full, temp_dir, wait_for};

const CONFIG: &str = "
route: {receiver: team, routes: [{matchers: [severity=page], receiver: pager}]}
receivers: [{name: team}, {name: pager}]
";

/// Debian's amtool: beside the Alertmanager, or below it where that is a wrapper.
fn amtool() -> Option<PathBuf> {
    let peer = PathBuf::from(std::env::var_os("BINNACLE_TEST_ALERTMANAGER")?);
    let dir = peer.parent().unwrap_or(Path::new("."));
    let found = [dir.join("amtool"), dir.join("usr/bin/amtool")].into_iter().find(|path| path.exists());
    Some(found.unwrap_or_else(|| panic!("there is no amtool beside {}", peer.display())))
}

/// What it prints; it must end well.
fn run(amtool: &Path, arguments: &[&str]) -> String {
    let output = Command::new(amtool).args(arguments).output().expect("amtool starts");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "amtool {arguments:?}: {out}{error}");
    out.into_owned()
}

#[test]
fn debians_amtool_works_against_it() {
    let Some(amtool) = amtool() else {
        assert!(!full(), "make test sets BINNACLE_TEST_ALERTMANAGER");
        eprintln!("BINNACLE_TEST_ALERTMANAGER is not set: amtool is not tried (tests/setup/peers.sh)");
        return;
    };
    let dir = temp_dir();
    let path = dir.path().join("alertmanager.yml");
    std::fs::write(&path, CONFIG).expect("written");
    let path = path.display().to_string();
    let binnacle = Binnacle::start(dir.path(), &["alertmanager", &format!("--config.file={path}")]);
    let url = format!("--alertmanager.url={}", binnacle.url("/"));
    let ask = |arguments: &[&str]| run(&amtool, &[arguments, &[&url]].concat());

    assert!(run(&amtool, &["check-config", &path]).contains("SUCCESS"));
    ask(&["alert", "add", "Down", "severity=page", "--annotation=summary=gone"]);
    let firing = wait_for("the alert", || Some(ask(&["alert", "query"])).filter(|text| text.contains("Down")));
    assert!(firing.contains("gone") && firing.contains("active"), "{firing}");
    let id = ask(&["silence", "add", "alertname=Down", "--comment=known", "--author=me"]);
    let id = id.trim();
    assert!(ask(&["silence", "query"]).contains(id));
    assert!(ask(&["alert", "query", "--silenced"]).contains("Down"));
    assert!(!ask(&["alert", "query"]).contains("Down"), "it is silenced");
    ask(&["silence", "expire", id]);
    assert!(!ask(&["silence", "query"]).contains(id));
    assert_eq!(ask(&["config", "routes", "test", "severity=page"]).trim(), "pager");
    assert_eq!(ask(&["config", "routes", "test", "severity=ticket"]).trim(), "team");
    assert!(ask(&["config", "routes", "show"]).contains("pager"));
    assert!(ask(&["config", "show"]).contains("receiver: team"));
    assert!(ask(&["cluster", "show"]).contains("ready"));
    binnacle.stop();
}
