//! Debian's amtool against the router, where `BINNACLE_TEST_ALERTMANAGER` names the Alertmanager that it came with.

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};
use crate::end_to_end::peer::{run, tool};

const CONFIG: &str = "
route: {receiver: team, routes: [{matchers: [severity=page], receiver: pager}]}
receivers: [{name: team}, {name: pager}]
";

#[test]
fn debians_amtool_works_against_it() {
    let Some(amtool) = tool("BINNACLE_TEST_ALERTMANAGER", "amtool") else { return };
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
