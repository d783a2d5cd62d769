//! Lines sent as others send them.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Offset, Producer, Topic};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use parking_lot::Mutex;
use service::config::LogSource;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::*;

/// Keeps lines as text, and refuses for as long as it is told to.
#[derive(Clone, Default)]
pub struct Store {
    pub lines: Arc<Mutex<Vec<String>>>,
    pub refuses: Arc<Mutex<bool>>,
    /// How often it did.
    pub refused: Arc<Mutex<u64>>,
}

impl Producer for Store {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, _: Topic, _: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        if *self.refuses.lock() {
            *self.refused.lock() += 1;
            return futures::future::ready(Err(BusError::Unavailable("a test".into()))).boxed();
        }
        let Batch::Logs(batch) = batch.as_ref() else { panic!("lines") };
        for line in batch.lines() {
            let (labels, metadata) = (&batch.streams[line.stream as usize], &batch.metadata[line.metadata as usize]);
            self.lines.lock().push(format!("{} {labels} {metadata} {}", batch.tenant, line.text));
        }
        futures::future::ready(Ok(0)).boxed()
    }
}

struct Running {
    store: Store,
    counters: LogCounters,
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

use std::net::SocketAddr;

fn start(source: &str) -> Running {
    let source: LogSource = serde_json::from_str(source).expect("a good source");
    let (store, counters) = (Store::default(), LogCounters::default());
    let options = IntakeOptions {
        node: "n".into(),
        tenant: "t".into(),
        producers: vec![Arc::new(store.clone())],
        counters: counters.clone(),
    };
    let intake = Intake::of_sources(&[source], &options).expect("it listens").pop().expect("one");
    let (address, stop) = (intake.address().expect("bound"), CancellationToken::new());
    let task = tokio::spawn(intake.run(stop.clone()));
    Running { store, counters, address, stop, task }
}

impl Running {
    async fn expect(self, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.store.lines.lock().len() < expected.len() {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain: {:?}", self.store.lines.lock());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*self.store.lines.lock(), expected);
        self.stop.cancel();
        self.task.await.expect("no panic");
    }
}

const MODERN: &str = "<11>1 2026-11-20T06:25:00Z web app 7 ID - it failed";
const NAMED: &str = r#"t {app="app", facility="user", host="web", node="n", source="syslog"} {level="error", msgid="ID", pid="7"} it failed"#;

#[tokio::test]
async fn syslog_over_tcp_in_both_framings() {
    let running = start(r#"{"syslog": {"listen": "127.0.0.1:0"}, "transforms": [{"drop": "secret"}]}"#);
    let mut stream = TcpStream::connect(running.address).await.expect("connects");
    let text = format!("{} {MODERN}{MODERN}\n<13>a secret\nno syslog at all", MODERN.len());
    stream.write_all(text.as_bytes()).await.expect("sent");
    drop(stream);
    running.expect(&[NAMED, NAMED, r#"t {node="n", source="syslog"} {} no syslog at all"#]).await;
}

#[tokio::test]
async fn syslog_over_udp_is_dropped_and_counted_when_nobody_takes_it() {
    let source = r#"{"syslog": {"listen": "127.0.0.1:0", "protocol": "udp"}, "tenant": "${host}"}"#;
    let running = start(source);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    socket.connect(running.address).await.expect("connected");
    *running.store.refuses.lock() = true;
    let dropped = |running: &Running| running.counters.dropped_of(Reason::Overflow);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while dropped(&running) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing was ever dropped");
        socket.send(MODERN.as_bytes()).await.expect("sent");
    }
    *running.store.refuses.lock() = false;
    while running.store.lines.lock().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nothing ever came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(running.store.lines.lock()[0], NAMED.replacen('t', "web", 1));
    running.stop.cancel();
}

#[tokio::test]
async fn syslog_over_tls() {
    let path = |name: &str| format!("{}/testdata/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let source = format!(
        r#"{{"syslog": {{"listen": "127.0.0.1:0", "protocol": "tls", "cert_file": "{cert}", "key_file": "{key}"}}}}"#
    );
    let running = start(&source);
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(&cert).expect("a certificate");
    roots.add(certificate).expect("a root");
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(running.address).await.expect("connects");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut stream = connector.connect(name, stream).await.expect("a handshake");
    stream.write_all(format!("{MODERN}\n").as_bytes()).await.expect("sent");
    stream.flush().await.expect("sent");
    running.expect(&[NAMED]).await;
}
