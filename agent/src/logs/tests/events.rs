//! Messages of several lines, through rotation, restarts and crashes.

use super::*;

fn joining(timeout: &str) -> String {
    format!(r#"{{"multiline": {{"start": "^\\S", "timeout": "{timeout}"}}}}"#)
}

fn bench(source: &str) -> Bench {
    let mut bench = Bench::new();
    bench.source = serde_json::from_str(source).expect("a good source");
    bench
}

fn event(n: u32) -> String {
    format!("event {n}\n  of two\n  or three lines")
}

fn events(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(event).collect()
}

#[test]
fn an_event_is_one_message_through_rotation_and_restart() {
    let mut bench = bench(&joining("1h"));
    bench.append("a.log", b"event 0\n  of two\n");
    bench.start();
    // Read, and held: the file is known to the checkpoint.
    bench.append("b.log", b"x\ny\n");
    bench.expect_texts("b.log", &["x".to_owned()]);
    bench.stop();
    bench.rotate("a.log");
    bench.append("a.log", b"  or three lines\nevent 1\n  of two\n");
    bench.start();
    bench.expect_texts("a.log", &events(0..1));
    let old = bench.checkpoint();
    bench.append("a.log", b"  or three lines\nevent 2\n");
    bench.expect_texts("a.log", &events(0..2));
    bench.crash(old);
    bench.start();
    bench.append("a.log", b"  of two\n  or three lines\n");
    bench.rotate("a.log");
    bench.append("a.log", b"end\n");
    bench.expect_texts("a.log", &events(0..3));
}

#[test]
fn an_event_is_over_when_nothing_comes_and_stays_so_after_a_crash() {
    let mut bench = bench(&joining("50ms"));
    bench.append("a.log", event(0).as_bytes());
    bench.append("a.log", b"\n");
    // Every other append is stored, none is acknowledged.
    bench.producer.0.lock().failures = u32::MAX;
    bench.start();
    bench.expect_texts("a.log", &events(0..1));
    let first = bench.checkpoint();
    bench.producer.0.lock().failures = 0;
    bench.crash(first);
    // What comes later is a message of its own, though it looks as if it went on.
    bench.append("a.log", b"  late\n");
    bench.start();
    bench.expect_texts("a.log", &[event(0), "  late".to_owned()]);
}

#[test]
fn parts_of_a_container_go_on_in_the_next_file() {
    let mut bench = bench("{}");
    let line = |part: &str, text: &str| format!("2026-11-20T06:25:00.00000000{}Z stdout {part} {text}\n", text.len());
    bench.append("0.log", (line("F", "a") + &line("P", "be")).as_bytes());
    bench.start();
    bench.expect_texts("0.log", &["a".to_owned()]);
    fs::rename(bench.path("0.log"), bench.path("0.log.20261120-062500")).expect("rotated");
    bench.append("0.log", (line("F", "gun") + &line("F", "last")).as_bytes());
    bench.expect_texts("0.log", &["a".to_owned(), "begun".to_owned(), "last".to_owned()]);
}

#[test]
fn utf16_is_read_by_its_mark() {
    let mut bench = bench("{}");
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    bench.append("a.log", &wide("\u{feff}eins\r\nzw"));
    bench.start();
    bench.expect_texts("a.log", &["eins".to_owned()]);
    bench.append("a.log", &wide("ölf\n"));
    bench.expect_texts("a.log", &["eins".to_owned(), "zwölf".to_owned()]);
}

#[test]
fn what_is_dropped_is_counted_and_passed() {
    let source = r#"{"transforms": [{"drop": "DEBUG"}, {"redact": {"presets": ["email"]}}],
                     "rate_limit": {"lines_per_second": 1, "burst_seconds": 3}}"#;
    let mut bench = bench(source);
    bench.append("a.log", b"DEBUG 1\nfrom a@b.example\n");
    bench.start();
    bench.expect_texts("a.log", &["from [redacted]".to_owned()]);
    bench.append("a.log", b"DEBUG 2\n");
    wait_for(|| bench.metric(r#"dropped_total{reason="filter"}"#) == 2, || "both".to_owned());
    bench.append("a.log", "x\n".repeat(1000).as_bytes());
    let limited = || bench.metric(r#"dropped_total{reason="rate_limit"}"#);
    // Lines count as read before they are on the bus.
    let shipped = || bench.texts("a.log").len() as u64;
    wait_for(|| limited() + shipped() + 2 == 1003, || format!("{} limited, {} shipped", limited(), shipped()));
    assert_eq!(bench.metric(r#"lines_total{stage="read"}"#), 1003);
    assert!(limited() >= 900, "{}", limited());
}

#[test]
fn old_lines_are_dropped_and_counted() {
    let mut bench = bench("{}");
    bench.max_age_ms = Some(3_600_000);
    let now = model::format_rfc3339_ms(model::now_ms());
    bench.append("a.log", format!("2020-01-01T00:00:00Z stdout F old\n{now} stdout F new\n").as_bytes());
    bench.start();
    bench.expect_texts("a.log", &["new".to_owned()]);
    assert_eq!(bench.metric(r#"dropped_total{reason="too_old"}"#), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Lines(usize),
    Rotate,
    Restart,
    Crash,
    AcksLost(u32),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..7).prop_map(Step::Lines),
        2 => Just(Step::Rotate),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => (1u32..3).prop_map(Step::AcksLost),
        1 => Just(Step::Settle),
    ]
}

fn play(steps: &[Step]) {
    let mut bench = bench(&joining("1h"));
    let mut to_write = (0u32..).flat_map(|n| event(n).lines().map(|line| format!("{line}\n")).collect::<Vec<_>>());
    let mut written = 0;
    bench.append("p.log", b"first\n");
    bench.start();
    wait_for(|| bench.checkpoint().is_some(), || "no checkpoint".to_owned());
    // Whole events so far; the last is held.
    let whole = |written: usize| {
        let mut whole = vec!["first".to_owned()];
        whole.extend(events(0..(written.max(1) - 1) as u32 / 3));
        whole.truncate(if written == 0 { 0 } else { whole.len() });
        whole
    };
    let mut append = |bench: &Bench, count: usize, written: &mut usize| {
        let lines: String = to_write.by_ref().take(count).collect();
        bench.append("p.log", lines.as_bytes());
        *written += count;
    };
    for step in steps {
        match step {
            Step::Lines(count) => append(&bench, *count, &mut written),
            Step::Rotate if bench.path("p.log").exists() => bench.rotate("p.log"),
            Step::Rotate => {}
            Step::Restart => {
                bench.stop();
                bench.start();
            }
            Step::Crash => {
                // The file is known to the checkpoint once something of it was shipped.
                append(&bench, 4, &mut written);
                bench.expect_texts("p.log", &whole(written));
                let old = bench.checkpoint();
                append(&bench, 4, &mut written);
                bench.expect_texts("p.log", &whole(written));
                bench.crash(old);
                bench.start();
            }
            Step::AcksLost(count) => bench.producer.0.lock().failures = *count,
            Step::Settle => bench.expect_texts("p.log", &whole(written)),
        }
    }
    bench.append("p.log", b"last\nend\n");
    let mut expected = vec!["first".to_owned()];
    expected.extend(events(0..(written / 3) as u32));
    if written % 3 > 0 {
        expected.push(event((written / 3) as u32).lines().take(written % 3).collect::<Vec<_>>().join("\n"));
    }
    expected.push("last".to_owned());
    bench.expect_texts("p.log", &expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn every_event_arrives_whole_and_once(steps in proptest::collection::vec(step(), 1..14)) {
        play(&steps);
    }
}

#[test]
fn lines_have_what_the_kubelet_tells_of_their_pod() {
    let mut bench =
        bench(r#"{"tenant": "${team}", "relabel_configs": [{"action": "labeldrop", "regex": "workload_type"}]}"#);
    let (listener, answers) = (std::net::TcpListener::bind("127.0.0.1:0").expect("a port"), Arc::new(Mutex::new(0)));
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let body = r#"{"items": [{"metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"team": "red"},
        "ownerReferences": [{"kind": "StatefulSet", "name": "db"}]}}]}"#;
    let served = answers.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes());
            *served.lock() += 1;
        }
    });
    let pods = Pods::default();
    bench.pods = Some(pods.clone());
    let name = "pods/ns_p_u/c/0.log";
    fs::create_dir_all(bench.path("pods/ns_p_u/c")).expect("created");
    bench.append(name, b"one\n");
    bench.source.paths = vec![bench.path("**/*.log").display().to_string()];
    bench.start();
    let config: service::config::KubernetesMetadata =
        serde_json::from_str(&format!(r#"{{"kubelet_url": "{url}", "labels": ["team"]}}"#)).expect("good");
    let (runtime, stop, _) = bench.running.as_ref().expect("running");
    runtime.spawn(pods.run(config, "n".to_owned(), stop.clone()));
    bench.expect_texts(name, &["one".to_owned()]);
    let (tenant, labels) = bench.producer.0.lock().last_stream.clone();
    assert_eq!(tenant, "red");
    for part in [r#"team="red""#, r#"workload="db""#, r#"pod="p""#] {
        assert!(labels.contains(part) && !labels.contains("workload_type"), "{labels}");
    }
    assert!(*answers.lock() > 0);
}
