//! HTTP plumbing: who asks (tenant), what they ask (parameters from query and form), the error envelopes, and serving.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::DEFAULT_TENANT;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::target::Listening;

/// No request body may be larger, as sent or after decompression.
pub const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
const MAX_TENANT_BYTES: usize = 150;

/// An error in Prometheus' envelope: `{"status":"error","errorType":…,"error":…}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: StatusCode,
    pub kind: &'static str,
    pub message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, kind, message: message.into() }
    }

    /// 400: the request makes no sense, and never will.
    pub fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    /// 422: understood, but cannot be evaluated.
    pub fn execution(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", message)
    }

    /// 503: nothing was taken or answered; worth sending again.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 500: our fault.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"status": "error", "errorType": self.kind, "error": self.message});
        (self.status, axum::Json(body)).into_response()
    }
}

const TENANT_HEADER: &str = "X-Scope-OrgID";

/// The tenant of a request: `X-Scope-OrgID`, or `default`. Browsers cannot give headers to a websocket: there a parameter of
/// that name stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let is_websocket = parts.headers.contains_key(header::SEC_WEBSOCKET_KEY);
        let params = Params::parse(parts.uri.query().filter(|_| is_websocket).unwrap_or(""));
        tenant_of(&parts.headers, params.get(TENANT_HEADER))
    }
}

fn tenant_of(headers: &HeaderMap, parameter: Option<&str>) -> Result<Tenant, ApiError> {
    let header = headers.get(TENANT_HEADER).map(|value| value.to_str().unwrap_or(""));
    let Some(name) = header.or(parameter) else { return Ok(Tenant(DEFAULT_TENANT.to_owned())) };
    if !is_tenant(name) {
        return Err(ApiError::bad_data("X-Scope-OrgID: a tenant is 1 to 150 of a-z A-Z 0-9 !-_.*'()"));
    }
    Ok(Tenant(name.to_owned()))
}

/// Whether a text can name a tenant; such a name is also safe as a directory's.
pub fn is_tenant(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
    (1..=MAX_TENANT_BYTES).contains(&name.len()) && !matches!(name, "." | "..") && name.chars().all(is_allowed)
}

/// `X-Read-Consistency: strong`: the read must wait for everything acknowledged before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrongRead(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for StrongRead {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let value = parts.headers.get("x-read-consistency");
        Ok(StrongRead(value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"strong"))))
    }
}

/// Parameters of a query string and, for a form POST, of the body; order kept, unknown ones ignored by callers.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    pub fn parse(text: &str) -> Params {
        Params(text.split('&').filter(|pair| !pair.is_empty()).map(decode_pair).collect())
    }

    /// The first value of a name; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).find(|value| !value.is_empty())
    }

    pub fn get_all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let mut params = Params::parse(request.uri().query().unwrap_or(""));
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|rejection| ApiError::new(rejection.status(), "bad_data", rejection.body_text()))?;
            // As in Prometheus, the form's values come before the query string's.
            let mut form = Params::parse(&String::from_utf8_lossy(&body));
            form.0.append(&mut params.0);
            params = form;
        }
        Ok(params)
    }
}

fn decode_pair(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (percent_decode(name), percent_decode(value))
}

/// Decodes `%XX` and `+`; what is not a valid escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        let digits = escape.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                i += 3;
            }
            None => {
                decoded.push(if bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Parses a time parameter as Prometheus does: Unix seconds with fractions, or RFC 3339. Milliseconds.
pub fn parse_time_ms(name: &str, text: &str) -> Result<i64, ApiError> {
    let bad =
        || ApiError::bad_data(format!("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid timestamp"));
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return if ms.is_finite() && ms.abs() < i64::MAX as f64 { Ok(ms as i64) } else { Err(bad()) };
    }
    model::parse_rfc3339_ns(text).map(|ns| ns.div_euclid(model::NS_PER_MS)).ok_or_else(bad)
}

/// Parses a step or timeout: seconds with fractions, or a Prometheus duration. Milliseconds.
pub fn parse_duration_ms(name: &str, text: &str) -> Result<i64, ApiError> {
    let bad =
        || ApiError::bad_data(format!("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid duration"));
    match text.parse::<f64>() {
        Ok(seconds) => {
            let ms = (seconds * 1000.0).round();
            if ms.is_finite() && ms.abs() < i64::MAX as f64 { Ok(ms as i64) } else { Err(bad()) }
        }
        Err(_) => model::parse_duration(text).map_err(|_| bad()),
    }
}

/// Un-snappies a request body (block format), refusing what would grow past [`MAX_BODY_BYTES`].
pub fn decompress_snappy(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let bytes = snap::raw::decompress_len(body).map_err(|error| ApiError::bad_data(format!("snappy: {error}")))?;
    if bytes > MAX_BODY_BYTES {
        let limit = format!("body of {bytes} bytes is over the limit of {MAX_BODY_BYTES}");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", limit));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|error| ApiError::bad_data(format!("snappy: {error}")))
}

/// Chooses the process's TLS provider; whoever makes a client without [`client`] calls it first.
pub fn install_tls_provider() {
    // An error says that a provider has been chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Starts a client for requests to others.
pub fn client() -> reqwest::ClientBuilder {
    install_tls_provider();
    reqwest::Client::builder().user_agent(concat!("binnacle/", env!("CARGO_PKG_VERSION")))
}

/// Serves a router until the token is cancelled, then lets open requests finish for a while.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let drain = stop.clone();
    let server = axum::serve(Listening(listener), router);
    let server = server.with_graceful_shutdown(async move { drain.cancelled().await });
    tokio::select! {
        served = server => served,
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

/// How long open requests (live tails never end by themselves) may go on after a stop.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(percent_decode(text), expected);
    }

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        check("a%20b+c", "a b c");
        check("%zz%4", "%zz%4");
        check("%E2%82%AC", "€");
        check("50%", "50%");
        check("%+1", "% 1");
    }

    #[test]
    fn repeated_parameters_keep_their_order() {
        let params = Params::parse("match[]=a&x=&match%5B%5D=b&x=2");
        assert_eq!(params.get_all("match[]").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(params.get("x"), Some("2"));
    }

    #[test]
    fn times_and_steps() {
        assert_eq!(parse_time_ms("time", "1.5").expect("seconds"), 1500);
        assert_eq!(parse_time_ms("time", "1970-01-01T00:00:02Z").expect("rfc3339"), 2000);
        assert!(parse_time_ms("time", "NaN").is_err());
        assert_eq!(parse_duration_ms("step", "1m").expect("duration"), 60_000);
    }

    #[test]
    fn a_truncated_snappy_body_is_bad_data() {
        let body = snap::raw::Encoder::new().compress_vec(&[7; 1000]).expect("compresses");
        assert!(decompress_snappy(&body).is_ok());
        assert_eq!(decompress_snappy(&body[..body.len() / 2]).expect_err("truncated").status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_tenant_cannot_name_a_path() {
        for bad in ["", "..", "a/b", "ä"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-scope-orgid", axum::http::HeaderValue::from_bytes(bad.as_bytes()).expect("bytes"));
            assert!(tenant_of(&headers, None).is_err(), "{bad:?}");
        }
        assert_eq!(tenant_of(&HeaderMap::new(), None).expect("default"), Tenant("default".into()));
        assert_eq!(tenant_of(&HeaderMap::new(), Some("of-a-page")).expect("named"), Tenant("of-a-page".into()));
    }
}
