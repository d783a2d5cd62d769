//! Imports and pushes in others' protocols, sent to the real binary.

use std::io::Write;
use std::net::TcpStream;

use reqwest::Method;

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};

fn quiet(dir: &std::path::Path, more: &[&str]) -> Binnacle {
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.display());
    Binnacle::start(dir, &[&[glob.as_str()], more].concat())
}

/// A request must be answered with this status, and with `expected` in the body; answers the body.
fn check(binnacle: &Binnacle, method: Method, path: &str, body: &str, expected: (u16, &str)) -> String {
    let request = binnacle.client().request(method, binnacle.url(path)).body(body.to_owned());
    let answer = request.send().expect("an answer");
    let (status, text) = (answer.status().as_u16(), answer.text().expect("a body"));
    assert!(status == expected.0 && text.contains(expected.1), "{path}: {status} {text}\nexpected {expected:?}");
    text
}

#[test]
fn imported_text_and_lines_survive_kill_9_and_are_exported() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path(), &[]);
    let t_ms = model::now_ms() - 60_000;
    let text = format!("# TYPE a counter\na{{b=\"c\"}} 1 {t_ms}\na{{b=\"c\"}} 2.5\n1bad 3\n");
    let path = format!("/api/v1/import/prometheus?extra_label=job=j&timestamp={}", t_ms + 1);
    check(&binnacle, Method::POST, &path, &text, (400, "1 samples refused: malformed line: line 4: not a metric name"));
    let lines = format!(
        "{{\"metric\":{{\"__name__\":\"d\"}},\"values\":[0.1,null,\"Infinity\",3.3e-300],\"timestamps\":[{t_ms},{},{},{}]}}\n",
        t_ms + 1,
        t_ms + 2,
        t_ms + 3
    );
    check(&binnacle, Method::POST, "/api/v1/import", &lines, (204, ""));
    binnacle.kill();
    let binnacle = quiet(dir.path(), &[]);
    binnacle.wait_ready();
    let export = "/api/v1/export?match[]={__name__=~%22a|d%22}&reduce_mem_usage=1";
    let a = format!(
        "{{\"metric\":{{\"__name__\":\"a\",\"b\":\"c\",\"job\":\"j\"}},\"values\":[1,2.5],\"timestamps\":[{t_ms},{}]}}\n",
        t_ms + 1
    );
    // Twice: from the head and from a part.
    for _ in 0..2 {
        let exported = check(&binnacle, Method::GET, export, "", (200, ""));
        assert_eq!(exported, format!("{a}{lines}"));
        binnacle.flush();
    }
    let none = check(&binnacle, Method::GET, "/api/v1/export?match[]=nothing", "", (200, ""));
    assert_eq!(none, "");
    check(&binnacle, Method::GET, "/api/v1/export", "", (400, "missing"));
    assert_eq!(binnacle.get("/api/v1/metadata", &[("metric", "a")])["data"]["a"][0]["type"], "counter");
    binnacle.stop();
}

#[test]
fn lines_of_influx_are_written_as_telegraf_does() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path(), &[]);
    check(&binnacle, Method::GET, "/ping", "", (204, ""));
    check(&binnacle, Method::POST, "/query?q=CREATE+DATABASE+x", "", (200, "results"));
    let t_s = model::now_ms() / 1000;
    let line = format!("cpu,host=h usage=1.5,up=true {t_s}");
    for path in ["/write?db=x&precision=s", "/influx/write?db=x&precision=s", "/api/v2/write?bucket=x&precision=s"] {
        check(&binnacle, Method::POST, path, &line, (204, ""));
    }
    let bad =
        check(&binnacle, Method::POST, "/influx/api/v2/write", "mem free=1i\nmem free=one", (400, "partial write"));
    assert!(bad.contains("line 2: not a field's value"), "{bad}");
    assert_eq!(binnacle.value("cpu_usage{host='h',db='x'}"), Some(1.5));
    assert_eq!(binnacle.value("count_over_time(cpu_up[1h])"), Some(1.0));
    assert_eq!(binnacle.value("mem_free"), Some(1.0));
    binnacle.stop();
}

#[test]
fn pushed_groups_stay_until_they_are_deleted() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path(), &[]);
    let group = "/metrics/job/batch/instance@base64/YS9i";
    let text = "# TYPE done counter\n# HELP done Things.\ndone{kind=\"x\"} 3\nleft 1\n";
    check(&binnacle, Method::PUT, group, text, (200, ""));
    check(&binnacle, Method::POST, group, "# TYPE done counter\ndone{kind=\"y\"} 4\n", (200, ""));
    check(&binnacle, Method::POST, group, "done 4 1000\n", (400, "pushed metrics must not have timestamps"));
    assert_eq!(binnacle.query("done").len(), 1, "one family replaces the other");
    binnacle.kill();
    let binnacle = quiet(dir.path(), &[]);
    binnacle.wait_ready();
    assert_eq!(binnacle.value("done{job='batch',instance='a/b',kind='y'}"), Some(4.0));
    assert_eq!(binnacle.value("left{job='batch',instance='a/b'}"), Some(1.0));
    assert_eq!(binnacle.value("push_failure_time_seconds > bool push_time_seconds"), Some(1.0));
    let listed = binnacle.get("/api/v1/metrics", &[]);
    assert_eq!(listed["data"][0]["labels"]["instance"], "a/b");
    assert_eq!(
        (&listed["data"][0]["last_push_successful"], &listed["data"][0]["done"]["type"]),
        (&false.into(), &"COUNTER".into())
    );
    let before = binnacle.value("count_over_time(left[1h])").expect("pushed");
    wait_for("the group to be written again by itself", || {
        binnacle.value("count_over_time(left[1h])").filter(|count| *count > before)
    });
    check(&binnacle, Method::PUT, group, "new 5\n", (200, ""));
    assert_eq!((binnacle.value("left"), binnacle.value("new")), (None, Some(5.0)));
    check(&binnacle, Method::DELETE, group, "", (202, ""));
    assert!(binnacle.query("{job='batch'}").is_empty());
    // Our own metrics are still there.
    check(&binnacle, Method::GET, "/metrics", "", (200, "binnacle_tsdb_head_series"));
    binnacle.stop();
    let binnacle = quiet(dir.path(), &[]);
    assert_eq!(binnacle.get("/api/v1/metrics", &[])["data"].as_array().map(Vec::len), Some(0));
    binnacle.stop();
}

#[test]
fn lines_of_graphite_arrive_over_tcp() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path(), &["--graphite.listen-address=127.0.0.1:0"]);
    let line = binnacle.wait_for_line("listening for Graphite");
    let (_, address) = line.rsplit_once("at=").expect("an address");
    let mut stream = TcpStream::connect(address.trim()).expect("connected");
    let t_s = model::now_ms() / 1000;
    write!(stream, "servers.a.load;dc=x 1.5 {t_s}\nbroken\nservers.a.up 1 -1").expect("written");
    wait_for("the first line", || binnacle.value("{'servers.a.load',dc='x'}").filter(|value| *value == 1.5));
    drop(stream);
    wait_for("the line that the end cut", || binnacle.value("{'servers.a.up'}"));
    let mut endless = TcpStream::connect(address.trim()).expect("connected");
    let sent = (0..1000).map(|_| endless.write_all(&[b'x'; 16 * 1024])).find(Result::is_err);
    assert!(sent.is_some(), "a line without an end must end the connection");
    binnacle.stop();
}
