//! Requests to other servers, and what their answers mean.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bus::BusError;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use service::config::LogSink;

const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an error's text is repeated.
const MAX_REASON_CHARS: usize = 500;

/// Who we are to the server. Tokens in files are read for every request, since they are renewed there.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    bearer_token: Option<String>,
    bearer_token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    headers: Vec<(String, String)>,
}

pub fn timeout(sink: &LogSink) -> Duration {
    sink.timeout.map_or(TIMEOUT, |timeout| timeout.as_std())
}

impl Credentials {
    pub fn of(sink: &LogSink) -> Credentials {
        Credentials {
            bearer_token: sink.bearer_token.clone(),
            bearer_token_file: sink.bearer_token_file.clone(),
            username: sink.username.clone(),
            password: sink.password.clone(),
            headers: sink.headers.clone().into_iter().collect(),
        }
    }

    pub fn token(&self) -> Result<Option<String>, BusError> {
        let Some(path) = &self.bearer_token_file else { return Ok(self.bearer_token.clone()) };
        let unreadable = |error| BusError::Unavailable(format!("{}: {error}", path.display()));
        Ok(Some(std::fs::read_to_string(path).map_err(unreadable)?.trim().to_owned()))
    }

    fn sign(&self, mut request: RequestBuilder) -> Result<RequestBuilder, BusError> {
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(name) = &self.username {
            request = request.basic_auth(name, self.password.as_deref());
        }
        if let Some(token) = self.token()? {
            request = request.bearer_auth(token);
        }
        Ok(request)
    }
}

/// One server.
pub struct Server {
    client: Client,
    pub url: String,
    credentials: Credentials,
}

impl Server {
    /// `path` is added unless the address has one.
    pub fn new(sink: &LogSink, path: &str) -> Result<Server, String> {
        let given = sink.url.as_deref().unwrap_or("").trim_end_matches('/');
        let parsed = reqwest::Url::parse(given).map_err(|error| format!("{given}: {error}"))?;
        let url = if matches!(parsed.path(), "" | "/") { format!("{given}{path}") } else { given.to_owned() };
        let client = service::http::client().timeout(timeout(sink)).build().map_err(|error| error.to_string())?;
        Ok(Server { client, url, credentials: Credentials::of(sink) })
    }

    /// Sends a body, gzipped. Errors that pass are `Unavailable`, those of the body itself `Corrupt`.
    pub async fn post(&self, content_type: &str, body: &[u8], tenant: &str) -> Result<Response, BusError> {
        let unavailable = |reason: String| BusError::Unavailable(format!("{}: {reason}", self.url));
        let mut packed = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        let packed = packed.write_all(body).and_then(|()| packed.finish());
        let packed = packed.map_err(|error| unavailable(error.to_string()))?;
        let mut request = self.client.post(&self.url).header("content-type", content_type);
        request = request.header("content-encoding", "gzip").body(packed);
        if tenant != model::DEFAULT_TENANT {
            request = request.header("x-scope-orgid", tenant);
        }
        let response = self.credentials.sign(request)?.send().await.map_err(|error| unavailable(error.to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let reason: String = response.text().await.unwrap_or_default().chars().take(MAX_REASON_CHARS).collect();
        let of_body = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
        match of_body.contains(&status) {
            true => Err(BusError::Corrupt(format!("{} answered {status}: {reason}", self.url))),
            false => Err(unavailable(format!("answered {status}: {reason}"))),
        }
    }
}
