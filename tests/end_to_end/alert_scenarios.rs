//! What receivers hear, and when: a table of scenarios, each played on the binary and on an Alertmanager.
//!
//! The peer is `BINNACLE_TEST_ALERTMANAGER` (0.25 or later); with it, both must say the same at the same times. Without
//! it the binary must say what the table expects, in that order; times are checked where the full suites run.

use std::path::PathBuf;

use crate::end_to_end::alert_stage::{Heard, Router, Scenario, Starting, Step, play};
use crate::end_to_end::harness::{full, machine_alone, temp_dir};

/// How far from its time a notification may come, in seconds.
const TOLERANCE: f64 = 0.15;

const ONE_HOOK: &str = "
route: {receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}]}]";

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "groups wait, grow at their interval, and resolve",
        config: ONE_HOOK,
        steps: &[
            (0.5, Step::Alerts("A i=1", None, None)),
            (0.8, Step::Alerts("A i=2, B i=1", None, None)),
            (2.5, Step::Alerts("A i=3", None, None)),
            (4.5, Step::Alerts("A i=1, A i=2, A i=3", None, Some(4.5))),
        ],
        expected: &[
            (1.5, "/h firing: A/1 A/2"),
            (1.8, "/h firing: B/1"),
            (3.5, "/h firing: A/1 A/2 A/3"),
            (5.5, "/h resolved: -A/1 -A/2 -A/3"),
        ],
        seconds: 8.0,
    },
    Scenario {
        name: "what has not changed is repeated at its interval",
        config: "
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 1s, repeat_interval: 2500ms}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}]}]",
        steps: &[(0.5, Step::Alerts("A", None, None))],
        expected: &[(1.0, "/h firing: A"), (4.0, "/h firing: A"), (7.0, "/h firing: A")],
        seconds: 8.0,
    },
    Scenario {
        name: "an alert that has long been firing is told at once",
        config: ONE_HOOK,
        steps: &[(0.5, Step::Alerts("A", Some(-100.0), None)), (1.0, Step::Alerts("A i=1", Some(-100.0), None))],
        expected: &[(0.5, "/h firing: A"), (2.5, "/h firing: A A/1")],
        seconds: 4.0,
    },
    Scenario {
        name: "resolved alerts are told only to whom wants them",
        config: "
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/yes'}, {url: 'HOOK/no', send_resolved: false}]}]",
        steps: &[
            (0.5, Step::Alerts("A i=1, A i=2", None, None)),
            (1.2, Step::Alerts("A i=1", None, Some(1.2))),
            (2.2, Step::Alerts("A i=2", None, Some(2.2))),
            (3.2, Step::Alerts("A i=1", Some(3.2), None)),
        ],
        expected: &[
            (1.0, "/no firing: A/1 A/2"),
            (1.0, "/yes firing: A/1 A/2"),
            (2.0, "/yes firing: -A/1 A/2"),
            (3.0, "/yes resolved: -A/2"),
            (3.7, "/no firing: A/1"),
            (3.7, "/yes firing: A/1"),
        ],
        seconds: 5.0,
    },
    Scenario {
        name: "a source inhibits its targets while it fires",
        config: "
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 1s, repeat_interval: 1h}
inhibit_rules: [{source_matchers: [severity=critical], target_matchers: ['severity=~\"warning|critical\"'], equal: [zone]}]
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}]}]",
        steps: &[
            (0.5, Step::Alerts("S severity=critical zone=a, T severity=critical zone=a", None, None)),
            (0.6, Step::Alerts("W severity=warning zone=a, V severity=warning zone=b", None, None)),
            (1.7, Step::Alerts("S severity=critical zone=a, T severity=critical zone=a", None, Some(1.7))),
        ],
        expected: &[
            (1.0, "/h firing: S/critical/a"),
            (1.0, "/h firing: T/critical/a"),
            (1.1, "/h firing: V/warning/b"),
            (2.1, "/h firing: W/warning/a"),
            (2.0, "/h resolved: -S/critical/a"),
            (2.0, "/h resolved: -T/critical/a"),
        ],
        seconds: 4.5,
    },
    Scenario {
        name: "a silence holds back what it matches until it ends",
        config: ONE_HOOK,
        steps: &[
            (0.2, Step::Silence("i=1", 600.0)),
            (0.5, Step::Alerts("A i=1, B i=2", None, None)),
            (2.0, Step::Unsilence),
        ],
        expected: &[(1.5, "/h firing: B/2"), (3.5, "/h firing: A/1")],
        seconds: 5.0,
    },
    Scenario {
        name: "an alert that was told, silenced and unsilenced is not news",
        config: ONE_HOOK,
        steps: &[
            (0.5, Step::Alerts("A i=1", None, None)),
            (2.0, Step::Silence("i=1", 4.5)),
            (6.5, Step::Alerts("A i=1", None, Some(6.5))),
        ],
        expected: &[(1.5, "/h firing: A/1"), (7.5, "/h resolved: -A/1")],
        seconds: 8.5,
    },
    Scenario {
        name: "routes: nested, going on, by all labels",
        config: "
route:
  receiver: root
  group_by: [alertname]
  group_wait: 500ms
  group_interval: 1s
  repeat_interval: 1h
  routes:
  - {matchers: [team=a], receiver: a, continue: true, routes: [{match: {severity: page}, receiver: pager, group_by: ['...']}]}
  - {match_re: {team: 'a|b'}, receiver: b, group_by: [zone]}
receivers:
- {name: root, webhook_configs: [{url: 'HOOK/root'}]}
- {name: a, webhook_configs: [{url: 'HOOK/a'}]}
- {name: b, webhook_configs: [{url: 'HOOK/b'}]}
- {name: pager, webhook_configs: [{url: 'HOOK/pager'}]}",
        steps: &[(
            0.5,
            Step::Alerts("A team=a, A severity=page team=a, B severity=page team=a, C team=b, D team=c", None, None),
        )],
        expected: &[
            (1.0, "/a firing: A/a"),
            (1.0, "/b firing: A/a C/b A/page/a B/page/a"),
            (1.0, "/pager firing: A/page/a"),
            (1.0, "/pager firing: B/page/a"),
            (1.0, "/root firing: D/c"),
        ],
        seconds: 2.5,
    },
    Scenario {
        name: "two routes with the same matchers both tell",
        config: "
route:
  receiver: root
  group_by: [alertname]
  group_wait: 500ms
  group_interval: 1s
  repeat_interval: 1h
  routes: [{matchers: [team=a], receiver: a, continue: true}, {matchers: [team=a], receiver: b}]
receivers:
- {name: root, webhook_configs: [{url: 'HOOK/root'}]}
- {name: a, webhook_configs: [{url: 'HOOK/a'}]}
- {name: b, webhook_configs: [{url: 'HOOK/b'}]}",
        steps: &[(0.5, Step::Alerts("A team=a", None, None)), (1.5, Step::Alerts("A team=a", None, Some(1.5)))],
        expected: &[
            (1.0, "/a firing: A/a"),
            (1.0, "/b firing: A/a"),
            (2.0, "/a resolved: -A/a"),
            (2.0, "/b resolved: -A/a"),
        ],
        seconds: 3.5,
    },
    Scenario {
        name: "muted times are quiet, inactive ones too",
        config: "
route:
  receiver: hook
  group_by: [alertname]
  group_wait: 500ms
  group_interval: 1s
  repeat_interval: 1h
  routes:
  - {matchers: [kind=muted], mute_time_intervals: [always]}
  - {matchers: [kind=inactive], active_time_intervals: [never]}
  - {matchers: [kind=active], active_time_intervals: [never, always]}
time_intervals:
- {name: always, time_intervals: [{years: ['2000:2100']}]}
- {name: never, time_intervals: [{years: ['2000']}]}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}]}]",
        steps: &[(0.5, Step::Alerts("A kind=muted, B kind=inactive, C kind=active, D", None, None))],
        expected: &[(1.0, "/h firing: C/active"), (1.0, "/h firing: D")],
        seconds: 2.5,
    },
    Scenario {
        name: "reports of one alert are merged",
        config: "
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 1s, repeat_interval: 1ms}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}]}]",
        steps: &[
            (0.5, Step::Alerts("A", Some(0.5), Some(60.0))),
            (0.6, Step::Alerts("A !note=one", Some(0.0), Some(60.0))),
            (1.3, Step::Alerts("A !note=two", Some(1.0), Some(60.0))),
            (2.3, Step::Alerts("A !note=three", Some(1.5), Some(2.0))),
            (2.4, Step::Alerts("A !note=four", Some(1.5), Some(1.7))),
        ],
        expected: &[(1.0, "/h firing: A"), (2.0, "/h firing: A"), (3.0, "/h resolved: -A")],
        seconds: 4.5,
    },
    Scenario {
        name: "a reload tells nothing again",
        config: ONE_HOOK,
        steps: &[
            (0.5, Step::Alerts("A i=1", None, None)),
            (2.0, Step::Reload),
            (2.5, Step::Alerts("A i=2", None, None)),
        ],
        expected: &[(1.5, "/h firing: A/1"), (4.0, "/h firing: A/1 A/2")],
        seconds: 6.5,
    },
    Scenario {
        name: "who fails hears it later, who does not hears it once",
        config: "
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 5s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}, {url: 'HOOK/fail/1/h'}]}]",
        steps: &[(0.5, Step::Alerts("A", None, None))],
        expected: &[(1.0, "/h firing: A"), (1.5, "/fail/1/h firing: A")],
        seconds: 4.5,
    },
    Scenario {
        name: "no more alerts than are wanted",
        config: "
route: {receiver: hook, group_by: [], group_wait: 500ms, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h', max_alerts: 2}]}]",
        steps: &[(0.5, Step::Alerts("C job=x instance=2, B job=x instance=1, A zone=z, D job=w", None, None))],
        expected: &[(1.0, "/h firing: D/w B/1/x")],
        seconds: 2.5,
    },
    Scenario {
        name: "what is not reported any more resolves",
        config: "
global: {resolve_timeout: 1800ms}
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'HOOK/h'}]}]",
        steps: &[(0.5, Step::Alerts("A", None, None)), (1.0, Step::Alerts("B", None, Some(3.0)))],
        expected: &[
            (1.0, "/h firing: A"),
            (1.5, "/h firing: B"),
            (3.0, "/h resolved: -A"),
            (3.5, "/h resolved: -B"),
        ],
        seconds: 5.0,
    },
    Scenario {
        name: "an alert that fires again is told again",
        config: ONE_HOOK,
        steps: &[
            (0.5, Step::Alerts("A", None, None)),
            (2.0, Step::Alerts("A", None, Some(2.0))),
            (4.0, Step::Alerts("A", Some(4.0), None)),
        ],
        expected: &[(1.5, "/h firing: A"), (3.5, "/h resolved: -A"), (5.0, "/h firing: A")],
        seconds: 6.5,
    },
    Scenario {
        name: "nothing is told of what ended before its time came",
        config: ONE_HOOK,
        steps: &[(0.5, Step::Alerts("A", None, None)), (1.0, Step::Alerts("A", None, Some(1.0)))],
        expected: &[],
        seconds: 4.0,
    },
];

