//! Microsoft Teams by an Office 365 connector: one message card.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::http::Http;
use super::render::Render;
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const RED: &str = "8C1A1A";
const GREEN: &str = "2DC72D";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MsteamsConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    webhook_url: Option<HttpUrl>,
    webhook_url_file: Option<PathBuf>,
    title: String,
    summary: String,
    text: String,
}

impl Default for MsteamsConfig {
    fn default() -> Self {
        MsteamsConfig {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: None,
            title: r#"{{ template "msteams.default.title" . }}"#.to_owned(),
            summary: r#"{{ template "msteams.default.summary" . }}"#.to_owned(),
            text: r#"{{ template "msteams.default.text" . }}"#.to_owned(),
        }
    }
}

pub struct Msteams {
    config: MsteamsConfig,
    url: Secret,
    http: Arc<Http>,
}

impl Configured for MsteamsConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let url = Secret::require_url("webhook_url", &self.webhook_url, &self.webhook_url_file)?;
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Msteams { config: self, url, http }))
    }
}

impl Msteams {
    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let card = json!({
            "@context": "http://schema.org/extensions",
            "type": "MessageCard",
            "title": render.text(&self.config.title)?,
            "summary": render.text(&self.config.summary)?,
            "text": render.text(&self.config.text)?,
            "themeColor": if render.notice.is_firing() { RED } else { GREEN },
        });
        self.http.post_json(self.url.read_url()?, &card).await?.check(&[])?;
        Ok(Memory::new())
    }
}

over_http!(Msteams, "msteams");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<MsteamsConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{webhook_url: 'http://x'}", Ok(()));
        check("{}", Err("one of webhook_url or webhook_url_file must be configured"));
        check("{webhook_url: 'http://x', webhook_url_file: f}", Err("at most one of webhook_url & webhook_url_file"));
    }

    #[tokio::test]
    async fn one_card() {
        let yaml = "{webhook_url: URL/hook, text: '{{ .Status }}', summary: s}";
        let heard = delivered::<MsteamsConfig>(yaml, Reply::text(200, "1"), &notice()).await;
        assert_eq!(heard.line(), "POST /hook");
        let expected = json!({"@context": "http://schema.org/extensions", "type": "MessageCard", "text": "firing",
            "title": "[FIRING:1] Down (page)", "summary": "s", "themeColor": "8C1A1A"});
        assert_eq!(heard.json(), expected);
        let heard = delivered::<MsteamsConfig>(yaml, Reply::text(200, "1"), &resolved()).await;
        assert_eq!(heard.json()["themeColor"], "2DC72D");
    }
}
