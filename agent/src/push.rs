//! A producer over HTTP: an agent without Kafka ships bus records to another Binnacle.
//!
//! `POST <push URL>/binnacle/v1/push/<topic>/<partition>` with an encoded record; 200 and `{"offset": N}` mean durable there.
//! 400, 413 and 422 say that the record will never be taken: an error that carries the answer's text. Anything else, pressure
//! (429, 503), transport errors and wrong credentials alike, is tried again for ever with a growing pause, so that files wait
//! and nothing is lost until somebody mends it.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Offset, Producer, Topic};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;

const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Requests under way at once, each of which may have a connection of its own; others wait in the order they came.
const MAX_UNDER_WAY: usize = 32;
/// How much of an error's text is repeated.
const MAX_REASON_CHARS: usize = 500;

#[derive(Debug, Clone)]
pub struct HttpOptions {
    pub timeout: Duration,
    /// Sent as `Authorization: Bearer …`.
    pub bearer_token: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions { timeout: Duration::from_secs(30), bearer_token: None }
    }
}

pub struct HttpProducer {
    client: Client,
    push_url: String,
    options: HttpOptions,
    under_way: Semaphore,
}

#[derive(Deserialize)]
struct Answer {
    offset: Offset,
}

impl HttpProducer {
    pub fn new(push_url: &str, options: HttpOptions) -> Result<HttpProducer, BusError> {
        let unavailable = |error: reqwest::Error| BusError::Unavailable(error.to_string());
        let client = service::http::client().timeout(options.timeout).build().map_err(unavailable)?;
        reqwest::Url::parse(push_url).map_err(|error| BusError::Unavailable(format!("{push_url}: {error}")))?;
        let (push_url, under_way) = (push_url.trim_end_matches('/').to_owned(), Semaphore::new(MAX_UNDER_WAY));
        Ok(HttpProducer { client, push_url, options, under_way })
    }

    /// One attempt; `None` means that another one may succeed.
    async fn attempt(&self, url: &str, record: Bytes) -> Result<Option<Offset>, BusError> {
        let _turn = self.under_way.acquire().await.map_err(|_| BusError::Closed)?;
        let mut request = self.client.post(url).header("content-type", "application/vnd.binnacle.record");
        if let Some(token) = &self.options.bearer_token {
            request = request.bearer_auth(token);
        }
        let response = match request.body(record).send().await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%error, url, "a push did not arrive");
                return Ok(None);
            }
        };
        match response.status() {
            StatusCode::OK => match response.json::<Answer>().await {
                Ok(answer) => Ok(Some(answer.offset)),
                // The record is durable or not: nothing was said, so it is sent again.
                Err(_) => Ok(None),
            },
            status @ (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY) => {
                let reason: String = response.text().await.unwrap_or_default().chars().take(MAX_REASON_CHARS).collect();
                Err(BusError::Corrupt(format!("{url} answered {status}: {reason}")))
            }
            status => {
                tracing::debug!(%status, url, "a push was not taken");
                Ok(None)
            }
        }
    }
}

impl Producer for HttpProducer {
    /// The receiver divides among its own partitions.
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        async move {
            let record = Bytes::from(bus::encode(&batch));
            let url = format!("{}/binnacle/v1/push/{}/{partition}", self.push_url, topic.name());
            let mut pause = MIN_PAUSE;
            loop {
                if let Some(offset) = self.attempt(&url, record.clone()).await? {
                    return Ok(offset);
                }
                if pause >= MAX_PAUSE {
                    tracing::warn!(url, "records are not taken; trying again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
