//! Mattermost: an incoming webhook with attachments like Slack's, and a priority.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::field::Field;
use super::http::Http;
use super::render::{Render, filled};
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_TEXT_RUNES: usize = 16_383;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MattermostConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    webhook_url: Option<HttpUrl>,
    webhook_url_file: Option<PathBuf>,
    channel: String,
    username: String,
    text: String,
    fallback: String,
    color: String,
    pretext: String,
    author_name: String,
    author_link: String,
    author_icon: String,
    title: String,
    title_link: String,
    fields: Vec<Field>,
    thumb_url: String,
    footer: String,
    footer_icon: String,
    image_url: String,
    icon_url: String,
    icon_emoji: String,
    attachments: Vec<Attachment>,
    #[serde(rename = "type")]
    kind: String,
    props: Props,
    priority: Priority,
}

impl Default for MattermostConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"mattermost.default.{name}\" . }}}}");
        let none = String::new;
        MattermostConfig {
            send_resolved: true,
            http_config: None,
            webhook_url: None,
            webhook_url_file: None,
            channel: none(),
            username: template("username"),
            text: template("text"),
            fallback: template("fallback"),
            color: template("color"),
            pretext: none(),
            author_name: none(),
            author_link: none(),
            author_icon: none(),
            title: template("title"),
            title_link: template("titlelink"),
            fields: Vec::new(),
            thumb_url: none(),
            footer: none(),
            footer_icon: none(),
            image_url: none(),
            icon_url: none(),
            icon_emoji: none(),
            attachments: Vec::new(),
            kind: none(),
            props: Props::default(),
            priority: Priority::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Attachment {
    fallback: String,
    color: String,
    pretext: String,
    text: String,
    author_name: String,
    author_link: String,
    author_icon: String,
    title: String,
    title_link: String,
    fields: Vec<Field>,
    thumb_url: String,
    footer: String,
    footer_icon: String,
    image_url: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Props {
    card: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Priority {
    priority: String,
    requested_ack: bool,
    persistent_notifications: bool,
}

impl Attachment {
    /// The one attachment that the fields of the settings themselves describe.
    fn of(config: &mut MattermostConfig) -> Attachment {
        let take = std::mem::take::<String>;
        Attachment {
            fallback: take(&mut config.fallback),
            color: take(&mut config.color),
            pretext: take(&mut config.pretext),
            text: take(&mut config.text),
            author_name: take(&mut config.author_name),
            author_link: take(&mut config.author_link),
            author_icon: take(&mut config.author_icon),
            title: take(&mut config.title),
            title_link: take(&mut config.title_link),
            fields: std::mem::take(&mut config.fields),
            thumb_url: take(&mut config.thumb_url),
            footer: take(&mut config.footer),
            footer_icon: take(&mut config.footer_icon),
            image_url: take(&mut config.image_url),
        }
    }

    fn render(&self, render: &Render) -> Result<Json, NotifyError> {
        let text = |template: &str| render.text(template).map(Json::from);
        let field = |field: &Field| field.render(render, None);
        Ok(filled([
            ("fallback", text(&self.fallback)?),
            ("color", text(&self.color)?),
            ("pretext", text(&self.pretext)?),
            ("text", text(&self.text)?),
            ("author_name", text(&self.author_name)?),
            ("author_link", text(&self.author_link)?),
            ("author_icon", text(&self.author_icon)?),
            ("title", text(&self.title)?),
            ("title_link", text(&self.title_link)?),
            ("fields", self.fields.iter().map(field).collect::<Result<Vec<_>, _>>()?.into()),
            ("thumb_url", text(&self.thumb_url)?),
            ("footer", text(&self.footer)?),
            ("footer_icon", text(&self.footer_icon)?),
            ("image_url", text(&self.image_url)?),
        ]))
    }
}

impl Priority {
    /// What the vendor takes: an acknowledgement needs more than `standard`, insisting needs `urgent`.
    fn render(&self, render: &Render) -> Result<Json, NotifyError> {
        if self.priority.is_empty() {
            return Ok(Json::Null);
        }
        let wanted = render.text(&self.priority)?.to_lowercase();
        let priority = if ["urgent", "important"].contains(&wanted.as_str()) { wanted.as_str() } else { "standard" };
        Ok(filled([
            ("priority", priority.into()),
            ("requested_ack", (self.requested_ack && priority != "standard").into()),
            ("persistent_notifications", (self.persistent_notifications && priority == "urgent").into()),
        ]))
    }
}

pub struct Mattermost {
    config: MattermostConfig,
    url: Secret,
    http: Arc<Http>,
}

impl Configured for MattermostConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let own = Secret::pick_url("webhook_url", &self.webhook_url, &self.webhook_url_file)?;
        let shared = (&global.mattermost_webhook_url, &global.mattermost_webhook_url_file);
        let shared = Secret::pick_url("mattermost_webhook_url", shared.0, shared.1)?;
        let url = own.or(shared).ok_or("missing webhook_url or webhook_url_file on mattermost_config")?;
        let inner = self.attachments.iter().flat_map(|attachment| &attachment.fields);
        self.fields.iter().chain(inner).try_for_each(|field| field.check("Mattermost"))?;
        // With attachments of its own the text stands above them, else inside the one there is.
        if self.attachments.is_empty() {
            let attachment = Attachment::of(&mut self);
            self.attachments.push(attachment);
        }
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Mattermost { config: self, url, http }))
    }
}

