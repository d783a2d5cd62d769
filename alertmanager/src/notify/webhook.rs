//! Webhook: the group as JSON, payload version 4, or a payload of the user's own.

use std::path::PathBuf;
use std::sync::Arc;

use model::DurationMs;
use serde::Deserialize;
use serde_json::Value as Json;
use template::Templates;

use super::data::Payload;
use super::http::{Http, within};
use super::render::Render;
use super::setting::{Secret, parse_url};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    /// A template or an address.
    url: String,
    url_file: Option<PathBuf>,
    /// 0: all of them.
    max_alerts: usize,
    timeout: Option<DurationMs>,
    payload: Option<Json>,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        WebhookConfig {
            send_resolved: true,
            http_config: None,
            url: String::new(),
            url_file: None,
            max_alerts: 0,
            timeout: None,
            payload: None,
        }
    }
}

pub struct Webhook {
    config: WebhookConfig,
    url: Secret,
    http: Arc<Http>,
}

impl Configured for WebhookConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let url = Secret::require("url", &self.url, &self.url_file)?;
        if self.url.contains("{{") {
            let functions = template::alertmanager_functions(0);
            let checked = Templates::check("url", &self.url, &functions, &[]);
            checked.map_err(|error| format!("invalid template syntax: {error}"))?;
        } else if !self.url.is_empty() {
            parse_url(&self.url).map_err(|error| format!("invalid URL: {error}"))?;
        }
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Webhook { config: self, url, http }))
    }
}

impl Webhook {
    async fn post(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let url = render.text(&self.url.read()?);
        let url = url.map_err(|error| error.while_doing("failed to template webhook URL"))?;
        if url.is_empty() {
            return Err(NotifyError::for_good("webhook URL is empty after templating"));
        }
        let url = parse_url(&url).map_err(NotifyError::for_good)?;
        let answer = match &self.config.payload {
            None => self.http.post_json(url, &Payload::new(render, self.config.max_alerts, "4")).await?,
            Some(payload) => {
                let payload = render.tree(payload);
                let payload = payload.map_err(|error| error.while_doing("failed to render custom payload"))?;
                self.http.post_json(url, &payload).await?
            }
        };
        answer.check(&[])?;
        Ok(Memory::new())
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        within("webhook", self.config.timeout, self.post(render)).await
    }
}

over_http!(Webhook, "webhook");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<WebhookConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{url: 'http://x'}", Ok(()));
        check("{url: '{{ .CommonLabels.url }}'}", Ok(()));
        check("{}", Err("one of url or url_file must be configured"));
        check("{url: 'http://x', url_file: f}", Err("at most one of url & url_file must be configured"));
        check("{url: x}", Err("unsupported scheme \"\" for URL"));
        check("{url: '{{ nonsense }}'}", Err("invalid template syntax"));
    }

    #[tokio::test]
    async fn the_payload_is_version_4() {
        let heard = delivered::<WebhookConfig>("{url: URL/x, max_alerts: 1}", Reply::text(200, ""), &notice()).await;
        assert_eq!(heard.line(), "POST /x");
        let json = heard.json();
        assert_eq!(json["version"], "4");
        assert_eq!(json["truncatedAlerts"], 1);
        assert_eq!(json["alerts"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
        assert_eq!(json["alerts"][0]["startsAt"], "1970-01-01T00:00:10Z");
        assert_eq!(json["commonLabels"], json!({"alertname": "Down", "severity": "page"}));
        assert_eq!(json["groupKey"], "{}:{alertname=\"Down\"}");
        assert_eq!(json["notification_reason"], "first notification");
        let keys = ["receiver", "status", "groupLabels", "routeLabels", "commonAnnotations", "externalURL"];
        assert!(keys.iter().all(|key| json.get(key).is_some()), "{json}");
    }

    #[tokio::test]
    async fn a_payload_and_an_address_of_its_own() {
        let yaml = "{url: 'URL/{{ .CommonLabels.severity }}', payload: {to: '+1', text: '{{ .Status }}', n: '{{ len .Alerts }}'}}";
        let heard = delivered::<WebhookConfig>(yaml, Reply::text(200, ""), &notice()).await;
        assert_eq!(heard.line(), "POST /page");
        assert_eq!(heard.json(), json!({"to": "+1", "text": "firing", "n": 2}));
        let (sent, _) = deliver::<WebhookConfig>("{url: '{{ .GroupLabels.none }}'}", &[], &notice()).await;
        assert_eq!(sent.expect_err("no URL").message, "webhook URL is empty after templating");
    }
}
