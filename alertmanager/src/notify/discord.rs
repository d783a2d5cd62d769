//! Discord: a webhook with one embed.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::http::Http;
use super::render::Render;
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_TITLE_RUNES: usize = 256;
const MAX_DESCRIPTION_RUNES: usize = 4096;
const MAX_CONTENT_RUNES: usize = 2000;

const RED: u32 = 0x99_2D_22;
const GREEN: u32 = 0x2E_CC_71;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscordConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    webhook_url: Option<HttpUrl>,
    webhook_url_file: Option<PathBuf>,
    content: String,
    title: String,
    message: String,
    username: String,
    avatar_url: String,
}

impl Default for DiscordConfig {
    fn default() -> Self {
        DiscordConfig {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: None,
            content: String::new(),
            title: r#"{{ template "discord.default.title" . }}"#.to_owned(),
            message: r#"{{ template "discord.default.message" . }}"#.to_owned(),
            username: String::new(),
            avatar_url: String::new(),
        }
    }
}

pub struct Discord {
    config: DiscordConfig,
    url: Secret,
    http: Arc<Http>,
}

impl Configured for DiscordConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let url = Secret::require_url("webhook_url", &self.webhook_url, &self.webhook_url_file)?;
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Discord { config: self, url, http }))
    }
}

impl Discord {
    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let config = &self.config;
        let mut message = json!({
            "content": render.cut("content", &config.content, MAX_CONTENT_RUNES)?,
            "embeds": [{
                "title": render.cut("title", &config.title, MAX_TITLE_RUNES)?,
                "description": render.cut("message", &config.message, MAX_DESCRIPTION_RUNES)?,
                "color": if render.notice.is_firing() { RED } else { GREEN },
            }],
        });
        for (name, value) in [("username", &config.username), ("avatar_url", &config.avatar_url)] {
            if !value.is_empty() {
                message[name] = value.as_str().into();
            }
        }
        self.http.post_json(self.url.read_url()?, &message).await?.check(&[])?;
        Ok(Memory::new())
    }
}

over_http!(Discord, "discord");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<DiscordConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{webhook_url: 'http://x'}", Ok(()));
        check("{}", Err("one of webhook_url or webhook_url_file must be configured"));
        check("{webhook_url: 'http://x', webhook_url_file: f}", Err("at most one of webhook_url & webhook_url_file"));
        check("{webhook_url: x}", Err("unsupported scheme"));
    }

    #[tokio::test]
    async fn one_embed() {
        let yaml = "{webhook_url: URL/api/webhooks/1/s, content: '{{ .Status }}', message: m, username: u, avatar_url: 'http://a'}";
        let heard = delivered::<DiscordConfig>(yaml, Reply::text(204, ""), &notice()).await;
        assert_eq!(heard.line(), "POST /api/webhooks/1/s");
        let expected = json!({"content": "firing", "username": "u", "avatar_url": "http://a",
            "embeds": [{"title": "[FIRING:1] Down (page)", "description": "m", "color": 10038562}]});
        assert_eq!(heard.json(), expected);
        let heard =
            delivered::<DiscordConfig>("{webhook_url: URL, message: m}", Reply::text(204, ""), &resolved()).await;
        let expected = json!({"content": "", "embeds": [{"title": "[RESOLVED] Down (page)", "description": "m", "color": 3066993}]});
        assert_eq!(heard.json(), expected);
    }

    #[tokio::test]
    async fn long_texts_are_cut_and_a_file_holds_the_address() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("url");
        let long = format!("{{webhook_url: URL, title: '{0}', message: '{0}', content: '{0}'}}", "x".repeat(5_000));
        let heard = delivered::<DiscordConfig>(&long, Reply::text(200, ""), &notice()).await.json();
        let length = |text: &serde_json::Value| text.as_str().map(|text| text.chars().count());
        let embed = &heard["embeds"][0];
        let lengths = [length(&embed["title"]), length(&embed["description"]), length(&heard["content"])];
        assert_eq!(lengths, [Some(256), Some(4096), Some(2000)]);
        let missing =
            deliver::<DiscordConfig>(&format!("{{webhook_url_file: {}}}", file.display()), &[], &notice()).await;
        assert!(missing.0.is_err() && missing.1.is_empty());
    }
}
