//! Slack: incoming webhooks, and `chat.postMessage` with an app's token, which can also change what it said before.

use std::path::PathBuf;
use std::sync::Arc;

use model::DurationMs;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::field::Field;
use super::http::{Answer, Http, within};
use super::render::{Render, filled};
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::{Authorization, HttpConfig};

const MAX_TITLE_RUNES: usize = 1024;
/// What is remembered of a message that may be changed: its time and channel name it.
const MESSAGE: &str = "threadTs";
const CHANNEL: &str = "channelId";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_url: Option<HttpUrl>,
    api_url_file: Option<PathBuf>,
    app_token: String,
    app_token_file: Option<PathBuf>,
    app_url: Option<HttpUrl>,
    channel: String,
    username: String,
    color: String,
    title: String,
    title_link: String,
    pretext: String,
    text: String,
    message_text: String,
    fields: Vec<Field>,
    short_fields: bool,
    footer: String,
    fallback: String,
    callback_id: String,
    icon_emoji: String,
    icon_url: String,
    image_url: String,
    thumb_url: String,
    link_names: bool,
    mrkdwn_in: Vec<String>,
    actions: Vec<Action>,
    update_message: bool,
    timeout: Option<DurationMs>,
}

impl Default for SlackConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"slack.default.{name}\" . }}}}");
        SlackConfig {
            send_resolved: false,
            http_config: None,
            api_url: None,
            api_url_file: None,
            app_token: String::new(),
            app_token_file: None,
            app_url: None,
            channel: String::new(),
            username: template("username"),
            color: template("color"),
            title: template("title"),
            title_link: template("titlelink"),
            pretext: template("pretext"),
            text: template("text"),
            message_text: String::new(),
            fields: Vec::new(),
            short_fields: false,
            footer: template("footer"),
            fallback: template("fallback"),
            callback_id: template("callbackid"),
            icon_emoji: template("iconemoji"),
            icon_url: template("iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            mrkdwn_in: Vec::new(),
            actions: Vec::new(),
            update_message: false,
            timeout: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Action {
    #[serde(rename = "type")]
    kind: String,
    text: String,
    url: String,
    style: String,
    name: String,
    value: String,
    confirm: Option<Confirmation>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Confirmation {
    text: String,
    title: String,
    ok_text: String,
    dismiss_text: String,
}

impl Action {
    /// A link needs no name, value or confirmation, and has none.
    fn check(&mut self) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err("missing type in Slack action configuration".to_owned());
        }
        if self.text.is_empty() {
            return Err("missing text in Slack action configuration".to_owned());
        }
        if self.confirm.as_ref().is_some_and(|confirm| confirm.text.is_empty()) {
            return Err("missing text in Slack confirmation configuration".to_owned());
        }
        if !self.url.is_empty() {
            (self.name, self.value, self.confirm) = (String::new(), String::new(), None);
        } else if self.name.is_empty() {
            return Err("missing name or url in Slack action configuration".to_owned());
        }
        Ok(())
    }

    fn render(&self, render: &Render) -> Result<Json, NotifyError> {
        let text = |template: &str| render.text(template).map(Json::from);
        let confirm = match &self.confirm {
            None => Json::Null,
            Some(confirm) => filled([
                ("text", text(&confirm.text)?),
                ("title", text(&confirm.title)?),
                ("ok_text", text(&confirm.ok_text)?),
                ("dismiss_text", text(&confirm.dismiss_text)?),
            ]),
        };
        Ok(filled([
            ("type", text(&self.kind)?),
            ("text", text(&self.text)?),
            ("url", text(&self.url)?),
            ("style", text(&self.style)?),
            ("name", text(&self.name)?),
            ("value", text(&self.value)?),
            ("confirm", confirm),
        ]))
    }
}

pub struct Slack {
    config: SlackConfig,
    url: Secret,
    update_url: Url,
    http: Arc<Http>,
}

impl Configured for SlackConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let own_url = Secret::pick_url("api_url", &self.api_url, &self.api_url_file)?;
        let own_token = Secret::pick("app_token", &self.app_token, &self.app_token_file)?;
        if own_url.is_some() && own_token.is_some() {
            let both = "at most one of api_url/api_url_file & app_token/app_token_file must be configured";
            return Err(both.to_owned());
        }
        self.fields.iter().try_for_each(|field| field.check("Slack"))?;
        self.actions.iter_mut().try_for_each(Action::check)?;
        let has_authorization = self.http_config.as_ref().is_some_and(|config| config.authorization.is_some());
        if own_token.is_none() && own_url.is_none() && !has_authorization {
            self.app_token = global.slack_app_token.clone();
            self.app_token_file = global.slack_app_token_file.clone();
        }
        let app_url = self.app_url.clone().unwrap_or_else(|| global.slack_app_url.clone());
        let mut http_config = global.http_config(self.http_config.take())?;
        let url = if Secret::pick("app_token", &self.app_token, &self.app_token_file)?.is_some() {
            if http_config.authorization.is_some() {
                return Err("http authorization can't be set when using Slack App tokens".to_owned());
            }
            let token = std::mem::take(&mut self.app_token);
            http_config.authorization = Some(Authorization::bearer(token, self.app_token_file.take()));
            Secret::Value(app_url.0.to_string())
        } else {
            let global_url = Secret::pick_url("slack_api_url", &global.slack_api_url, &global.slack_api_url_file)?;
            own_url.or(global_url).ok_or("no Slack API URL nor App token set either inline or in a file")?
        };
        if self.update_message && url != Secret::Value(global.fixed.slack_post.clone()) {
            return Err("update_message can only be used with bot tokens. api_url must be set to \
                        https://slack.com/api/chat.postMessage"
                .to_owned());
        }
        let update_url = global.fixed.slack_update.0.clone();
        Ok(Arc::new(Slack { config: self, url, update_url, http: Arc::new(Http::new(http_config)) }))
    }
}

