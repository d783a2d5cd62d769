//! One request to a receiver, until it is taken, refused for good, or nobody wants it any more.

use std::time::Duration;

use reqwest::StatusCode;
use service::client::chain;
use service::config::RemoteMessage;

use super::counters::RemoteCounters;
use super::{ORIGIN_HEADER, Remote};

/// More of an answer is not repeated.
const MAX_SAID_BYTES: usize = 512;
/// No receiver is obeyed that asks for a longer wait.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Taken,
    /// It will never be taken.
    Refused,
}

enum Attempt {
    Done(Outcome),
    /// Try again, no sooner than asked.
    Again {
        reason: String,
        wait: Option<Duration>,
    },
}

/// Sends a compressed request with `samples` samples of a tenant. Does not return while the receiver is away.
pub async fn send(remote: &Remote, tenant: &str, body: Vec<u8>, samples: u64, counters: &RemoteCounters) -> Outcome {
    let queue = &remote.config.queue_config;
    let (min, max) = (queue.min_backoff.as_std().max(Duration::from_millis(1)), queue.max_backoff.as_std());
    let (mut wait, body) = (min, bytes::Bytes::from(body));
    loop {
        match attempt(remote, tenant, body.clone()).await {
            Attempt::Done(outcome) => {
                counters.bytes.inc_by(body.len() as u64);
                return outcome;
            }
            Attempt::Again { reason, wait: asked } => {
                counters.retried.inc_by(samples);
                let pause = asked.unwrap_or(wait).min(MAX_WAIT);
                tracing::warn!(
                    reason,
                    remote = remote.name,
                    wait_ms = pause.as_millis() as u64,
                    "remote_write: not taken yet"
                );
                tokio::time::sleep(pause).await;
                wait = (wait * 2).min(max.max(min));
            }
        }
    }
}

async fn attempt(remote: &Remote, tenant: &str, body: bytes::Bytes) -> Attempt {
    let again = |reason: String| Attempt::Again { reason, wait: None };
    let timeout = remote.config.remote_timeout.as_std();
    let client = match remote.http.client(|builder| builder.timeout(timeout)) {
        Ok(client) => client,
        Err(error) => return again(error.to_string()),
    };
    let (kind, version) = match remote.config.protobuf_message {
        RemoteMessage::V1 => ("application/x-protobuf", "0.1.0"),
        RemoteMessage::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    let mut request = client
        .post(&remote.config.url)
        .header("content-type", kind)
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", version)
        .header(ORIGIN_HEADER, &remote.origin)
        .body(body);
    for (name, value) in &remote.config.headers {
        request = request.header(name, value);
    }
    if tenant != model::DEFAULT_TENANT {
        request = request.header("x-scope-orgid", tenant);
    }
    let request = match remote.http.authorized(request).await {
        Ok(request) => request,
        Err(error) => return again(error.to_string()),
    };
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return again(chain(&error.without_url())),
    };
    let status = response.status();
    if status.is_success() {
        return Attempt::Done(Outcome::Taken);
    }
    let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let said = response.text().await.unwrap_or_default();
    let said: String = said.chars().take(MAX_SAID_BYTES).collect();
    let reason = format!("{status}: {}", said.trim());
    let may_retry = status.is_server_error()
        || (status == StatusCode::TOO_MANY_REQUESTS && remote.config.queue_config.retry_on_http_429);
    if may_retry {
        return Attempt::Again { reason, wait };
    }
    tracing::error!(reason, remote = remote.name, "remote_write: refused for good");
    Attempt::Done(Outcome::Refused)
}
