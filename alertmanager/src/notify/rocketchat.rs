//! Rocket.Chat: `chat.postMessage` with one attachment, as a user known by token and id.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::field::Field;
use super::http::{Answer, Http};
use super::render::{Render, filled};
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_TITLE_RUNES: usize = 1024;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RocketchatConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_url: Option<HttpUrl>,
    token_id: String,
    token_id_file: Option<PathBuf>,
    token: String,
    token_file: Option<PathBuf>,
    channel: String,
    color: String,
    title: String,
    title_link: String,
    text: String,
    fields: Vec<Field>,
    short_fields: bool,
    emoji: String,
    icon_url: String,
    image_url: String,
    thumb_url: String,
    /// Understood, and without effect, as in the reference.
    #[serde(rename = "link_names")]
    _link_names: Option<IgnoredAny>,
    actions: Vec<Action>,
}

impl Default for RocketchatConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"rocketchat.default.{name}\" . }}}}");
        RocketchatConfig {
            send_resolved: false,
            http_config: None,
            api_url: None,
            token_id: String::new(),
            token_id_file: None,
            token: String::new(),
            token_file: None,
            channel: String::new(),
            color: r#"{{ if eq .Status "firing" }}red{{ else }}green{{ end }}"#.to_owned(),
            title: template("title"),
            title_link: template("titlelink"),
            text: template("text"),
            fields: Vec::new(),
            short_fields: false,
            emoji: template("emoji"),
            icon_url: template("iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            _link_names: None,
            actions: Vec::new(),
        }
    }
}

/// Only buttons are drawn, whatever the type; what else the vendor knows of them is understood and not sent.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Action {
    text: String,
    url: String,
    msg: String,
    #[serde(rename = "type")]
    _kind: Option<IgnoredAny>,
    #[serde(rename = "imageurl", alias = "image_url")]
    _image_url: Option<IgnoredAny>,
    #[serde(rename = "iswebview", alias = "is_webview")]
    _is_webview: Option<IgnoredAny>,
    #[serde(rename = "webviewheightratio", alias = "webview_height_ratio")]
    _webview_height_ratio: Option<IgnoredAny>,
    #[serde(rename = "msginchatwindow", alias = "msg_in_chat_window")]
    _msg_in_chat_window: Option<IgnoredAny>,
    #[serde(rename = "msgprocessingtype", alias = "msg_processing_type")]
    _msg_processing_type: Option<IgnoredAny>,
}

pub struct Rocketchat {
    config: RocketchatConfig,
    url: Url,
    token: Secret,
    token_id: Secret,
    http: Arc<Http>,
}

impl Configured for RocketchatConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let token = Secret::pick("token", &self.token, &self.token_file)?;
        let token_id = Secret::pick("token_id", &self.token_id, &self.token_id_file)?;
        let shared = (&global.rocketchat_token_id, &global.rocketchat_token_id_file);
        let token_id = token_id.or(Secret::pick("rocketchat_token_id", shared.0, shared.1)?);
        let token_id = token_id.ok_or("no global Rocketchat TokenID set either inline or in a file")?;
        let shared = Secret::pick("rocketchat_token", &global.rocketchat_token, &global.rocketchat_token_file)?;
        let token = token.or(shared).ok_or("no global Rocketchat Token set either inline or in a file")?;
        let url = self.api_url.take().unwrap_or_else(|| global.rocketchat_api_url.clone());
        let url = url.join("api/v1/chat.postMessage");
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Rocketchat { config: self, url, token, token_id, http }))
    }
}

