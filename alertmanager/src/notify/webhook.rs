//! Webhook: the group as JSON, payload version 4 (Alertmanager `docs/configuration.md`, "webhook_config").

use std::path::PathBuf;

use model::{DurationMs, Labels, format_rfc3339_ms};
use serde::{Deserialize, Serialize};

use super::{Notice, NotifyError, client, read_secret};

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    pub send_resolved: bool,
    url: String,
    url_file: Option<PathBuf>,
    /// 0: all of them.
    max_alerts: usize,
    timeout: Option<DurationMs>,
    http_config: HttpConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpConfig {
    authorization: Option<Authorization>,
    basic_auth: Option<BasicAuth>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorization {
    #[serde(default = "bearer", rename = "type")]
    kind: String,
    #[serde(default)]
    credentials: String,
    credentials_file: Option<PathBuf>,
}

fn bearer() -> String {
    "Bearer".to_owned()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    username: String,
    #[serde(default)]
    password: String,
    password_file: Option<PathBuf>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        let (url, url_file, http_config) = (String::new(), None, HttpConfig::default());
        WebhookConfig { send_resolved: true, url, url_file, max_alerts: 0, timeout: None, http_config }
    }
}

impl WebhookConfig {
    pub fn check(self) -> Result<WebhookConfig, String> {
        match (self.url.is_empty(), self.url_file.is_some()) {
            (true, false) => Err("webhook_configs: one of url or url_file must be configured".to_owned()),
            (false, true) => Err("webhook_configs: at most one of url & url_file must be configured".to_owned()),
            (true, true) => Ok(self),
            (false, false) => match reqwest::Url::parse(&self.url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(self),
                _ => Err(format!("webhook_configs: unsupported URL {:?}", self.url)),
            },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<PayloadAlert<'a>>,
    group_labels: &'a Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
    #[serde(rename = "notification_reason")]
    reason: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

fn payload<'a>(config: &WebhookConfig, notice: &'a Notice) -> Payload<'a> {
    let shown = if config.max_alerts == 0 { notice.alerts.len() } else { config.max_alerts.min(notice.alerts.len()) };
    let alert = |alert: &'a model::Alert| {
        let is_resolved = alert.is_resolved_at(notice.now_ms);
        PayloadAlert {
            status: if is_resolved { "resolved" } else { "firing" },
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: format_rfc3339_ms(alert.starts_at_ms),
            // Go's zero time: it has not ended.
            ends_at: if is_resolved { format_rfc3339_ms(alert.ends_at_ms) } else { "0001-01-01T00:00:00Z".to_owned() },
            generator_url: &alert.generator_url,
            fingerprint: alert.fingerprint().to_string(),
        }
    };
    Payload {
        receiver: &notice.receiver,
        status: notice.status(),
        alerts: notice.alerts[..shown].iter().map(alert).collect(),
        group_labels: &notice.group_labels,
        common_labels: notice.common_labels(),
        common_annotations: notice.common_annotations(),
        external_url: &notice.external_url,
        version: "4",
        group_key: &notice.group_key,
        truncated_alerts: notice.alerts.len() - shown,
        reason: notice.reason,
    }
}

pub async fn send(config: &WebhookConfig, notice: &Notice) -> Result<(), NotifyError> {
    let url = match &config.url_file {
        Some(path) => read_secret(path)?,
        None => config.url.clone(),
    };
    let mut request = client()?.post(&url).json(&payload(config, notice));
    if let Some(timeout) = config.timeout.filter(|timeout| timeout.0 > 0) {
        request = request.timeout(timeout.as_std());
    }
    if let Some(auth) = &config.http_config.authorization {
        let credentials = auth.credentials_file.as_deref().map_or_else(|| Ok(auth.credentials.clone()), read_secret)?;
        request = request.header("authorization", format!("{} {credentials}", auth.kind));
    }
    if let Some(auth) = &config.http_config.basic_auth {
        let password = auth.password_file.as_deref().map_or_else(|| Ok(auth.password.clone()), read_secret)?;
        request = request.basic_auth(&auth.username, Some(password));
    }
    // The address may hold a secret: the error must not name it.
    let response = request.send().await.map_err(|error| NotifyError::for_now(error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let said: String = response.text().await.unwrap_or_default().chars().take(200).collect();
    let message = format!("unexpected status code {status}: {said}");
    Err(if status.is_server_error() { NotifyError::for_now(message) } else { NotifyError::for_good(message) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;

    #[test]
    fn the_payload_is_version_4() {
        let config = WebhookConfig { max_alerts: 1, ..WebhookConfig::default() };
        let notice = notice();
        let json = serde_json::to_value(payload(&config, &notice)).expect("JSON");
        assert_eq!(json["version"], "4");
        assert_eq!(json["truncatedAlerts"], 1);
        assert_eq!(json["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
        assert_eq!(json["alerts"][0]["startsAt"], "1970-01-01T00:00:10.000Z");
        assert_eq!(json["commonLabels"], serde_json::json!({"alertname": "Down", "severity": "page"}));
        assert_eq!(json["groupKey"], "{}:{alertname=\"Down\"}");
        let keys = ["receiver", "status", "groupLabels", "commonAnnotations", "externalURL", "notification_reason"];
        assert!(keys.iter().all(|key| json.get(key).is_some()), "{json}");
    }
}
