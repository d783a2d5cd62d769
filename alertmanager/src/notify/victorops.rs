//! VictorOps (Splunk On-Call): the REST endpoint, one event per group.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::http::Http;
use super::render::Render;
use super::setting::{HttpUrl, Secret, parse_url};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_MESSAGE_RUNES: usize = 20_480;
/// What a firing group may be; anything else counts as critical.
const FIRING_TYPES: [&str; 3] = ["INFO", "WARNING", "CRITICAL"];
const RESERVED_FIELDS: [&str; 7] = [
    "routing_key",
    "message_type",
    "state_message",
    "entity_display_name",
    "monitoring_tool",
    "entity_id",
    "entity_state",
];

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VictoropsConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_key: String,
    api_key_file: Option<PathBuf>,
    api_url: Option<HttpUrl>,
    routing_key: String,
    message_type: String,
    state_message: String,
    entity_display_name: String,
    monitoring_tool: String,
    custom_fields: BTreeMap<String, String>,
}

impl Default for VictoropsConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"victorops.default.{name}\" . }}}}");
        VictoropsConfig {
            send_resolved: true,
            http_config: None,
            api_key: String::new(),
            api_key_file: None,
            api_url: None,
            routing_key: String::new(),
            message_type: "CRITICAL".to_owned(),
            state_message: template("state_message"),
            entity_display_name: template("entity_display_name"),
            monitoring_tool: template("monitoring_tool"),
            custom_fields: BTreeMap::new(),
        }
    }
}

pub struct Victorops {
    config: VictoropsConfig,
    url: HttpUrl,
    key: Secret,
    http: Arc<Http>,
}

impl Configured for VictoropsConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        if self.routing_key.is_empty() {
            return Err("missing Routing key in VictorOps config".to_owned());
        }
        let own = Secret::pick("api_key", &self.api_key, &self.api_key_file)?;
        if let Some(name) = RESERVED_FIELDS.iter().find(|name| self.custom_fields.contains_key(**name)) {
            return Err(format!(
                "victorOps config contains custom field {name} which cannot be used as it conflicts with the \
                 fixed/static fields"
            ));
        }
        let shared = Secret::pick("victorops_api_key", &global.victorops_api_key, &global.victorops_api_key_file)?;
        let key = own.or(shared).ok_or("no global VictorOps API Key set")?;
        let url = self.api_url.take().unwrap_or_else(|| global.victorops_api_url.clone());
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Victorops { config: self, url, key, http }))
    }
}

impl Victorops {
    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let config = &self.config;
        let given = render.text(&config.message_type)?;
        let message_type = match render.notice.is_firing() {
            false => "RECOVERY".to_owned(),
            true if FIRING_TYPES.contains(&given.as_str()) => given,
            true => "CRITICAL".to_owned(),
        };
        let mut event = BTreeMap::from([
            ("message_type", message_type),
            ("entity_id", render.notice.key_hash()),
            ("entity_display_name", render.text(&config.entity_display_name)?),
            ("state_message", render.cut("state_message", &config.state_message, MAX_MESSAGE_RUNES)?),
            ("monitoring_tool", render.text(&config.monitoring_tool)?),
        ]);
        for (name, template) in &config.custom_fields {
            event.insert(name, render.text(template)?);
        }
        let path = format!("{}/{}", self.key.read()?, render.text(&config.routing_key)?);
        let url = parse_url(self.url.join(&path).as_str()).map_err(NotifyError::for_good)?;
        self.http.post_json(url, &event).await?.check(&[])?;
        Ok(Memory::new())
    }
}

over_http!(Victorops, "victorops");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{KEY_HASH, Reply, check_settings, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<VictoropsConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{routing_key: r, api_key: k}", Ok(()));
        check("{api_key: k}", Err("missing Routing key in VictorOps config"));
        check("{routing_key: r}", Err("no global VictorOps API Key set"));
        check("{routing_key: r, api_key: k, api_key_file: f}", Err("at most one of api_key & api_key_file"));
        check(
            "{routing_key: r, api_key: k, custom_fields: {entity_id: x}}",
            Err("contains custom field entity_id which"),
        );
    }

    #[tokio::test]
    async fn an_event_by_state() {
        let yaml = "{api_url: URL/alert/, api_key: k, routing_key: '{{ .CommonLabels.severity }}', message_type: odd, \
                    state_message: '{{ .Status }}', custom_fields: {Team: '{{ .Receiver }}'}}";
        let heard = delivered::<VictoropsConfig>(yaml, Reply::json(200, "{}"), &notice()).await;
        assert_eq!(heard.line(), "POST /alert/k/page");
        let expected = json!({"message_type": "CRITICAL", "entity_id": KEY_HASH, "state_message": "firing",
            "entity_display_name": "[FIRING:1] Down (page)", "monitoring_tool": "Alertmanager", "Team": "team"});
        assert_eq!(heard.json(), expected);
        let warning = yaml.replace("odd", "'{{ if true }}WARNING{{ end }}'");
        let heard = delivered::<VictoropsConfig>(&warning, Reply::json(200, "{}"), &notice()).await;
        assert_eq!(heard.json()["message_type"], "WARNING");
        let heard = delivered::<VictoropsConfig>(yaml, Reply::json(200, "{}"), &resolved()).await;
        assert_eq!(heard.json()["message_type"], "RECOVERY");
    }
}