impl Rocketchat {
    fn attachment(&self, render: &Render) -> Result<Json, NotifyError> {
        let config = &self.config;
        let text = |template: &str| render.text(template).map(Json::from);
        let field = |field: &Field| field.render(render, Some(config.short_fields));
        let action = |action: &Action| -> Result<Json, NotifyError> {
            let (label, url, msg) = (text(&action.text)?, text(&action.url)?, text(&action.msg)?);
            let mut button = filled([("type", "button".into()), ("text", label), ("url", url), ("msg", msg)]);
            button["is_webview"] = false.into();
            button["msg_in_chat_window"] = false.into();
            Ok(button)
        };
        Ok(filled([
            ("title", render.cut("title", &config.title, MAX_TITLE_RUNES)?.into()),
            ("title_link", text(&config.title_link)?),
            ("text", text(&config.text)?),
            ("image_url", text(&config.image_url)?),
            ("thumb_url", text(&config.thumb_url)?),
            ("color", text(&config.color)?),
            ("fields", config.fields.iter().map(field).collect::<Result<Vec<_>, _>>()?.into()),
            ("actions", config.actions.iter().map(action).collect::<Result<Vec<_>, _>>()?.into()),
        ]))
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let channel = render.text(&self.config.channel)?;
        let message = filled([
            ("channel", channel.as_str().into()),
            ("emoji", render.text(&self.config.emoji)?.into()),
            ("avatar", render.text(&self.config.icon_url)?.into()),
            ("attachments", vec![self.attachment(render)?].into()),
        ]);
        let request = self.http.request(Method::POST, self.url.clone())?.json(&message);
        let request = request.header("x-auth-token", self.token.read()?).header("x-user-id", self.token_id.read()?);
        let answer = self.http.send(request).await?;
        answer.check(&[]).and_then(understand).map_err(|error| error.while_doing(format!("channel {channel:?}")))
    }
}

/// 200 is no sign of success: the answer says it.
fn understand(answer: Answer) -> Result<Memory, NotifyError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        success: bool,
        error: String,
    }
    let said: Said = answer.json()?;
    match said.success {
        true => Ok(Memory::new()),
        false => Err(NotifyError::refused(format!("error response from Rocketchat: {}", said.error))),
    }
}

over_http!(Rocketchat, "rocketchat");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<RocketchatConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{token: t, token_id: i}", Ok(()));
        check("{token: t}", Err("no global Rocketchat TokenID set either inline or in a file"));
        check("{token_id: i}", Err("no global Rocketchat Token set either inline or in a file"));
        check("{token: t, token_file: f, token_id: i}", Err("at most one of token & token_file must be configured"));
        check("{token: t, token_id: i, token_id_file: f}", Err("at most one of token_id & token_id_file must be"));
    }

    const YAML: &str = "{api_url: URL/chat, token: t, token_id: i, channel: '#a', text: '{{ .Status }}', emoji: ':x:', \
                        fields: [{title: a, value: b}], actions: [{type: link, text: go, url: 'http://g'}]}";

    #[tokio::test]
    async fn one_attachment() {
        let heard = delivered::<RocketchatConfig>(YAML, Reply::json(200, r#"{"success":true}"#), &notice()).await;
        assert_eq!(heard.line(), "POST /chat/api/v1/chat.postMessage");
        assert_eq!((heard.header("x-auth-token"), heard.header("x-user-id")), ("t", "i"));
        let action = json!({"type": "button", "text": "go", "url": "http://g", "is_webview": false, "msg_in_chat_window": false});
        let expected = json!({"channel": "#a", "emoji": ":x:", "attachments": [{"title": "[FIRING:1] Down (page)",
            "title_link": "http://b/#/alerts?receiver=team", "text": "firing", "color": "red",
            "fields": [{"title": "a", "value": "b", "short": false}], "actions": [action]}]});
        assert_eq!(heard.json(), expected);
    }

    #[tokio::test]
    async fn refusals() {
        let reply = Reply::json(200, r#"{"success":false,"error":"no channel"}"#);
        let error = deliver::<RocketchatConfig>(YAML, &[reply], &notice()).await.0.expect_err("refused");
        assert_eq!(error.message, "channel \"#a\": error response from Rocketchat: no channel");
        assert!(!error.retry);
        let error = deliver::<RocketchatConfig>(YAML, &[Reply::text(502, "x")], &notice()).await.0.expect_err("502");
        assert_eq!((error.message.as_str(), error.retry), ("channel \"#a\": unexpected status code 502: x", true));
    }
}
