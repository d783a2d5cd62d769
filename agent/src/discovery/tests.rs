//! Discovery against files, servers and a name server of our own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use service::config::{Config, RecordType};
use tokio::net::{TcpListener, UdpSocket};

use super::resolver::{Answer, Resolver, tests as dns};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Discovery at work for the jobs of a configuration.
pub struct Bench {
    pub discovery: Discovery,
    changed: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Bench {
    pub fn start(jobs: &str, base: &Path) -> Bench {
        let discovery = Discovery::new(&Metrics::default());
        let changed = discovery.subscribe();
        let mut bench = Bench { discovery, changed, stop: CancellationToken::new() };
        bench.set(jobs, base);
        bench
    }

    pub fn set(&mut self, jobs: &str, base: &Path) {
        let mut config: Config = serde_saphyr::from_str(jobs).expect("good YAML");
        config.scrape_configs.iter_mut().for_each(|job| job.base = base.to_owned());
        config.validate(base).expect("a good configuration");
        self.discovery.sync(config.scrape_configs.iter(), &self.stop);
    }

    /// Waits until these are the targets of job `j`.
    pub async fn check(&mut self, expected: &[&str]) {
        let shown = |discovery: &Discovery| {
            let mut shown: Vec<String> = discovery.targets("j").iter().map(Labels::to_string).collect();
            shown.sort();
            shown
        };
        let waiting = async {
            while shown(&self.discovery) != expected {
                self.changed.changed().await.expect("discovery is there");
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(found.is_ok(), "expected {expected:#?}, found {:#?}", shown(&self.discovery));
    }
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        // As a careful writer does, whole.
        std::fs::write(dir.path().join("new"), text).expect("written");
        std::fs::rename(dir.path().join("new"), dir.path().join(name)).expect("renamed");
    };
    let meta = |name: &str| format!(r#"__meta_filepath="{}""#, dir.path().join(name).display());
    write("a.yml", "- targets: ['a:1']\n");
    let job =
        "scrape_configs: [{job_name: j, file_sd_configs: [{files: ['*.yml', 'one.json'], refresh_interval: 1h}]}]";
    let mut bench = Bench::start(job, dir.path());
    let a = format!(r#"{{__address__="a:1", {}}}"#, meta("a.yml"));
    bench.check(&[&a]).await;
    write("b.yml", "- targets: ['b:1']\n  labels: {env: p}\n");
    write("one.json", r#"[{"targets": ["c:1"]}]"#);
    let b = format!(r#"{{__address__="b:1", {}, env="p"}}"#, meta("b.yml"));
    let c = format!(r#"{{__address__="c:1", {}}}"#, meta("one.json"));
    bench.check(&[&a, &b, &c]).await;
    // What makes no sense keeps what it said; what is gone has no targets.
    write("a.yml", "- target: ['x:1']\n");
    std::fs::remove_file(dir.path().join("b.yml")).expect("removed");
    bench.check(&[&a, &c]).await;
    assert!(bench.discovery.counters.file_errors.get() > 0);
    write("a.yml", "[]");
    bench.check(&[&c]).await;
}

#[tokio::test]
async fn a_server_is_asked_and_may_fail() {
    let fails = Arc::new(AtomicBool::new(false));
    let answer = {
        let fails = fails.clone();
        move |headers: axum::http::HeaderMap| async move {
            assert_eq!(headers["authorization"], "Bearer secret");
            assert!(headers.contains_key("x-prometheus-refresh-interval-seconds"));
            match fails.load(Ordering::Relaxed) {
                true => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                false => {
                    axum::Json(serde_json::json!([{"targets": ["a:1"], "labels": {"__meta_x": "y"}}])).into_response()
                }
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/sd", listener.local_addr().expect("bound"));
    let stop = CancellationToken::new();
    let router = Router::new().route("/sd", axum::routing::get(answer));
    let server = tokio::spawn(service::http::serve(listener, router, stop.clone()));
    let job = format!(
        "scrape_configs: [{{job_name: j, http_sd_configs: [{{url: '{url}', refresh_interval: 100ms, bearer_token: secret}}]}}]"
    );
    let mut bench = Bench::start(&job, Path::new(""));
    let target = format!(r#"{{__address__="a:1", __meta_url="{url}", __meta_x="y"}}"#);
    bench.check(&[&target]).await;
    fails.store(true, Ordering::Relaxed);
    let failing = async {
        while bench.discovery.counters.http_failures.get() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, failing).await.expect("failures are counted");
    bench.check(&[&target]).await;
    bench.set("scrape_configs: []", Path::new(""));
    bench.check(&[]).await;
    stop.cancel();
    server.await.expect("no panic").expect("served");
}

/// A name server that knows `_x._tcp.test` and `big.test`, the latter by TCP only.
async fn name_server() -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("bound");
    let udp = UdpSocket::bind(address).await.expect("the same port");
    let srv = |port: u8| (33, [vec![0, 1, 0, 1, 0, port], dns::written("host.test")].concat());
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let question = &buffer[..length];
            let asks = |name: &str| question[12..].starts_with(&dns::written(name));
            let reply = match () {
                () if asks("_x._tcp.test") => dns::reply(question, 0, false, &[srv(80), srv(81)]),
                () if asks("big.test") => dns::reply(question, 0, true, &[]),
                () => dns::reply(question, 3, false, &[]),
            };
            // Another's answer first.
            let mut foreign = reply.clone();
            foreign[0] ^= 0xff;
            udp.send_to(&foreign, from).await.expect("sent");
            udp.send_to(&reply, from).await.expect("sent");
        }
    });
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.expect("a length");
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.expect("a question");
            let reply = dns::reply(&question, 0, false, &[(1, vec![10, 0, 0, 9])]);
            stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat()).await.expect("sent");
        }
    });
    address
}

#[tokio::test]
async fn names_are_resolved() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("resolv.conf");
    std::fs::write(&config, format!("nameserver {}\nsearch test\n", name_server().await)).expect("written");
    let resolver = || Resolver::with_config(config.clone());
    assert_eq!(resolver().look_up("big.test", RecordType::A).await, Ok(vec![Answer::Address([10, 0, 0, 9].into())]));
    assert_eq!(resolver().look_up("nothing", RecordType::A).await, Ok(Vec::new()));
    let sd = "{names: [_x._tcp], refresh_interval: 1h}";
    let sd: service::config::DnsSd = serde_saphyr::from_str(sd).expect("good YAML");
    let mut bench = Bench::start("{}", Path::new(""));
    let found = Arc::new(Found::new(bench.discovery.changed.clone(), SdCounters::default()));
    let running = tokio::spawn(Box::new(dns_names(sd, resolver())).run(found.clone()));
    bench.discovery.running.insert(1, Running { stop: CancellationToken::new(), found });
    bench.discovery.of_job.insert("j".into(), vec![1]);
    let target = |port: u8| {
        format!(
            r#"{{__address__="host.test:{port}", __meta_dns_name="_x._tcp", __meta_dns_srv_record_port="{port}", __meta_dns_srv_record_target="host.test."}}"#
        )
    };
    bench.check(&[&target(80), &target(81)]).await;
    running.abort();
}

fn dns_names(config: service::config::DnsSd, resolver: Resolver) -> super::dns::Names {
    super::dns::Names::with_resolver(config, resolver)
}
