//! Syslog over TCP, UDP and TLS: RFC 5424 and 3164, by either framing of RFC 6587.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use model::Labels;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use service::config::{SyslogListener, SyslogProtocol};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::frames::{Frame, Frames};
use super::{IntakeError, Received};
use crate::logs::filter::Reason;
use crate::logs::parse::syslog::Syslog;
use crate::logs::{LogCounters, Stage};

/// Connections at one time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
const READ_BYTES: usize = 16 << 10;
/// The longest datagram there is.
const DATAGRAM_BYTES: usize = 64 << 10;
/// A connection on which nothing comes for so long is closed.
const IDLE: std::time::Duration = std::time::Duration::from_secs(3600);
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

/// Bound, not read yet.
pub enum Server {
    Stream(std::net::TcpListener, Option<TlsAcceptor>),
    Datagram(std::net::UdpSocket),
}

impl Server {
    pub fn bind(config: &SyslogListener) -> Result<Server, IntakeError> {
        let address = config.listen.strip_prefix(':').map_or(config.listen.clone(), |port| format!("0.0.0.0:{port}"));
        let fault = |reason: String| IntakeError::Listen { address: address.clone(), reason };
        if config.protocol == SyslogProtocol::Udp {
            let socket = std::net::UdpSocket::bind(&address).map_err(|error| fault(error.to_string()))?;
            socket.set_nonblocking(true).map_err(|error| fault(error.to_string()))?;
            return Ok(Server::Datagram(socket));
        }
        let tls = match config.protocol {
            SyslogProtocol::Tls => Some(acceptor(config).map_err(fault)?),
            _ => None,
        };
        let listener = std::net::TcpListener::bind(&address).map_err(|error| fault(error.to_string()))?;
        listener.set_nonblocking(true).map_err(|error| fault(error.to_string()))?;
        Ok(Server::Stream(listener, tls))
    }

    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Server::Stream(listener, _) => listener.local_addr().ok(),
            Server::Datagram(socket) => socket.local_addr().ok(),
        }
    }

    pub async fn run(self, sender: Sender<Received>, counters: LogCounters, stop: CancellationToken) {
        tracing::info!(at = ?self.address(), "listening for syslog");
        let served = match self {
            Server::Stream(listener, tls) => accept(listener, tls, sender, counters, stop).await,
            Server::Datagram(socket) => datagrams(socket, sender, counters, stop).await,
        };
        if let Err(error) = served {
            tracing::error!(%error, "the syslog listener ended");
        }
    }
}

fn acceptor(config: &SyslogListener) -> Result<TlsAcceptor, String> {
    service::http::install_tls_provider();
    let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) else {
        return Err("tls needs cert_file and key_file".to_owned());
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| format!("{}: {error}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    Ok(TlsAcceptor::from(Arc::new(server.map_err(|error| error.to_string())?)))
}

async fn accept(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    sender: Sender<Received>,
    counters: LogCounters,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptor, or the sender has gone: others may still come.
                tracing::debug!(%error, "a syslog connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (sender, counters, stop, tls) = (sender.clone(), counters.clone(), stop.clone(), tls.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let served = match tls {
                None => connection(stream, &sender, &counters, &stop).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, &sender, &counters, &stop).await,
                    Ok(Err(error)) => Err(error),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                },
            };
            if let Err(error) = served {
                tracing::debug!(%error, %peer, "a syslog connection broke");
            }
        });
    }
}

async fn connection(
    mut stream: impl AsyncRead + Unpin,
    sender: &Sender<Received>,
    counters: &LogCounters,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; READ_BYTES]);
    loop {
        let read = tokio::select! {
            read = tokio::time::timeout(IDLE, stream.read(&mut buffer)) => read,
            () = stop.cancelled() => return Ok(()),
        };
        let len = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        frames.push(&buffer[..len]);
        let mut last = (len == 0).then(|| frames.last()).flatten();
        while let Some(frame) = last.take().or_else(|| frames.next_frame()) {
            counters.bytes_read.inc_by(frame.bytes.len() as u64);
            if sender.send(received(&frame)).await.is_err() {
                return Ok(());
            }
        }
        if len == 0 {
            return Ok(());
        }
    }
}

async fn datagrams(
    socket: std::net::UdpSocket,
    sender: Sender<Received>,
    counters: LogCounters,
    stop: CancellationToken,
) -> io::Result<()> {
    let (socket, mut buffer) = (UdpSocket::from_std(socket)?, vec![0; DATAGRAM_BYTES]);
    loop {
        let got = tokio::select! {
            got = socket.recv(&mut buffer) => got,
            () = stop.cancelled() => return Ok(()),
        };
        // An answer to nobody's datagram may come as an error here.
        let Ok(len) = got else { continue };
        counters.bytes_read.inc_by(len as u64);
        let bytes = buffer[..len].trim_ascii_end().to_vec();
        if !bytes.is_empty() && sender.try_send(received(&Frame { bytes, is_truncated: false })).is_err() {
            counters.lines(Stage::Dropped, 1);
            counters.dropped(Reason::Overflow, 1);
        }
    }
}

/// What cannot be understood is kept as it is.
pub fn received(frame: &Frame) -> Received {
    let text = String::from_utf8_lossy(&frame.bytes);
    let now_ns = model::now_ns();
    let flag = |is_set: bool| if is_set { "true" } else { "" };
    let invalid = matches!(text, std::borrow::Cow::Owned(_));
    let marks = [("truncated", flag(frame.is_truncated)), ("invalid_utf8", flag(invalid))];
    let Some(syslog) = Syslog::parse(&text, now_ns) else {
        let labels = Labels::from_pairs([("source", "syslog")]);
        return Received {
            labels,
            metadata: Labels::from_pairs(marks),
            text: text.into_owned(),
            ..Received::default()
        };
    };
    let Syslog { host, app, pid, message_id, .. } = syslog;
    let labels = [("source", "syslog"), ("host", host), ("app", app), ("facility", syslog.facility())];
    let metadata = [("pid", pid), ("msgid", message_id)].into_iter().chain(marks);
    Received {
        labels: Labels::from_pairs(labels),
        metadata: Labels::from_pairs(metadata),
        level: syslog.level(),
        t_ns: syslog.t_ns.filter(|t_ns| crate::logs::parse::is_possible(*t_ns, now_ns)),
        text: syslog.text.to_owned(),
    }
}
