//! Request targets as people type them: `GET /api/v1/query?query=up{job="x"}<2`. hyper refuses some bytes that Go's server
//! takes, so they are percent-encoded on their way in, which every reader of a target undoes.
//!
//! The bytes of a connection pass through a [`Scan`] that knows where requests begin: it follows their heads and skips
//! their bodies, by length or by chunks. Nothing but targets is changed, and nothing at all once what comes is not
//! HTTP/1 that it understands: the server is to judge it. It keeps no more than the beginning of one line.

use std::borrow::Cow;
use std::io::{IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// As much of a line is looked at: no line that matters is longer.
const MAX_LINE_BYTES: usize = 256;

/// Accepts connections whose targets may hold any printable byte.
pub(crate) struct Listening(pub TcpListener);

impl Listener for Listening {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Connection { stream, scan: Scan::default(), waiting: Vec::new() }, address)
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.0.local_addr()
    }
}

pub(crate) struct Connection<S> {
    stream: S,
    scan: Scan,
    /// What grew and found no room in the reader's buffer.
    waiting: Vec<u8>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.waiting.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if let Cow::Owned(changed) = this.scan.pass(&buffer.filled()[before..]) {
                buffer.set_filled(before);
                this.waiting = changed;
            }
        }
        let fitting = this.waiting.len().min(buffer.remaining());
        buffer.put_slice(&this.waiting[..fitting]);
        this.waiting.drain(..fitting);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in its requests a connection is.
#[derive(Debug, Default)]
struct Scan {
    place: Place,
    /// The beginning of the line that is read.
    line: Vec<u8>,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Method,
    Target,
    /// The version, and header lines up to an empty one.
    Head,
    /// So many bytes of a body, and then the place after them.
    Sized(u64),
    ChunkSize,
    /// The same of a chunk with its line's end.
    Chunk(u64),
    Trailer,
    /// Not ours: all that comes stays as it is.
    Foreign,
}

/// How the body of the request whose head is read will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Body {
    #[default]
    None,
    Sized(u64),
    Chunked,
    /// The protocol changes.
    Foreign,
}

/// Printable bytes that hyper refuses, or takes for the beginning of a fragment.
fn is_refused(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | b'#' | 0x80..)
}

impl Scan {
    /// What the server is to read in place of these bytes.
    fn pass<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let mut changed = Vec::new();
        let (mut at, mut copied) = (0, 0);
        while at < bytes.len() {
            match &mut self.place {
                Place::Foreign => break,
                Place::Sized(left) | Place::Chunk(left) => {
                    let skipped = (*left).min((bytes.len() - at) as u64);
                    *left -= skipped;
                    at += skipped as usize;
                    self.end_of_bytes();
                    continue;
                }
                Place::Target if is_refused(bytes[at]) => {
                    changed.extend_from_slice(&bytes[copied..at]);
                    changed.extend_from_slice(format!("%{:02X}", bytes[at]).as_bytes());
                    copied = at + 1;
                }
                _ => self.step(bytes[at]),
            }
            at += 1;
        }
        if copied == 0 {
            return Cow::Borrowed(bytes);
        }
        changed.extend_from_slice(&bytes[copied..]);
        Cow::Owned(changed)
    }

    fn end_of_bytes(&mut self) {
        self.place = match self.place {
            Place::Sized(0) => Place::Method,
            Place::Chunk(0) => Place::ChunkSize,
            place => place,
        };
    }

    /// One byte of a line.
    fn step(&mut self, byte: u8) {
        match (self.place, byte) {
            // Empty lines before a request are nothing.
            (Place::Method, b'\r' | b'\n') if self.line.is_empty() => {}
            (Place::Method, b' ') => {
                self.place =
                    if self.line == b"PRI" || self.line == b"CONNECT" { Place::Foreign } else { Place::Target };
                self.line.clear();
            }
            (Place::Target, b' ') => self.place = Place::Head,
            (Place::Target, b'\n') => self.place = Place::Foreign,
            (Place::Target, _) => {}
            (_, b'\n') => {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(line.strip_suffix(b"\r").unwrap_or(&line));
            }
            _ if self.line.len() < MAX_LINE_BYTES => self.line.push(byte),
            (Place::Method, _) => self.place = Place::Foreign,
            _ => {}
        }
    }

    fn end_of_line(&mut self, line: &[u8]) {
        self.place = match self.place {
            Place::Head if line.is_empty() => match std::mem::take(&mut self.body) {
                Body::None | Body::Sized(0) => Place::Method,
                Body::Sized(bytes) => Place::Sized(bytes),
                Body::Chunked => Place::ChunkSize,
                Body::Foreign => Place::Foreign,
            },
            Place::Head => {
                self.header(line);
                Place::Head
            }
            Place::ChunkSize => match chunk_bytes(line) {
                Some(0) => Place::Trailer,
                Some(bytes) => Place::Chunk(bytes.saturating_add(2)),
                None => Place::Foreign,
            },
            Place::Trailer if line.is_empty() => Place::Method,
            Place::Trailer => Place::Trailer,
            _ => Place::Foreign,
        };
    }

    fn header(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line).to_ascii_lowercase();
        let Some((name, value)) = text.split_once(':') else { return };
        let value = value.trim();
        self.body = match name {
            "upgrade" if value == "websocket" => Body::Foreign,
            _ if self.body == Body::Foreign => Body::Foreign,
            "transfer-encoding" if value.ends_with("chunked") => Body::Chunked,
            "transfer-encoding" => Body::Foreign,
            "content-length" if self.body != Body::Chunked => value.parse().map_or(Body::Foreign, Body::Sized),
            _ => self.body,
        };
    }
}