impl Mattermost {
    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let config = &self.config;
        let text = |template: &str| render.text(template).map(Json::from);
        let channel = render.text(&config.channel)?;
        let attachments = config.attachments.iter().map(|attachment| attachment.render(render));
        let message = filled([
            ("text", render.cut("text", &config.text, MAX_TEXT_RUNES)?.into()),
            ("channel", channel.as_str().into()),
            ("username", text(&config.username)?),
            ("icon_url", text(&config.icon_url)?),
            ("icon_emoji", text(&config.icon_emoji)?),
            ("attachments", attachments.collect::<Result<Vec<_>, _>>()?.into()),
            ("type", text(&config.kind)?),
            ("props", filled([("card", text(&config.props.card)?)])),
            ("priority", config.priority.render(render)?),
        ]);
        let answer = self.http.post_json(self.url.read_url()?, &message).await?;
        answer.check(&[]).map_err(|error| error.while_doing(format!("channel {channel:?}")))?;
        Ok(Memory::new())
    }
}

over_http!(Mattermost, "mattermost");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<MattermostConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{webhook_url: 'http://x'}", Ok(()));
        check("{}", Err("missing webhook_url or webhook_url_file on mattermost_config"));
        check("{webhook_url: 'http://x', webhook_url_file: f}", Err("at most one of webhook_url & webhook_url_file"));
        check(
            "{webhook_url: 'http://x', fields: [{value: v}]}",
            Err("missing title in Mattermost field configuration"),
        );
        check(
            "{webhook_url: 'http://x', attachments: [{fields: [{title: v}]}]}",
            Err("missing value in Mattermost field"),
        );
    }

    #[tokio::test]
    async fn one_attachment_of_the_settings() {
        let yaml = "{webhook_url: URL/hooks/x, channel: c, text: '{{ .Status }}', fields: [{title: a, value: b, short: true}], \
                    props: {card: k}, priority: {priority: Important, requested_ack: true, persistent_notifications: true}}";
        let heard = delivered::<MattermostConfig>(yaml, Reply::text(200, "ok"), &notice()).await;
        assert_eq!(heard.line(), "POST /hooks/x");
        let link = "http://b/#/alerts?receiver=team";
        let expected = json!({"channel": "c", "username": "Alertmanager", "props": {"card": "k"},
            "priority": {"priority": "important", "requested_ack": true}, "attachments": [{"text": "firing",
            "title": "[FIRING:1] Down (page)", "title_link": link, "color": "danger",
            "fallback": format!("[FIRING:1] Down (page) | {link}"),
            "fields": [{"title": "a", "value": "b", "short": true}]}]});
        assert_eq!(heard.json(), expected);
    }

    #[tokio::test]
    async fn attachments_of_its_own_and_a_long_text() {
        let yaml = format!(
            "{{webhook_url: URL, text: '{}', attachments: [{{title: a}}, {{text: b}}], priority: {{priority: odd, requested_ack: true}}}}",
            "x".repeat(20_000)
        );
        let heard = delivered::<MattermostConfig>(&yaml, Reply::text(200, "ok"), &notice()).await.json();
        assert_eq!(heard["attachments"], json!([{"title": "a"}, {"text": "b"}]));
        assert_eq!(heard["text"].as_str().map(|text| text.chars().count()), Some(16_383));
        assert_eq!(heard["priority"], json!({"priority": "standard"}));
        let (sent, _) = deliver::<MattermostConfig>("{webhook_url: URL}", &[Reply::text(400, "bad")], &notice()).await;
        assert_eq!(sent.expect_err("400").message, "channel \"\": unexpected status code 400: bad");
    }
}
