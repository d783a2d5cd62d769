//! gRPC as OTLP's senders speak it: unary methods, without a library of its own.
//!
//! A message is a byte that says whether it is compressed, four bytes of length, and the request; the status is in the
//! trailers, or in the headers where there is nothing before it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use http_body::Frame;

use crate::body::decompress_as;
use crate::http::{ApiError, MAX_BODY_BYTES};

const CONTENT_TYPE: &str = "application/grpc";
const PREFIX_BYTES: usize = 5;
const OK: i32 = 0;
/// `google.rpc.Code`.
pub const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
pub const UNAVAILABLE: i32 = 14;

/// Methods of all services on one listener.
pub fn router(services: impl IntoIterator<Item = Router>) -> Router {
    let methods = services.into_iter().fold(Router::new(), Router::merge);
    methods
        .fallback(|| async { failed(UNIMPLEMENTED, "this method is not known") })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES + PREFIX_BYTES))
}

/// The one message of a request.
pub fn message(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ApiError> {
    unframed(body, headers.get("grpc-encoding").and_then(|value| value.to_str().ok()).unwrap_or("identity"))
}

fn unframed(mut body: Bytes, encoding: &str) -> Result<Bytes, ApiError> {
    let is_whole = body.len() >= PREFIX_BYTES
        && u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize == body.len() - PREFIX_BYTES;
    if !is_whole {
        return Err(ApiError::bad_data("the body is not one message of gRPC"));
    }
    let message = body.split_off(PREFIX_BYTES);
    match (body[0], encoding) {
        (0, _) => Ok(message),
        (1, "gzip" | "deflate" | "zstd") => decompress_as(encoding, message),
        (1, other) => {
            let reason = format!("grpc-encoding {other:?} is not supported");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", reason))
        }
        _ => Err(ApiError::bad_data("the body is not one message of gRPC")),
    }
}

/// The status of an error; what may be taken later is one that senders try again after.
pub fn refused(error: &ApiError) -> HttpResponse {
    let code = match error.status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => UNAVAILABLE,
        StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => UNIMPLEMENTED,
        _ => INVALID_ARGUMENT,
    };
    failed(code, &error.message)
}

/// A status without a message before it stands in the headers.
pub fn failed(code: i32, reason: &str) -> HttpResponse {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert("grpc-status", code.into());
    if let Ok(reason) = HeaderValue::from_str(&escaped(reason)) {
        headers.insert("grpc-message", reason);
    }
    response
}

/// Percent-encoded where it is not printable ASCII.
fn escaped(reason: &str) -> String {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    reason
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

pub fn answered(message: &[u8]) -> HttpResponse {
    let mut data = Vec::with_capacity(PREFIX_BYTES + message.len());
    data.push(0);
    // An answer is far below 4 GiB: reasons are few and short.
    data.extend_from_slice(&(message.len() as u32).to_be_bytes());
    data.extend_from_slice(message);
    let reply = Reply { data: Some(data.into()), status: Some(OK) };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::new(reply)).into_response()
}

/// One message, then the status.
struct Reply {
    data: Option<Bytes>,
    status: Option<i32>,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = |status: i32| HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), status.into())]);
        Poll::Ready(self.status.take().map(|status| Ok(Frame::trailers(trailers(status)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Bytes {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat().into()
    }

    fn check(body: Bytes, encoding: &str, expected: Result<&[u8], &str>) {
        match (unframed(body, encoding), expected) {
            (Ok(message), Ok(expected)) => assert_eq!(message, expected),
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{}", error.message),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn messages_are_unframed() {
        check(framed(0, b"abc"), "gzip", Ok(b"abc"));
        check(framed(0, b""), "identity", Ok(b""));
        let packed = zstd::encode_all(&b"abc"[..], 1).expect("compresses");
        check(framed(1, &packed), "zstd", Ok(b"abc"));
        check(framed(1, b"abc"), "snappy", Err("not supported"));
        check(framed(1, b"abc"), "gzip", Err("gzip"));
        check(framed(2, b"abc"), "gzip", Err("not one message"));
        for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\0a"] {
            check(Bytes::copy_from_slice(bytes), "gzip", Err("not one message"));
        }
    }

    #[tokio::test]
    async fn the_status_follows_the_message() {
        let mut body = answered(b"xy").into_body();
        let mut frames = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await {
            frames.push(frame.expect("a frame"));
        }
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].data_ref().map(|data| &data[..]), Some(&b"\0\0\0\0\x02xy"[..]));
        assert_eq!(frames[1].trailers_ref().map(|trailers| trailers["grpc-status"].clone()), Some(0.into()));
        let failure = failed(3, "100% é");
        assert_eq!(failure.headers()["grpc-message"], "100%25 %C3%A9");
    }
}