impl Slack {
    fn attachment(&self, render: &Render) -> Result<Json, NotifyError> {
        let config = &self.config;
        let text = |template: &str| render.text(template).map(Json::from);
        let field = |field: &Field| field.render(render, Some(config.short_fields));
        let mut attachment = filled([
            ("title", render.cut("title", &config.title, MAX_TITLE_RUNES)?.into()),
            ("title_link", text(&config.title_link)?),
            ("pretext", text(&config.pretext)?),
            ("fields", config.fields.iter().map(field).collect::<Result<Vec<_>, _>>()?.into()),
            ("actions", config.actions.iter().map(|one| one.render(render)).collect::<Result<Vec<_>, _>>()?.into()),
            ("image_url", text(&config.image_url)?),
            ("thumb_url", text(&config.thumb_url)?),
            ("color", text(&config.color)?),
        ]);
        attachment["text"] = text(&config.text)?;
        attachment["fallback"] = text(&config.fallback)?;
        attachment["callback_id"] = text(&config.callback_id)?;
        attachment["footer"] = text(&config.footer)?;
        attachment["mrkdwn_in"] = match config.mrkdwn_in.is_empty() {
            true => json!(["fallback", "pretext", "text"]),
            false => json!(config.mrkdwn_in),
        };
        Ok(attachment)
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        within("slack", self.config.timeout, self.post(render)).await
    }

    async fn post(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let config = &self.config;
        let text = |template: &str| render.text(template).map(Json::from);
        let mut channel = render.text(&config.channel)?;
        let mut url = self.url.read_url()?;
        let mut message = filled([
            ("username", text(&config.username)?),
            ("icon_emoji", text(&config.icon_emoji)?),
            ("icon_url", text(&config.icon_url)?),
            ("link_names", config.link_names.into()),
            ("text", text(&config.message_text)?),
            ("attachments", vec![self.attachment(render)?].into()),
        ]);
        let mut memory = Memory::new();
        if config.update_message {
            memory = render.notice.memory.clone();
            if let (Some(told), Some(place)) = (memory.get(MESSAGE), memory.get(CHANNEL)) {
                url = self.update_url.clone();
                channel = place.clone();
                message["ts"] = told.as_str().into();
            }
        }
        if !channel.is_empty() {
            message["channel"] = channel.as_str().into();
        }
        let answer = self.http.post_json(url, &message).await?;
        let in_channel = |error: NotifyError| error.while_doing(format!("channel {channel:?}"));
        let learned = answer.check(&[]).and_then(understand).map_err(in_channel)?;
        if config.update_message {
            memory.extend(learned);
        }
        Ok(memory)
    }
}

/// Webhooks answer `ok`, the web API an object: 200 is no sign of success there.
fn understand(answer: Answer) -> Result<Memory, NotifyError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        ok: bool,
        error: String,
        channel: String,
        ts: String,
    }
    if !answer.is_json {
        return match answer.body == b"ok" {
            true => Ok(Memory::new()),
            false => Err(NotifyError::refused(format!("received an error response from Slack: {}", answer.said()))),
        };
    }
    let said: Said = answer.json()?;
    if !said.ok {
        return Err(NotifyError::refused(format!("error response from Slack: {}", said.error)));
    }
    if said.ts.is_empty() || said.channel.is_empty() {
        return Ok(Memory::new());
    }
    Ok(Memory::from([(MESSAGE.to_owned(), said.ts), (CHANNEL.to_owned(), said.channel)]))
}

