//! An agent without Kafka ships over HTTP.

use crate::end_to_end::harness::{Binnacle, Dice, temp_dir, wait_for};
use crate::end_to_end::lose_nothing::{Processes, tailed_lines_survive};

#[test]
fn tailed_lines_cross_http_exactly_once_while_the_agent_is_killed() {
    let dir = temp_dir();
    let server = Binnacle::start(&dir.path().join("server"), &["--agent.disabled"]);
    let push = format!("--agent.push-url={}", server.url(""));
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let start_agent = || Binnacle::start(dir.path(), &["agent", &push, &glob]);
    tailed_lines_survive(dir.path(), &mut Dice::new("lines over HTTP"), Processes::beside(server, &start_agent));
}

#[test]
fn an_agents_metrics_arrive_over_http_and_garbage_is_refused() {
    let dir = temp_dir();
    let server = Binnacle::start(&dir.path().join("server"), &["--agent.disabled"]);
    let push = format!("--agent.push-url={}", server.url(""));
    let agent =
        Binnacle::start(dir.path(), &["agent", &push, "--agent.node=far-away", "--agent.logs.path=/nowhere/*.log"]);
    wait_for("the node's load", || server.value("node_load1{instance=\"far-away\"}"));
    let post = |path: &str, body: &'static [u8]| {
        let answer = server.client().post(server.url(path)).body(body).send().expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!(post("/binnacle/v1/push/logs/0", b"garbage"), 400);
    assert_eq!(post("/binnacle/v1/push/alerts/0", b"garbage"), 400);
    agent.stop();
    server.stop();
}
