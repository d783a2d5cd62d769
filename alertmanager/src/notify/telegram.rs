//! Telegram: a bot's `sendMessage`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::http::{Answer, Http};
use super::render::Render;
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_MESSAGE_RUNES: usize = 4096;
/// Cut HTML would not be HTML any more.
const TOO_LONG: &str = "Alertmanager notification could not be sent: message length exceeds Telegram limits.\n\
                        Please check the template used for producing the message content.";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelegramConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_url: Option<HttpUrl>,
    bot_token: String,
    bot_token_file: Option<PathBuf>,
    chat_id: i64,
    chat_id_file: Option<PathBuf>,
    message_thread_id: i64,
    message: String,
    disable_notifications: bool,
    parse_mode: String,
}

impl Default for TelegramConfig {
    fn default() -> Self {
        TelegramConfig {
            send_resolved: true,
            http_config: None,
            api_url: None,
            bot_token: String::new(),
            bot_token_file: None,
            chat_id: 0,
            chat_id_file: None,
            message_thread_id: 0,
            message: r#"{{ template "telegram.default.message" . }}"#.to_owned(),
            disable_notifications: false,
            parse_mode: "HTML".to_owned(),
        }
    }
}

pub struct Telegram {
    config: TelegramConfig,
    url: HttpUrl,
    token: Secret,
    chat_id: Secret,
    http: Arc<Http>,
}

impl Configured for TelegramConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let own = Secret::pick("bot_token", &self.bot_token, &self.bot_token_file)?;
        let chat_id = if self.chat_id == 0 { String::new() } else { self.chat_id.to_string() };
        let chat_id = Secret::pick("chat_id", &chat_id, &self.chat_id_file)?;
        let chat_id = chat_id.ok_or("missing chat_id or chat_id_file on telegram_config")?;
        if !["", "Markdown", "MarkdownV2", "HTML"].contains(&self.parse_mode.as_str()) {
            return Err(
                "unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string".to_owned()
            );
        }
        let shared = Secret::pick("telegram_bot_token", &global.telegram_bot_token, &global.telegram_bot_token_file)?;
        let token = own.or(shared).ok_or("missing bot_token or bot_token_file on telegram_config")?;
        let url = self.api_url.take().unwrap_or_else(|| global.telegram_api_url.clone());
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Telegram { config: self, url, token, chat_id, http }))
    }
}

impl Telegram {
    fn message(&self, render: &Render) -> Result<String, NotifyError> {
        if self.config.parse_mode != "HTML" {
            return render.cut("message", &self.config.message, MAX_MESSAGE_RUNES);
        }
        let html = render.html(&self.config.message)?;
        Ok(if html.chars().count() > MAX_MESSAGE_RUNES { TOO_LONG.to_owned() } else { html })
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let chat_id = self.chat_id.read()?;
        let bad_id = |error| NotifyError::for_now(format!("could not parse chat_id: {error}"));
        let mut message = json!({
            "chat_id": chat_id.parse::<i64>().map_err(bad_id)?,
            "text": self.message(render)?,
            "disable_web_page_preview": true,
        });
        if self.config.disable_notifications {
            message["disable_notification"] = true.into();
        }
        if self.config.message_thread_id != 0 {
            message["message_thread_id"] = self.config.message_thread_id.into();
        }
        if !self.config.parse_mode.is_empty() {
            message["parse_mode"] = self.config.parse_mode.as_str().into();
        }
        let url = self.url.join(&format!("bot{}/sendMessage", self.token.read()?));
        let answer = self.http.post_json(url, &message).await?;
        understand(answer)
    }
}

/// Every failure is tried again: a bot may be let into a chat, a token file may change.
fn understand(answer: Answer) -> Result<Memory, NotifyError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        ok: bool,
        description: String,
    }
    let said: Said = answer.json().unwrap_or_default();
    let status = answer.status;
    answer.check_saying(&[], &said.description).map_err(|error| NotifyError { retry: true, ..error }).and_then(|_| {
        match said.ok {
            true => Ok(Memory::new()),
            false => Err(NotifyError::for_now(format!("telegram: {} ({status})", said.description))),
        }
    })
}

over_http!(Telegram, "telegram");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<TelegramConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{bot_token: t, chat_id: -100123}", Ok(()));
        check("{chat_id: 1}", Err("missing bot_token or bot_token_file on telegram_config"));
        check("{bot_token: t}", Err("missing chat_id or chat_id_file on telegram_config"));
        check("{bot_token: t, bot_token_file: f, chat_id: 1}", Err("at most one of bot_token & bot_token_file"));
        check("{bot_token: t, chat_id: 1, chat_id_file: f}", Err("at most one of chat_id & chat_id_file"));
        check("{bot_token: t, chat_id: 1, parse_mode: html}", Err("unknown parse_mode on telegram_config, must be"));
    }

    const OK: &str = r#"{"ok":true,"result":{"message_id":1}}"#;

    #[tokio::test]
    async fn a_message_in_html() {
        let yaml = "{api_url: URL, bot_token: 'T:1', chat_id: -5, message_thread_id: 7, disable_notifications: true, \
                    message: '<b>{{ (index .Alerts 0).Labels.instance }}</b>'}";
        let heard = delivered::<TelegramConfig>(yaml, Reply::json(200, OK), &notice()).await;
        assert_eq!(heard.line(), "POST /botT:1/sendMessage");
        let expected = json!({"chat_id": -5, "text": "<b>a&lt;1&gt;</b>", "disable_web_page_preview": true,
            "disable_notification": true, "message_thread_id": 7, "parse_mode": "HTML"});
        assert_eq!(heard.json(), expected);
    }

    #[tokio::test]
    async fn other_modes_and_long_texts() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("chat");
        std::fs::write(&file, "42\n").expect("written");
        let yaml = format!(
            "{{api_url: URL, bot_token: t, chat_id_file: {}, parse_mode: '', message: '{}'}}",
            file.display(),
            "x".repeat(5_000)
        );
        let heard = delivered::<TelegramConfig>(&yaml, Reply::json(200, OK), &notice()).await.json();
        assert_eq!(
            (&heard["chat_id"], heard["text"].as_str().map(|text| text.chars().count())),
            (&json!(42), Some(4096))
        );
        assert!(heard.get("parse_mode").is_none() && heard.get("disable_notification").is_none(), "{heard}");
        let html = yaml.replace("parse_mode: ''", "parse_mode: HTML");
        let heard = delivered::<TelegramConfig>(&html, Reply::json(200, OK), &notice()).await.json();
        assert_eq!(heard["text"], TOO_LONG);
    }

    #[tokio::test]
    async fn every_failure_is_tried_again() {
        let yaml = "{api_url: URL, bot_token: t, chat_id: 1}";
        let reply = Reply::json(400, r#"{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}"#);
        let error = deliver::<TelegramConfig>(yaml, &[reply], &notice()).await.0.expect_err("400");
        assert_eq!(
            (error.message.as_str(), error.retry),
            ("unexpected status code 400: Bad Request: chat not found", true)
        );
        let error = deliver::<TelegramConfig>(yaml, &[Reply::json(200, r#"{"ok":false}"#)], &notice()).await.0;
        assert!(error.expect_err("not ok").retry);
    }
}
