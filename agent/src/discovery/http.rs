//! `http_sd_configs`: groups of targets that a server answers with, asked at every refresh.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use service::client::{HttpClient, chain};
use service::config::HttpSd;

use super::{Found, MAX_ANSWER_BYTES, Provider, WrittenGroup, refresh, targets_of};

pub struct Server {
    config: HttpSd,
    client: HttpClient,
}

impl Server {
    pub fn new(config: HttpSd, base: &Path) -> Result<Server, String> {
        let client = HttpClient::new(config.http(base)?);
        Ok(Server { config, client })
    }

    async fn ask(&self) -> Result<Vec<WrittenGroup>, String> {
        let interval = refresh(self.config.refresh_interval);
        let client = self.client.client(|builder| builder.timeout(interval)).map_err(|error| error.to_string())?;
        let request = client
            .get(&self.config.url)
            .header("accept", "application/json")
            .header("x-prometheus-refresh-interval-seconds", interval.as_secs_f64().to_string());
        let request = self.client.authorized(request).await.map_err(|error| error.to_string())?;
        let failed = |error: reqwest::Error| chain(&error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        if response.status() != 200 {
            return Err(format!("server returned HTTP status {}", response.status()));
        }
        let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        if !kind.trim().to_ascii_lowercase().starts_with("application/json") {
            return Err(format!("unsupported content type {kind:?}"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(format!("the answer is over {MAX_ANSWER_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

impl Provider for Server {
    fn run(self: Box<Self>, found: Arc<Found>) -> BoxFuture<'static, ()> {
        async move {
            let mut beat = tokio::time::interval(refresh(self.config.refresh_interval));
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                match self.ask().await {
                    Ok(groups) => {
                        let meta = [("__meta_url", self.config.url.as_str())];
                        found.set("", groups.iter().flat_map(|group| targets_of(group, &meta)).collect());
                    }
                    Err(error) => {
                        found.counters.http_failures.inc();
                        found.counters.failed("http");
                        tracing::warn!(error, url = self.config.url, "http_sd_configs: what was found last stays");
                    }
                }
            }
        }
        .boxed()
    }
}