over_http!(Slack, "slack");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<SlackConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{api_url: 'http://x'}", Ok(()));
        check("{}", Err("no Slack API URL nor App token set either inline or in a file"));
        check(
            "{api_url: 'http://x', api_url_file: f}",
            Err("at most one of api_url & api_url_file must be configured"),
        );
        check("{app_token: x, app_token_file: f}", Err("at most one of app_token & app_token_file must be configured"));
        check(
            "{api_url: 'http://x', app_token: t}",
            Err("at most one of api_url/api_url_file & app_token/app_token_file"),
        );
        check("{app_token: t, http_config: {authorization: {credentials: c}}}", Err("http authorization can't be set"));
        check("{api_url: 'http://x', update_message: true}", Err("update_message can only be used with bot tokens"));
        check("{app_token: t, update_message: true}", Ok(()));
        check("{api_url: 'http://x', fields: [{title: t}]}", Err("missing value in Slack field configuration"));
        check("{api_url: 'http://x', fields: [{value: t}]}", Err("missing title in Slack field configuration"));
        check("{api_url: 'http://x', actions: [{text: t}]}", Err("missing type in Slack action configuration"));
        check("{api_url: 'http://x', actions: [{type: t}]}", Err("missing text in Slack action configuration"));
        check("{api_url: 'http://x', actions: [{type: t, text: t}]}", Err("missing name or url in Slack action"));
        check(
            "{api_url: 'http://x', actions: [{type: t, text: t, name: n, confirm: {title: t}}]}",
            Err("missing text in Slack confirmation configuration"),
        );
    }

    #[tokio::test]
    async fn a_webhook_gets_an_attachment() {
        let yaml = "{api_url: URL/hook, channel: '#{{ .CommonLabels.severity }}', short_fields: true, mrkdwn_in: [text], \
                    fields: [{title: a, value: '{{ .Status }}'}, {title: b, value: c, short: false}], actions: [\
                    {type: button, text: go, url: 'http://g', name: gone}, \
                    {type: button, text: do, name: n, value: v, confirm: {text: sure?, ok_text: yes}}]}";
        let heard = delivered::<SlackConfig>(yaml, Reply::text(200, "ok"), &notice()).await;
        assert_eq!((heard.line().as_str(), heard.header("content-type")), ("POST /hook", "application/json"));
        let expected = json!({"channel": "#page", "username": "Alertmanager", "attachments": [{
            "title": "[FIRING:1] Down (page)", "title_link": "http://b/#/alerts?receiver=team", "text": "",
            "fallback": "[FIRING:1] Down (page) | http://b/#/alerts?receiver=team", "callback_id": "", "footer": "",
            "color": "danger", "mrkdwn_in": ["text"],
            "fields": [{"title": "a", "value": "firing", "short": true}, {"title": "b", "value": "c", "short": false}],
            "actions": [
                {"type": "button", "text": "go", "url": "http://g"},
                {"type": "button", "text": "do", "name": "n", "value": "v", "confirm": {"text": "sure?", "ok_text": "yes"}},
            ],
        }]});
        assert_eq!(heard.json(), expected);
    }

    #[tokio::test]
    async fn a_message_is_changed_where_it_stands() {
        let yaml = "{app_token: xoxb, app_url: URL/slack-post, update_message: true, channel: c}";
        let said = Reply::json(200, r#"{"ok":true,"ts":"17.1","channel":"C1"}"#);
        let (first, heard) = deliver::<SlackConfig>(yaml, &[said], &notice()).await;
        assert_eq!((heard[0].path.as_str(), heard[0].header("authorization")), ("/slack-post", "Bearer xoxb"));
        let memory = first.expect("taken");
        let again = crate::notify::Notice { memory: memory.clone(), ..notice() };
        let (second, heard) = deliver::<SlackConfig>(yaml, &[Reply::json(200, r#"{"ok":true}"#)], &again).await;
        assert_eq!(second.expect("taken"), memory);
        assert_eq!(heard[0].path, "/slack-update");
        assert_eq!((&heard[0].json()["ts"], &heard[0].json()["channel"]), (&json!("17.1"), &json!("C1")));
    }

    #[tokio::test]
    async fn refusals_with_200_are_refusals() {
        let yaml = "{api_url: URL, channel: c}";
        let cases = [
            (Reply::text(200, "no_text"), "channel \"c\": received an error response from Slack: no_text", false),
            (
                Reply::json(200, r#"{"ok":false,"error":"gone"}"#),
                "channel \"c\": error response from Slack: gone",
                false,
            ),
            (Reply::text(500, "down"), "channel \"c\": unexpected status code 500: down", true),
        ];
        for (reply, message, retry) in cases {
            let error = deliver::<SlackConfig>(yaml, &[reply], &notice()).await.0.expect_err(message);
            assert_eq!((error.message.as_str(), error.retry), (message, retry));
        }
    }
}