fn shorts(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.short.as_str()).collect()
}

fn check_times(name: &str, heard: &[Heard], expected: impl Iterator<Item = f64>) {
    for (heard, expected) in heard.iter().zip(expected) {
        let late = heard.at - expected;
        assert!(late.abs() <= TOLERANCE, "{name}: {} came {late:+.3} s from its time, {expected}", heard.short);
    }
}

fn run(scenario: &Scenario, peer: Option<PathBuf>, starting: &Starting) {
    let (dir, peer_dir) = (temp_dir(), temp_dir());
    let Some(peer) = peer else { return check(scenario, &play(scenario, &Router::Ours, dir.path(), starting)) };
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| play(scenario, &Router::Peer(peer), peer_dir.path(), starting));
        (play(scenario, &Router::Ours, dir.path(), starting), theirs.join().expect("the peer plays"))
    });
    check(scenario, &ours);
    let name = scenario.name;
    assert_eq!(shorts(&ours), shorts(&theirs), "{name}: ours, theirs");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.body, theirs.body, "{name}: ours, theirs");
    }
}

fn check(scenario: &Scenario, ours: &[Heard]) {
    let expected: Vec<&str> = scenario.expected.iter().map(|(_, short)| *short).collect();
    assert_eq!(shorts(ours), expected, "{}", scenario.name);
    if full() {
        check_times(scenario.name, ours, scenario.expected.iter().map(|(at, _)| *at));
    }
}

#[test]
fn receivers_hear_what_they_should_when_they_should() {
    let _machine = machine_alone();
    service::http::install_tls_provider();
    let peer = std::env::var_os("BINNACLE_TEST_ALERTMANAGER").map(PathBuf::from);
    let starting = Starting::new(SCENARIOS.len() * if peer.is_some() { 2 } else { 1 });
    std::thread::scope(|scope| {
        let run = |one| run(one, peer.clone(), &starting);
        let played: Vec<_> = SCENARIOS.iter().map(|one| (one.name, scope.spawn(move || run(one)))).collect();
        let failed: Vec<&str> =
            played.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
    });
}
