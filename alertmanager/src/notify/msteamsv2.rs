//! Microsoft Teams by a Power Automate flow: one adaptive card.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::http::Http;
use super::render::Render;
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Msteamsv2Config {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    webhook_url: Option<HttpUrl>,
    webhook_url_file: Option<PathBuf>,
    title: String,
    text: String,
}

impl Default for Msteamsv2Config {
    fn default() -> Self {
        Msteamsv2Config {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: None,
            title: r#"{{ template "msteamsv2.default.title" . }}"#.to_owned(),
            text: r#"{{ template "msteamsv2.default.text" . }}"#.to_owned(),
        }
    }
}

pub struct Msteamsv2 {
    config: Msteamsv2Config,
    url: Secret,
    http: Arc<Http>,
}

impl Configured for Msteamsv2Config {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let url = Secret::require_url("webhook_url", &self.webhook_url, &self.webhook_url_file)?;
        // Alone among the integrations its own `http_config` inherits the proxy.
        if let Some(own) = &mut self.http_config
            && own.proxy_url.is_none()
        {
            own.proxy_url = global.http_config(None)?.proxy_url;
        }
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Msteamsv2 { config: self, url, http }))
    }
}

fn card(title: String, text: String, is_firing: bool) -> Json {
    let heading = json!({
        "type": "TextBlock",
        "text": title,
        "weight": "Bolder",
        "size": "Medium",
        "wrap": true,
        "style": "heading",
        "color": if is_firing { "Attention" } else { "Good" },
    });
    let content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [heading, {"type": "TextBlock", "text": text, "wrap": true}],
        "msteams": {"width": "full"},
    });
    let attachment = json!({
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": content,
    });
    json!({"type": "message", "attachments": [attachment]})
}

impl Msteamsv2 {
    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let (title, text) = (render.text(&self.config.title)?, render.text(&self.config.text)?);
        let message = card(title, text, render.notice.is_firing());
        self.http.post_json(self.url.read_url()?, &message).await?.check(&[])?;
        Ok(Memory::new())
    }
}

over_http!(Msteamsv2, "msteamsv2");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<Msteamsv2Config>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{webhook_url: 'http://x'}", Ok(()));
        check("{}", Err("one of webhook_url or webhook_url_file must be configured"));
        check("{webhook_url: 'http://x', webhook_url_file: f}", Err("at most one of webhook_url & webhook_url_file"));
        check("{webhook_url: 'http://x', summary: s}", Err("summary"));
    }

    #[tokio::test]
    async fn one_adaptive_card() {
        let yaml = "{webhook_url: URL/flow, text: '{{ .Status }}'}";
        let heard = delivered::<Msteamsv2Config>(yaml, Reply::text(202, ""), &notice()).await;
        assert_eq!(heard.line(), "POST /flow");
        let message = heard.json();
        assert_eq!(message["type"], "message");
        let attachment = &message["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        assert!(attachment.get("contentUrl").is_some_and(Json::is_null));
        let content = &attachment["content"];
        assert_eq!((&content["type"], &content["version"]), (&json!("AdaptiveCard"), &json!("1.2")));
        assert_eq!(content["msteams"], json!({"width": "full"}));
        let heading = json!({"type": "TextBlock", "text": "[FIRING:1] Down (page)", "weight": "Bolder", "size": "Medium",
            "wrap": true, "style": "heading", "color": "Attention"});
        assert_eq!(content["body"], json!([heading, {"type": "TextBlock", "text": "firing", "wrap": true}]));
        let heard = delivered::<Msteamsv2Config>(yaml, Reply::text(202, ""), &resolved()).await;
        assert_eq!(heard.json()["attachments"][0]["content"]["body"][0]["color"], "Good");
    }
}
