//! The router over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::Value;

pub struct Server {
    url: String,
    client: Client,
}

/// The router does not know what was asked for.
#[derive(Debug)]
pub struct NotFound;

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not found")
    }
}

impl std::error::Error for NotFound {}

impl Server {
    pub fn new(url: &str, timeout_ms: i64) -> anyhow::Result<Server> {
        service::http::install_tls_provider();
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1));
        let client = Client::builder().timeout(timeout).build()?;
        Ok(Server { url: format!("{}/api/v2", url.trim_end_matches('/')), client })
    }

    fn read(&self, what: &str, response: reqwest::Result<Response>) -> anyhow::Result<Value> {
        let response = response.with_context(|| format!("[{what}]"))?;
        let status = response.status();
        let text = response.text().with_context(|| format!("[{what}]"))?;
        let answer = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.as_u16() == 404 {
            return Err(anyhow::Error::new(NotFound).context(format!("[{what}][404] {text}")));
        }
        if !status.is_success() {
            bail!("[{what}][{}] {text}", status.as_u16());
        }
        Ok(answer)
    }

    pub fn get(&self, path: &str, params: &[(&str, String)]) -> anyhow::Result<Value> {
        let response = self.client.get(format!("{}{path}", self.url)).query(params).send();
        self.read(&format!("GET {path}"), response)
    }

    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.client.post(format!("{}{path}", self.url)).json(body).send();
        self.read(&format!("POST {path}"), response)
    }

    pub fn delete(&self, path: &str) -> anyhow::Result<()> {
        let response = self.client.request(Method::DELETE, format!("{}{path}", self.url)).send();
        self.read(&format!("DELETE {path}"), response).map(drop)
    }
}
