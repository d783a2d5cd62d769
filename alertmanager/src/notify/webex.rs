//! Webex: one markdown message in a room. The bot's token is `http_config`'s authorization.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::http::Http;
use super::render::{Render, cut_bytes, filled};
use super::setting::HttpUrl;
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_MESSAGE_BYTES: usize = 7439;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebexConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_url: Option<HttpUrl>,
    message: String,
    room_id: String,
}

impl Default for WebexConfig {
    fn default() -> Self {
        let message = r#"{{ template "webex.default.message" . }}"#.to_owned();
        WebexConfig { send_resolved: true, http_config: None, api_url: None, message, room_id: String::new() }
    }
}

pub struct Webex {
    config: WebexConfig,
    url: HttpUrl,
    http: Arc<Http>,
}

impl Configured for WebexConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        if self.room_id.is_empty() {
            return Err("missing room_id on webex_config".to_owned());
        }
        let own = self.http_config.take();
        let is_own = own.is_some();
        let config = global.http_config(own)?;
        if !is_own || config.authorization.is_none() {
            return Err("missing webex_configs.http_config.authorization".to_owned());
        }
        let url = self.api_url.take().unwrap_or_else(|| global.webex_api_url.clone());
        Ok(Arc::new(Webex { config: self, url, http: Arc::new(Http::new(config)) }))
    }
}

impl Webex {
    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let text = render.text(&self.config.message)?;
        let text = cut_bytes(&text, MAX_MESSAGE_BYTES).unwrap_or(text);
        let mut message = filled([("roomId", render.text(&self.config.room_id)?.into())]);
        message["markdown"] = Json::from(text);
        self.http.post_json(self.url.0.clone(), &message).await?.check(&[])?;
        Ok(Memory::new())
    }
}

over_http!(Webex, "webex");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<WebexConfig>(yaml, expected);
    }

    const AUTH: &str = "http_config: {authorization: {credentials: token}}";

    #[test]
    fn settings() {
        check(&format!("{{room_id: r, {AUTH}}}"), Ok(()));
        check(&format!("{{{AUTH}}}"), Err("missing room_id on webex_config"));
        check("{room_id: r}", Err("missing webex_configs.http_config.authorization"));
        check("{room_id: r, http_config: {}}", Err("missing webex_configs.http_config.authorization"));
    }

    #[tokio::test]
    async fn one_message() {
        let yaml = format!(
            "{{api_url: URL/v1/messages, room_id: 'r{{{{ .Status }}}}', message: '**{{{{ .Status }}}}**', {AUTH}}}"
        );
        let heard = delivered::<WebexConfig>(&yaml, Reply::json(200, "{}"), &notice()).await;
        assert_eq!((heard.line().as_str(), heard.header("authorization")), ("POST /v1/messages", "Bearer token"));
        assert_eq!(heard.json(), serde_json::json!({"markdown": "**firing**", "roomId": "rfiring"}));
    }

    #[tokio::test]
    async fn long_messages_are_cut() {
        let yaml = format!("{{api_url: URL, room_id: r, message: '{}', {AUTH}}}", "ä".repeat(5_000));
        let heard = delivered::<WebexConfig>(&yaml, Reply::json(200, "{}"), &notice()).await.json();
        let text = heard["markdown"].as_str().expect("a text");
        assert!(text.len() == 7439 && text.ends_with("ä…"), "{}", text.len());
    }
}
