//! incident.io: the group as JSON, like a webhook's, to an alert source.

use std::path::PathBuf;
use std::sync::Arc;

use model::DurationMs;
use serde::Deserialize;

use super::data::Payload;
use super::http::{Answer, Http, within};
use super::render::Render;
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::{Authorization, HttpConfig};

/// A larger payload would be refused; it goes with its first alert alone.
const MAX_PAYLOAD_BYTES: usize = 512 * 1024;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentioConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    url: Option<HttpUrl>,
    url_file: Option<PathBuf>,
    alert_source_token: String,
    alert_source_token_file: Option<PathBuf>,
    /// 0: all of them.
    max_alerts: usize,
    timeout: Option<DurationMs>,
}

impl Default for IncidentioConfig {
    fn default() -> Self {
        IncidentioConfig {
            send_resolved: true,
            http_config: None,
            url: None,
            url_file: None,
            alert_source_token: String::new(),
            alert_source_token_file: None,
            max_alerts: 0,
            timeout: None,
        }
    }
}

pub struct Incidentio {
    config: IncidentioConfig,
    url: Secret,
    http: Arc<Http>,
}

impl Configured for IncidentioConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let url = Secret::require_url("url", &self.url, &self.url_file)?;
        let token = Secret::pick("alert_source_token", &self.alert_source_token, &self.alert_source_token_file)?;
        let own = self.http_config.take();
        let is_own = own.is_some();
        let mut http_config = global.http_config(own)?;
        let is_authorized = is_own && http_config.authorization.is_some();
        if is_authorized && token.is_some() {
            return Err("cannot specify alert_source_token or alert_source_token_file when using \
                        http_config.authorization"
                .to_owned());
        }
        if is_own && !is_authorized && token.is_none() {
            return Err("at least one of alert_source_token, alert_source_token_file or http_config.authorization \
                        must be configured"
                .to_owned());
        }
        if token.is_some() {
            let (value, file) = (std::mem::take(&mut self.alert_source_token), self.alert_source_token_file.take());
            http_config.authorization = Some(Authorization::bearer(value, file));
        }
        Ok(Arc::new(Incidentio { config: self, url, http: Arc::new(Http::new(http_config)) }))
    }
}

impl Incidentio {
    async fn post(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let mut payload = Payload::new(render, self.config.max_alerts, "1");
        let bytes = serde_json::to_vec(&payload).map_err(NotifyError::for_good)?.len();
        if bytes > MAX_PAYLOAD_BYTES {
            tracing::warn!(
                group = render.notice.group_key,
                bytes,
                max_bytes = MAX_PAYLOAD_BYTES,
                "alerts are left out"
            );
            payload.keep_first();
        }
        let answer = self.http.post_json(self.url.read_url()?, &payload).await?;
        let said = explain(&answer);
        answer.check_saying(&[], &said)?;
        Ok(Memory::new())
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        within("incident.io", self.config.timeout, self.post(render)).await
    }
}

fn explain(answer: &Answer) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        message: String,
        errors: Vec<String>,
        error: String,
    }
    let said: Said = answer.json().unwrap_or_default();
    let parts = [said.message, said.error, said.errors.join(", ")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

over_http!(Incidentio, "incidentio");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Notice;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<IncidentioConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{url: 'http://x', alert_source_token: t}", Ok(()));
        check("{url: 'http://x', http_config: {authorization: {credentials: c}}}", Ok(()));
        check("{alert_source_token: t}", Err("one of url or url_file must be configured"));
        check("{url: 'http://x', url_file: f}", Err("at most one of url & url_file must be configured"));
        check(
            "{url: 'http://x', alert_source_token: t, alert_source_token_file: f}",
            Err("at most one of alert_source_token & alert_source_token_file must be configured"),
        );
        check(
            "{url: 'http://x', alert_source_token: t, http_config: {authorization: {credentials: c}}}",
            Err("cannot specify alert_source_token or alert_source_token_file when using http_config.authorization"),
        );
        check(
            "{url: 'http://x', http_config: {}}",
            Err("at least one of alert_source_token, alert_source_token_file or"),
        );
    }

    const YAML: &str = "{url: URL/v2/alert_events, alert_source_token: t, max_alerts: 1}";

    #[tokio::test]
    async fn the_group_with_a_token() {
        let heard = delivered::<IncidentioConfig>(YAML, Reply::json(202, "{}"), &notice()).await;
        assert_eq!((heard.line().as_str(), heard.header("authorization")), ("POST /v2/alert_events", "Bearer t"));
        let json = heard.json();
        assert_eq!((&json["version"], &json["truncatedAlerts"]), (&"1".into(), &1.into()));
        assert_eq!(
            (json["groupKey"].as_str(), json["alerts"].as_array().map(Vec::len)),
            (Some(notice().group_key.as_str()), Some(1))
        );
    }

    #[tokio::test]
    async fn a_large_group_goes_with_its_first_alert() {
        let mut large: Notice = notice();
        let big = vec![("big", "x".repeat(300 * 1024))];
        large.alerts.iter_mut().for_each(|alert| alert.annotations = model::Labels::from_pairs(big.clone()));
        let yaml = "{url: URL, alert_source_token: t}";
        let heard = delivered::<IncidentioConfig>(yaml, Reply::json(202, "{}"), &large).await.json();
        assert_eq!(heard["alerts"].as_array().map(Vec::len), Some(1));
    }

    #[tokio::test]
    async fn refusals_are_explained() {
        let bad = Reply::json(422, r#"{"message":"Invalid","errors":["a","b"],"error":"c"}"#);
        let error = deliver::<IncidentioConfig>(YAML, &[bad], &notice()).await.0.expect_err("422");
        assert_eq!((error.message.as_str(), error.retry), ("unexpected status code 422: Invalid: c: a, b", false));
    }
}
