//! Against a real server.

use std::io::Write;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bus::{BusError, Offset, Topic};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Batch, METRIC_NAME, SeriesSamples};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Hands on every batch as `series value` lines, sorted.
struct Recorder(mpsc::UnboundedSender<Vec<String>>);

impl Producer for Recorder {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, _: Topic, _: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        let Batch::Metrics(batch) = batch.as_ref() else { panic!("metrics") };
        let line = |series: &SeriesSamples| {
            let value = series.samples[0].value;
            let value = if model::is_stale(value) { "stale".to_owned() } else { value.to_string() };
            let name = series.labels.metric_name().unwrap_or_default();
            format!("{name}{} {value}", series.labels.without(&[METRIC_NAME, "instance"]))
        };
        let mut lines: Vec<String> =
            batch.series.iter().map(line).filter(|line| !line.starts_with("scrape_")).collect();
        lines.sort();
        // Nobody listens only at the end of a test.
        let _ = self.0.send(lines);
        async { Ok(0) }.boxed()
    }
}

/// A target: gives its text as OpenMetrics to those who accept it, packed for those who unpack.
struct Server {
    address: String,
    text: Arc<Mutex<String>>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

async fn metrics(State(text): State<Arc<Mutex<String>>>, headers: HeaderMap) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    assert!(header("x-prometheus-scrape-timeout-seconds").parse::<f64>().is_ok_and(|seconds| seconds > 0.0));
    assert!(header("accept-encoding").contains("gzip") && header("accept").starts_with("application/openmetrics-text"));
    let text = format!("{}# EOF\nthis is not read\n", text.lock());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).expect("packed");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let headers = [("content-type", kind), ("content-encoding", "gzip")];
    (headers, packer.finish().expect("packed")).into_response()
}

impl Server {
    async fn start(text: &str) -> Server {
        let text = Arc::new(Mutex::new(text.to_owned()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let stop = CancellationToken::new();
        let router = Router::new().route("/metrics", axum::routing::get(metrics)).with_state(text.clone());
        let task = tokio::spawn(service::http::serve(listener, router, stop.clone()));
        Server { address, text, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("served");
    }
}

/// A scraper at work, and what it shipped.
struct Bench {
    control: ScrapeControl,
    status: TargetList,
    shipped: mpsc::UnboundedReceiver<Vec<String>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn config(jobs: &[(&str, &str, &str)]) -> service::config::Config {
    let job = |(name, address, extra): &(&str, &str, &str)| {
        format!("- job_name: {name}\n  static_configs: [{{targets: ['{address}'], labels: {{env: p}}}}]\n{extra}")
    };
    let jobs: String = jobs.iter().map(job).collect();
    let yaml = format!("global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\nscrape_configs:\n{jobs}");
    serde_saphyr::from_str(&yaml).expect("good YAML")
}

impl Bench {
    fn start(jobs: &[(&str, &str, &str)]) -> Bench {
        let (sender, shipped) = mpsc::unbounded_channel();
        let config = config(jobs);
        let producer = Arc::new(Recorder(sender));
        let scraper = Scraper::new(&config.global, &config.scrape_configs, "t".into(), producer, &Metrics::default());
        let (control, status, stop) = (scraper.control.clone(), scraper.status.clone(), CancellationToken::new());
        let task = tokio::spawn(scraper.run(stop.clone()));
        Bench { control, status, shipped, stop, task }
    }

    /// Waits until exactly this was shipped as one scrape.
    async fn check(&mut self, expected: &[&str]) {
        let mut last = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(lines) = self.shipped.recv().await {
                if lines == expected {
                    return;
                }
                last = lines;
            }
        });
        assert!(found.await.is_ok(), "expected {expected:#?}, the last was {last:#?}");
    }

    fn jobs(&self) -> Vec<(String, &'static str)> {
        let of = |status: &Arc<Mutex<TargetStatus>>| {
            let status = status.lock();
            (status.scrape_pool.clone(), status.health)
        };
        self.status.lock().iter().map(of).collect()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it stops");
    }
}

#[tokio::test]
async fn a_target_is_scraped_and_ends_with_its_server() {
    let server = Server::start("a 1\nb{env=\"x\"} 2\n").await;
    let mut bench = Bench::start(&[("j", &server.address, "")]);
    let (a, b, up) = (r#"a{env="p", job="j"}"#, r#"b{env="p", exported_env="x", job="j"}"#, r#"up{env="p", job="j"}"#);
    bench.check(&[&format!("{a} 1"), &format!("{b} 2"), &format!("{up} 1")]).await;
    assert_eq!(bench.jobs(), [("j".to_owned(), "up")]);
    server.text.lock().clear();
    bench.check(&[&format!("{a} stale"), &format!("{b} stale"), &format!("{up} 1")]).await;
    *server.text.lock() = "a 3\n".into();
    bench.check(&[&format!("{a} 3"), &format!("{up} 1")]).await;
    server.stop().await;
    bench.check(&[&format!("{a} stale"), &format!("{up} 0")]).await;
    bench.check(&[&format!("{up} 0")]).await;
    assert_eq!(bench.jobs(), [("j".to_owned(), "down")]);
    assert!(!bench.status.lock()[0].lock().last_error.is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn labels_and_limits_are_the_jobs() {
    let server = Server::start("b{env=\"x\"} 2\n").await;
    let mut bench = Bench::start(&[("j", &server.address, "  honor_labels: true\n  sample_limit: 1\n")]);
    bench.check(&[r#"b{env="x", job="j"} 2"#, r#"up{env="p", job="j"} 1"#]).await;
    *server.text.lock() = "b 1\nc 1\n".into();
    bench.check(&[r#"b{env="x", job="j"} stale"#, r#"up{env="p", job="j"} 0"#]).await;
    assert!(bench.status.lock()[0].lock().last_error.contains("sample limit"));
    bench.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn targets_are_replaced_while_running() {
    let (one, two) = (Server::start("a 1\n").await, Server::start("a 2\n").await);
    let mut bench = Bench::start(&[("one", &one.address, "")]);
    bench.check(&[r#"a{env="p", job="one"} 1"#, r#"up{env="p", job="one"} 1"#]).await;
    let before = bench.status.lock()[0].clone();

    let more = config(&[("two", &two.address, ""), ("one", &one.address, "")]);
    bench.control.set(&more.global, &more.scrape_configs);
    bench.check(&[r#"a{env="p", job="two"} 2"#, r#"up{env="p", job="two"} 1"#]).await;
    bench.check(&[r#"a{env="p", job="one"} 1"#, r#"up{env="p", job="one"} 1"#]).await;
    assert_eq!(bench.jobs(), [("two".to_owned(), "up"), ("one".to_owned(), "up")]);
    assert!(Arc::ptr_eq(&before, &bench.status.lock()[1]), "what did not change goes on");

    let fewer = config(&[("two", &two.address, "")]);
    bench.control.set(&fewer.global, &fewer.scrape_configs);
    bench.check(&[r#"a{env="p", job="one"} stale"#, r#"up{env="p", job="one"} stale"#]).await;
    assert_eq!(bench.jobs(), [("two".to_owned(), "up")]);
    bench.stop().await;
    one.stop().await;
    two.stop().await;
}
