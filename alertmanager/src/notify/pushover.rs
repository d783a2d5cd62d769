//! Pushover: one message, all in the query, as its API takes it. A firing group is an emergency by default.

use std::path::PathBuf;
use std::sync::Arc;

use model::DurationMs;
use reqwest::Method;
use serde::Deserialize;

use super::http::Http;
use super::render::Render;
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_TITLE_RUNES: usize = 250;
const MAX_MESSAGE_RUNES: usize = 1024;
const MAX_URL_RUNES: usize = 512;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushoverConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    user_key: String,
    user_key_file: Option<PathBuf>,
    token: String,
    token_file: Option<PathBuf>,
    title: String,
    message: String,
    url: String,
    url_title: String,
    device: String,
    sound: String,
    priority: String,
    retry: DurationMs,
    expire: DurationMs,
    ttl: DurationMs,
    html: bool,
    monospace: bool,
}

impl Default for PushoverConfig {
    fn default() -> Self {
        PushoverConfig {
            send_resolved: true,
            http_config: None,
            user_key: String::new(),
            user_key_file: None,
            token: String::new(),
            token_file: None,
            title: r#"{{ template "pushover.default.title" . }}"#.to_owned(),
            message: r#"{{ template "pushover.default.message" . }}"#.to_owned(),
            url: r#"{{ template "pushover.default.url" . }}"#.to_owned(),
            url_title: String::new(),
            device: String::new(),
            sound: String::new(),
            // Emergency, or normal.
            priority: r#"{{ if eq .Status "firing" }}2{{ else }}0{{ end }}"#.to_owned(),
            retry: DurationMs(60_000),
            expire: DurationMs(3_600_000),
            ttl: DurationMs(0),
            html: false,
            monospace: false,
        }
    }
}

pub struct Pushover {
    config: PushoverConfig,
    api_url: HttpUrl,
    user_key: Secret,
    token: Secret,
    http: Arc<Http>,
}

impl Configured for PushoverConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let user_key = Secret::require("user_key", &self.user_key, &self.user_key_file)?;
        let token = Secret::require("token", &self.token, &self.token_file)?;
        if self.html && self.monospace {
            return Err("at most one of monospace & html must be configured".to_owned());
        }
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Pushover { config: self, api_url: global.fixed.pushover.clone(), user_key, token, http }))
    }
}

impl Pushover {
    fn parameters(&self, render: &Render) -> Result<Vec<(&'static str, String)>, NotifyError> {
        let config = &self.config;
        let message = if config.html { render.html(&config.message)? } else { render.text(&config.message)? };
        let message = render.cut_text("message", message, MAX_MESSAGE_RUNES);
        // An empty message would be refused.
        let message = Some(message.trim()).filter(|message| !message.is_empty()).unwrap_or("(no details)");
        let seconds = |duration: DurationMs| (duration.0 / 1_000).to_string();
        let mut parameters = vec![
            ("token", render.text(&self.token.read()?)?),
            ("user", render.text(&self.user_key.read()?)?),
            ("title", render.cut("title", &config.title, MAX_TITLE_RUNES)?),
            ("message", message.to_owned()),
            ("url", render.cut("url", &config.url, MAX_URL_RUNES)?),
            ("url_title", render.text(&config.url_title)?),
            ("priority", render.text(&config.priority)?),
            ("retry", seconds(config.retry)),
            ("expire", seconds(config.expire)),
            ("device", render.text(&config.device)?),
            ("sound", render.text(&config.sound)?),
        ];
        if config.html {
            parameters.push(("html", "1".to_owned()));
        }
        if config.monospace {
            parameters.push(("monospace", "1".to_owned()));
        }
        if config.ttl.0 >= 1_000 {
            parameters.push(("ttl", seconds(config.ttl)));
        }
        Ok(parameters)
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let request = self.http.request(Method::POST, self.api_url.0.clone())?.query(&self.parameters(render)?);
        self.http.send(request.header("content-type", "text/plain")).await?.check(&[])?;
        Ok(Memory::new())
    }
}

over_http!(Pushover, "pushover");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Heard, Reply, check_settings, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<PushoverConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{user_key: u, token_file: t}", Ok(()));
        check("{token: t}", Err("one of user_key or user_key_file must be configured"));
        check("{user_key: u, user_key_file: f, token: t}", Err("at most one of user_key & user_key_file"));
        check("{user_key: u}", Err("one of token or token_file must be configured"));
        check("{user_key: u, token: t, token_file: f}", Err("at most one of token & token_file"));
        check("{user_key: u, token: t, html: true, monospace: true}", Err("at most one of monospace & html"));
    }

    fn query(heard: &Heard) -> BTreeMap<String, String> {
        let url = reqwest::Url::parse(&format!("http://x/?{}", heard.query)).expect("a URL");
        url.query_pairs().into_owned().collect()
    }

    #[tokio::test]
    async fn an_emergency_and_its_end() {
        let yaml = "{user_key: u, token: t, message: ' <b>{{ .Status }}</b> ', url_title: t2, sound: s, device: d, retry: 90s, \
                    expire: 2h, ttl: 1d, html: true}";
        let heard = delivered::<PushoverConfig>(yaml, Reply::json(200, "{}"), &notice()).await;
        assert_eq!((heard.line().as_str(), heard.body.as_str()), ("POST /pushover", ""));
        let expected = [
            ("device", "d"),
            ("expire", "7200"),
            ("html", "1"),
            ("message", "<b>firing</b>"),
            ("priority", "2"),
            ("retry", "90"),
            ("sound", "s"),
            ("title", "[FIRING:1] Down (page)"),
            ("token", "t"),
            ("ttl", "86400"),
            ("url", "http://b/#/alerts?receiver=team"),
            ("url_title", "t2"),
            ("user", "u"),
        ];
        assert_eq!(query(&heard), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let yaml = "{user_key: u, token: t, message: '{{ .GroupLabels.none }}', monospace: true}";
        let told = query(&delivered::<PushoverConfig>(yaml, Reply::json(200, "{}"), &resolved()).await);
        assert_eq!((told["priority"].as_str(), told["message"].as_str()), ("0", "(no details)"));
        assert_eq!(
            (told.get("monospace").map(String::as_str), told.get("html"), told.get("ttl")),
            (Some("1"), None, None)
        );
    }

    #[tokio::test]
    async fn long_texts_are_cut() {
        let yaml = format!("{{user_key: u, token: t, title: '{0}', message: '{0}', url: '{0}'}}", "ä".repeat(2_000));
        let told = query(&delivered::<PushoverConfig>(&yaml, Reply::json(200, "{}"), &notice()).await);
        let lengths = ["title", "message", "url"].map(|name| told[name].chars().count());
        assert_eq!(lengths, [250, 1024, 512]);
    }
}