fn chunk_bytes(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next()?.trim();
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::routing::any;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::{Params, serve};

    /// However the bytes are split among reads, the server reads the same.
    fn check(given: &str, expected: &str) {
        for bytes in 1..=given.len() {
            let mut scan = Scan::default();
            let read: Vec<u8> = given.as_bytes().chunks(bytes).flat_map(|part| scan.pass(part).into_owned()).collect();
            assert_eq!(String::from_utf8_lossy(&read), expected, "{bytes} bytes at once");
        }
    }

    #[test]
    fn raw_bytes_of_targets_are_encoded() {
        check(
            "GET /q?query=up{job=\"x\"}<2 HTTP/1.1\r\nHost: \"h\"\r\n\r\n\r\nPOST /`é# HTTP/1.1\nA: <\n\nGET /> HTTP/1.1\r\n",
            "GET /q?query=up{job=%22x%22}%3C2 HTTP/1.1\r\nHost: \"h\"\r\n\r\n\r\nPOST /%60%C3%A9%23 HTTP/1.1\nA: <\n\n\
             GET /%3E HTTP/1.1\r\n",
        );
    }

    #[test]
    fn bodies_stay_as_they_are() {
        let body = "GET /< HTTP/1.1\r\n\r\n";
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nX: {}\r\ncontent-Length: {length}\r\n", "x".repeat(300));
        check(&format!("{head}\r\n{body}GET /< HTTP/1.1\r\n"), &format!("{head}\r\n{body}GET /%3C HTTP/1.1\r\n"));
        let chunk = format!("{length:X};a=b\r\n{body}\r\n");
        let chunks = format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n{chunk}{chunk}0\r\nGET /<: b\r\n\r\n");
        check(&format!("{chunks}GET /< HTTP/1.1\r\n"), &format!("{chunks}GET /%3C HTTP/1.1\r\n"));
    }

    #[test]
    fn what_is_not_understood_stays_as_it_is() {
        for foreign in [
            "PRI * HTTP/2.0\r\n\r\n",
            "GET /t HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
            "GET /t HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "GET /t HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nten\r\n",
            "GET /t HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            "GET /old\r\n",
            "\u{16}\u{3}\r\n",
        ] {
            let given = format!("{foreign}GET /< HTTP/1.1\r\n\r\n");
            check(&given, &given);
        }
    }

    /// Sends a request and reads until its answer ends so.
    async fn exchange(stream: &mut TcpStream, request: &str, end: &str) {
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).ends_with(end) {
            let read = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut answer)).await;
            let is_more = read.is_ok_and(|read| read.is_ok_and(|bytes| bytes > 0));
            assert!(is_more, "{end:?} is not in {}", String::from_utf8_lossy(&answer));
        }
    }

    #[tokio::test]
    async fn a_server_takes_queries_as_they_are_typed() {
        let router = Router::new().route("/q", any(|params: Params| async move { format!("{params:?}") }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, stop.clone()));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let typed = "GET /q?query=a{b=~\"x|y\"}>`c`#\\^ HTTP/1.1\r\nHost: h\r\n\r\n";
        exchange(&mut stream, typed, r##"("query", "a{b=~\"x|y\"}>`c`#\\^")])"##).await;
        let form = "GET /< HTTP/1.1";
        let head = "POST /q?c=> HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                    Expect: 100-continue\r\nContent-Length: 15\r\n\r\n";
        exchange(&mut stream, head, "100 Continue\r\n\r\n").await;
        exchange(&mut stream, form, r#"[("GET /< HTTP/1.1", ""), ("c", ">")])"#).await;
        exchange(&mut stream, typed, r##"#\\^")])"##).await;
        stop.cancel();
        server.await.expect("no panic").expect("served");
    }
}
